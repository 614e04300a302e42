//! Findings of the checks before a plan is carried out, and what those need to know of the plan.

use serde::Serialize;

use crate::{
    change::{Action, Change},
    resource::Kind,
};

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The subject of the check.
    pub what: String,
    /// It is as it should be.
    pub fine: bool,
    /// False when the plan succeeds without it, or when it could not be checked.
    pub needed: bool,
    /// What was seen.
    pub seen: String,
    /// What puts it right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// As it should be.
    pub fn good(what: &str, seen: impl Into<String>) -> Self {
        Self { what: what.to_owned(), fine: true, needed: true, seen: seen.into(), fix: None }
    }

    /// Not as it should be; with what puts it right, if anything does.
    pub fn bad(what: &str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { fine: false, fix: Some(fix.into()).filter(|fix: &String| !fix.is_empty()), ..Self::good(what, seen) }
    }

    /// Nothing that stops anything.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { needed: false, ..self }
    }
}

/// The changes of a plan, as far as they matter to the checks. Without a plan everything may be created.
pub(crate) struct Pending<'a>(pub(crate) Option<&'a [Change]>);

impl Pending<'_> {
    /// Whether there is a plan.
    pub(crate) fn is_plan(&self) -> bool {
        self.0.is_some()
    }

    /// Whether something of this kind is created.
    pub(crate) fn creates(&self, kind: Kind) -> bool {
        // What is only verified and does not exist stops the plan by itself.
        !self.is_plan() || self.count(kind) > 0
    }

    /// How many of this kind the plan creates.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        let changes = self.0.unwrap_or_default().iter();
        changes.filter(|change| change.id.kind == kind && change.action == Action::Create).count()
    }

    /// Whether something of this kind is changed.
    pub(crate) fn touches(&self, kind: Kind) -> bool {
        self.0.is_none_or(|changes| changes.iter().any(|change| change.id.kind == kind && change.action.is_change()))
    }
}
