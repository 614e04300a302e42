//! Listings by every page size.

use bytes::Bytes;
use jiff::Timestamp;

use super::*;
use crate::storage::object::Attributes;

fn bucket(names: &[&str]) -> BTreeMap<String, Arc<Object>> {
    let object = |name: &str| {
        Arc::new(Object {
            bucket: "b".to_owned(),
            name: name.to_owned(),
            generation: 1,
            metageneration: 1,
            attributes: Attributes::default(),
            crc32c: 0,
            md5: [0; 16],
            created: Timestamp::UNIX_EPOCH,
            updated: Timestamp::UNIX_EPOCH,
            data: Bytes::new(),
        })
    };
    names.iter().map(|name| ((*name).to_owned(), object(name))).collect()
}

fn pages(objects: &BTreeMap<String, Arc<Object>>, mut query: Query) -> (Vec<String>, Vec<String>, usize) {
    let (mut names, mut prefixes, mut pages) = (Vec::new(), Vec::new(), 0);
    loop {
        let listing = list(objects, &query).unwrap();
        names.extend(listing.objects.iter().map(|object| object.name.clone()));
        prefixes.extend(listing.prefixes);
        pages += 1;
        if listing.next.is_empty() {
            return (names, prefixes, pages);
        }
        query.page.token = listing.next;
    }
}

#[test]
fn every_page_size_gives_the_same_listing() {
    let objects = bucket(&["a", "a/", "a/b", "a/b/c", "a/d", "ab", "b/c", "z"]);
    for size in 0..5 {
        let page = PageRequest { size, token: String::new() };
        let all = pages(&objects, Query { page: page.clone(), ..Query::default() });
        assert_eq!(all.0.len(), 8);
        let cut = pages(&objects, Query { delimiter: "/".to_owned(), page: page.clone(), ..Query::default() });
        assert_eq!(cut.0, ["a", "ab", "z"]);
        assert_eq!(cut.1, ["a/", "b/"]);
        let below =
            Query { prefix: "a/".to_owned(), delimiter: "/".to_owned(), page: page.clone(), ..Query::default() };
        let below = pages(&objects, below);
        assert_eq!(
            (below.0, below.1),
            (vec!["a/".to_owned(), "a/b".to_owned(), "a/d".to_owned()], vec!["a/b/".to_owned()])
        );
        let trailing = Query { delimiter: "/".to_owned(), include_trailing_delimiter: true, page, ..Query::default() };
        assert_eq!(pages(&objects, trailing).0, ["a", "a/", "ab", "z"]);
    }
}

#[test]
fn bounds() {
    let objects = bucket(&["a/1.txt", "a/2.csv", "a/b/3.txt", "c.txt"]);
    let names = |query: Query| pages(&objects, query).0;
    assert_eq!(
        names(Query { start: "a/2".to_owned(), end: "b".to_owned(), ..Query::default() }),
        ["a/2.csv", "a/b/3.txt"]
    );
}
