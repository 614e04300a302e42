//! Filters that people write, and those that are refused.

use super::*;

fn check(filter: &str, attributes: &[(&str, &str)]) -> bool {
    let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let filter = Filter::parse(filter).unwrap_or_else(|error| panic!("{filter}: {error}"));
    filter.is_none_or(|filter| filter.matches(&attributes))
}

#[test]
fn what_people_write() {
    let priority = [("priority", "true"), ("session", "s-1")];
    assert!(check("", &[]));
    assert!(check("attributes.priority = \"true\"", &priority));
    assert!(!check("attributes.priority=\"true\"", &[]));
    assert!(check("attributes:session", &priority));
    assert!(check("NOT attributes:client", &priority));
    assert!(check("-attributes:client", &priority));
    assert!(check("attributes.priority != \"false\"", &priority));
    assert!(check("attributes.priority != \"true\"", &[]));
    assert!(check("hasPrefix(attributes.session, \"s-\")", &priority));
    assert!(check("attributes:\"session\" AND (attributes:client OR attributes.priority = \"true\")", &priority));
    assert!(!check("attributes:session AND NOT hasPrefix(attributes.session, \"s\")", &priority));
}

#[test]
fn what_cannot_be_understood_is_refused() {
    for bad in [
        "priority = \"true\"",
        "attributes",
        "attributes.x",
        "attributes.x = true",
        "attributes:a AND attributes:b OR attributes:c",
        "attributes:a attributes:b",
        "(attributes:a",
        "hasPrefix(attributes.x)",
        "attributes.x = \"",
        "attributes:a AND",
        "€",
    ] {
        assert!(Filter::parse(bad).is_err(), "{bad}");
    }
    assert!(Filter::parse(&format!("attributes.x = \"{}\"", "y".repeat(256))).is_err());
}
