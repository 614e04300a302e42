//! Tests of the shapes on the wire, as Google documents them.

use super::*;

/// One request in one line.
fn line(request: &Request) -> String {
    let query: Vec<String> = request.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let body = request.body.as_ref().map(|body| format!(" {body}")).unwrap_or_default();
    format!("{} {}{query}{body}", request.method.as_str(), request.path)
}

#[test]
fn every_kind_has_its_own_shape() {
    let account = Id::new(Kind::ServiceAccount, "projects/p/serviceAccounts/a-b@p.iam.gserviceaccount.com");
    let bucket = Id::new(Kind::Bucket, "b");
    let role = Id::new(Kind::Role, "projects/p/roles/r");
    let topic = Id::new(Kind::Topic, "projects/p/topics/t");
    let subscription = Id::new(Kind::Subscription, "projects/p/subscriptions/s");
    let fields = json!({"labels": {"k": "v"}, "displayName": "d"});
    let live = json!({"metageneration": "3", "etag": "e", "labels": {"theirs": "1"}});
    let changed = ["labels".to_owned()];
    let display = ["displayName".to_owned()];
    for (request, expected) in [
        (read(&bucket), "GET storage/v1/b/b"),
        (read(&bucket.policy()), "GET storage/v1/b/b/iam?optionsRequestedPolicyVersion=3"),
        (read(&topic.policy()), "GET v1/projects/p/topics/t:getIamPolicy?options.requestedPolicyVersion=3"),
        (
            read(&account.policy()),
            "POST v1/projects/p/serviceAccounts/a-b@p.iam.gserviceaccount.com:getIamPolicy?options.requestedPolicyVersion=3",
        ),
        (create(&bucket, &json!({"name": "b"}), "p"), r#"POST storage/v1/b?project=p {"name":"b"}"#),
        (create(&topic, &json!({}), "p"), "PUT v1/projects/p/topics/t {}"),
        (
            create(&account, &json!({"displayName": "d"}), "p"),
            r#"POST v1/projects/p/serviceAccounts {"accountId":"a-b","serviceAccount":{"displayName":"d"}}"#,
        ),
        (create(&role, &json!({"title": "t"}), "p"), r#"POST v1/projects/p/roles {"role":{"title":"t"},"roleId":"r"}"#),
        (
            update(&bucket, &fields, &live, &changed),
            r#"PATCH storage/v1/b/b?ifMetagenerationMatch=3 {"labels":{"k":"v"}}"#,
        ),
        (
            update(&subscription, &fields, &live, &changed),
            r#"PATCH v1/projects/p/subscriptions/s {"subscription":{"labels":{"k":"v","theirs":"1"},"name":"projects/p/subscriptions/s"},"updateMask":"labels"}"#,
        ),
        (
            update(&account, &fields, &live, &display),
            r#"PATCH v1/projects/p/serviceAccounts/a-b@p.iam.gserviceaccount.com {"serviceAccount":{"displayName":"d"},"updateMask":"display_name"}"#,
        ),
        (
            update(&role, &json!({"title": "t"}), &live, &["title".to_owned()]),
            r#"PATCH v1/projects/p/roles/r?updateMask=title {"etag":"e","title":"t"}"#,
        ),
        (undelete(&role), "POST v1/projects/p/roles/r:undelete {}"),
        (delete(&subscription), "DELETE v1/projects/p/subscriptions/s"),
        (write_policy(&bucket.policy(), json!({"version": 3})), r#"PUT storage/v1/b/b/iam {"version":3}"#),
        (
            write_policy(&topic.policy(), json!({"version": 3})),
            r#"POST v1/projects/p/topics/t:setIamPolicy {"policy":{"version":3}}"#,
        ),
    ] {
        assert_eq!(line(&request), expected);
    }
}

#[test]
fn the_mark_of_another_environment_is_not_ours() {
    let account = Id::new(Kind::ServiceAccount, "projects/p/serviceAccounts/a");
    let described = |environment: &str| json!({"description": crate::desired::description(environment, "x")});
    assert_eq!(owner(&account, &described("hpc"), "hpc"), Owner::Ours);
    assert!(matches!(owner(&account, &described("hpc-poc"), "hpc"), Owner::Other(_)));
    let bucket = Id::new(Kind::Bucket, "b");
    assert_eq!(
        owner(&bucket, &json!({}), "hpc"),
        Owner::Other("it has no label or description that says whose".to_owned())
    );
}
