//! What can be done with buckets.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde_json::Value;

use super::{
    On, Storage,
    bucket::{Bucket, check_name},
    notification::Notification,
};
use crate::{
    google::{
        error::{Error, Result},
        page::{PageRequest, page},
    },
    identity::{
        policy::{Kept, Policy, Stale},
        principal::Principal,
    },
};

/// Most buckets on a page.
const PAGE_MAX: usize = 1000;

/// Conditions on a bucket's metageneration.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Metageneration {
    pub(super) matches: Option<i64>,
    pub(super) not_matches: Option<i64>,
}

impl Metageneration {
    fn check(self, bucket: &Bucket, reading: bool) -> Result<()> {
        if self.matches.is_some_and(|desired| desired != bucket.metageneration) {
            return Err(Error::condition_not_met());
        }
        if self.not_matches == Some(bucket.metageneration) {
            return Err(if reading { Error::not_modified() } else { Error::condition_not_met() });
        }
        Ok(())
    }
}

pub(super) fn read(bucket: &RwLock<Bucket>) -> RwLockReadGuard<'_, Bucket> {
    bucket.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write(bucket: &RwLock<Bucket>) -> RwLockWriteGuard<'_, Bucket> {
    bucket.write().unwrap_or_else(PoisonError::into_inner)
}

/// A bucket without its objects.
fn settings(bucket: &Bucket) -> Bucket {
    Bucket {
        name: bucket.name.clone(),
        settings: bucket.settings.clone(),
        metageneration: bucket.metageneration,
        created: bucket.created,
        updated: bucket.updated,
        objects: std::collections::BTreeMap::new(),
        notifications: std::collections::BTreeMap::new(),
        last_notification: 0,
    }
}

impl Storage {
    pub(super) fn create_bucket(&self, caller: &Principal, name: &str, desired: &Value) -> Result<Bucket> {
        self.need(caller, "storage.buckets.create", On::Project)?;
        check_name(name)?;
        let bucket = Bucket::new(name, desired, &self.location, self.identity.clock.now())?;
        self.need_key(&bucket)?;
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(name) {
            return Err(Error::exists(
                "Your previous request to create the named bucket succeeded and you already own it.",
            )
            .with_reason("conflict"));
        }
        let project = self.identity.project();
        let (owners, viewers) = (
            [format!("projectEditor:{project}"), format!("projectOwner:{project}")],
            [format!("projectViewer:{project}")],
        );
        let mut bindings = vec![
            ("roles/storage.legacyBucketOwner", owners.as_slice()),
            ("roles/storage.legacyBucketReader", viewers.as_slice()),
        ];
        // Without uniform access, lists on each object give the same; those are not kept here.
        bindings.push(("roles/storage.legacyObjectOwner", owners.as_slice()));
        bindings.push(("roles/storage.legacyObjectReader", viewers.as_slice()));
        self.identity.begin_policy(&format!("projects/_/buckets/{name}"), Kept::initial(&bindings));
        let answer = settings(&bucket);
        buckets.insert(name.to_owned(), Arc::new(RwLock::new(bucket)));
        self.changed();
        Ok(answer)
    }

    pub(super) fn get_bucket(&self, caller: &Principal, name: &str, condition: Metageneration) -> Result<Bucket> {
        let bucket = self.find(name)?;
        self.need(caller, "storage.buckets.get", On::Bucket(name))?;
        let bucket = read(&bucket);
        condition.check(&bucket, true)?;
        Ok(settings(&bucket))
    }

    pub(super) fn list_buckets(
        &self,
        caller: &Principal,
        project: &str,
        prefix: &str,
        request: &PageRequest,
    ) -> Result<(Vec<Bucket>, String)> {
        if !self.identity.is_project(project) {
            return Err(Error::not_found(format!("The requested project was not found: {project}.")));
        }
        self.need(caller, "storage.buckets.list", On::Project)?;
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        let found = buckets
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(name, bucket)| (name.clone(), settings(&read(bucket))));
        page(found, request, PAGE_MAX)
    }

    pub(super) fn patch_bucket(
        &self,
        caller: &Principal,
        name: &str,
        patch: &Value,
        condition: Metageneration,
    ) -> Result<Bucket> {
        let bucket = self.find(name)?;
        self.need(caller, "storage.buckets.update", On::Bucket(name))?;
        let mut bucket = write(&bucket);
        condition.check(&bucket, false)?;
        let mut changed = settings(&bucket);
        changed.patch(patch, self.identity.clock.now())?;
        self.need_key(&changed)?;
        bucket.patch(patch, self.identity.clock.now())?;
        self.changed();
        Ok(settings(&bucket))
    }

    /// Refuses a bucket with a key that Cloud Storage may not use (googleapis/nodejs-storage #1254).
    fn need_key(&self, bucket: &Bucket) -> Result<()> {
        let place = bucket.settings.get("location").and_then(Value::as_str).unwrap_or_default();
        let key = bucket.settings.get("encryption").map_or(&Value::Null, |encryption| &encryption["defaultKmsKeyName"]);
        self.identity.need_key("gs-project-accounts", key, place, |_| {
            Error::forbidden(
                "Permission denied on Cloud KMS key. Please ensure that your Cloud Storage service account has been \
                 authorized to use this key.",
            )
        })
    }

    pub(super) fn delete_bucket(&self, caller: &Principal, name: &str, condition: Metageneration) -> Result<()> {
        let bucket = self.find(name)?;
        self.need(caller, "storage.buckets.delete", On::Bucket(name))?;
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        {
            let bucket = read(&bucket);
            condition.check(&bucket, false)?;
            if !bucket.objects.is_empty() {
                return Err(Error::exists("The bucket you tried to delete is not empty.").with_reason("conflict"));
            }
        }
        buckets.remove(name);
        drop(buckets);
        self.identity.forget_policy(&format!("projects/_/buckets/{name}"));
        self.changed();
        Ok(())
    }

    pub(super) fn get_policy(&self, caller: &Principal, name: &str, version: i32) -> Result<Policy> {
        self.find(name)?;
        self.need(caller, "storage.buckets.getIamPolicy", On::Bucket(name))?;
        Ok(self.identity.policy(&format!("projects/_/buckets/{name}"), version))
    }

    pub(super) fn set_policy(&self, caller: &Principal, name: &str, desired: Policy) -> Result<Policy> {
        let bucket = self.find(name)?;
        self.need(caller, "storage.buckets.setIamPolicy", On::Bucket(name))?;
        let bucket = read(&bucket);
        if !bucket.is_uniform() && desired.bindings.iter().any(|binding| binding.condition.is_some()) {
            return Err(Error::condition_not_met_because(
                "Conditional role bindings need uniform bucket-level access to be enabled on the bucket.",
            ));
        }
        let public = |member: &String| matches!(member.as_str(), "allUsers" | "allAuthenticatedUsers");
        if bucket.is_public_prevented() && desired.bindings.iter().any(|binding| binding.members.iter().any(public)) {
            return Err(Error::condition_not_met_because(
                "The member bindings allUsers and allAuthenticatedUsers are not allowed since public access prevention is enforced.",
            ));
        }
        self.identity.set_policy(&format!("projects/_/buckets/{name}"), desired, Stale::ConditionNotMet)
    }

    pub(super) fn test_permissions(
        &self,
        caller: &Principal,
        name: &str,
        permissions: &[String],
    ) -> Result<Vec<String>> {
        self.find(name)?;
        Ok(self.identity.testable(caller, permissions, &self.target(On::Bucket(name))))
    }

    pub(super) fn create_notification(
        &self,
        caller: &Principal,
        name: &str,
        desired: Notification,
    ) -> Result<(u64, Notification)> {
        let bucket = self.find(name)?;
        self.need(caller, "storage.buckets.update", On::Bucket(name))?;
        let mut bucket = write(&bucket);
        desired.check(&bucket.notifications)?;
        let topic = desired.topic_name().to_owned();
        let agent = self.identity.storage_agent();
        let target = crate::identity::Target::resource(&topic, "pubsub.googleapis.com/Topic", "pubsub.googleapis.com");
        let known = self.pubsub.has_topic(&topic);
        if !known || !self.identity.allowed(&agent, "pubsub.topics.publish", &target) {
            return Err(Error::forbidden(format!(
                "The service account '{agent}' does not have permission to publish messages to to the Cloud Pub/Sub \
                 topic '//pubsub.googleapis.com/{topic}', or that topic does not exist."
            )));
        }
        let desired = Notification { topic: format!("//pubsub.googleapis.com/{topic}"), ..desired };
        bucket.last_notification += 1;
        let id = bucket.last_notification;
        bucket.notifications.insert(id, desired.clone());
        self.changed();
        Ok((id, desired))
    }

    pub(super) fn notifications(&self, caller: &Principal, name: &str) -> Result<Vec<(u64, Notification)>> {
        let bucket = self.find(name)?;
        self.need(caller, "storage.buckets.get", On::Bucket(name))?;
        Ok(read(&bucket).notifications.iter().map(|(id, found)| (*id, found.clone())).collect())
    }

    pub(super) fn delete_notification(&self, caller: &Principal, name: &str, id: u64) -> Result<()> {
        let bucket = self.find(name)?;
        self.need(caller, "storage.buckets.update", On::Bucket(name))?;
        let removed = write(&bucket).notifications.remove(&id);
        self.changed();
        removed.map(|_| ()).ok_or_else(|| no_notification(name, id))
    }
}

/// 404 for a notification.
pub(super) fn no_notification(bucket: &str, id: u64) -> Error {
    Error::not_found(format!("Notification {id} not found in bucket {bucket}."))
}
