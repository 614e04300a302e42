//! The least that a person needs in IAM to set up, use and take down an environment: the permissions of all calls that
//! its verbs make, in custom roles, with the commands that grant them.
//!
//! A custom role of a project holds only permissions that apply in that project
//! (cloud.google.com/iam/docs/roles-overview#custom). A network, a key or a node account of another project has a role
//! there; folders and organisations are above every project.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::{
    build, calls, data,
    desired::desired,
    environment::{Auth, Builder, Environment, Managed},
    grants, keys,
    kinds::{cluster, crypto_key, project},
    lock,
    preflight::METHODS,
    resource::Kind,
};

/// A custom role of one project.
#[derive(Clone, Debug, Serialize)]
pub struct Role {
    /// The project that it is of.
    pub project: String,
    /// Its id there.
    pub id: String,
    /// What it is for.
    pub description: String,
    /// What it holds.
    pub permissions: BTreeSet<String>,
    /// The commands that create and grant it.
    pub commands: Vec<String>,
}

/// What a person needs.
#[derive(Clone, Debug, Serialize)]
pub struct Least {
    /// Custom roles, that of the environment's project first.
    pub roles: Vec<Role>,
    /// What no custom role of a project can hold: why, and the command that grants it.
    pub others: Vec<String>,
}

/// Where a role is granted.
struct Place {
    project: String,
    /// What is added to the id of the role; empty for the environment's project.
    suffix: String,
    what: String,
    /// The command that grants a role there, without member and role.
    grant: String,
}

impl Role {
    /// The file of `gcloud iam roles create --file`.
    pub fn yaml(&self) -> String {
        let permissions: String = self.permissions.iter().map(|permission| format!("- {permission}\n")).collect();
        let title = self.description.replace('"', "");
        format!("title: {}\ndescription: {title}\nstage: GA\nincludedPermissions:\n{permissions}", self.id)
    }
}

/// What `member` needs for an environment; `impersonated` is the service account in whose place a person acts.
pub fn least(environment: &Environment, impersonated: Option<&str>) -> Least {
    let member = impersonated.map_or_else(|| "user:YOU".to_owned(), |email| format!("serviceAccount:{email}"));
    let mut places: BTreeMap<(String, String), (Place, BTreeSet<String>)> = BTreeMap::new();
    let mut add = |place: Place, permissions: &mut dyn Iterator<Item = String>| {
        let key = (place.suffix.clone(), place.project.clone());
        places.entry(key).or_insert_with(|| (place, BTreeSet::new())).1.extend(permissions);
    };
    let own = || home(environment);
    let mut others = BTreeSet::new();
    add(own(), &mut calls::every().permissions.iter().cloned());
    for call in calls::of(methods(environment)) {
        add(own(), &mut call.permissions.iter().cloned());
        for (what, permissions) in &call.elsewhere {
            for place in elsewhere(environment, what) {
                // A role of the environment's project holds for everything in it.
                let place = if place.project == environment.project { own() } else { place };
                add(place, &mut permissions.iter().cloned());
            }
            if what == "ancestor" {
                others.extend(permissions.iter().cloned());
            }
        }
    }
    if environment.manage.cluster != Managed::Off {
        add(own(), &mut calls::cluster().into_iter());
    }
    let others = others.iter().map(|permission| {
        let above = permission.split('.').nth(1).unwrap_or_default().trim_end_matches('s');
        format!(
            "{permission} is on the {above} of the project and no custom role of a project can hold it; without it a \
             check says what it cannot see: gcloud resource-manager {above}s add-iam-policy-binding {} --member \
             {member} --role roles/iam.securityReviewer",
            above.to_uppercase()
        )
    });
    let impersonation = impersonated.map(|email| {
        format!(
            "iam.serviceAccounts.getAccessToken is for yourself, on the account in whose place you act: gcloud iam \
             service-accounts add-iam-policy-binding {email} --member user:YOU --role \
             roles/iam.serviceAccountTokenCreator"
        )
    });
    let others = others.chain(impersonation).collect();
    let roles = places.into_values().map(|(place, permissions)| role(environment, place, permissions, &member));
    Least { roles: roles.collect(), others }
}

fn role(environment: &Environment, place: Place, permissions: BTreeSet<String>, member: &str) -> Role {
    let Place { project, suffix, what, grant } = place;
    // Ids have letters, digits, '_' and '.', at most 64.
    let name = environment.name.replace('-', "_");
    let id = format!("{}Operator_{name}{suffix}", environment.security.role_prefix);
    let id: String = id.chars().take(64).collect();
    let description = format!("Deskgrid environment {}, on {what}", environment.name);
    let commands = vec![
        format!("gcloud iam roles create {id} --project {project} --file {id}.yaml"),
        format!("{grant} --member {member} --role projects/{project}/roles/{id}"),
    ];
    Role { project, id, description, permissions, commands }
}

/// Every method that the verbs call for an environment.
pub fn methods(environment: &Environment) -> BTreeSet<&'static str> {
    let kinds: BTreeSet<Kind> = desired(environment).iter().map(|resource| resource.id.kind).collect();
    let of_kinds = kinds.iter().flat_map(|kind| {
        let rules = kind.rules();
        let is_ours = (rules.managed)(&environment.manage) == Managed::Create;
        // What others look after is only read.
        rules.methods.all().filter(move |method| is_ours || rules.methods.read.contains(method))
    });
    let lists = Kind::ALL.iter().flat_map(|kind| kind.rules().methods.read).filter(|method| method.ends_with(".list"));
    let makes_cluster = environment.manage.cluster == Managed::Create;
    let is_shared = makes_cluster && environment.network_project() != environment.project;
    let has_keys = crypto_key::used(environment).next().is_some();
    let others = [
        (true, lock::METHODS),
        (true, data::METHODS),
        (true, METHODS),
        (true, &[project::NUMBER_METHOD]),
        (environment.build.builder == Builder::CloudBuild, build::METHODS),
        (environment.auth == Auth::Key, keys::METHODS),
        (makes_cluster, cluster::CHECK_METHODS),
        (has_keys, crypto_key::CHECK_METHODS),
        (is_shared || has_keys, grants::METHODS),
    ];
    let others = others.into_iter().filter(|(is_needed, _)| *is_needed).flat_map(|(_, methods)| methods).copied();
    of_kinds.chain(lists.copied()).chain(others).collect()
}

fn home(environment: &Environment) -> Place {
    let project = environment.project.clone();
    let grant = format!("gcloud projects add-iam-policy-binding {project}");
    Place { what: format!("project {project}"), suffix: String::new(), grant, project }
}

/// The places that an `elsewhere` of the table names, in an environment.
fn elsewhere(environment: &Environment, what: &str) -> Vec<Place> {
    let account = |email: &str| {
        let domain = email.split_once('@').map_or("", |(_, domain)| domain);
        let project = domain.strip_suffix(".iam.gserviceaccount.com").unwrap_or(&environment.project).to_owned();
        let grant = format!("gcloud iam service-accounts add-iam-policy-binding {email} --project {project}");
        Place { project, suffix: "_account".to_owned(), what: format!("service account {email}"), grant }
    };
    let keys = || {
        let keys: BTreeSet<&str> = crypto_key::used(environment).map(|(_, key)| key).collect();
        keys.into_iter().map(|key| key.split('/').collect::<Vec<_>>()).filter(|parts| parts.len() > 7)
    };
    match what {
        "node-account" => {
            vec![account(environment.security.node_account.as_ref().unwrap_or(&environment.accounts.nodes))]
        }
        "builder-account" => vec![account(&environment.accounts.builder)],
        "network" => {
            let project = environment.network_project().to_owned();
            let grant = format!("gcloud projects add-iam-policy-binding {project}");
            vec![Place { what: format!("the network of {project}"), suffix: "_network".to_owned(), grant, project }]
        }
        "key" => keys()
            .map(|parts| Place {
                project: parts[1].to_owned(),
                suffix: format!("_key_{}_{}", parts[5], parts[7]).replace('-', "_"),
                what: format!("key {}", parts[7]),
                grant: format!(
                    "gcloud kms keys add-iam-policy-binding {} --project {} --location {} --keyring {}",
                    parts[7], parts[1], parts[3], parts[5]
                ),
            })
            .collect(),
        "key-ring" => keys()
            .map(|parts| Place {
                project: parts[1].to_owned(),
                suffix: format!("_ring_{}", parts[5]).replace('-', "_"),
                what: format!("key ring {}", parts[5]),
                grant: format!(
                    "gcloud kms keyrings add-iam-policy-binding {} --project {} --location {}",
                    parts[5], parts[1], parts[3]
                ),
            })
            .collect(),
        _ => Vec::new(),
    }
}
