//! The description of the API, in OpenAPI 3.1. A test holds it against the server: every path in it answers, and every
//! answer has the fields it names.

use serde_json::{Value, json};
use sessions::jobs::State;

/// The document.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Deskgrid monitor",
            "version": "v1",
            "description": "What the queue does, as JSON. Send `Authorization: Bearer TOKEN`, with an access token \
                of the monitor. A business that the token may not see is as if it were not there.",
        },
        "security": [{"token": []}],
        "paths": {
            "/api/v1/overview": {"get": operation("How every business stands", &[], reference("Overview"))},
            "/api/v1/sessions": {"get": operation("Sessions, the one that changed last first", &["business"], list("Session"))},
            "/api/v1/jobs": {"get": operation(
                "Jobs: filtered, sorted, a page at a time",
                &["business", "session", "state", "q", "sort", "order", "page", "rows"],
                reference("Jobs"),
            )},
            "/api/v1/job": {"get": operation(
                "Everything known of one Job, with why it is where it is in plain words",
                &["business!", "session!", "job!", "generation"],
                reference("JobDetail"),
            )},
            "/api/v1/pubsub": {"get": operation("Topics, subscriptions, backlog", &["business"], list("Pubsub"))},
            "/api/v1/dead-letters": {"get": operation(
                "Outcomes failed and refused about which something is to be done",
                &["business"],
                list("DeadLetter"),
            )},
            "/api/v1/cluster": {"get": operation("Nodes, Pods, quotas", &["business"], reference("Cluster"))},
            "/api/v1/openapi.json": {"get": operation("This document", &[], json!({"type": "object"}))},
            "/api/v1/actions": {"post": action()},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    })
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn list(name: &str) -> Value {
    json!({"type": "array", "items": reference(name)})
}

/// A parameter is named, with `!` when it must be there.
fn operation(summary: &str, parameters: &[&str], answer: Value) -> Value {
    let parameters: Vec<Value> = parameters
        .iter()
        .map(|name| {
            let required = name.ends_with('!');
            let name = name.trim_end_matches('!');
            let schema = match name {
                "page" | "rows" => json!({"type": "integer", "minimum": 1}),
                "generation" => json!({"type": "integer", "format": "int64"}),
                "state" => json!({"type": "string", "enum": State::ALL.map(State::as_str)}),
                "sort" => json!({"type": "string", "enum": ["changed", "job", "session", "business", "state"]}),
                "order" => json!({"type": "string", "enum": ["asc", "desc"]}),
                _ => json!({"type": "string"}),
            };
            json!({"name": name, "in": "query", "required": required, "schema": schema})
        })
        .collect();
    json!({"summary": summary, "parameters": parameters, "responses": responses(answer)})
}

fn responses(answer: Value) -> Value {
    let problem = |description: &str| json!({"description": description, "content": {"application/json": {"schema": reference("Problem")}}});
    json!({
        "200": {"description": "Done", "content": {"application/json": {"schema": answer}}},
        "400": problem("The request is not as it should be"),
        "401": problem("No access"),
        "404": problem("Not there, or not for this token"),
        "503": problem("Something that is needed does not answer"),
    })
}

fn action() -> Value {
    json!({
        "summary": "Cancel, pause, resume or retry a session, retry a Job, replay or discard a dead letter",
        "requestBody": {"required": true, "content": {"application/json": {"schema": reference("Action")}}},
        "responses": responses(reference("Done")),
    })
}

/// An object whose fields are all there in every answer, but for those with a question mark.
fn object(fields: &[(&str, Value)]) -> Value {
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).filter(|name| !name.ends_with('?')).collect();
    let properties: serde_json::Map<String, Value> =
        fields.iter().map(|(name, kind)| (name.trim_end_matches('?').to_owned(), kind.clone())).collect();
    json!({"type": "object", "required": required, "properties": properties, "additionalProperties": false})
}

fn schemas() -> Value {
    let text = || json!({"type": "string"});
    let whole = || json!({"type": "integer"});
    let number = || json!({"type": ["number", "null"]});
    let flag = || json!({"type": "boolean"});
    let time = || json!({"type": ["string", "null"], "format": "date-time"});
    let maybe = || json!({"type": ["string", "null"]});
    let anything = || json!({});
    let map = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let counts = State::ALL.map(|state| (state.as_str(), whole()));
    let job = vec![
        ("business", text()),
        ("session", text()),
        ("job", text()),
        ("generation", whole()),
        ("attempt", whole()),
        ("state", maybe()),
        ("reason?", reference("Reason")),
        ("changed", time()),
        ("timestamps", json!({"type": "object", "additionalProperties": {"type": "string", "format": "date-time"}})),
        ("seconds?", number()),
        ("kubernetes_job?", text()),
        ("input?", text()),
        ("outcome?", text()),
    ];
    let mut detail = job.clone();
    // Of a Job's page, the outcome is the object's name too.
    detail.extend([
        ("explanation", text()),
        ("timeline", json!({"type": "array"})),
        ("outcome_body", json!({"type": ["object", "null"]})),
        ("input_object", json!({"type": ["object", "null"]})),
        ("results", json!({"type": "array"})),
        ("pods", list("Pod")),
        ("events", json!({"type": "array"})),
        ("log", maybe()),
        ("preview", json!({"type": "array"})),
        ("preview_left_out", whole()),
        ("orchestrator", anything()),
        ("running", whole()),
        ("max_active_jobs", whole()),
        ("control", anything()),
        ("parked", anything()),
        ("full_quotas", texts()),
        ("others", json!({"type": "array"})),
        ("other_sessions", texts()),
        ("cluster_trouble?", text()),
    ]);
    let mut session = vec![("business", text()), ("session", text())];
    session.extend(counts.clone());
    session.extend([
        ("oldest_pending", time()),
        ("changed", time()),
        ("paused", flag()),
        ("cancelled_before", time()),
        ("rate", number()),
        ("seconds_left", number()),
    ]);
    json!({
        "Reason": object(&[("code", text()), ("message", text())]),
        "Counts": object(&counts),
        "Overview": object(&[("environment", text()), ("project", text()), ("businesses", list("Business"))]),
        "Business": object(&[
            ("business", text()), ("counts", reference("Counts")), ("dead_letters", whole()), ("per_minute", whole()),
            ("oldest_waiting", time()), ("max_active_jobs", whole()), ("orchestrator", anything()),
            ("full_quotas", texts()), ("troubles", map()), ("minutes", list("Minute")), ("history", list("Sample")),
        ]),
        "Minute": object(&[("succeeded", whole()), ("failed", whole()), ("other", whole())]),
        "Sample": object(&[("time", text()), ("waiting", whole()), ("running", whole())]),
        "Session": object(&session),
        "Jobs": object(&[("total", whole()), ("page", whole()), ("pages", whole()), ("jobs", list("Job"))]),
        "Job": object(&job),
        "JobDetail": object(&detail),
        "Pubsub": object(&[
            ("business", text()), ("waiting", whole()), ("oldest_waiting", time()), ("items", list("PubsubItem")),
        ]),
        "PubsubItem": object(&[
            ("kind", text()), ("role", text()), ("name", text()), ("settings", json!({"type": "array"})), ("trouble", text()),
        ]),
        "DeadLetter": object(&[
            ("business", text()), ("session", text()), ("job", text()), ("state", text()), ("code", text()),
            ("since", time()), ("generation", whole()), ("attempt", whole()), ("outcome", text()), ("input", maybe()), ("discarded", maybe()),
        ]),
        "Cluster": object(&[("nodes", list("Node")), ("trouble", maybe()), ("namespaces", list("Namespace"))]),
        "Node": object(&[
            ("name", text()), ("is_ready", flag()), ("message", text()), ("kind", text()), ("zone", text()),
            ("version", text()), ("is_spot", flag()), ("is_cordoned", flag()), ("cpu_millis", whole()),
            ("memory_bytes", whole()), ("pods", whole()),
        ]),
        "Namespace": object(&[
            ("business", text()), ("namespace", text()), ("pods", list("Pod")), ("quotas", list("Quota")),
        ]),
        "Pod": object(&[
            ("name", text()), ("state", text()), ("message", text()), ("node", maybe()), ("created", time()),
            ("scheduled", time()), ("started", time()), ("finished", time()), ("exit_code", json!({"type": ["integer", "null"]})),
            ("restarts", whole()),
        ]),
        "Quota": object(&[("name", text()), ("resource", text()), ("used", text()), ("hard", text())]),
        "Action": object(&[
            ("action", json!({"type": "string", "enum": ["cancel", "pause", "resume", "retry", "replay", "discard"]})),
            ("business", text()), ("session", text()), ("job?", text()), ("memory?", text()), ("delete_input?", flag()),
        ]),
        "Done": object(&[("message", text()), ("count", json!({"type": ["integer", "null"]}))]),
        "Problem": object(&[("code", text()), ("what", text()), ("why?", text()), ("next?", text())]),
    })
}
