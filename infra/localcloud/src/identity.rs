//! Who may do what: accounts, tokens, roles, policies and enabled APIs of the one project, and their REST services.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, header};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    clock::Clock,
    google::error::{Error, Result},
};

pub mod accounts;
pub mod asked;
pub mod condition;
pub mod lags;
pub mod metadata;
pub mod neighbour;
pub mod policy;
pub mod principal;
pub mod rest;
pub mod roles;
pub mod services;
mod target;
pub mod tokens;
pub mod used;

pub use target::{Target, project_policy};

use accounts::Accounts;
use lags::{Lags, Young};
use neighbour::Neighbour;
use policy::{Kept, Policy, Stale};
use principal::{Pool, Principal};
use roles::Roles;

/// Quotas of a project: disks and addresses as users of new projects report them (learn-terraform-provision-gke-cluster
/// #22, cloud-ops-sandbox #44), and enough processors for every test. Processors of most families have their own metric
/// (cloud.google.com/compute/resource-usage).
const QUOTAS: [(&str, u32); 9] = [
    ("C2_CPUS", 2400),
    ("C3_CPUS", 2400),
    ("CPUS", 2400),
    ("CPUS_ALL_REGIONS", 4800),
    ("IN_USE_ADDRESSES", 8),
    ("N2_CPUS", 2400),
    ("N2D_CPUS", 2400),
    ("PREEMPTIBLE_CPUS", 2400),
    ("SSD_TOTAL_GB", 500),
];

/// Everything about identities, behind one lock.
#[derive(Debug)]
pub struct Identity {
    /// Time of policies, roles and accounts.
    pub clock: Clock,
    pool: Pool,
    operator: String,
    allow_anonymous: bool,
    strict_token_expiry: bool,
    constraints: BTreeSet<String>,
    unbilled: bool,
    quotas: BTreeMap<String, u32>,
    no_default_network: bool,
    neighbour: Option<Neighbour>,
    state: RwLock<State>,
    changes: AtomicU64,
    young: Young,
    /// Which grants let service accounts do something.
    used: used::Used,
    /// Operations of Service Usage by name, as long as this process lives.
    operations: Mutex<BTreeMap<String, serde_json::Value>>,
}

/// What [`Identity`] is made with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Clock.
    pub clock: Clock,
    /// Project id.
    pub project: String,
    /// Project number.
    pub number: u64,
    /// Email address of the project's owner.
    pub operator: String,
    /// A call without credentials is the operator's.
    pub allow_anonymous: bool,
    /// Tokens age with [`Clock`] rather than with wall time.
    pub strict_token_expiry: bool,
    /// What takes effect late.
    pub lags: Lags,
    /// Constraints of the organisation that are enforced, such as `iam.disableServiceAccountCreation`.
    pub constraints: BTreeSet<String>,
    /// Whether nobody pays for the project.
    pub unbilled: bool,
    /// Quotas that differ from those of a new project, by metric.
    pub quotas: BTreeMap<String, u32>,
    /// The project has no network called `default`.
    pub no_default_network: bool,
    /// Another project, whose network and keys the project may use.
    pub neighbour: Option<Neighbour>,
}

/// What is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct State {
    accounts: Accounts,
    roles: Roles,
    policies: BTreeMap<String, Kept>,
    enabled: BTreeSet<String>,
    /// Whether there is a Workload Identity pool.
    #[serde(default)]
    pool: bool,
    secret: Vec<u8>,
    revision: u64,
    created: Timestamp,
}

impl State {
    /// Id of the project.
    pub fn project(&self) -> &str {
        self.accounts.project()
    }
}

impl Identity {
    /// A project with one owner and nothing else.
    pub fn new(settings: Settings) -> Self {
        let owner = [format!("user:{}", settings.operator)];
        let project = project_policy(&settings.project);
        let mut policies = BTreeMap::from([(project, Kept::initial(&[("roles/owner", &owner)]))]);
        let others = settings.neighbour.iter().flat_map(|neighbour| &neighbour.grants);
        let mut granted: BTreeMap<&str, Vec<(&str, &[String])>> = BTreeMap::new();
        for (resource, role, member) in others {
            granted.entry(resource).or_default().push((role, std::slice::from_ref(member)));
        }
        policies.extend(granted.into_iter().map(|(resource, grants)| (resource.to_owned(), Kept::initial(&grants))));
        let state = State {
            accounts: Accounts::new(&settings.project),
            roles: Roles::default(),
            policies,
            enabled: services::BASE.iter().map(|name| (*name).to_owned()).collect(),
            pool: false,
            secret: rand::random::<[u8; 32]>().to_vec(),
            revision: 0,
            created: settings.clock.now(),
        };
        Self {
            clock: settings.clock,
            pool: Pool { project: settings.project, number: settings.number },
            operator: settings.operator,
            allow_anonymous: settings.allow_anonymous,
            strict_token_expiry: settings.strict_token_expiry,
            constraints: settings.constraints,
            unbilled: settings.unbilled,
            quotas: settings.quotas,
            no_default_network: settings.no_default_network,
            neighbour: settings.neighbour,
            state: RwLock::new(state),
            changes: AtomicU64::new(0),
            young: Young::new(settings.lags),
            used: used::Used::default(),
            operations: Mutex::default(),
        }
    }

    /// Whether the organisation enforces a constraint.
    pub fn enforces(&self, constraint: &str) -> bool {
        self.constraints.contains(constraint)
    }

    /// The values that a constraint allows, of one that lists them.
    pub fn allowed_values(&self, constraint: &str) -> Option<Vec<&str>> {
        let values = |text: &String| text.split_once('=').filter(|(name, _)| *name == constraint).is_some();
        let (_, values) = self.constraints.iter().find(|text| values(text))?.split_once('=')?;
        Some(values.split(',').collect())
    }

    /// Whether nobody pays for the project.
    pub fn is_unbilled(&self) -> bool {
        self.unbilled
    }

    /// The quotas of a region and, with `CPUS_ALL_REGIONS`, of the project.
    pub fn quotas(&self) -> BTreeMap<&str, u32> {
        let own = self.quotas.iter().map(|(metric, limit)| (metric.as_str(), *limit));
        QUOTAS.into_iter().chain(own).collect()
    }

    /// Whether the project has a network. Without the default one it has those that somebody created; the laptop has
    /// every other one. A project has its default one a moment after Compute Engine is enabled.
    pub fn has_network(&self, name: &str) -> bool {
        let is_young = self.young.refuses("compute.googleapis.com", self.clock.now());
        name != "default" || !(self.no_default_network || is_young)
    }

    /// Whether a service account exists, and is known everywhere.
    pub fn knows_account(&self, email: &str) -> bool {
        self.service_account(email).is_some() && !self.young.hides(email, self.clock.now())
    }

    /// Refuses what a constraint of the organisation forbids.
    ///
    /// # Errors
    /// 400 FAILED_PRECONDITION that names the constraint.
    pub fn forbid(&self, constraint: &str, message: &str) -> crate::google::error::Result<()> {
        if !self.enforces(constraint) {
            return Ok(());
        }
        let metadata = vec![("constraint".to_owned(), format!("constraints/{constraint}"))];
        Err(crate::google::error::Error::failed_precondition(format!("{message} (constraints/{constraint})"))
            .with_info("CUSTOM_ORG_POLICY_VIOLATION", "googleapis.com", metadata))
    }

    /// Project id.
    pub fn project(&self) -> &str {
        &self.pool.project
    }

    /// True for the project by its id or number.
    pub fn is_project(&self, name: &str) -> bool {
        name == self.project() || name == self.number().to_string()
    }

    /// Project number.
    pub fn number(&self) -> u64 {
        self.pool.number
    }

    /// The project's workload identity pool.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Makes the workload identity pool, as the first cluster that uses it does. It stays when that cluster goes.
    pub fn open_pool(&self) {
        if !self.read().pool {
            self.write().pool = true;
        }
    }

    /// The owner.
    pub fn operator(&self) -> Principal {
        Principal::User { email: self.operator.clone() }
    }

    /// A service account of the project by its email, if there is one.
    pub fn service_account(&self, email: &str) -> Option<Principal> {
        let state = self.read();
        let uid = state.accounts.uid_of(email)?.to_owned();
        Some(Principal::ServiceAccount { email: email.to_owned(), uid: Some(uid) })
    }

    /// Counts changes, so that who saves knows whether to.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A copy of everything, to be saved.
    pub fn snapshot(&self) -> State {
        self.read().clone()
    }

    /// Puts saved state in place of the present one.
    pub fn restore(&self, state: State) {
        *self.write() = state;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.changes.fetch_add(1, Ordering::Relaxed);
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn operation(&self, name: &str) -> Option<serde_json::Value> {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn keep_operation(&self, name: &str, operation: serde_json::Value) {
        self.operations.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), operation);
    }

    fn secret(&self) -> Vec<u8> {
        self.read().secret.clone()
    }

    /// Who sent a request with these headers.
    ///
    /// # Errors
    /// 401 for credentials that are not good.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Principal> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(if self.allow_anonymous { self.operator() } else { Principal::Anonymous });
        };
        let token = value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        self.principal_of(token.ok_or_else(Error::unauthenticated)?).map(|(principal, _)| principal)
    }

    /// True when a policy on the target or on the project allows it.
    pub fn allowed(&self, principal: &Principal, permission: &str, target: &Target) -> bool {
        asked::note(principal, permission);
        self.holds(principal, permission, target)
    }

    fn holds(&self, principal: &Principal, permission: &str, target: &Target) -> bool {
        let state = self.read();
        let context = condition::Context {
            name: &target.name,
            kind: target.kind,
            service: target.service,
            time: self.clock.now(),
            attributes: &target.attributes,
        };
        let project = project_policy(target.home.as_deref().unwrap_or(self.project()));
        let earlier = |name: &String| self.young.counting(name, self.clock.now());
        let (late_project, late_own) = (earlier(&project), target.policy.as_ref().and_then(earlier));
        let project_policy = late_project.as_ref().or_else(|| state.policies.get(&project));
        let holds_basic = |basic: &str| {
            project_policy.is_some_and(|policy| {
                policy.bindings_of(principal, &self.pool, &context, &|_| false).any(|(role, _)| role == basic)
            })
        };
        let own = late_own.as_ref().or_else(|| state.policies.get(target.policy.as_ref()?));
        let own_name = target.policy.as_deref().unwrap_or_default();
        let policies = project_policy.map(|policy| (project.as_str(), policy)).into_iter();
        let mut policies = policies.chain(own.map(|policy| (own_name, policy)));
        let allowed = policies.any(|(of, policy)| {
            let found = policy
                .bindings_of(principal, &self.pool, &context, &holds_basic)
                .find(|(role, _)| state.roles.has(self.project(), role, permission));
            if let (Some((role, condition)), Principal::ServiceAccount { email, .. }) = (found, principal) {
                self.used.note(email, of, role, condition);
            }
            found.is_some()
        });
        if let (false, Principal::ServiceAccount { email, .. }) = (allowed, principal) {
            self.used.note_refused(email, permission, &target.name);
        }
        allowed
    }

    /// The grants that let a service account do something so far.
    pub fn used(&self, account: &str) -> Vec<used::Grant> {
        self.used.of(account)
    }

    /// What a service account was refused so far: permission and resource.
    pub fn refused(&self, account: &str) -> Vec<(String, String)> {
        self.used.refused(account)
    }

    /// Those of `permissions` that the caller has.
    pub fn testable(&self, principal: &Principal, permissions: &[String], target: &Target) -> Vec<String> {
        permissions.iter().filter(|permission| self.holds(principal, permission, target)).cloned().collect()
    }

    /// The policy of a resource.
    pub fn policy(&self, resource: &str, version: i32) -> Policy {
        let state = self.read();
        match state.policies.get(resource) {
            Some(policy) => policy.read(version, &state.accounts),
            None => Kept::default().read(version, &state.accounts),
        }
    }

    /// Replaces the policy of a resource.
    ///
    /// # Errors
    /// As [`Kept::write`] says.
    pub fn set_policy(&self, resource: &str, desired: Policy, stale: Stale) -> Result<Policy> {
        let mut state = self.write();
        let mut policy = state.policies.get(resource).cloned().unwrap_or_default();
        let revision = state.revision.max(self.clock.now().as_microsecond().unsigned_abs()) + 1;
        let (roles, project) = (&state.roles, self.project());
        if !state.pool
            && let Some(member) =
                desired.bindings.iter().flat_map(|binding| &binding.members).find(|it| self.pool.names(it))
        {
            tracing::debug!(member, "a member of a pool that does not exist");
            return Err(Error::invalid(format!(
                "Identity Pool does not exist ({}). Please check that you specified a valid resource name as returned \
                 in the `name` attribute in the configuration API.",
                self.pool.name()
            )));
        }
        let now = self.clock.now();
        self.young.knows_members(&desired, now)?;
        let before = policy.clone();
        policy.write(desired, revision, stale, &state.accounts, |role| roles.exists(project, role))?;
        self.young.policy(resource, &before, now);
        let shown = policy.read(3, &state.accounts);
        state.policies.insert(resource.to_owned(), policy);
        state.revision = revision;
        Ok(shown)
    }

    /// Gives a new resource the policy that such resources begin with.
    pub fn begin_policy(&self, resource: &str, policy: Kept) {
        self.write().policies.insert(resource.to_owned(), policy);
    }

    /// Forgets the policy of a resource that is gone.
    pub fn forget_policy(&self, resource: &str) {
        self.write().policies.remove(resource);
    }
}
