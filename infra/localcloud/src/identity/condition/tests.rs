//! Conditions that people write, and those that are refused.

use super::*;

fn check(text: &str, name: &str, prefix: Option<&str>) -> bool {
    let mut attributes = BTreeMap::new();
    if let Some(prefix) = prefix {
        attributes.insert("storage.googleapis.com/objectListPrefix", prefix.to_owned());
    }
    let context = Context {
        name,
        kind: "storage.googleapis.com/Object",
        service: "storage.googleapis.com",
        time: "2026-01-01T00:00:00Z".parse().unwrap(),
        attributes: &attributes,
    };
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).holds(&context)
}

#[test]
fn what_people_write() {
    let object = "projects/_/buckets/b/objects/bu1/input/x";
    assert!(check(r#"resource.name.startsWith("projects/_/buckets/b/objects/bu1/")"#, object, None));
    assert!(!check(r#"resource.name.startsWith("projects/_/buckets/b/objects/bu2/")"#, object, None));
    assert!(check(r#"resource.name == 'projects/_/buckets/b'"#, "projects/_/buckets/b", None));
    let either = r#"(resource.type != "storage.googleapis.com/Bucket" && resource.name.startsWith("projects/_/buckets/b/objects/bu1/"))
        || api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("bu1/")"#;
    assert!(check(either, object, None));
    assert!(check(either, "projects/_/buckets/b", Some("bu1/input/")));
    assert!(!check(either, "projects/_/buckets/b", Some("bu2/")));
    assert!(!check(either, "projects/_/buckets/b", None));
    assert!(check(r#"request.time < timestamp("2026-02-01T00:00:00Z")"#, object, None));
    assert!(!check(r#"!(request.time < timestamp("2026-02-01T00:00:00Z")) || false"#, object, None));
    assert!(check(r#"resource.service == "storage.googleapis.com" && !resource.name.endsWith(".tmp")"#, object, None));
}

#[test]
fn and_binds_tighter_than_or() {
    assert!(check("true || true && false", "", None));
    assert!(!check("(true || true) && false", "", None));
}

#[test]
fn what_cannot_be_understood_is_refused() {
    for bad in [
        "",
        "resource.name",
        "resource.nam == \"x\"",
        "resource.name.extract(\"{a}\") == \"x\"",
        "resource.name == ",
        "resource.name == \"x",
        "resource.name < timestamp(\"2026-01-01T00:00:00Z\")",
        "timestamp(\"yesterday\") < request.time",
        "true && (false",
        "true)",
        "1 == 1",
        "user.name == \"x\"",
        "!\"x\"",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
    assert!(parse(&"(".repeat(10_000)).is_err());
}
