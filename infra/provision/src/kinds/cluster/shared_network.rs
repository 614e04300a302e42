//! The subnetwork of a new cluster, and what a Shared VPC needs beside it: the host project attached, and roles of our
//! service agents there (cloud.google.com/kubernetes-engine/docs/how-to/cluster-shared-vpc).

use super::network::{Subnetwork, makes_cluster, subnetwork};
use crate::{
    desired::agent,
    environment::Environment,
    finding::{Finding, Pending},
    google::{Api, Client, Request, escape},
    grants,
    kinds::project,
    resource::Grant,
};

/// Checks all of it, as far as the environment file names a subnetwork, ranges or a network of another project.
pub(super) async fn check(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    if !makes_cluster(environment, pending) {
        return Vec::new();
    }
    let network = &environment.network;
    let mut findings = Vec::new();
    if network.subnetwork.is_some() || network.ranges.is_some() {
        findings.push(ranges(environment, client).await);
    }
    let host = environment.network_project();
    if host != environment.project {
        findings.push(attached(environment, client, host).await);
        findings.push(roles(environment, client, host).await);
    }
    findings
}

/// Whether the subnetwork exists and has the ranges.
async fn ranges(environment: &Environment, client: &Client) -> Finding {
    let what = "network: subnetwork";
    let found = subnetwork(environment);
    let Subnetwork { project, region, name } = &found;
    let live = match client.send(&Request::get(Api::Compute, found.path())).await {
        Ok(live) => live,
        Err(error) if error.is_not_found() => {
            let fix = "name an existing one as `subnetwork` under [network] in the environment file";
            return Finding::bad(
                "no-subnetwork",
                what,
                format!("project {project} has no subnetwork {name} in {region}"),
                fix,
            );
        }
        Err(error) => return Finding::unchecked(what, error),
    };
    let existing = live["secondaryIpRanges"].as_array().into_iter().flatten();
    let existing: Vec<&str> = existing.filter_map(|range| range["rangeName"].as_str()).collect();
    let needed = environment.network.ranges.iter().flat_map(|ranges| [&ranges.pods, &ranges.services]);
    let missing: Vec<&str> = needed.map(String::as_str).filter(|range| !existing.contains(range)).collect();
    if missing.is_empty() {
        return Finding::good(what, format!("{name} exists with the ranges that are named"));
    }
    let added: Vec<String> = missing.iter().map(|range| format!("{range}=ADDRESSES")).collect();
    Finding::bad(
        "no-range",
        what,
        format!("subnetwork {name} has no secondary range {}", missing.join(" and ")),
        format!(
            "name existing ones as `pods_range` and `services_range` under [network] in the environment file, or create \
             them with free addresses such as 10.4.0.0/17: gcloud compute networks subnets update {name} --project \
             {project} --region {region} --add-secondary-ranges {}",
            added.join(",")
        ),
    )
}

/// Whether our project is attached to the host project.
async fn attached(environment: &Environment, client: &Client, host: &str) -> Finding {
    let (what, project) = ("network: Shared VPC", &environment.project);
    match client.send(&Request::get(Api::Compute, format!("compute/v1/projects/{}/getXpnHost", escape(project)))).await
    {
        Ok(live) if live["name"] == host => Finding::good(what, format!("{project} is attached to {host}")),
        Ok(_) => Finding::bad(
            "not-attached",
            what,
            format!("project {project} is not attached to host project {host}"),
            format!(
                "gcloud compute shared-vpc enable {host}\n  gcloud compute shared-vpc associated-projects add {project} \
                 --host-project {host}"
            ),
        ),
        Err(error) => Finding::unchecked(what, error),
    }
}

/// Whether our service agents have their roles in the host project.
async fn roles(environment: &Environment, client: &Client, host: &str) -> Finding {
    let what = "network: roles";
    let number = match project::number(client, &environment.project).await {
        Ok(number) => number.unwrap_or_default(),
        Err(error) => return Finding::unchecked(what, error),
    };
    let found = subnetwork(environment);
    let Subnetwork { region, name, .. } = &found;
    let robot = agent("container-engine-robot", &number);
    let apis = format!("serviceAccount:{number}@cloudservices.gserviceaccount.com");
    let grant = |role: &str, member: &str| Grant { role: role.to_owned(), member: member.to_owned(), condition: None };
    let on_host = [grant("roles/container.hostServiceAgentUser", &robot)];
    let on_subnetwork = [&robot, &apis].map(|member| grant("roles/compute.networkUser", member));
    let policy = Request::get(Api::Compute, format!("{}/getIamPolicy", found.path()))
        .query("optionsRequestedPolicyVersion", crate::policy::VERSION.to_string());
    let ((mut missing, unseen), (others, also)) = futures::join!(
        grants::missing(client, vec![], host, &on_host),
        grants::missing(client, vec![policy], host, &on_subnetwork),
    );
    missing.extend(others);
    // The agents come with the service; the host project needs it too.
    let enable = [&environment.project, host]
        .map(|project| format!("gcloud services enable container.googleapis.com --project {project}"));
    let commands = missing.iter().map(|Grant { role, member, .. }| match on_host.iter().any(|one| one.role == *role) {
        true => format!("gcloud projects add-iam-policy-binding {host} --member {member} --role {role}"),
        false => format!(
            "gcloud compute networks subnets add-iam-policy-binding {name} --project {host} --region {region} --member \
             {member} --role {role}"
        ),
    });
    let fix = enable.into_iter().chain(commands).collect::<Vec<_>>().join("\n  ");
    grants::finding("agents-denied", what, &format!("host project {host}"), &missing, unseen.or(also).as_deref(), &fix)
}
