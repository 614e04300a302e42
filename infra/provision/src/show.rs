//! A plan for people: a few lines per change and one line that sums it up.

use std::fmt::Write as _;

use serde_json::Value;

use crate::plan::{Action, Change, Difference, Plan};

/// From so many businesses on, one to which nothing but new things comes is one line.
const MANY: usize = 6;

/// The plan as text: first the shared resources of the environment, then those of each business. Unchanged resources
/// are not shown. A new resource is one line, since the environment file has its fields; if many businesses are new,
/// each business is one line.
pub fn render(plan: &Plan) -> String {
    let mut text = String::new();
    let mut changes: Vec<&Change> = plan.changes.iter().filter(|change| change.action != Action::Nothing).collect();
    let mut businesses: Vec<Option<&str>> = vec![None];
    for change in &changes {
        if !businesses.contains(&change.business.as_deref()) {
            businesses.push(change.business.as_deref());
        }
    }
    changes.sort_by_key(|change| businesses.iter().position(|business| *business == change.business.as_deref()));
    let all_new = |business: &str| {
        changes.iter().filter(|change| change.business.as_deref() == Some(business)).all(|change| is_new(change, plan))
    };
    let short: Vec<&str> = businesses.iter().flatten().copied().filter(|business| all_new(business)).collect();
    let short = if short.len() >= MANY { short } else { Vec::new() };
    let mut shown: Option<&str> = None;
    for change in &changes {
        let is_new = is_new(change, plan);
        if let Some(business) = change.business.as_deref().filter(|business| short.contains(business)) {
            if shown != Some(business) {
                let _ = writeln!(text, "{}", new_business(business, &changes));
            }
            shown = Some(business);
            continue;
        }
        let (mark, verb) = if is_new && change.id.is_policy() { ('+', "grant") } else { mark(&change.action) };
        let business = change.business.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
        let count = match change.differences.len() {
            count if is_new && change.id.is_policy() => format!(": {count}"),
            _ => String::new(),
        };
        let _ = writeln!(text, "{mark} {verb} {}{business}{count}", change.id);
        if let Some(note) = note(&change.action) {
            let _ = writeln!(text, "      {note}");
        }
        for difference in change.differences.iter().filter(|_| !is_new) {
            let _ = writeln!(text, "{}", difference_line(difference));
        }
    }
    let _ = write!(text, "{}", summary(plan));
    text
}

/// A business that is all new, in a line: what comes how often.
fn new_business(business: &str, changes: &[&Change]) -> String {
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for change in changes.iter().filter(|change| change.business.as_deref() == Some(business)) {
        let (kind, count) =
            if change.id.is_policy() { ("grant", change.differences.len()) } else { (change.id.noun(), 1) };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, sum)) => *sum += count,
            None => kinds.push((kind, count)),
        }
    }
    let parts: Vec<String> =
        kinds.into_iter().map(|(kind, count)| format!("{count} {kind}{}", if count == 1 { "" } else { "s" })).collect();
    format!("+ create {business}: {}", parts.join(", "))
}

/// Whether a change makes something, or says who may do what on something that is made.
fn is_new(change: &Change, plan: &Plan) -> bool {
    let target = change.id.target();
    change.action == Action::Create
        || (change.id.is_policy()
            && change.action == Action::Update
            && plan
                .changes
                .iter()
                .any(|other| other.id == target && matches!(other.action, Action::Create | Action::Replace)))
}

/// The plan in one line.
pub fn summary(plan: &Plan) -> String {
    let count = |desired: fn(&Action) -> bool| plan.changes.iter().filter(|change| desired(&change.action)).count();
    let unchanged = count(|action| *action == Action::Nothing);
    let words = [
        (count(|action| *action == Action::Create), "to create"),
        (count(|action| *action == Action::Update), "to change"),
        (count(|action| *action == Action::Replace), "to delete and create again"),
        (count(|action| *action == Action::Adopt), "to take over"),
        (count(|action| *action == Action::Await), "to wait for"),
        (count(|action| *action == Action::Delete), "to delete"),
        (count(|action| *action == Action::Revoke), "to revoke"),
        (count(|action| matches!(action, Action::Kept { .. })), "to keep"),
        (count(Action::is_blocker), "in the way"),
        (count(|action| *action == Action::Extra), "not in the environment file"),
    ];
    let parts: Vec<String> =
        words.iter().filter(|(count, _)| *count > 0).map(|(count, words)| format!("{count} {words}")).collect();
    let what = if parts.is_empty() { "nothing to do".to_owned() } else { parts.join(", ") };
    format!("{} in project {}: {what}, {unchanged} as they should be", plan.environment, plan.project)
}

fn mark(action: &Action) -> (char, &'static str) {
    match action {
        Action::Create => ('+', "create"),
        Action::Update => ('~', "change"),
        Action::Replace => ('-', "delete and create again"),
        Action::Adopt => ('~', "take over"),
        Action::Await => ('~', "wait for"),
        Action::Delete => ('-', "delete"),
        Action::Revoke => ('-', "revoke"),
        Action::Kept { .. } => ('=', "keep"),
        Action::Foreign { .. } => ('!', "somebody else's:"),
        Action::Missing => ('!', "missing:"),
        Action::Blocked { .. } => ('!', "cannot change"),
        Action::Extra => ('?', "not in the environment file:"),
        Action::Nothing => (' ', "nothing to do for"),
    }
}

/// Why a change stops a plan or is made, and what to do, where there is something to say.
pub fn note(action: &Action) -> Option<String> {
    match action {
        Action::Foreign { owner } => {
            Some(format!("{owner}; --adopt takes it over, or give ours another name in the environment file"))
        }
        Action::Blocked { reason, .. } | Action::Kept { reason } => Some(reason.clone()),
        Action::Missing => Some("the environment file says that somebody else makes it; ask them for this:".to_owned()),
        Action::Extra => Some("it stays until `provision --prune` or `teardown`".to_owned()),
        Action::Replace => {
            Some("its topic was deleted, and a subscription cannot be attached to another one".to_owned())
        }
        _ => None,
    }
}

fn difference_line(difference: &Difference) -> String {
    let Difference { field, live, desired } = difference;
    match (live, desired) {
        (None, Some(desired)) => format!("    + {field}: {}", brief(desired)),
        (Some(live), None) => format!("    - {field}: {}", brief(live)),
        (live, desired) => {
            let text = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), brief);
            format!("    ~ {field}: {} -> {}", text(live), text(desired))
        }
    }
}

fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
