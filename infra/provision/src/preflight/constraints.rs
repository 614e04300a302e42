//! Constraints of the organisation that what is to be done would break.

use super::permissions::methods;
use crate::{
    calls,
    environment::{Auth, Environment},
    finding::{Finding, Pending},
    google::{Api, Client, Error, Request, escape},
    keys,
    kinds::constraints::{CONSTRAINTS, Constraint},
};

/// Checks every constraint that matters.
pub(super) async fn check(environment: &Environment, client: &Client, pending: &Pending<'_>) -> Vec<Finding> {
    let of_keys = if environment.auth == Auth::Key { keys::METHODS } else { &[] };
    let methods = methods(environment, pending).into_iter().chain(of_keys.iter().copied());
    let rows: Vec<&calls::Call> = calls::of(methods).collect();
    let is_named = |name: &str| rows.iter().any(|call| call.constraints.contains(name));
    let matter = CONSTRAINTS.iter().filter(|one| is_named(one.name) && (one.matters)(environment));
    let checks = matter.map(|constraint| async move {
        let Constraint { name, forbids, fix, .. } = constraint;
        let path = format!("v2/projects/{}/policies/{name}:getEffectivePolicy", escape(&environment.project));
        let what = format!("constraints/{name}");
        match client.send(&Request::get(Api::OrgPolicy, path)).await {
            Ok(policy) => match forbids(environment, &policy) {
                Some(seen) => Finding::bad("org-policy", &what, seen, fix.replace("PROJECT", &environment.project)),
                None => Finding::good(&what, "nothing of this environment breaks it"),
            },
            Err(error) => Finding::unchecked(&what, brief(&error)),
        }
    });
    futures::future::join_all(checks).await
}

fn brief(error: &Error) -> String {
    match error.is_service_disabled() {
        true => "orgpolicy.googleapis.com is not enabled".to_owned(),
        false => error.to_string(),
    }
}
