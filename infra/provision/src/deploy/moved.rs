//! Whether the cluster is still as it was when a plan was shown: pure.

use super::{Applied, ChangeView, Plan};
use crate::failure::Failure;

/// Checks that a plan that was made again does nothing that the one that was agreed to does not, to the objects that
/// `matters` takes. Others may have done a part of it meanwhile.
///
/// # Errors
/// When it does more; says exactly what.
pub fn check_unmoved(agreed: &Plan, now: &Plan, matters: impl Fn(&Applied) -> bool) -> anyhow::Result<()> {
    let mut changes = now.changes();
    changes.retain(|change| matters(&change.applied));
    let lines = beyond(&agreed.changes(), &changes);
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure {
        code: "cluster-moved",
        what: "the cluster changed after the plan was shown; nothing was written".to_owned(),
        on: format!("environment {}", now.preview.environment),
        why: lines.join("\n"),
        next: "run it again, and read the new plan".to_owned(),
    }
    .into())
}

/// What is done now and was not agreed to.
fn beyond(agreed: &[ChangeView], now: &[ChangeView]) -> Vec<String> {
    let is_same = |one: &Applied, other: &Applied| {
        (&one.kind, &one.namespace, &one.name) == (&other.kind, &other.namespace, &other.name)
    };
    let mut lines = Vec::new();
    for change in now {
        let (applied, verb) = (&change.applied, change.applied.change.verb());
        let Some(before) = agreed.iter().find(|before| is_same(&before.applied, applied)) else {
            lines.push(format!("{applied}: not in the plan, and now `{verb}`"));
            continue;
        };
        let planned = before.applied.change.verb();
        if planned != verb {
            lines.push(format!("{applied}: planned was `{planned}`, now it is `{verb}`"));
        } else if changed_lines(before) != changed_lines(change) {
            let (was, is) = (changed_lines(before).join("\n    "), changed_lines(change).join("\n    "));
            lines.push(format!("{applied}: planned was\n    {was}\n  now it is\n    {is}"));
        }
    }
    lines
}

/// The lines of a difference without what is around them, which controllers write too.
fn changed_lines(change: &ChangeView) -> Vec<&str> {
    change.difference.lines().filter(|line| line.starts_with(['+', '-'])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy::Change;

    fn view(name: &str, change: Change, difference: &str) -> ChangeView {
        let applied = Applied { kind: "ConfigMap".into(), namespace: Some("bu1".into()), name: name.into(), change };
        ChangeView { applied, difference: difference.into(), conflicts: Vec::new() }
    }

    #[test]
    fn what_others_did_of_it_is_no_difference_and_anything_else_is_named() {
        let agreed = [
            view("a", Change::Created, "+a"),
            view("b", Change::Changed, " seen: 1\n-b: 1\n+b: 2"),
            view("c", Change::Pruned, ""),
        ];
        assert_eq!(beyond(&agreed, &agreed), [""; 0]);
        assert_eq!(beyond(&agreed, &[view("b", Change::Changed, " seen: 2\n-b: 1\n+b: 2")]), [""; 0]);
        let now = [
            view("a", Change::Changed, "-x\n+a"),
            view("b", Change::Changed, " seen: 1\n-b: 3\n+b: 2"),
            view("d", Change::Pruned, ""),
        ];
        assert_eq!(
            beyond(&agreed, &now),
            [
                "ConfigMap bu1/a: planned was `create`, now it is `change`",
                "ConfigMap bu1/b: planned was\n    -b: 1\n    +b: 2\n  now it is\n    -b: 3\n    +b: 2",
                "ConfigMap bu1/d: not in the plan, and now `delete`",
            ]
        );
    }
}
