//! Tests of the policy algebra.

use super::*;

fn grant(role: &str, member: &str, condition: Option<(&str, &str)>) -> Grant {
    let condition =
        condition.map(|(title, expression)| Condition { title: title.to_owned(), expression: expression.to_owned() });
    Grant { role: role.to_owned(), member: member.to_owned(), condition }
}

#[test]
fn only_what_is_missing_is_added_and_the_rest_stays() {
    let policy = json!({"etag": "e", "version": 1, "auditConfigs": [1], "bindings": [
        {"role": "r", "members": ["user:a", "serviceAccount:x"]},
        {"role": "r", "members": ["serviceAccount:x"], "condition": {"title": "t", "expression": "1", "description": "d"}},
    ]});
    let desired: BTreeSet<Grant> = [
        grant("r", "serviceAccount:x", None),
        grant("r", "serviceAccount:y", None),
        grant("r", "serviceAccount:y", Some(("t", "1"))),
        grant("s", "serviceAccount:y", Some(("u", "2"))),
    ]
    .into();
    let first = edit(&policy, &desired);
    assert_eq!((first.add.len(), first.remove.len()), (3, 0));
    let after = apply(&policy, &first);
    assert_eq!(
        after,
        json!({"etag": "e", "version": 3, "auditConfigs": [1], "bindings": [
            {"role": "r", "members": ["user:a", "serviceAccount:x", "serviceAccount:y"]},
            {"role": "r", "members": ["serviceAccount:x", "serviceAccount:y"], "condition": {"title": "t", "expression": "1", "description": "d"}},
            {"role": "s", "members": ["serviceAccount:y"], "condition": {"title": "u", "expression": "2"}},
        ]})
    );
    assert!(edit(&after, &desired).is_empty());
    let taken = apply(&after, &removal(&after, &desired));
    assert_eq!(
        taken["bindings"],
        json!([{"role": "r", "members": ["user:a"]},
        {"role": "r", "members": ["serviceAccount:x"], "condition": {"title": "t", "expression": "1", "description": "d"}}])
    );
}

#[test]
fn a_missing_policy_is_an_empty_one() {
    let desired: BTreeSet<Grant> = [grant("r", "m", None)].into();
    let after = apply(&Value::Null, &edit(&Value::Null, &desired));
    assert_eq!(after, json!({"version": 3, "bindings": [{"role": "r", "members": ["m"]}]}));
}

#[test]
fn ghosts_of_our_accounts_and_altered_conditions_go() {
    let ghost = "deleted:serviceAccount:x?uid=7";
    let policy = json!({"bindings": [
        {"role": "r", "members": [ghost, "deleted:serviceAccount:other?uid=8"]},
        {"role": "r", "members": ["serviceAccount:x", "user:a"], "condition": {"title": "t", "expression": "true"}},
    ]});
    let desired: BTreeSet<Grant> = [grant("r", "serviceAccount:x", Some(("t", "narrow")))].into();
    let edit = edit(&policy, &desired);
    assert_eq!(edit.remove.iter().map(|grant| grant.member.as_str()).collect::<Vec<_>>(), [ghost, "serviceAccount:x"]);
    assert_eq!(
        apply(&policy, &edit)["bindings"],
        json!([
            {"role": "r", "members": ["deleted:serviceAccount:other?uid=8"]},
            {"role": "r", "members": ["user:a"], "condition": {"title": "t", "expression": "true"}},
            {"role": "r", "members": ["serviceAccount:x"], "condition": {"title": "t", "expression": "narrow"}},
        ])
    );
}
