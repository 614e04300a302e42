//! Reads results that are parts of objects: those that follow each other in an object with one request.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use cloud::storage::Store;
use contract::pack::{Item, ItemResult};
use futures::{StreamExt as _, TryStreamExt as _};

/// Maximum size of several results that one request reads, in bytes.
const REQUEST_BYTES: u64 = 4 * 1024 * 1024;
/// Requests at a time.
const READS: usize = 16;

/// Results that follow each other in one generation of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group<'a> {
    object: &'a str,
    generation: i64,
    span: Range<u64>,
    /// Item and span of each result.
    parts: Vec<(u32, Range<u64>)>,
}

/// The bytes of the results that are parts of objects, by the index of the item; `None` for a result whose object is
/// gone or too short. Results of more than `most` bytes are left out.
///
/// # Errors
/// When an object cannot be read.
pub(crate) async fn read(
    store: &Store,
    bucket: &str,
    items: &[Item],
    most: usize,
) -> anyhow::Result<BTreeMap<u32, Option<Bytes>>> {
    let reads: Vec<_> = groups(items, most)
        .into_iter()
        .map(|Group { object, generation, span, parts }| async move {
            let read = store.read_part(bucket, object, generation, span.start, span.end - span.start).await?;
            let body = read.map(|(_, body)| body);
            let part = move |(index, part): (u32, Range<u64>)| {
                let at = |position: u64| usize::try_from(position - span.start).unwrap_or(usize::MAX);
                let range = at(part.start)..at(part.end);
                let body = body.as_ref().filter(|body| range.end <= body.len());
                (index, body.map(|body| body.slice(range)))
            };
            anyhow::Ok(parts.into_iter().map(part).collect::<Vec<_>>())
        })
        .collect();
    let read: Vec<_> = futures::stream::iter(reads).buffer_unordered(READS).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

fn groups(items: &[Item], most: usize) -> Vec<Group<'_>> {
    let mut all: Vec<Group<'_>> = items
        .iter()
        .filter_map(|item| match item.result.as_ref()? {
            ItemResult::Object { object, generation, offset, length, .. } => {
                let span = *offset..offset.saturating_add(*length);
                let parts = vec![(item.index, span.clone())];
                let is_small = usize::try_from(*length).is_ok_and(|length| length <= most);
                is_small.then_some(Group { object, generation: *generation, span, parts })
            }
            ItemResult::Text { .. } | ItemResult::Bytes { .. } => None,
        })
        .collect();
    all.sort_by_key(|group| (group.object, group.generation, group.span.start));
    let mut groups: Vec<Group<'_>> = Vec::new();
    for next in all {
        match groups.last_mut() {
            Some(last)
                if (last.object, last.generation, last.span.end) == (next.object, next.generation, next.span.start)
                    && next.span.end - last.span.start <= REQUEST_BYTES =>
            {
                last.span.end = next.span.end;
                last.parts.extend(next.parts);
            }
            _ => groups.push(next),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use contract::outcome::{Reason, State};

    use super::*;

    fn item(index: u32, object: &str, offset: u64, length: u64) -> Item {
        let object = object.to_owned();
        let result = ItemResult::Object { object, generation: 7, offset, length, content_type: String::new() };
        let item = Item::without_result(index, State::Succeeded, Reason::default());
        Item { result: Some(result), ..item }
    }

    #[test]
    fn results_that_follow_each_other_are_read_with_one_request_of_limited_size() {
        let check = |items: &[Item], most, expected: &[(&str, Range<u64>, &[u32])]| {
            let groups = groups(items, most);
            let of = |group: &Group<'_>| group.parts.iter().map(|(index, _)| *index).collect::<Vec<_>>();
            let indexes: Vec<Vec<u32>> = groups.iter().map(of).collect();
            let found: Vec<_> =
                groups.iter().zip(&indexes).map(|(group, of)| (group.object, group.span.clone(), &of[..])).collect();
            assert_eq!(found, expected);
        };
        // A part has the results in the order in which they were computed.
        let items = [item(0, "a", 30, 10), item(1, "a", 0, 10), item(2, "b", 0, 5), item(3, "a", 10, 20)];
        check(&items, usize::MAX, &[("a", 0..40, &[1, 3, 0]), ("b", 0..5, &[2])]);
        check(&items, 10, &[("a", 0..10, &[1]), ("a", 30..40, &[0]), ("b", 0..5, &[2])]);
        let mib = 1024 * 1024;
        let large: Vec<Item> = (0..5).map(|index| item(index, "a", u64::from(index) * 2 * mib, 2 * mib)).collect();
        check(
            &large,
            usize::MAX,
            &[("a", 0..4 * mib, &[0, 1]), ("a", 4 * mib..8 * mib, &[2, 3]), ("a", 8 * mib..10 * mib, &[4])],
        );
        check(&[item(0, "a", 0, 9 * mib)], usize::MAX, &[("a", 0..9 * mib, &[0])]);
    }
}
