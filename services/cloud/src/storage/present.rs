//! Finds which of many objects exist, with few calls.

use std::collections::BTreeSet;

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};

use super::store::{Object, Store, described, full};

/// Maximum number of objects in a page of a listing.
const PAGE: usize = 1000;
/// Listing this many objects costs about as much as describing one.
const LISTED_PER_CALL: usize = 25;
/// Objects described at a time.
const CONCURRENCY: usize = 32;

impl Store {
    /// Names of those of these objects that exist, as [`Self::find`].
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn present(&self, bucket: &str, names: BTreeSet<String>) -> anyhow::Result<BTreeSet<String>> {
        Ok(self.find(bucket, names).await?.into_iter().map(|object| object.name).collect())
    }

    /// Those of these objects that exist. Lists from the first to the last of them; when listing becomes more expensive
    /// than single calls, describes the rest one by one.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn find(&self, bucket: &str, mut names: BTreeSet<String>) -> anyhow::Result<Vec<Object>> {
        let mut present = Vec::new();
        let prefix = common_prefix(&names);
        // The end of a listing is exclusive.
        let end = names.last().map(|name| format!("{name}!")).unwrap_or_default();
        let mut listed = 0;
        while names.len() > 1 && listed <= LISTED_PER_CALL * names.len() {
            let size = PAGE.min(LISTED_PER_CALL * names.len());
            let request = self
                .control
                .list_objects()
                .set_parent(full(bucket))
                .set_prefix(&prefix)
                .set_page_size(i32::try_from(size).unwrap_or(i32::MAX))
                .set_lexicographic_start(names.first().cloned().unwrap_or_default())
                .set_lexicographic_end(&end);
            let page = request.send().await.with_context(|| format!("list gs://{bucket}/{prefix}"))?;
            listed += size;
            let last = page.objects.last().map(|object| object.name.clone());
            present.extend(page.objects.into_iter().map(described).filter(|object| names.contains(&object.name)));
            match last {
                Some(last) if !page.next_page_token.is_empty() => {
                    names = names.split_off(&last);
                    names.remove(&last);
                }
                _ => return Ok(present),
            }
        }
        let calls: Vec<_> =
            names.into_iter().map(|name| async move { self.describe(bucket, &name, None).await }).collect();
        let mut calls = futures::stream::iter(calls).buffer_unordered(CONCURRENCY);
        while let Some(found) = calls.try_next().await? {
            present.extend(found);
        }
        Ok(present)
    }
}

/// What all names begin with.
fn common_prefix(names: &BTreeSet<String>) -> String {
    let (Some(first), Some(last)) = (names.first(), names.last()) else { return String::new() };
    first.chars().zip(last.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_what_all_have_in_common() {
        let check = |names: &[&str], wanted: &str| {
            assert_eq!(common_prefix(&names.iter().map(|name| (*name).to_owned()).collect()), wanted);
        };
        check(&["bu1/outcome/s/a/1-0.json", "bu1/outcome/s/b/2-0.json"], "bu1/outcome/s/");
        check(&["a"], "a");
        check(&["é1", "è1"], "");
        check(&[], "");
    }
}
