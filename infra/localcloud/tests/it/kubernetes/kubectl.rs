//! The real kubectl, where it is on the path.

use std::{path::PathBuf, process::Stdio};

use serde_json::json;

use crate::kubernetes::support::{Lab, has};

struct Kubectl {
    program: PathBuf,
    config: PathBuf,
}

impl Kubectl {
    fn of(lab: &Lab) -> Option<Self> {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&folders).map(|folder| folder.join("kubectl")).find(|path| path.is_file());
        let Some(program) = program else {
            eprintln!("skipped: no kubectl");
            return None;
        };
        let config = lab.folder.path().join("kubeconfig");
        std::fs::write(&config, lab.kubernetes.kubeconfig("bu1").to_string()).unwrap();
        Some(Self { program, config })
    }

    /// What kubectl says: both streams, and whether it is content.
    async fn run(&self, line: &str, input: &str) -> (bool, String) {
        let mut child = tokio::process::Command::new(&self.program)
            .args(line.split_whitespace())
            .env("KUBECONFIG", &self.config)
            .env("HOME", self.config.parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        use tokio::io::AsyncWriteExt as _;
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    async fn good(&self, line: &str, input: &str) -> String {
        let (good, text) = self.run(line, input).await;
        assert!(good, "kubectl {line}: {text}");
        text
    }
}

const JOB: &str = r#"
apiVersion: batch/v1
kind: Job
metadata: {name: hello, labels: {app: engine, business: bu1}}
spec:
  template:
    metadata: {labels: {app: engine}}
    spec:
      restartPolicy: Never
      containers: [{name: main, image: sh, command: [/bin/sh, -c, "echo hello; echo again"]}]
"#;

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: main, image: sh, command: [/bin/sh, -c, "echo up; exec sleep 600"]}]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn jobs_as_a_person_looks_at_them() {
    let lab = Lab::new().await;
    let Some(kubectl) = Kubectl::of(&lab) else { return };
    assert_eq!(kubectl.good("apply -f -", JOB).await, "job.batch/hello created\n");
    let waited = kubectl.good("wait --for=condition=complete job/hello --timeout=20s", "").await;
    assert_eq!(waited, "job.batch/hello condition met\n");
    let jobs = kubectl.good("get jobs -l business=bu1 --field-selector status.successful=1", "").await;
    let rows: Vec<Vec<&str>> = jobs.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"]);
    assert_eq!(rows[1][..3], ["hello", "Complete", "1/1"]);
    let wide = kubectl.good("get jobs -o wide", "").await;
    assert!(wide.contains("CONTAINERS") && wide.contains("batch.kubernetes.io/controller-uid="), "{wide}");
    assert_eq!(kubectl.good("logs --selector=app=engine --tail 1", "").await, "again\n");
    assert_eq!(kubectl.good("logs job/hello", "").await, "hello\nagain\n");
    assert_eq!(kubectl.good("get job hello -o jsonpath={.status.succeeded}", "").await, "1");
    let described = kubectl.good("describe job hello", "").await;
    assert!(described.contains("0 Active (0 Ready) / 1 Succeeded / 0 Failed"), "{described}");
    assert!(described.contains("SuccessfulCreate") && described.contains("Completed"), "{described}");
    let described = kubectl.good("describe pods", "").await;
    assert!(described.contains("Successfully assigned") && described.contains("Started container main"), "{described}");
    assert!(kubectl.good("get pods -A", "").await.contains("Completed"));
    let (good, text) = kubectl.run("apply -f -", &JOB.replace("restartPolicy", "restartPolizy")).await;
    assert!(!good && text.contains("unknown field \"spec.template.spec.restartPolizy\""), "{text}");
    assert_eq!(kubectl.good("apply --server-side -f -", JOB).await, "job.batch/hello serverside-applied\n");
    assert_eq!(kubectl.good("delete jobs --all", "").await, "job.batch \"hello\" deleted\n");
    kubectl.good("wait --for=delete pod -l app=engine --timeout=20s", "").await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_as_a_person_works_with_them() {
    let lab = Lab::new().await;
    let Some(kubectl) = Kubectl::of(&lab) else { return };
    assert_eq!(kubectl.good("apply --server-side -f -", WEB).await, "deployment.apps/web serverside-applied\n");
    let rollout = kubectl.good("rollout status deploy/web --timeout=20s", "").await;
    assert!(rollout.contains("successfully rolled out"), "{rollout}");
    assert_eq!(kubectl.good("scale deploy/web --replicas=2", "").await, "deployment.apps/web scaled\n");
    kubectl.good("rollout status deploy/web --timeout=20s", "").await;
    kubectl.good("rollout restart deploy/web", "").await;
    kubectl.good("rollout status deploy/web --timeout=20s", "").await;
    kubectl.good("wait --for=condition=available deploy/web --timeout=20s", "").await;
    let history = kubectl.good("rollout history deploy/web", "").await;
    assert!(history.contains('2'), "{history}");
    let all = kubectl.good("get all", "").await;
    assert!(all.contains("2/2") && all.contains("replicaset.apps/web-"), "{all}");
    let (good, text) = kubectl.run("apply --server-side --field-manager=other -f -", &WEB.replace("600", "700")).await;
    assert!(!good && text.contains("conflict with \"kubectl\""), "{text}");
    assert!(kubectl.good("get events", "").await.contains("ScalingReplicaSet"));
    assert!(kubectl.good("get nodes -o wide", "").await.contains("laptop"));
    assert!(kubectl.good("describe node laptop", "").await.contains("Non-terminated Pods"));
    kubectl.good("delete deploy web", "").await;
    kubectl.good("wait --for=delete pod -l app=web --timeout=20s", "").await;
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_each_change() {
    let lab = Lab::new().await;
    let Some(kubectl) = Kubectl::of(&lab) else { return };
    use tokio::io::{AsyncBufReadExt as _, BufReader};
    let mut child = tokio::process::Command::new(&kubectl.program)
        .args(["get", "jobs", "-w"])
        .env("KUBECONFIG", &kubectl.config)
        .env("HOME", lab.folder.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lab.job("seen", "true", json!({})).await;
    lab.until_job("seen", |job| has(job, "Complete")).await;
    let mut complete = false;
    while !complete {
        let line = tokio::time::timeout(std::time::Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap();
        complete = line.unwrap().starts_with("seen   Complete");
    }
    lab.kubernetes.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn imperative_commands_speak_protobuf() {
    let lab = Lab::new().await;
    let Some(kubectl) = Kubectl::of(&lab) else { return };
    kubectl.good("create namespace bu2", "").await;
    kubectl.good("create serviceaccount orchestrator", "").await;
    kubectl.good("create role orchestrator --verb=get,list --resource=jobs", "").await;
    kubectl.good("create rolebinding orchestrator --role=orchestrator --serviceaccount=bu1:orchestrator", "").await;
    kubectl.good("create secret generic key --from-literal=key.json=secret", "").await;
    kubectl.good("create configmap config --from-literal=a=b", "").await;
    kubectl.good("create quota many --hard=count/jobs.batch=10", "").await;
    kubectl.good("create job made --image=sh -- /bin/sh -c exit", "").await;
    lab.until_job("made", |job| has(job, "Complete")).await;
    let account = "--as=system:serviceaccount:bu1:orchestrator";
    assert_eq!(kubectl.good(&format!("auth can-i list jobs {account}"), "").await.trim(), "yes");
    assert_eq!(kubectl.run(&format!("auth can-i create jobs {account}"), "").await.1.trim(), "no");
    let token = kubectl.good("create token orchestrator", "").await;
    let (good, text) = kubectl.run(&format!("delete jobs --all --token={}", token.trim()), "").await;
    assert!(!good && text.contains("cannot delete resource \"jobs\" in API group \"batch\""), "{text}");
    kubectl.good("delete namespace bu2 --timeout=20s", "").await;
    lab.kubernetes.stop().await;
}
