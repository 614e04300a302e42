//! What can be done with objects.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde_json::Value;

use super::{
    On, Storage,
    bucket::{Bucket, Versions},
    buckets::{read, write},
    list::{Listing, Query, list},
    notification::Event,
    object::{Attributes, Checksums, Object, Preconditions, check_name},
};
use crate::{
    google::error::{Error, Result},
    identity::principal::Principal,
};

/// Most parts of a composed object.
const COMPOSE_MAX: usize = 32;

/// Where to put an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Destination {
    pub(super) bucket: String,
    pub(super) name: String,
    pub(super) attributes: Attributes,
    pub(super) preconditions: Preconditions,
    pub(super) checksums: Checksums,
    /// Parts of a composed object.
    pub(super) components: Option<i32>,
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
        let live = bucket.objects.get(&to.name).and_then(|versions| versions.live.as_ref());
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
        let md5 = to.components.is_none().then(|| md5::compute(&data).0);
        let found = self.find(&to.bucket)?;
        let mut bucket = write(&found);
        // Again, now that nobody else can write.
        self.check_overwrite(caller, &to, &bucket)?;
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
            components: to.components,
            created: now,
            updated: now,
            deleted: None,
            data,
        });
        let versioned = bucket.is_versioned();
        let versions = bucket.objects.entry(object.name.clone()).or_default();
        let replaced = versions.live.replace(object.clone());
        if let Some(replaced) = replaced.as_ref().filter(|_| versioned) {
            let old = Object { deleted: Some(now), ..Object::clone(replaced) };
            versions.old.insert(old.generation, Arc::new(old));
        }
        let notifications = bucket.notifications.clone();
        drop(bucket);
        self.changed();
        if let Some(replaced) = &replaced {
            let event = if versioned { Event::Archive } else { Event::Delete };
            self.notify(&notifications, event, replaced, Some(object.generation));
        }
        self.notify(&notifications, Event::Finalize, &object, replaced.map(|replaced| replaced.generation));
        Ok(object)
    }

    /// An object with its data.
    pub(super) fn get(&self, caller: &Principal, from: &Source) -> Result<Arc<Object>> {
        let bucket = self.find(&from.bucket)?;
        self.need(caller, "storage.objects.get", On::Object(&from.bucket, &from.name))?;
        let bucket = read(&bucket);
        let found = bucket.objects.get(&from.name).and_then(|versions| versions.get(from.generation)).cloned();
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

    /// Deletes an object: the live one, or a certain generation.
    pub(super) fn delete(&self, caller: &Principal, from: &Source) -> Result<()> {
        let found = self.find(&from.bucket)?;
        self.need(caller, "storage.objects.delete", On::Object(&from.bucket, &from.name))?;
        let now = self.identity.clock.now();
        let mut bucket = write(&found);
        let versioned = bucket.is_versioned();
        let versions = bucket.objects.get_mut(&from.name);
        let object = versions.as_ref().and_then(|versions| versions.get(from.generation)).cloned();
        let (Some(versions), Some(object)) = (versions, object) else {
            drop(bucket);
            return Err(self.no_object(caller, &from.bucket, &from.name));
        };
        from.preconditions.check(Some(&object), false)?;
        if object.attributes.temporary_hold || object.attributes.event_based_hold {
            return Err(Error::forbidden(format!(
                "Object '{}/{}' is under active Temporary hold and cannot be deleted, overwritten or archived until hold is removed.",
                from.bucket, from.name
            )));
        }
        let is_live = versions.live.as_ref().is_some_and(|live| live.generation == object.generation);
        let event = remove(versions, &object, is_live, versioned && from.generation.is_none(), now);
        if versions.live.is_none() && versions.old.is_empty() {
            bucket.objects.remove(&from.name);
        }
        let notifications = bucket.notifications.clone();
        drop(bucket);
        self.changed();
        self.notify(&notifications, event, &object, None);
        Ok(())
    }

    /// Changes an object's metadata; with `replace`, what is not said is cleared.
    pub(super) fn patch(&self, caller: &Principal, from: &Source, patch: &Value, replace: bool) -> Result<Arc<Object>> {
        let found = self.find(&from.bucket)?;
        self.need(caller, "storage.objects.update", On::Object(&from.bucket, &from.name))?;
        let mut bucket = write(&found);
        let versions = bucket.objects.get_mut(&from.name);
        let object = versions.as_ref().and_then(|versions| versions.get(from.generation)).cloned();
        let (Some(versions), Some(object)) = (versions, object) else {
            drop(bucket);
            return Err(self.no_object(caller, &from.bucket, &from.name));
        };
        from.preconditions.check(Some(&object), false)?;
        let mut changed = Object::clone(&object);
        if replace {
            changed.attributes =
                Attributes { storage_class: changed.attributes.storage_class, ..Attributes::default() };
        }
        changed.attributes.patch(patch)?;
        changed.metageneration += 1;
        changed.updated = self.identity.clock.now();
        let changed = Arc::new(changed);
        if versions.live.as_ref().is_some_and(|live| live.generation == changed.generation) {
            versions.live = Some(changed.clone());
        } else {
            versions.old.insert(changed.generation, changed.clone());
        }
        let notifications = bucket.notifications.clone();
        drop(bucket);
        self.changed();
        self.notify(&notifications, Event::MetadataUpdate, &changed, None);
        Ok(changed)
    }

    /// Copies an object; attributes that the destination does not give come from the source.
    pub(super) fn copy(
        &self,
        caller: &Principal,
        from: &Source,
        mut to: Destination,
        given: bool,
    ) -> Result<Arc<Object>> {
        let object = self.get(caller, from)?;
        if !given {
            to.attributes = Attributes { storage_class: String::new(), ..object.attributes.clone() };
        } else if to.attributes.content_type.is_empty() {
            to.attributes.content_type.clone_from(&object.attributes.content_type);
        }
        to.components = object.components;
        self.insert(caller, to, object.data.clone())
    }

    /// Puts several objects together.
    pub(super) fn compose(&self, caller: &Principal, sources: &[Source], mut to: Destination) -> Result<Arc<Object>> {
        if sources.is_empty() || sources.len() > COMPOSE_MAX {
            return Err(Error::invalid(format!(
                "The number of source components provided ({}) must be between 1 and {COMPOSE_MAX}",
                sources.len()
            )));
        }
        let mut data = BytesMut::new();
        let mut components = 0;
        for source in sources {
            let object = self.get(caller, source)?;
            data.extend_from_slice(&object.data);
            components += object.components.unwrap_or(1);
            if to.attributes.content_type.is_empty() {
                to.attributes.content_type.clone_from(&object.attributes.content_type);
            }
        }
        to.components = Some(components);
        self.insert(caller, to, data.freeze())
    }
}

/// Takes a generation out; answers what that is called.
fn remove(versions: &mut Versions, object: &Arc<Object>, is_live: bool, keep: bool, now: jiff::Timestamp) -> Event {
    if !is_live {
        versions.old.remove(&object.generation);
        return Event::Delete;
    }
    versions.live = None;
    if !keep {
        return Event::Delete;
    }
    let old = Object { deleted: Some(now), ..Object::clone(object) };
    versions.old.insert(old.generation, Arc::new(old));
    Event::Archive
}
