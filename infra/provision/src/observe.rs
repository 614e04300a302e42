//! Reads what exists, all at once.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use serde_json::Value;

use crate::{
    desired::{NODES, PROJECT_NUMBER},
    environment::{Environment, Managed},
    google::{Client, Error, Request},
    kinds::{Owner, cluster, project},
    resource::{Desired, Grant, Id, Kind, Resource},
};

/// Reads in flight at once: one wave for a dozen businesses.
const AT_ONCE: usize = 128;

pub use crate::observation::{Live, Observation};

/// Reads every resource of `desired`, and finds what else is of this environment. One wave of reads.
///
/// # Errors
/// When the cloud does not answer at all.
pub async fn observe(client: &Client, environment: &Environment, desired: &[Resource]) -> Result<Observation, Error> {
    let is_enabling = |other: &Resource| other.id.rules().is_first && other.managed == Managed::Create;
    let enabling = desired.iter().any(is_enabling);
    // Some have one read in common.
    let mut requests: BTreeMap<String, (Request, Vec<&Resource>)> = BTreeMap::new();
    for resource in desired {
        let request = resource.id.read(fields(resource));
        let entry = requests.entry(format!("{request:?}")).or_insert_with(|| (request, Vec::new()));
        entry.1.push(resource);
    }
    let reads =
        stream::iter(requests.into_values().map(|(request, resources)| read(client, request, resources, enabling)));
    let lists = Kind::ALL.iter().filter_map(|kind| Some((*kind, kind.rules().list.as_ref()?)));
    let lists = lists.map(|(kind, list)| async move {
        match client.list(&(list.request)(environment), list.key).await {
            Ok(items) => Ok((kind, list, items)),
            // Who may not list only misses a hint.
            Err(error) if error.is_forbidden() || error.is_not_found() => Ok((kind, list, vec![])),
            Err(error) => Err(error),
        }
    });
    let (reads, lists, number) = futures::join!(
        reads.buffer_unordered(AT_ONCE).collect::<Vec<_>>(),
        futures::future::join_all(lists),
        number_if_needed(client, environment, desired),
    );

    let mut observation = Observation::default();
    for read in reads {
        let (live, count) = read?;
        observation.live.extend(live);
        observation.counts.extend(count);
    }
    let known: BTreeSet<&Id> = desired.iter().map(|resource| &resource.id).collect();
    for list in lists {
        let (kind, list, items) = list?;
        for item in items {
            let id = Id::new(kind, (list.name)(&item, &environment.project));
            let mark = kind.rules().mark;
            if let Some(other) = mark.environment(&item).filter(|name| *name != environment.name) {
                observation.others.entry(other).or_default().extend(mark.namespace(&item));
            }
            if !known.contains(&id) && mark.owner(&item, &environment.name) == Owner::Ours {
                observation.extra.insert(id, item);
            }
        }
    }
    observation.project_number = number?;
    if let Some(Live::Present(live)) = observation.live.get(&cluster::id(environment)) {
        let number = observation.project_number.as_deref().unwrap_or(PROJECT_NUMBER);
        observation.node_members = cluster::node_members(live, number);
    }
    Ok(observation)
}

/// The desired fields; nothing for grants.
fn fields(resource: &Resource) -> &Value {
    match &resource.desired {
        Desired::Fields(fields) => fields,
        Desired::Grants(_) => &Value::Null,
    }
}

/// The resources with the number of the project and the accounts of its nodes in the place of their stand-ins.
pub fn resolved(resources: &[Resource], observed: &Observation) -> Vec<Resource> {
    let mut resources = resources.to_vec();
    let Some(number) = &observed.project_number else { return resources };
    for resource in &mut resources {
        if let Desired::Grants(grants) = &mut resource.desired {
            let known = std::mem::take(grants).into_iter().flat_map(|grant| {
                let members: Vec<String> = match grant.member.as_str() {
                    NODES => observed.node_members.iter().cloned().collect(),
                    member => vec![member.replace(PROJECT_NUMBER, number)],
                };
                members.into_iter().map(move |member| Grant { member, ..grant.clone() })
            });
            *grants = known.collect();
        }
    }
    resources
}

/// What one read shows: the resources, and what it counts.
type Shown = (Vec<(Id, Live)>, Option<(String, usize)>);

/// Reads what one request shows. What belongs to a service that is still to be enabled does not exist yet.
async fn read(client: &Client, request: Request, resources: Vec<&Resource>, enabling: bool) -> Result<Shown, Error> {
    let answer = client.read(&request).await;
    let mut count = None;
    let live = resources.into_iter().map(|resource| {
        let id = &resource.id;
        let rules = id.rules();
        let live = match &answer {
            Ok(value) => {
                count = rules.limit.as_ref().map(|limit| (limit.count)(id, value));
                (rules.view)(fields(resource), value.clone()).map_or(Live::Absent, Live::Present)
            }
            Err(error) if error.is_not_found() => Live::Absent,
            Err(error) if error.may_not_exist() && rules.absent_may_be_denied => Live::Absent,
            Err(error) if error.is_service_disabled() && enabling && !rules.is_first => Live::Absent,
            Err(error) if error.is_forbidden() => Live::Denied(error.to_string()),
            Err(error) if error.is_unimplemented() && id.is_policy() => Live::Unsupported,
            Err(_) => return None,
        };
        Some((id.clone(), live))
    });
    match (live.collect::<Option<Vec<_>>>(), answer) {
        (None, Err(error)) => Err(error),
        (live, _) => Ok((live.unwrap_or_default(), count)),
    }
}

/// The number of the project, when a grant depends on it.
async fn number_if_needed(
    client: &Client,
    environment: &Environment,
    desired: &[Resource],
) -> Result<Option<String>, Error> {
    let depends = |grant: &Grant| grant.member == NODES || grant.member.contains(PROJECT_NUMBER);
    let needed = desired.iter().any(|resource| match &resource.desired {
        Desired::Grants(grants) => grants.iter().any(depends),
        Desired::Fields(_) => false,
    });
    if needed { project::number(client, &environment.project).await } else { Ok(None) }
}
