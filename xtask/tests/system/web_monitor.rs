//! The monitor over HTTP: who sees what, that everything is shown as text, that its description of itself is true, and
//! that it says what is away.

use std::{collections::BTreeMap, time::Duration};

use localcloud::faults::{Fault, When};
use orchestrator::Hooks;
use serde_json::{Value, json};

use crate::{
    web_apps::{ALL, Monitor, ONE, world},
    world::eventually,
};

/// What must never come out of a page as it went in.
const SCRIPT: &str = "<script>alert(1)</script><img src=x onerror=alert(2)>";

/// Every page, of this Job.
fn pages(business: &str, session: &str, job: &str) -> Vec<String> {
    let of = web::encode([("business", business), ("session", session), ("job", job)]);
    let mut pages: Vec<String> = ["/", "/sessions", "/jobs", "/pubsub", "/letters", "/cluster", "/audit"]
        .map(|page| format!("{page}?{of}"))
        .into();
    pages.extend(["/session", "/job"].map(|page| format!("{page}?{of}")));
    pages
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_person_wrote_is_shown_as_text() {
    let world = world(&["bu1"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let monitor = Monitor::start(&world).await;
    // A name, a payload that fails with its words in reason and log, and a message that is refused with its attributes.
    let job = format!("{SCRIPT}.json");
    let work = world.upload("bu1", "s1", &job, &format!("{{\"schema\": 1, \"{SCRIPT}\": 1}}")).await;
    world.publish(&work).await;
    let attributes = BTreeMap::from([
        ("deskgrid".to_owned(), "1".to_owned()),
        ("session".to_owned(), SCRIPT.to_owned()),
        (SCRIPT.to_owned(), SCRIPT.to_owned()),
    ]);
    let message = world.publish_raw("bu1", SCRIPT.into(), attributes).await;
    world.settled("bu1", 2).await;
    monitor.shows("bu1", "failed", 1).await;
    monitor.shows("bu1", "refused", 1).await;
    let mut all = pages("bu1", "s1", &job);
    all.extend(pages("bu1", "refused", &message).into_iter().filter(|page| page.starts_with("/job?")));
    all.push(format!(
        "/jobs?{}",
        web::encode([("q", SCRIPT), ("state", SCRIPT), ("sort", SCRIPT), ("business", "bu1")])
    ));
    let mut shown = 0;
    for page in all {
        let (status, text) = monitor.get(&page, ALL).await;
        assert_eq!(status, 200, "{page}: {text}");
        for raw in ["<script>alert", "<img src=x", "onerror=alert(2)>"] {
            assert!(!text.contains(raw), "{page} shows {raw} as it is: {text}");
        }
        assert!(!text.contains(" style=") && !text.contains("javascript:"), "{page}");
        shown += text.matches("&lt;script&gt;").count();
    }
    assert!(shown > 5, "what was written is there, as text: {shown}");
    let (status, text) = monitor.get("/jobs?business=%3Cscript%3Ealert", ALL).await;
    assert!(status == 404 && !text.contains("<script>alert"), "{text}");
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_business_sees_and_changes_nothing_of_another() {
    let world = world(&["bu1", "bu2"]).await;
    let monitor = Monitor::start(&world).await;
    world.upload("bu2", "secret-session", "secret-job", "x").await;
    world.upload("bu1", "own-session", "own-job", "x").await;
    monitor.shows("bu2", "waiting", 1).await;
    monitor.shows("bu1", "waiting", 1).await;
    let mut paths = pages("bu2", "secret-session", "secret-job");
    paths.extend(["/", "/sessions", "/jobs", "/pubsub", "/letters", "/cluster", "/audit"].map(str::to_owned));
    let pause = json!({"action": "pause", "business": "bu2", "session": "secret-session"});
    assert_eq!(monitor.act(ALL, pause).await.0, 200);
    eventually("who did it is shown", async || {
        monitor.get("/audit", ALL).await.1.matches("secret-session").count() > 2
    })
    .await;
    let api = ["overview", "sessions", "jobs", "job", "pubsub", "dead-letters", "cluster"];
    paths.extend(api.map(|path| format!("/api/v1/{path}?business=bu2&session=secret-session&job=secret-job")));
    paths.extend(api.map(|path| format!("/api/v1/{path}")));
    for path in &paths {
        for token in ["", "nonsense-nonsense-nonsense"] {
            let (status, text) = monitor.get(path, token).await;
            assert!(matches!(status, 303 | 401) && !text.contains("secret-"), "{path}: {status} {text}");
        }
        let (status, text) = monitor.get(path, ONE).await;
        let asks_for_other = path.contains("business=bu2");
        assert!(!text.contains("bu2-topic") && !text.contains("\"bu2\""), "{path}: {text}");
        if asks_for_other {
            let is_ok_anyway = path.starts_with("/?") || path.starts_with("/api/v1/overview");
            assert!(status == 404 || is_ok_anyway, "{path}: {status}");
        } else {
            assert!(!text.contains("secret-"), "{path} shows what is of bu2: {text}");
        }
    }
    for path in
        ["/live/jobs?business=bu2", "/log?business=bu2&pod=x", "/live/session?business=bu2&session=secret-session"]
    {
        let request = monitor.http.get(monitor.url(path)).bearer_auth(ONE).timeout(Duration::from_secs(60));
        let mut answer = request.send().await.unwrap();
        let first = answer.chunk().await.unwrap().unwrap_or_default();
        assert!(!String::from_utf8_lossy(&first).contains("secret-job"), "{path}");
    }
    assert_eq!(
        monitor.act(ALL, json!({"action": "resume", "business": "bu2", "session": "secret-session"})).await.0,
        200
    );
    for action in ["cancel", "pause", "resume", "retry", "replay", "discard"] {
        let asked = json!({"action": action, "business": "bu2", "session": "secret-session"});
        assert_eq!(monitor.act(ONE, asked).await.0, 404, "{action}");
    }
    assert!(world.objects("bu2", "control").await.is_empty());
    let (status, said) = monitor.act(ONE, json!({"action": "pause", "business": "bu1", "session": "../x"})).await;
    assert_eq!((status, &said["code"]), (400, &"bad-request".into()));
    monitor.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_description_of_the_api_is_true_and_actions_are_done() {
    let world = world(&["bu1"]).await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let monitor = Monitor::start(&world).await;
    for (job, body) in [("good", "payload"), ("bad.json", "{\"schema\": 1}")] {
        world.publish(&world.upload("bu1", "s1", job, body).await).await;
    }
    world.settled("bu1", 2).await;
    monitor.shows("bu1", "failed", 1).await;
    let document = monitor.json("/openapi.json").await;
    assert_eq!(document, monitor::document());
    for (path, item) in document["paths"].as_object().unwrap() {
        let Some(get) = item.get("get") else { continue };
        let answer = monitor.json(&format!("{}?business=bu1&session=s1&job=bad.json", &path["/api/v1".len()..])).await;
        let schema = &get["responses"]["200"]["content"]["application/json"]["schema"];
        let mut wrong = Vec::new();
        check(&document, schema, &answer, path, &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}\n{answer:#}");
    }
    let failed = monitor.json("/job?business=bu1&session=s1&job=bad.json").await;
    assert!(failed["explanation"].as_str().unwrap().contains("can never work"), "{failed:#}");

    // Actions, and what they leave in the world.
    let act = async |action: Value| {
        let (status, said) = monitor.act(ALL, action).await;
        let mut wrong = Vec::new();
        let schema =
            json!({"$ref": if status == 200 { "#/components/schemas/Done" } else { "#/components/schemas/Problem" }});
        check(&document, &schema, &said, "action", &mut wrong);
        assert!(wrong.is_empty(), "{wrong:#?}");
        (status, said)
    };
    let of = |action: &str| json!({"action": action, "business": "bu1", "session": "s1"});
    assert_eq!(act(of("pause")).await.0, 200);
    eventually("it is paused", async || monitor.json("/sessions").await[0]["paused"] == true).await;
    assert!(world.objects("bu1", "control").await.len() == 1);
    assert_eq!(act(of("resume")).await.0, 200);
    eventually("it goes on", async || world.objects("bu1", "control").await.is_empty()).await;
    let (status, said) = act(of("retry")).await;
    assert_eq!((status, &said["count"]), (200, &1.into()), "{said}");
    world.settled("bu1", 3).await;
    eventually("the second attempt is shown", async || {
        monitor.json("/job?business=bu1&session=s1&job=bad.json").await["attempt"] == 1
    })
    .await;
    eventually("the second attempt failed too", async || {
        monitor.json("/dead-letters").await.as_array().unwrap().len() == 1
    })
    .await;
    let mut discard = of("discard");
    discard["job"] = "bad.json".into();
    assert_eq!(act(discard.clone()).await.0, 200);
    assert_eq!(act(discard).await.0, 409);
    eventually("it is no dead letter any more", async || monitor.json("/dead-letters").await == json!([])).await;
    assert_eq!(act(of("explode")).await.0, 422);
    orchestrator.kill();
    monitor.stop().await;
    world.stop().await;
}

/// Whether a value is as a schema says, as far as our document uses schemas.
fn check(document: &Value, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.trim_start_matches('#');
        return check(document, document.pointer(name).expect("the schema is there"), value, at, wrong);
    }
    // A choice fits when nothing is wrong with it.
    for several in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[several].as_array() {
            let fits = |choice: &Value| {
                let mut wrong = Vec::new();
                check(document, choice, value, at, &mut wrong);
                wrong.is_empty()
            };
            if !choices.iter().any(fits) {
                wrong.push(format!("{at} is {value}, which is none of {several} {schema}"));
            }
            return;
        }
    }
    let words = schema["enum"].as_array().cloned().or_else(|| Some(vec![schema.get("const")?.clone()]));
    if words.is_some_and(|words| !words.contains(value)) {
        wrong.push(format!("{at} is {value}, not as {schema}"));
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !(kinds.contains(&kind) || kind == "integer" && kinds.contains(&"number")) {
        wrong.push(format!("{at} is {kind}, not {kinds:?}"));
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{at}/{index}"), wrong);
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            wrong.push(format!("{at} has no {name}"));
        }
    }
    for (name, field) in fields {
        match (&schema["properties"][name], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false) | Value::Null) if schema["properties"].is_object() => {
                wrong.push(format!("{at} has {name}, which is not described"));
            }
            (Value::Null, of_rest) => check(document, of_rest, field, &format!("{at}/{name}"), wrong),
            (described, _) => check(document, described, field, &format!("{at}/{name}"), wrong),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_away_is_named_and_comes_back_by_itself() {
    let world = world(&["bu1"]).await;
    let monitor = Monitor::start(&world).await;
    world.upload("bu1", "s1", "waits", "x").await;
    monitor.shows("bu1", "waiting", 1).await;
    let parts: [(&str, &[&str]); 3] = [
        ("Cloud Storage", &["/google.storage.v2."]),
        ("Kubernetes", &["/apis/apps/v1/"]),
        ("Pub/Sub", &["/topics/", "/subscriptions/"]),
    ];
    for (part, paths) in parts {
        for path in paths {
            world.cloud.faults().add("", path, When::Always, Fault::Answer(503));
        }
        eventually(&format!("{part} is said to be away"), async || {
            let (status, text) = monitor.get("/jobs", ALL).await;
            assert_eq!(status, 200);
            // As a browser reads it.
            let text = text.replace("&#x2F;", "/");
            text.contains("Something does not answer") && text.contains(part) && text.contains("waits")
        })
        .await;
        world.cloud.faults().clear();
        eventually(&format!("{part} is back"), async || {
            !monitor.get("/jobs", ALL).await.1.contains("Something does not answer")
        })
        .await;
    }
    monitor.stop().await;
    world.stop().await;
}
