//! Listing objects: prefix, delimiter, pages, globs. A listing walks only the names it shows.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::{bucket::Versions, object::Object};
use crate::google::{
    error::Result,
    page::{Ask, token},
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
    /// Earlier generations too.
    pub versions: bool,
    /// Only names that match; empty for all.
    pub glob: String,
    /// Size and token.
    pub page: Ask,
}

/// A page.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Objects, by name and generation.
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
pub fn list(objects: &BTreeMap<String, Versions>, query: &Query) -> Result<Listing> {
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
        let Some((name, versions)) = next else { return Ok(listing) };
        if !name.starts_with(&query.prefix) || (!query.end.is_empty() && *name >= query.end) {
            return Ok(listing);
        }
        from = Bound::Excluded(name.clone());
        let cut = cut(name, query);
        let found = generations(versions, query.versions);
        if found.is_empty() || (!query.glob.is_empty() && !matches(&query.glob, cut.unwrap_or(name))) {
            continue;
        }
        if shown == limit {
            listing.next = token(&last);
            return Ok(listing);
        }
        shown += 1;
        match cut {
            Some(prefix) => {
                if query.include_trailing_delimiter && prefix == name {
                    listing.objects.extend(found);
                }
                listing.prefixes.push(prefix.to_owned());
                last = format!("{CUT}{prefix}");
                from = past(prefix);
            }
            None => {
                listing.objects.extend(found);
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

fn generations(versions: &Versions, all: bool) -> Vec<Arc<Object>> {
    let old = versions.old.values().filter(|_| all);
    old.chain(&versions.live).cloned().collect()
}

/// True when `name` matches a glob: `*` within a segment, `**` across, `?`, `[abc]`, `{a,b}`.
pub fn matches(glob: &str, name: &str) -> bool {
    if let Some((head, alternatives, tail)) = braces(glob) {
        return alternatives.iter().any(|alternative| matches(&format!("{head}{alternative}{tail}"), name));
    }
    let glob: Vec<char> = glob.chars().collect();
    let name: Vec<char> = name.chars().collect();
    matches_from(&glob, &name)
}

fn braces(glob: &str) -> Option<(&str, Vec<&str>, &str)> {
    let open = glob.find('{')?;
    let close = open + glob[open..].find('}')?;
    Some((&glob[..open], glob[open + 1..close].split(',').collect(), &glob[close + 1..]))
}

fn matches_from(glob: &[char], name: &[char]) -> bool {
    match glob {
        [] => name.is_empty(),
        ['*', '*', rest @ ..] => {
            let after_slash = rest.strip_prefix(&['/']).is_some_and(|rest| matches_from(rest, name));
            after_slash || (0..=name.len()).any(|at| matches_from(rest, &name[at..]))
        }
        ['*', rest @ ..] => {
            let segment = name.iter().position(|c| *c == '/').unwrap_or(name.len());
            (0..=segment).any(|at| matches_from(rest, &name[at..]))
        }
        ['?', rest @ ..] => name.first().is_some_and(|c| *c != '/') && matches_from(rest, &name[1..]),
        ['[', rest @ ..] => {
            let Some(close) = rest.iter().position(|c| *c == ']') else { return false };
            let Some(first) = name.first() else { return false };
            in_class(&rest[..close], *first) && matches_from(&rest[close + 1..], &name[1..])
        }
        [c, rest @ ..] => name.first() == Some(c) && matches_from(rest, &name[1..]),
    }
}

fn in_class(class: &[char], c: char) -> bool {
    let (negated, class) = match class {
        ['!' | '^', rest @ ..] => (true, rest),
        all => (false, all),
    };
    let mut found = false;
    let mut at = 0;
    while at < class.len() {
        if at + 2 < class.len() && class[at + 1] == '-' {
            found |= (class[at]..=class[at + 2]).contains(&c);
            at += 3;
        } else {
            found |= class[at] == c;
            at += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests;
