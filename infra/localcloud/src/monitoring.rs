//! Cloud Monitoring, as far as its configuration goes: alert policies (v3) and dashboards (v1). Nothing is measured, so
//! the metrics of Google's services exist and those of programs do not.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{Router, body::Body, response::Response};
use http::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    google::{
        call::{Call, ok, time_text},
        error::{Error, Result},
        page,
    },
    identity::{Identity, Target, principal::Principal, rest::no_route},
};

mod dashboard;
mod policy;

type Fields = Map<String, Value>;

/// What is kept: resources by id, without their names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    alert_policies: BTreeMap<String, Fields>,
    dashboards: BTreeMap<String, Fields>,
}

/// The API.
#[derive(Debug)]
pub struct Monitoring {
    identity: Arc<Identity>,
    enforce_apis: bool,
    state: Mutex<State>,
    changes: AtomicU64,
}

/// Most resources on a page.
const PAGE_MAX: usize = 1000;

/// Routes of the service.
pub fn router(monitoring: Arc<Monitoring>) -> Router {
    Router::new().fallback(move |request: Request<Body>| {
        let monitoring = monitoring.clone();
        async move { monitoring.answer(request).await.unwrap_or_else(|error| error.to_rest()) }
    })
}

impl Monitoring {
    /// Neither policies nor dashboards.
    pub fn new(identity: Arc<Identity>, enforce_apis: bool) -> Self {
        Self { identity, enforce_apis, state: Mutex::default(), changes: AtomicU64::new(0) }
    }

    /// Counts changes, so that who saves knows whether to.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A copy of everything, to be saved.
    pub fn snapshot(&self) -> State {
        self.state().clone()
    }

    /// Puts saved state in place of the present one.
    pub fn restore(&self, state: State) {
        *self.state() = state;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response> {
        let call = Call::read(request).await?;
        let caller = self.identity.caller(&call.headers)?;
        if caller == Principal::Anonymous {
            return Err(Error::unauthenticated());
        }
        if self.enforce_apis {
            self.identity.need_service("monitoring.googleapis.com")?;
        }
        let path: Vec<&str> = call.segments.iter().map(String::as_str).collect();
        let (project, kind, id) = match path.as_slice() {
            ["v3", "projects", project, kind @ "alertPolicies", id @ ..]
            | ["v1", "projects", project, kind @ "dashboards", id @ ..]
                if id.len() < 2 =>
            {
                (*project, *kind, id.first().copied())
            }
            _ => return Err(no_route(&call)),
        };
        let verb = match (call.method.as_str(), id) {
            ("GET", None) => "list",
            ("GET", Some(_)) => "get",
            ("POST", None) => "create",
            ("PATCH", Some(_)) => "update",
            ("DELETE", Some(_)) => "delete",
            _ => return Err(no_route(&call)),
        };
        let permission = format!("monitoring.{kind}.{verb}");
        let target = Target::project(self.identity.project());
        if !self.identity.is_project(project) || !self.identity.allowed(&caller, &permission, &target) {
            return Err(Error::forbidden(format!("Permission {permission} denied (or the resource may not exist)."))
                .without_permission("monitoring.googleapis.com", &permission, &format!("projects/{project}")));
        }
        self.carry_out(&call, &caller, kind == "dashboards", id).map(|answer| ok(&answer))
    }

    fn carry_out(&self, call: &Call, caller: &Principal, is_dashboard: bool, id: Option<&str>) -> Result<Value> {
        let project = self.identity.project();
        let show = |id: &str, fields: &Fields| match is_dashboard {
            true => dashboard::shown(self.identity.number(), id, fields),
            false => policy::shown(project, id, fields),
        };
        let record = || {
            let member = caller.member(self.identity.pool());
            let by = member.split_once(':').map_or("", |(_, email)| email);
            json!({"mutateTime": time_text(self.identity.clock.now()), "mutatedBy": by})
        };
        let missing = || Error::not_found("Requested entity was not found.");
        let mut state = self.state();
        let all = if is_dashboard { &mut state.dashboards } else { &mut state.alert_policies };
        if call.method != http::Method::GET {
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        match (call.method.as_str(), id) {
            ("GET", None) => {
                let all = all.iter().map(|(id, fields)| (id.clone(), show(id, fields)));
                let (found, next) = page::page(all, &call.page()?, PAGE_MAX)?;
                Ok(page::answer(if is_dashboard { "dashboards" } else { "alertPolicies" }, found, next))
            }
            ("GET", Some(id)) => Ok(show(id, all.get(id).ok_or_else(missing)?)),
            ("DELETE", Some(id)) => all.remove(id).map(|_| json!({})).ok_or_else(missing),
            (_, None) => {
                let (id, fields) = match is_dashboard {
                    true => dashboard::created(call.json()?),
                    false => policy::created(call.json()?, project, &record())?,
                };
                if all.contains_key(&id) {
                    return Err(Error::exists(format!("Dashboard {id} already exists.")));
                }
                let shown = show(&id, &fields);
                all.insert(id, fields);
                Ok(shown)
            }
            (_, Some(id)) => {
                let kept = all.get_mut(id).ok_or_else(missing)?;
                *kept = match is_dashboard {
                    true => dashboard::replaced(kept, call.json()?)?,
                    false => policy::changed(kept, call.json()?, call.query("updateMask"), project, record())?,
                };
                Ok(show(id, kept))
            }
        }
    }
}
