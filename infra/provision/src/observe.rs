//! Reads what exists, all at once.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};

use crate::{
    desired::STORAGE_AGENT,
    environment::{Environment, Managed},
    google::{Api, Client, Error, Request, escape},
    notification,
    resource::{Desired, Id, Kind, Resource},
    wire::{self, Owner},
};

/// Reads in flight at once: one wave for a dozen businesses.
const AT_ONCE: usize = 128;

pub use crate::observation::{Live, Observation};

/// Reads every resource of `desired`, and finds what else is of this environment. One wave of reads.
///
/// # Errors
/// When the cloud does not answer at all.
pub async fn observe(client: &Client, environment: &Environment, desired: &[Resource]) -> Result<Observation, Error> {
    let enabling = desired.iter().any(|other| other.id.kind == Kind::Services && other.managed == Managed::Create);
    let alone = desired.iter().filter(|resource| resource.id.kind != Kind::Notification);
    let reads = stream::iter(alone.map(|resource| read(client, resource, enabling)));
    let lists = wire::lists(environment).map(|(request, key, kind)| async move {
        match client.list(&request, key).await {
            Ok(items) => Ok((kind, items)),
            // Who may not list only misses a hint.
            Err(error) if error.is_forbidden() || error.is_not_found() => Ok((kind, vec![])),
            Err(error) => Err(error),
        }
    });
    let (reads, lists, notifications, storage_agent) = futures::join!(
        reads.buffer_unordered(AT_ONCE).collect::<Vec<_>>(),
        futures::future::join_all(lists),
        notification::observe(client, desired),
        agent(client, environment, desired),
    );

    let mut live = reads.into_iter().collect::<Result<BTreeMap<Id, Live>, Error>>()?;
    let (live_notifications, notifications) = notifications?;
    live.extend(live_notifications);
    let known: BTreeSet<&Id> = desired.iter().map(|resource| &resource.id).collect();
    let (mut extra, mut others) = (BTreeMap::new(), BTreeSet::new());
    for list in lists {
        let (kind, items) = list?;
        for item in items {
            let id = wire::listed(kind, &item, &environment.project);
            others.extend(wire::environment(&id, &item).filter(|name| *name != environment.name));
            if !known.contains(&id) && wire::owner(&id, &item, &environment.name) == Owner::Ours {
                extra.insert(id, item);
            }
        }
    }
    Ok(Observation { live, extra, others, notifications, storage_agent: storage_agent? })
}

/// The resources with the project's Cloud Storage agent in the place of its stand-in.
pub fn resolved(resources: &[Resource], observed: &Observation) -> Vec<Resource> {
    let mut resources = resources.to_vec();
    let Some(agent) = &observed.storage_agent else { return resources };
    for resource in &mut resources {
        if let Desired::Grants(grants) = &mut resource.desired {
            let known = std::mem::take(grants).into_iter().map(|mut grant| {
                if grant.member == STORAGE_AGENT {
                    grant.member.clone_from(agent);
                }
                grant
            });
            *grants = known.collect();
        }
    }
    resources
}

/// Reads one resource. What belongs to a service that is still to be enabled does not exist yet.
async fn read(client: &Client, resource: &Resource, enabling: bool) -> Result<(Id, Live), Error> {
    let id = &resource.id;
    let live = match client.send(&wire::read_as(id, &resource.desired)).await {
        Ok(value) => Live::Present(wire::view(id, &resource.desired, value)),
        Err(error) if error.is_not_found() => Live::Absent,
        Err(error) if error.may_not_exist() && absent_looks_denied(id.target().kind) => Live::Absent,
        Err(error) if error.is_service_disabled() && enabling && id.kind != Kind::Services => Live::Absent,
        Err(error) if error.is_forbidden() => Live::Denied(error.to_string()),
        Err(error) if error.is_unimplemented() && id.is_policy() => Live::Unsupported,
        Err(error) => return Err(error),
    };
    Ok((id.clone(), live))
}

/// Kinds of which some answer "denied, or it may not exist" for what does not exist.
fn absent_looks_denied(kind: Kind) -> bool {
    matches!(kind, Kind::ServiceAccount)
}

/// The agent that sends notifications of new objects, when a grant names it.
async fn agent(client: &Client, environment: &Environment, desired: &[Resource]) -> Result<Option<String>, Error> {
    let named = desired.iter().any(|resource| match &resource.desired {
        Desired::Grants(grants) => grants.iter().any(|grant| grant.member == STORAGE_AGENT),
        Desired::Fields(_) => false,
    });
    if !named {
        return Ok(None);
    }
    let path = format!("storage/v1/projects/{}/serviceAccount", escape(&environment.project));
    let answer = client.send(&Request::get(Api::Storage, path)).await?;
    Ok(answer["email_address"].as_str().map(|email| format!("serviceAccount:{email}")))
}
