//! Listing objects: prefix, delimiter, pages. A listing walks only the names it shows.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::object::Object;
use crate::google::{
    error::Result,
    page::{PageRequest, token},
};

/// Most names on a page.
const PAGE_MAX: usize = 1000;
/// What a token's key begins with when it is a cut name.
const CUT: &str = "/";
/// What a token's key begins with when it is an object's name.
const WHOLE: &str = "=";

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// Only names that begin so.
    pub prefix: String,
    /// Names are cut after it; empty for none.
    pub delimiter: String,
    /// Names that end in the delimiter are shown as objects too.
    pub include_trailing_delimiter: bool,
    /// From this name on.
    pub start: String,
    /// Up to, not including, this name; empty for no end.
    pub end: String,
    /// Size and token.
    pub page: PageRequest,
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Objects, by name.
    pub objects: Vec<Arc<Object>>,
    /// Cut names.
    pub prefixes: Vec<String>,
    /// Token of the next page; empty at the end.
    pub next: String,
}

/// Lists.
///
/// # Errors
/// 400 for a bad size or token.
pub fn list(objects: &BTreeMap<String, Arc<Object>>, query: &Query) -> Result<Listing> {
    let limit = query.page.limit(PAGE_MAX)?;
    let mut listing = Listing::default();
    let mut shown = 0;
    let mut last = String::new();
    let mut from = match query.page.after()? {
        // A cut name stands for everything below it.
        Some(after) => match after.strip_prefix(CUT) {
            Some(prefix) => past(prefix),
            None => Bound::Excluded(after.strip_prefix(WHOLE).unwrap_or(&after).to_owned()),
        },
        None => Bound::Included(query.start.clone().max(query.prefix.clone())),
    };
    loop {
        let next = objects.range::<String, _>((from.clone(), Bound::Unbounded)).next();
        let Some((name, object)) = next else { return Ok(listing) };
        if !name.starts_with(&query.prefix) || (!query.end.is_empty() && *name >= query.end) {
            return Ok(listing);
        }
        from = Bound::Excluded(name.clone());
        let cut = cut(name, query);
        if shown == limit {
            listing.next = token(&last);
            return Ok(listing);
        }
        shown += 1;
        match cut {
            Some(prefix) => {
                if query.include_trailing_delimiter && prefix == name {
                    listing.objects.push(object.clone());
                }
                listing.prefixes.push(prefix.to_owned());
                last = format!("{CUT}{prefix}");
                from = past(prefix);
            }
            None => {
                listing.objects.push(object.clone());
                last = format!("{WHOLE}{name}");
            }
        }
    }
}

fn past(prefix: &str) -> Bound<String> {
    Bound::Included(format!("{prefix}{}", char::MAX))
}

fn cut<'a>(name: &'a str, query: &Query) -> Option<&'a str> {
    if query.delimiter.is_empty() {
        return None;
    }
    let rest = &name[query.prefix.len()..];
    let at = rest.find(&query.delimiter)?;
    Some(&name[..query.prefix.len() + at + query.delimiter.len()])
}

#[cfg(test)]
mod tests;
