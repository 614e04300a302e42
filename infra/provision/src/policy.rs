//! The algebra of IAM policies: one grant at a time, leaving alone what is not ours.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::resource::{Condition, Grant};

pub(crate) mod limits;

/// Version of policies that may hold conditions; reading or writing with another one loses them.
pub const VERSION: u32 = 3;

/// What is to be done to a policy so that every wanted grant holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edit {
    /// Grants to add.
    pub add: Vec<Grant>,
    /// Members to take out: ghosts of deleted accounts of ours, and grants of ours whose condition was changed.
    pub remove: Vec<Grant>,
}

impl Edit {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.add.is_empty() && self.remove.is_empty()
    }
}

/// Compares a live policy (or null) with the wanted grants.
pub fn edit(policy: &Value, desired: &BTreeSet<Grant>) -> Edit {
    let live = grants(policy);
    let add: Vec<Grant> = desired.iter().filter(|grant| !live.contains(grant)).cloned().collect();
    let remove = live.into_iter().filter(|grant| is_ghost(grant, desired) || is_altered(grant, desired)).collect();
    Edit { add, remove }
}

/// The policy after an edit, everything else in it unchanged.
pub fn apply(policy: &Value, edit: &Edit) -> Value {
    let mut policy = if policy.is_object() { policy.clone() } else { json!({}) };
    let mut bindings: Vec<Value> = policy["bindings"].as_array().cloned().unwrap_or_default();
    for grant in &edit.remove {
        for binding in bindings.iter_mut().filter(|binding| same_binding(binding, grant)) {
            if let Some(members) = binding["members"].as_array_mut() {
                members.retain(|member| member.as_str() != Some(&grant.member));
            }
        }
    }
    bindings.retain(|binding| binding["members"].as_array().is_some_and(|members| !members.is_empty()));
    for grant in &edit.add {
        match bindings.iter_mut().find(|binding| same_binding(binding, grant)) {
            Some(binding) => {
                if let Some(members) = binding["members"].as_array_mut() {
                    members.push(json!(grant.member));
                }
            }
            None => bindings.push(binding(grant)),
        }
    }
    policy["bindings"] = Value::Array(bindings);
    policy["version"] = json!(VERSION);
    policy
}

/// The edit that takes these grants away, as far as they are there.
pub fn removal(policy: &Value, unwanted: &BTreeSet<Grant>) -> Edit {
    let live = grants(policy);
    let remove = live.into_iter().filter(|grant| unwanted.contains(grant) || is_ghost(grant, unwanted)).collect();
    Edit { add: vec![], remove }
}

/// Every grant of a policy.
pub fn grants(policy: &Value) -> BTreeSet<Grant> {
    let mut grants = BTreeSet::new();
    for binding in policy["bindings"].as_array().into_iter().flatten() {
        for member in binding["members"].as_array().into_iter().flatten() {
            grants.insert(Grant {
                role: binding["role"].as_str().unwrap_or_default().to_owned(),
                member: member.as_str().unwrap_or_default().to_owned(),
                condition: condition(binding),
            });
        }
    }
    grants
}

fn binding(grant: &Grant) -> Value {
    let mut binding = json!({"role": grant.role, "members": [grant.member]});
    if let Some(Condition { title, expression }) = &grant.condition {
        binding["condition"] = json!({"title": title, "expression": expression});
    }
    binding
}

fn condition(binding: &Value) -> Option<Condition> {
    let condition = binding.get("condition").filter(|condition| condition.is_object())?;
    let text = |key: &str| condition[key].as_str().unwrap_or_default().to_owned();
    Some(Condition { title: text("title"), expression: text("expression") })
}

fn same_binding(binding: &Value, grant: &Grant) -> bool {
    binding["role"].as_str() == Some(&grant.role) && condition(binding) == grant.condition
}

/// A member that stands for a deleted account whose email we grant to: IAM refuses grants to the new one beside it.
fn is_ghost(grant: &Grant, desired: &BTreeSet<Grant>) -> bool {
    let Some(ghost) = grant.member.strip_prefix("deleted:") else { return false };
    let email = ghost.split_once("?uid=").map_or(ghost, |(email, _)| email);
    desired.iter().any(|desired| desired.member == email)
}

/// A grant of ours whose condition somebody changed: same role, member and title, another expression.
fn is_altered(grant: &Grant, desired: &BTreeSet<Grant>) -> bool {
    let Some(condition) = &grant.condition else { return false };
    desired.iter().any(|desired| {
        desired.role == grant.role
            && desired.member == grant.member
            && desired
                .condition
                .as_ref()
                .is_some_and(|desired| desired.title == condition.title && desired.expression != condition.expression)
    })
}

#[cfg(test)]
mod tests;
