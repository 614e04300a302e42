use super::*;

#[test]
fn derived_names_follow_the_project_and_the_business() {
    assert_eq!(topic("p", "bu1"), "p-bu1-topic");
    assert_eq!(events_topic("p", "bu1"), "p-bu1-events-topic");
    assert_eq!(subscription("p", "bu1"), "p-bu1-subscription");
    assert_eq!(bucket("p"), "p-bucket");
}

#[test]
fn account_ids_fit_google_limits() {
    assert_eq!(account_id("bu1-engine"), "bu1-engine");
    for wanted in ["a", "web", "a-very-long-business-orchestrator-name", "aaaaaaaaaaaaaaaaaaaa-orchestrator"] {
        let id = account_id(wanted);
        assert!(ACCOUNT_ID.contains(&id.len()), "{id}");
        assert!(is_dns_label(&id), "{id}");
    }
    assert_ne!(account_id("aaaaaaaaaaaaaaaaaaaa-orchestrator"), account_id("aaaaaaaaaaaaaaaaaaaa-orchestratos"));
}

#[test]
fn business_names_that_would_collide_are_refused() {
    for good in ["bu1", "rates-desk", "a", "kube", "eventsdesk"] {
        assert!(check_business(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "1bu",
        "Bu",
        "bu_1",
        "bu-",
        "default",
        "kube-system",
        "gke-x",
        "deskgrid",
        "x-events",
        "aaaaaaaaaaaaaaaaaaaaa",
    ] {
        assert!(check_business(bad).is_err(), "{bad}");
    }
}

#[test]
fn job_ids_cannot_leave_their_prefix() {
    for good in ["a", "2024/book 1.json", "ü"] {
        assert!(check_job(good).is_ok(), "{good}");
    }
    for bad in ["", "/a", "a/", "a//b", "../b", "a/../b", ".", "a\nb"] {
        assert!(check_job(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn label_values_are_always_valid_and_distinct() {
    assert_eq!(label_value("t-1.json"), "t-1.json");
    let long = "x".repeat(80);
    for text in ["a/b", "ü", "-", " ", "_a", long.as_str()] {
        assert!(is_label_value(&label_value(text)), "{text:?} gave {:?}", label_value(text));
    }
    assert_ne!(label_value("a/b"), label_value("a b"));
}

#[test]
fn a_name_is_the_same_in_every_unicode_normal_form() {
    for (one, other, expected) in [
        ("re\u{301}sume\u{301}", "r\u{e9}sum\u{e9}", true),
        ("a", "a", true),
        ("a", "A", false),
        ("e\u{301}", "e", false),
    ] {
        assert_eq!(is_same(one, other), expected, "{one} and {other}");
    }
}
