//! Cloud Storage: buckets and objects, kept in memory.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use tonic::Code;

use crate::{
    google::error::{Error, Result},
    identity::{Identity, Target, principal::Principal},
    pubsub::Pubsub,
};

pub mod bucket;
mod buckets;
mod grpc_api;
pub mod list;
pub mod notification;
pub mod object;
mod objects;
pub mod persist;
mod proto;
mod rates;
pub mod rest;
mod upload;

use bucket::Bucket;
pub use rates::{RefusedWrites, WriteRates};

/// The whole service.
#[derive(Debug)]
pub struct Storage {
    identity: Arc<Identity>,
    pubsub: Arc<Pubsub>,
    location: String,
    enforce_api: bool,
    rates: Option<WriteRates>,
    recent: rates::Recent,
    base: OnceLock<String>,
    buckets: RwLock<BTreeMap<String, Arc<RwLock<Bucket>>>>,
    last_generation: AtomicI64,
    uploads: Mutex<HashMap<String, upload::Session>>,
    changes: AtomicU64,
}

/// What a permission is asked on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum On<'a> {
    /// The project.
    Project,
    /// A bucket.
    Bucket(&'a str),
    /// A bucket, when listing names that begin so.
    Listing(&'a str, &'a str),
    /// An object.
    Object(&'a str, &'a str),
}

impl Storage {
    /// An empty service. `location` is where buckets are that do not say.
    pub fn new(
        identity: Arc<Identity>,
        pubsub: Arc<Pubsub>,
        location: &str,
        enforce_api: bool,
        rates: Option<WriteRates>,
    ) -> Arc<Self> {
        Arc::new(Self {
            identity,
            pubsub,
            location: location.to_ascii_uppercase(),
            enforce_api,
            rates,
            recent: rates::Recent::default(),
            base: OnceLock::new(),
            buckets: RwLock::default(),
            last_generation: AtomicI64::new(0),
            uploads: Mutex::default(),
            changes: AtomicU64::new(0),
        })
    }

    /// Says at which address the service is served, for the links in its answers.
    pub fn set_base(&self, base: String) {
        let _ = self.base.set(base);
    }

    fn base(&self) -> String {
        self.base.get().cloned().unwrap_or_default()
    }

    /// Counts changes, so that who saves knows whether to.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many writes were refused because there were too many.
    pub fn refused_writes(&self) -> RefusedWrites {
        self.recent.refused()
    }

    fn count_write(&self, bucket: &str, name: &str) -> Result<()> {
        self.recent.write(self.rates, bucket, name, self.identity.clock.now())
    }

    /// True when a bucket holds no object, or is not there.
    pub fn is_empty(&self, bucket: &str) -> bool {
        self.find(bucket).ok().is_none_or(|bucket| buckets::read(&bucket).objects.is_empty())
    }

    /// A generation above all before: microseconds of the clock.
    fn next_generation(&self) -> i64 {
        let now = self.identity.clock.now().as_microsecond();
        let last =
            self.last_generation.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1)));
        last.map_or(now, |last| now.max(last + 1))
    }

    fn find(&self, name: &str) -> Result<Arc<RwLock<Bucket>>> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).cloned().ok_or_else(|| Error::not_found("The specified bucket does not exist."))
    }

    fn target(&self, on: On<'_>) -> Target {
        let bucket_name = |name: &str| format!("projects/_/buckets/{name}");
        match on {
            On::Project => Target::project(self.identity.project()),
            On::Bucket(name) => {
                Target::resource(bucket_name(name), "storage.googleapis.com/Bucket", "storage.googleapis.com")
            }
            On::Listing(name, prefix) => {
                let mut target = self.target(On::Bucket(name));
                target.attributes.insert("storage.googleapis.com/objectListPrefix", prefix.to_owned());
                target
            }
            On::Object(bucket, name) => Target {
                policy: Some(bucket_name(bucket)),
                home: None,
                name: format!("{}/objects/{name}", bucket_name(bucket)),
                kind: "storage.googleapis.com/Object",
                service: "storage.googleapis.com",
                attributes: BTreeMap::new(),
            },
        }
    }

    fn may(&self, caller: &Principal, permission: &str, on: On<'_>) -> bool {
        self.identity.allowed(caller, permission, &self.target(on))
    }

    /// Refuses a caller without the permission, in Cloud Storage's words.
    pub(crate) fn need(&self, caller: &Principal, permission: &str, on: On<'_>) -> Result<()> {
        if self.enforce_api {
            self.identity.need_service("storage.googleapis.com")?;
        }
        if self.may(caller, permission, on) {
            return Ok(());
        }
        let resource = match on {
            On::Project => "Google Cloud project",
            On::Bucket(_) | On::Listing(..) => "Google Cloud Storage bucket",
            On::Object(..) => "Google Cloud Storage object",
        };
        let name = match caller {
            Principal::Kubernetes { .. } => caller.member(self.identity.pool()),
            known => known.to_string(),
        };
        let message = format!(
            "{name} does not have {permission} access to the {resource}. Permission '{permission}' denied on \
             resource (or it may not exist)."
        );
        Err(match caller {
            Principal::Anonymous => Error::new(Code::Unauthenticated, message).with_reason("required"),
            _ => Error::forbidden(message),
        })
    }

    /// The error for an object that does not exist: a caller that may not list gets the same 403 as for one that does.
    fn no_object(&self, caller: &Principal, bucket: &str, name: &str) -> Error {
        match self.need(caller, "storage.objects.list", On::Listing(bucket, name)) {
            Ok(()) => Error::not_found(format!("No such object: {bucket}/{name}")),
            Err(denied) => denied,
        }
    }
}
