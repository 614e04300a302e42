//! What every call of Google's APIs needs, and which of its errors pass by themselves: the table
//! `infra/provision/calls.toml`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
    time::Duration,
};

use serde::Deserialize;

/// The methods of a kind of resource, by the ids of Google's discovery documents.
#[derive(Clone, Copy, Debug)]
pub struct Methods {
    /// Those that a plan reads with.
    pub read: &'static [&'static str],
    /// Those that create one, and follow that.
    pub create: &'static [&'static str],
    /// Those that change one.
    pub update: &'static [&'static str],
    /// Those that delete one.
    pub delete: &'static [&'static str],
}

impl Methods {
    /// None.
    pub const NONE: Self = Self { read: &[], create: &[], update: &[], delete: &[] };

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        [self.read, self.create, self.update, self.delete].into_iter().flatten().copied()
    }
}

/// One row: what is known of a method.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Call {
    /// Permissions on the project, or on what is in it.
    pub permissions: Vec<String>,
    /// Permissions on what may be of another project, or above it, by what that is.
    pub elsewhere: BTreeMap<String, Vec<String>>,
    /// A refusal stops nothing.
    pub optional: bool,
    /// Constraints of an organisation that may refuse it.
    pub constraints: BTreeSet<String>,
    later: Vec<String>,
}

/// An error as Google answers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    pub(crate) code: u16,
    pub(crate) reason: Option<&'a str>,
    pub(crate) message: &'a str,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Expected {
    codes: Vec<u16>,
    reasons: Vec<String>,
    texts: Vec<String>,
    all_texts: bool,
    limit_secs: u64,
    passes: bool,
}

/// What `deploy` and the daily commands need in the cluster, where IAM or RBAC has to allow them.
#[derive(Debug, Default, Deserialize)]
struct Cluster {
    verbs: Vec<String>,
    objects: Vec<String>,
    permissions: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Table {
    every: Call,
    cluster: Cluster,
    errors: BTreeMap<String, Expected>,
    calls: BTreeMap<String, Call>,
}

static TABLE: LazyLock<Table> =
    LazyLock::new(|| toml_edit::de::from_str(include_str!("../calls.toml")).unwrap_or_default());

/// The rows by method.
pub fn all() -> impl Iterator<Item = (&'static str, &'static Call)> {
    TABLE.calls.iter().map(|(method, call)| (method.as_str(), call))
}

/// What every call needs, beside its own row.
pub fn every() -> &'static Call {
    &TABLE.every
}

/// The permissions on objects of the cluster.
pub fn cluster() -> BTreeSet<String> {
    let Cluster { verbs, objects, permissions } = &TABLE.cluster;
    let of_objects =
        objects.iter().flat_map(|object| verbs.iter().map(move |verb| format!("container.{object}.{verb}")));
    of_objects.chain(permissions.iter().cloned()).collect()
}

/// What these methods need on the project, or on what is in it, where a refusal stops a plan.
pub(crate) fn permissions(methods: impl IntoIterator<Item = &'static str>) -> BTreeSet<&'static str> {
    let needed = of(methods).filter(|call| !call.optional);
    needed.flat_map(|call| &call.permissions).map(String::as_str).collect()
}

/// The rows of these methods.
pub(crate) fn of<'a>(methods: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = &'static Call> {
    methods.into_iter().filter_map(|method| TABLE.calls.get(method))
}

/// Whether an answer is the error of this name.
pub(crate) fn is(name: &str, answer: Answer<'_>) -> bool {
    TABLE.errors.get(name).is_some_and(|error| error.matches(answer))
}

/// How long the call that was answered so is sent again, when it may succeed later by itself.
pub(crate) fn not_yet(methods: &[&str], answer: Answer<'_>) -> Option<Duration> {
    limit(methods, answer, |_| true)
}

/// As [`not_yet`], for what passes whatever this run did.
pub(crate) fn passing(methods: &[&str], answer: Answer<'_>) -> Option<Duration> {
    limit(methods, answer, |error| error.passes)
}

/// How long an error of this name may last.
pub(crate) fn lasts(name: &str) -> Duration {
    Duration::from_secs(TABLE.errors.get(name).map_or(0, |error| error.limit_secs))
}

fn limit(methods: &[&str], answer: Answer<'_>, counts: impl Fn(&Expected) -> bool) -> Option<Duration> {
    let names = of(methods.iter().copied()).flat_map(|call| &call.later);
    let errors = names.filter_map(|name| TABLE.errors.get(name)).filter(|error| counts(error) && error.matches(answer));
    errors.map(|error| Duration::from_secs(error.limit_secs)).max()
}

impl Expected {
    fn matches(&self, answer: Answer<'_>) -> bool {
        let contains = |text: &String| answer.message.contains(text.as_str());
        let is_said = if self.all_texts { self.texts.iter().all(contains) } else { self.texts.iter().any(contains) };
        self.codes.contains(&answer.code)
            && (self.reasons.is_empty() && self.texts.is_empty()
                || !self.texts.is_empty() && is_said
                || answer.reason.is_some_and(|reason| self.reasons.iter().any(|one| one == reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_whole() {
        let table: toml_edit::DocumentMut = include_str!("../calls.toml").parse().unwrap();
        assert!(toml_edit::de::from_str::<Table>(include_str!("../calls.toml")).is_ok(), "it has the shape of `Table`");
        for (method, call) in table["calls"].as_table().unwrap() {
            let texts = |key: &str| -> Vec<String> {
                match call.get(key) {
                    Some(item) if item.is_array() => {
                        item.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
                    }
                    item => item.and_then(|item| item.as_str()).map(str::to_owned).into_iter().collect(),
                }
            };
            let sources = texts("source");
            assert!(!sources.is_empty(), "{method} has no source");
            assert!(sources.iter().all(|name| table["sources"].get(name).is_some()), "{method}: {sources:?}");
            let later = texts("later");
            assert!(later.iter().all(|name| TABLE.errors.contains_key(name)), "{method}: {later:?}");
        }
    }

    #[test]
    fn an_error_passes_only_for_the_calls_that_name_it() {
        let message = "Project \"p\" has no network named \"default\".";
        let answer = Answer { code: 400, reason: None, message };
        let create = &["container.projects.locations.clusters.create"];
        assert_eq!(not_yet(create, answer), Some(Duration::from_secs(180)));
        assert_eq!(not_yet(&["container.projects.locations.clusters.update"], answer), None);
        assert_eq!(not_yet(create, Answer { code: 403, ..answer }), None);
        assert_eq!(passing(create, answer), None);
        let busy = Answer { message: "Another activation or deactivation is in progress", ..answer };
        assert!(passing(&["serviceusage.services.enable"], busy).is_some());
    }
}
