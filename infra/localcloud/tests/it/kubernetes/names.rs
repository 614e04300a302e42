//! The cluster's name server, asked by the resolver that engines use.

use std::net::{Ipv4Addr, SocketAddr};

use hickory_resolver::{
    TokioResolver,
    config::{NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::rr::{RData, RecordType},
};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use localcloud::kubernetes::value;
use serde_json::json;

use crate::kubernetes::support::{Lab, until};

/// A resolver over UDP, or over TCP, that keeps nothing.
fn resolver(server: SocketAddr, tcp: bool) -> TokioResolver {
    let mut config = if tcp { NameServerConfig::tcp(server.ip()) } else { NameServerConfig::udp(server.ip()) };
    for connection in &mut config.connections {
        connection.port = server.port();
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![config]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    builder.build().unwrap()
}

/// The ports behind an SRV name, in order; each target must have the address of the laptop, and a time to live of 5 s.
async fn ports(resolver: &TokioResolver, name: &str) -> Result<Vec<u16>, String> {
    let found = resolver.srv_lookup(name).await.map_err(|error| error.to_string())?;
    let mut ports = Vec::new();
    for record in found.answers() {
        let RData::SRV(service) = &record.data else { panic!("{record}") };
        assert!(service.target.to_ascii().ends_with(".pool.bu1.svc.cluster.local.") && record.ttl == 5, "{record}");
        let addresses = resolver.ipv4_lookup(service.target.clone()).await.unwrap();
        assert_eq!(addresses.answers()[0].data, RData::A(Ipv4Addr::LOCALHOST.into()));
        ports.push(service.port);
    }
    ports.sort_unstable();
    Ok(ports)
}

/// The laptop's port of a pod that the probe `ready` finds as desired.
async fn port(lab: &Lab, name: &str, ready: bool) -> u16 {
    until(name, || async {
        let pod = serde_json::to_value(lab.pods().get(name).await.unwrap()).unwrap();
        let port = value::annotation(&pod, "deskgrid.dev/port-pool").parse();
        match (value::has_condition(&pod, "Ready") == ready, port) {
            (true, Ok(port)) => Ok(port),
            _ => Err(pod["status"].to_string()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_headless_service_names_the_ready_pods_behind_it() {
    let lab = Lab::new().await;
    let services: Api<Service> = Api::default_namespaced(lab.client.clone());
    let create = async |name: &str, app: &str, more: serde_json::Value| {
        let mut service = json!({"metadata": {"name": name}, "spec": {
            "clusterIP": "None", "selector": {"app": app},
            "ports": [{"name": "pool", "port": 7443, "targetPort": "pool"}],
        }});
        json_patch::merge(&mut service["spec"], &more);
        services.create(&PostParams::default(), &serde_json::from_value(service).unwrap()).await.unwrap()
    };
    let created = create("pool", "orchestrator", json!({})).await.spec.unwrap();
    assert_eq!((created.cluster_ip.as_deref(), created.cluster_ips), (Some("None"), Some(vec!["None".to_owned()])));
    create("empty", "nobody", json!({})).await;
    create("whole", "orchestrator", json!({"clusterIP": null})).await;
    let udp = resolver(lab.kubernetes.name_server(), false);
    assert!(ports(&udp, "_pool._tcp.pool.bu1.svc.").await.is_err(), "no pod yet");

    let gate = lab.folder.path().join("gate");
    let pod = |name: &str, app: &str, probe: &str| -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "labels": {"app": app}}, "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": "sh", "command": ["/bin/sh", "-c", "exec sleep 600"],
                "ports": [{"name": "pool", "containerPort": 7443}],
                "readinessProbe": {"exec": {"command": ["/bin/sh", "-c", probe]}, "periodSeconds": 1},
            }],
        }}))
        .unwrap()
    };
    let waits = format!("test -e {}", gate.display());
    for (name, app, probe) in [("a", "orchestrator", "true"), ("b", "orchestrator", &waits), ("c", "engine", "true")] {
        lab.pods().create(&PostParams::default(), &pod(name, app, probe)).await.unwrap();
    }
    let (a, b) = (port(&lab, "a", true).await, port(&lab, "b", false).await);
    port(&lab, "c", true).await;
    let tcp = resolver(lab.kubernetes.name_server(), true);
    for name in ["_pool._tcp.pool.bu1.svc.", "_pool._tcp.pool.bu1.svc.cluster.local.", "_POOL._TCP.pool.BU1.svc."] {
        assert_eq!(ports(&udp, name).await, Ok(vec![a]), "{name}");
        assert_eq!(ports(&tcp, name).await, Ok(vec![a]), "{name}");
    }
    let host = udp.ipv4_lookup("pool.bu1.svc.").await.unwrap();
    assert_eq!(host.answers()[0].data, RData::A(Ipv4Addr::LOCALHOST.into()));
    for (name, kind, exists) in [
        ("pool.bu1.svc.", RecordType::AAAA, true),
        ("whole.bu1.svc.", RecordType::A, false),
        ("empty.bu1.svc.", RecordType::A, false),
        ("pool.bu2.svc.", RecordType::A, false),
        ("nobody.pool.bu1.svc.", RecordType::A, false),
        ("_other._tcp.pool.bu1.svc.", RecordType::SRV, false),
        ("_pool._udp.pool.bu1.svc.", RecordType::SRV, false),
        ("pool.bu1.", RecordType::A, false),
        ("storage.googleapis.com.", RecordType::A, false),
    ] {
        let error = udp.lookup(name, kind).await.unwrap_err();
        assert_eq!((error.is_no_records_found(), error.is_nx_domain()), (true, !exists), "{name}: {error}");
    }

    services.delete("whole", &DeleteParams::default()).await.unwrap();
    services.delete("pool", &DeleteParams::default()).await.unwrap();
    let target = json!({"publishNotReadyAddresses": true, "ports": [{"name": "pool", "port": 1, "targetPort": 7443}]});
    create("pool", "orchestrator", target).await;
    let mut both = vec![a, b];
    both.sort_unstable();
    assert_eq!(ports(&udp, "_pool._tcp.pool.bu1.svc.").await, Ok(both.clone()), "those that are not ready");
    services.delete("pool", &DeleteParams::default()).await.unwrap();
    create("pool", "orchestrator", json!({})).await;
    std::fs::write(gate, "").unwrap();
    until("the second pod", || async {
        let found = ports(&udp, "_pool._tcp.pool.bu1.svc.").await;
        if found == Ok(both.clone()) { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_learn_where_the_name_server_is() {
    let lab = Lab::new().await;
    let server = lab.kubernetes.name_server();
    lab.job("asks", &format!("test $DESKGRID_NAME_SERVER = {server}"), json!({"backoffLimit": 0})).await;
    lab.until_job("asks", |job| crate::kubernetes::support::has(job, "Complete")).await;
    lab.kubernetes.stop().await;
}
