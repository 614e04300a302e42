//! Findings of the checks that run before a plan is carried out, and the parts of the plan that these checks read.

use std::fmt::Display;

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
    /// The code of the problem, which `cargo xtask explain` explains; nothing for one that stops no plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// True when the check found no problem.
    pub fine: bool,
    /// False when the plan can succeed with this problem, or when the check could not run.
    pub needed: bool,
    /// What the check found.
    pub seen: String,
    /// The command or setting that corrects it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Finding {
    /// A check that found no problem.
    pub fn good(what: &str, seen: impl Into<String>) -> Self {
        Self { what: what.to_owned(), code: None, fine: true, needed: true, seen: seen.into(), fix: None }
    }

    /// A check that found a problem which stops a plan; `fix` may be empty.
    pub fn bad(code: &'static str, what: &str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { needed: true, code: Some(code), ..Self::warning(what, seen, fix) }
    }

    /// A check that found a problem with which a plan can succeed; `fix` may be empty.
    pub fn warning(what: &str, seen: impl Into<String>, fix: impl Into<String>) -> Self {
        let fix = Some(fix.into()).filter(|fix: &String| !fix.is_empty());
        Self { fine: false, needed: false, fix, ..Self::good(what, seen) }
    }

    /// A check that could not run.
    pub fn unchecked(what: &str, why: impl Display) -> Self {
        Self::warning(what, format!("cannot be checked: {why}"), "")
    }

    /// The same finding, which does not stop a plan.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { needed: false, code: None, ..self }
    }
}

/// The changes of a plan, as far as they matter to the checks. Without a plan everything may be created.
pub(crate) struct Pending<'a>(pub(crate) Option<&'a [Change]>);

impl Pending<'_> {
    /// Whether there is a plan.
    pub(crate) fn is_plan(&self) -> bool {
        self.0.is_some()
    }

    /// Whether something of this kind is created, or created again.
    pub(crate) fn creates(&self, kind: Kind) -> bool {
        // What is only verified and does not exist stops the plan by itself.
        self.has(kind, |action| matches!(action, Action::Create | Action::Replace))
    }

    /// How many of this kind the plan creates.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        let changes = self.0.unwrap_or_default().iter();
        changes.filter(|change| change.id.kind == kind && change.action == Action::Create).count()
    }

    /// Whether something of this kind is changed.
    pub(crate) fn changes(&self, kind: Kind) -> bool {
        self.has(kind, |action| action.is_change() && !matches!(action, Action::Create | Action::Delete))
    }

    /// Whether something of this kind is deleted.
    pub(crate) fn deletes(&self, kind: Kind) -> bool {
        self.has(kind, |action| matches!(action, Action::Delete | Action::Replace))
    }

    fn has(&self, kind: Kind, is: impl Fn(&Action) -> bool) -> bool {
        self.0.is_none_or(|changes| changes.iter().any(|change| change.id.kind == kind && is(&change.action)))
    }
}
