//! Limits of IAM, checked before a policy is written: "Allow policies and role bindings" in
//! cloud.google.com/iam/quotas, which cannot be raised. It names no limit of bytes; a further one, of 250 domains and
//! groups, is for members that we never add.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{apply, edit, grants};
use crate::{
    change::{Action, Change},
    resource::{Desired, Grant, Id},
};

/// Principals of all bindings of a policy, each as often as it appears.
const PRINCIPALS: usize = 1_500;
/// Bindings of one principal to one role that differ in their condition.
const CONDITIONS: usize = 20;
/// Logic operators in a condition.
const OPERATORS: usize = 12;

/// Blocks changes of policies that IAM would refuse, before anything is written. `stale` are the grants that `--prune`
/// revokes.
pub(crate) fn refuse_too_large(changes: &mut [Change], stale: &BTreeMap<Id, BTreeSet<Grant>>) {
    for change in changes.iter_mut().filter(|change| change.action == Action::Update) {
        let Some(Desired::Grants(desired)) = change.resource.as_ref().map(|resource| &resource.desired) else {
            continue;
        };
        let live = change.live.clone().unwrap_or_default();
        let mut edit = edit(&live, desired);
        edit.remove.extend(change.stale.iter().cloned());
        if let Some(why) = too_large(&apply(&live, &edit)) {
            let first = match stale.get(&change.id) {
                Some(grants) if change.stale.is_empty() => format!(
                    "`cargo xtask provision --prune` revokes the grants that the environment file does not need ({}); or ",
                    grants.len()
                ),
                _ => String::new(),
            };
            let reason = format!(
                "the policy of {} would exceed a limit of IAM: {why}; {first}give some businesses a `bucket` of their own, \
                 or list fewer under `businesses` of [web] in the environment file",
                change.id.target()
            );
            change.action = Action::Blocked { code: "policy-limit", reason };
        }
    }
}

/// By what a policy is too large, if it is.
fn too_large(policy: &Value) -> Option<String> {
    let grants = grants(policy);
    if grants.len() > PRINCIPALS {
        return Some(format!("{} principals in its bindings, of {PRINCIPALS} at most", grants.len()));
    }
    let mut conditions: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for grant in &grants {
        if let Some(condition) = &grant.condition {
            *conditions.entry((&grant.role, &grant.member)).or_default() += 1;
            let operators = ["||", "&&"].iter().map(|word| condition.expression.matches(word).count()).sum::<usize>();
            if operators > OPERATORS {
                return Some(format!("{operators} operators in the condition {}, of {OPERATORS}", condition.title));
            }
        }
    }
    let ((role, member), count) = conditions.into_iter().find(|(_, count)| *count > CONDITIONS)?;
    Some(format!("{member} has {role} under {count} conditions, of {CONDITIONS} at most"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(count: usize, binding: impl Fn(usize) -> Value) -> Value {
        json!({"bindings": (0..count).map(binding).collect::<Vec<_>>()})
    }

    #[test]
    fn each_limit_is_met_and_not_passed() {
        let members = |number| json!({"role": format!("r{number}"), "members": ["user:a@b"]});
        assert_eq!(too_large(&policy(PRINCIPALS, members)), None);
        assert!(too_large(&policy(PRINCIPALS + 1, members)).unwrap().starts_with("1501 principals"));

        let conditions = |number| {
            let condition = json!({"title": "t", "expression": format!("resource.name == \"{number}\"")});
            json!({"role": "r", "members": ["user:a@b"], "condition": condition})
        };
        assert_eq!(too_large(&policy(CONDITIONS, conditions)), None);
        assert!(too_large(&policy(CONDITIONS + 1, conditions)).unwrap().contains("under 21 conditions"));

        let operators = |count: usize| {
            let expression = vec!["a"; count + 1].join(" || ");
            json!({"bindings": [{"role": "r", "members": ["m"], "condition": {"title": "t", "expression": expression}}]})
        };
        assert_eq!(too_large(&operators(OPERATORS)), None);
        assert!(too_large(&operators(OPERATORS + 1)).unwrap().contains("13 operators"));
    }
}
