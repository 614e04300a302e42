//! What of Cloud Storage is saved: buckets and what is known of objects in one file, data in one file each.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering},
};

use anyhow::Context as _;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Storage, bucket::Bucket, buckets::read, object::Object};

/// Everything but the data, as it is saved.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    buckets: Vec<Bucket>,
    objects: Vec<Object>,
}

impl Storage {
    /// A copy of everything; the data is shared, not copied.
    pub fn snapshot(&self) -> Saved {
        let mut saved = Saved::default();
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        for bucket in buckets.values() {
            let bucket = read(bucket);
            saved.objects.extend(bucket.objects.values().map(|object| Object::clone(object)));
            saved.buckets.push(Bucket { objects: std::collections::BTreeMap::new(), ..Bucket::clone(&bucket) });
        }
        saved
    }

    /// Brings back what was saved.
    pub fn restore(&self, saved: Saved) {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        let mut by_name: std::collections::BTreeMap<String, Bucket> =
            saved.buckets.into_iter().map(|bucket| (bucket.name.clone(), bucket)).collect();
        for object in saved.objects {
            self.last_generation.fetch_max(object.generation, Ordering::Relaxed);
            let Some(bucket) = by_name.get_mut(&object.bucket) else { continue };
            bucket.objects.insert(object.name.clone(), Arc::new(object));
        }
        for (name, bucket) in by_name {
            buckets.insert(name, Arc::new(RwLock::new(bucket)));
        }
    }
}

impl Saved {
    /// Writes data that is not there yet; a generation's data never changes.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_data(&self, folder: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let needed: BTreeSet<String> = self.objects.iter().map(|object| object.generation.to_string()).collect();
        let mut there = BTreeSet::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if needed.contains(&name) {
                there.insert(name);
            }
        }
        for object in &self.objects {
            let name = object.generation.to_string();
            if !there.contains(&name) {
                crate::files::write(&folder.join(name), &object.data)?;
            }
        }
        Ok(())
    }

    /// Removes data nobody needs; called once the file that names what is needed is written.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not removed.
    pub fn remove_data(&self, folder: &Path) -> anyhow::Result<()> {
        let needed: BTreeSet<String> = self.objects.iter().map(|object| object.generation.to_string()).collect();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if !needed.contains(entry.file_name().to_string_lossy().as_ref()) {
                std::fs::remove_file(entry.path()).with_context(|| format!("remove {}", entry.path().display()))?;
            }
        }
        Ok(())
    }

    /// Reads the data back.
    ///
    /// # Errors
    /// When data is missing.
    pub fn read_data(&mut self, folder: &Path) -> anyhow::Result<()> {
        for object in &mut self.objects {
            let path = folder.join(object.generation.to_string());
            let data = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            object.data = Bytes::from(data);
        }
        Ok(())
    }
}
