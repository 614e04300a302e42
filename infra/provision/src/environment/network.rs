//! Reads the network of the cluster.

use super::{
    Endpoint, Network, Ranges,
    read::{Reader, Section, Spanned},
    value,
};

/// Reads `[network]` of an environment in this project and location.
pub(super) fn read(reader: &Reader<'_>, section: Section<'_>, project: &str, location: &str) -> Network {
    let name = section.parsed("network", value::network);
    let subnetwork = section.parsed("subnetwork", value::subnetwork);
    let pods = section.parsed("pods_range", value::label);
    let services = section.parsed("services_range", value::label);
    check_subnetwork(reader, name.as_ref(), subnetwork.as_ref(), project, location);
    let is_shared = name.as_ref().filter(|name| project_of(&name.value, project) != project);
    let ranges = match (pods, services) {
        (Some(pods), Some(services)) if pods.value == services.value => {
            reader.problem(&services.place, "`services_range` is the range of the pods too; each needs its own");
            None
        }
        (Some(pods), Some(services)) => Some(Ranges { pods: pods.value, services: services.value }),
        (Some(one), None) | (None, Some(one)) => {
            reader.problem(&one.place, "`pods_range` and `services_range` go together, and one of them is missing");
            None
        }
        (None, None) => {
            if let Some(name) = is_shared {
                reader.problem_with_help(
                    &name.place,
                    "a network of another project needs secondary ranges that exist, and none are named",
                    Some("name those of the subnetwork as `pods_range` and `services_range`".to_owned()),
                );
            }
            None
        }
    };
    let text = |key, check: fn(&str) -> Result<String, String>| section.parsed(key, check).map(|text| text.value);
    let network = Network {
        network: name.map_or_else(|| "default".to_owned(), |name| name.value),
        subnetwork: subnetwork.map(|subnetwork| subnetwork.value),
        ranges,
        private_nodes: section.boolean("private_nodes", false),
        endpoint: section.choice(
            "endpoint",
            &[("dns", Endpoint::Dns), ("public", Endpoint::Public), ("private", Endpoint::Private)],
        ),
        proxy: text("proxy", value::filled),
        ca_bundle: text("ca_bundle", value::filled).map(Into::into),
    };
    section.finish();
    network
}

/// Reports a subnetwork that is not one of the network in this location.
fn check_subnetwork(
    reader: &Reader<'_>,
    name: Option<&Spanned<String>>,
    subnetwork: Option<&Spanned<String>>,
    project: &str,
    location: &str,
) {
    let host = name.map_or(project, |name| project_of(&name.value, project));
    let fits = subnetwork.map_or(host == project, |subnetwork| {
        let region = subnetwork.value.split('/').nth(3).unwrap_or(location);
        project_of(&subnetwork.value, project) == host && region == location
    });
    if let Some(at) = subnetwork.or(name).filter(|_| !fits) {
        reader.problem_with_help(
            &at.place,
            format!("the network is of the project {host:?}, and no subnetwork of it in {location:?} is named"),
            Some(format!("name one: subnetwork = \"projects/{host}/regions/{location}/subnetworks/NAME\"")),
        );
    }
}

/// The project of a network or subnetwork.
fn project_of<'a>(name: &'a str, own: &'a str) -> &'a str {
    name.strip_prefix("projects/").and_then(|rest| rest.split('/').next()).unwrap_or(own)
}
