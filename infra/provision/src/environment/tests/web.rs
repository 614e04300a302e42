//! Tests of how the web apps are reached.

use proptest::prelude::*;

use super::{super::*, SMALLEST, check, environment};

const IAP: &str =
    "[web]\naccess = \"iap\"\n[web.iap]\nmonitor_host = \"m.example.com\"\nclient_host = \"c.example.com\"\n";

#[test]
fn identity_aware_proxy_says_what_it_needs() {
    let file = |rest: &str| SMALLEST.replace("[businesses.bu1]", &format!("{rest}\n[businesses.bu1]"));
    let good = environment(&file(&format!("{IAP}people = {{ \"A@example.com\" = [\"*\"] }}")));
    let iap = good.web.iap.unwrap();
    assert_eq!((iap.monitor.host.as_str(), &iap.client.audience), ("m.example.com", &None));
    assert_eq!(iap.people["a@example.com"], ["*"]);
    assert!(
        crate::kinds::services::needed(&environment(&file(&format!("{IAP}people.\"*\" = [\"*\"]")))).contains(&"iap")
    );
    check(
        &file("web.access = \"iap\""),
        &[],
        &[
            "3:1 `web.iap.monitor_host` is missing | with `access = \"iap\"` each app has a host name, like \"monitor.example.com\"",
            "3:1 `web.iap.client_host` is missing | with `access = \"iap\"` each app has a host name, like \"monitor.example.com\"",
            "3:1 nobody may see anything: `web.iap.people` names no one | name people with their businesses, like \"alice@example.com\" = [\"bu1\"], \"*@example.com\" or \"*\", and [\"*\"] for every business",
        ],
    );
    let wrong =
        "monitor_audience = \"monitor\"\n[web.iap.people]\n\"alice\" = [\"bu1\"]\n\"b@example.com\" = [\"bu9\"]";
    check(
        &file(&format!("{IAP}{wrong}")).replace("c.example.com", "localhost"),
        &[],
        &[
            "7:15 `web.iap.client_host` is \"localhost\", but a host is a full name in lower case of at most 63 characters, like \"monitor.example.com\"",
            "8:20 `web.iap.monitor_audience` is \"monitor\", but an audience looks like \"/projects/123/global/backendServices/456\", with numbers; `gcloud compute backend-services list --format='table(name,id)'` shows the second",
            "10:1 \"alice\" is named, but a person is an email, \"*@DOMAIN\" for everybody of a domain, or \"*\" for whoever is let through",
            "11:20 there is no business \"bu9\" in this file | did you mean `bu1`?",
        ],
    );
    check(
        &file(&format!("cloud = \"local\"\n{IAP}people.\"*\" = [\"*\"]")),
        &[],
        &[
            "4:2 a laptop cloud has no Identity-Aware Proxy | leave `web.access` out: `open` is the way to the apps there",
        ],
    );
}

proptest! {
    #[test]
    fn whatever_a_person_is_called_is_taken_or_refused(name in "\\PC{0,40}|[*éa@.]{0,10}") {
        let people = serde_json::json!(name);
        let web = format!("{IAP}people.{people} = [\"bu1\"]\n[businesses.bu1]");
        let parsed = parse("e", "e.toml", &SMALLEST.replace("[businesses.bu1]", &web), &Overrides::new());
        match parsed {
            Ok(parsed) => prop_assert!(parsed.web.iap.unwrap().people.contains_key(&name.to_lowercase())),
            Err(problems) => prop_assert!(problems.render(false).contains("but a person is an email"), "{problems}"),
        }
    }
}

#[test]
fn a_base_path_is_a_plain_path() {
    let text = |path: &str| {
        format!("project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n[web]\nbase_path = {path:?}\n")
    };
    assert_eq!(environment(&text("/deskgrid/eu-1")).web.base_path, "/deskgrid/eu-1");
    for path in ["", "/", "deskgrid", "/deskgrid/", "/a//b", "/a b", "/../a", "/a\"b"] {
        let problems = parse("e", "e.toml", &text(path), &Overrides::new()).expect_err(path);
        assert!(problems.to_string().contains("a path begins with /"), "{path}: {problems}");
    }
}
