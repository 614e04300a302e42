//! What can be done with objects.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

use super::{
    On, Storage,
    bucket::Bucket,
    buckets::{read, write},
    list::{Listing, Query, list},
    notification::{Event, Notification, message},
    object::{Attributes, Checksums, Object, Preconditions, check_name},
};
use crate::{google::error::Result, identity::principal::Principal};

/// Where to put an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Destination {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) attributes: Attributes,
    pub(super) preconditions: Preconditions,
    pub(super) checksums: Checksums,
    /// A service of Google's writes it, which waits for its turn by itself.
    pub(super) is_of_service: bool,
}

/// Where an object is.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) generation: Option<i64>,
    pub(super) preconditions: Preconditions,
}

impl Storage {
    /// The data of an object, for another service that acts as `caller`.
    ///
    /// # Errors
    /// When it does not exist, or may not be read.
    pub fn fetch_as(&self, caller: &Principal, bucket: &str, name: &str, generation: Option<i64>) -> Result<Bytes> {
        let (bucket, name) = (bucket.to_owned(), name.to_owned());
        let from = Source { bucket, name, generation, preconditions: Preconditions::default() };
        self.get(caller, &from).map(|object| object.data.clone())
    }

    /// Writes text as an object, for another service that acts as `caller`.
    ///
    /// # Errors
    /// When it may not be written.
    pub fn put_as(&self, caller: &Principal, bucket: &str, name: &str, data: Bytes) -> Result<()> {
        let to = Destination {
            bucket: bucket.to_owned(),
            name: name.to_owned(),
            attributes: Attributes { content_type: "text/plain".to_owned(), ..Attributes::default() },
            is_of_service: true,
            ..Destination::default()
        };
        self.insert(caller, to, data).map(|_| ())
    }

    /// Checks that the caller may write there now, without writing.
    pub(super) fn check_insert(&self, caller: &Principal, to: &Destination) -> Result<()> {
        check_name(&to.name)?;
        let bucket = self.find(&to.bucket)?;
        self.need(caller, "storage.objects.create", On::Object(&to.bucket, &to.name))?;
        to.attributes.check()?;
        let bucket = read(&bucket);
        self.check_overwrite(caller, to, &bucket)
    }

    fn check_overwrite(&self, caller: &Principal, to: &Destination, bucket: &Bucket) -> Result<()> {
        let live = bucket.objects.get(&to.name);
        to.preconditions.check(live.map(AsRef::as_ref), false)?;
        if live.is_some() {
            self.need(caller, "storage.objects.delete", On::Object(&to.bucket, &to.name))?;
        }
        Ok(())
    }

    /// Writes an object.
    pub(super) fn insert(&self, caller: &Principal, to: Destination, data: Bytes) -> Result<Arc<Object>> {
        self.check_insert(caller, &to)?;
        to.checksums.check(&data)?;
        let crc32c = crc32c::crc32c(&data);
        let md5 = md5::compute(&data).0;
        let found = self.find(&to.bucket)?;
        let mut bucket = write(&found);
        // Again, now that nobody else can write.
        self.check_overwrite(caller, &to, &bucket)?;
        if !to.is_of_service {
            self.count_write(&to.bucket, &to.name)?;
        }
        let now = self.identity.clock.now();
        let mut attributes = to.attributes;
        if attributes.storage_class.is_empty() {
            attributes.storage_class = bucket.storage_class();
        }
        let object = Arc::new(Object {
            bucket: to.bucket,
            name: to.name,
            generation: self.next_generation(),
            metageneration: 1,
            attributes,
            crc32c,
            md5,
            created: now,
            updated: now,
            data,
        });
        let replaced = bucket.objects.insert(object.name.clone(), object.clone());
        let notifications = bucket.notifications.clone();
        drop(bucket);
        self.changed();
        if let Some(replaced) = &replaced {
            self.notify(&notifications, Event::Delete, replaced, Some(object.generation));
        }
        self.notify(&notifications, Event::Finalize, &object, replaced.map(|replaced| replaced.generation));
        Ok(object)
    }

    /// An object with its data.
    pub(super) fn get(&self, caller: &Principal, from: &Source) -> Result<Arc<Object>> {
        let bucket = self.find(&from.bucket)?;
        self.need(caller, "storage.objects.get", On::Object(&from.bucket, &from.name))?;
        let bucket = read(&bucket);
        let found = find(&bucket, from);
        drop(bucket);
        let object = found.ok_or_else(|| self.no_object(caller, &from.bucket, &from.name))?;
        from.preconditions.check(Some(&object), true)?;
        Ok(object)
    }

    /// A page of objects.
    pub(super) fn list(&self, caller: &Principal, bucket: &str, query: &Query) -> Result<Listing> {
        let found = self.find(bucket)?;
        self.need(caller, "storage.objects.list", On::Listing(bucket, &query.prefix))?;
        let bucket = read(&found);
        list(&bucket.objects, query)
    }

    /// Deletes an object; of a certain generation, if one is given.
    pub(super) fn delete(&self, caller: &Principal, from: &Source) -> Result<()> {
        let found = self.find(&from.bucket)?;
        self.need(caller, "storage.objects.delete", On::Object(&from.bucket, &from.name))?;
        let mut bucket = write(&found);
        let Some(object) = find(&bucket, from) else {
            drop(bucket);
            return Err(self.no_object(caller, &from.bucket, &from.name));
        };
        from.preconditions.check(Some(&object), false)?;
        self.count_write(&from.bucket, &from.name)?;
        bucket.objects.remove(&from.name);
        let notifications = bucket.notifications.clone();
        drop(bucket);
        self.changed();
        self.notify(&notifications, Event::Delete, &object, None);
        Ok(())
    }

    /// Changes an object's metadata.
    pub(super) fn patch(&self, caller: &Principal, from: &Source, patch: &Value) -> Result<Arc<Object>> {
        let found = self.find(&from.bucket)?;
        self.need(caller, "storage.objects.update", On::Object(&from.bucket, &from.name))?;
        let mut bucket = write(&found);
        let Some(object) = find(&bucket, from) else {
            drop(bucket);
            return Err(self.no_object(caller, &from.bucket, &from.name));
        };
        from.preconditions.check(Some(&object), false)?;
        let mut changed = Object::clone(&object);
        changed.attributes.patch(patch)?;
        self.count_write(&from.bucket, &from.name)?;
        changed.metageneration += 1;
        changed.updated = self.identity.clock.now();
        let changed = Arc::new(changed);
        bucket.objects.insert(from.name.clone(), changed.clone());
        let notifications = bucket.notifications.clone();
        drop(bucket);
        self.changed();
        self.notify(&notifications, Event::MetadataUpdate, &changed, None);
        Ok(changed)
    }

    /// Publishes an event to the topics whose notifications ask for it. `other` is the generation that replaced or was
    /// replaced.
    pub(super) fn notify(
        &self,
        notifications: &BTreeMap<u64, Notification>,
        event: Event,
        object: &Arc<Object>,
        other: Option<i64>,
    ) {
        let agent = self.identity.storage_agent();
        for (id, notification) in notifications {
            if !notification.wants(event) || !object.name.starts_with(&notification.object_name_prefix) {
                continue;
            }
            let message = message(*id, notification, event, object, other, &self.base(), self.identity.clock.now());
            if let Err(error) = self.pubsub.publish(&agent, notification.topic_name(), vec![message]) {
                // Google retries such for days; here it is only logged.
                tracing::warn!(
                    bucket = object.bucket,
                    object = object.name,
                    topic = notification.topic_name(),
                    "notification was not published: {}",
                    error.message()
                );
            }
        }
    }
}

/// The object, if it is of the generation that is asked for.
fn find(bucket: &Bucket, from: &Source) -> Option<Arc<Object>> {
    let desired = |object: &&Arc<Object>| from.generation.is_none_or(|desired| desired == object.generation);
    bucket.objects.get(&from.name).filter(desired).cloned()
}
