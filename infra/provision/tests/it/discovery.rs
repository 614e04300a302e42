//! Google's own description of its APIs, as far as we use them, and the question whether a request fits it.

use std::collections::{BTreeMap, BTreeSet};

use provision::google::{Api, Request};
use serde_json::Value;

/// Google's discovery documents, pruned by method and without their prose.
const DOCUMENTS: [(&str, &str); 17] = [
    ("artifactregistry", include_str!("discovery/artifactregistry.v1.json")),
    ("cloudbilling", include_str!("discovery/cloudbilling.v1.json")),
    ("cloudbuild", include_str!("discovery/cloudbuild.v1.json")),
    ("cloudkms", include_str!("discovery/cloudkms.v1.json")),
    ("cloudresourcemanager", include_str!("discovery/cloudresourcemanager.v1.json")),
    ("cloudresourcemanager", include_str!("discovery/cloudresourcemanager.v3.json")),
    ("compute", include_str!("discovery/compute.v1.json")),
    ("container", include_str!("discovery/container.v1.json")),
    ("iam", include_str!("discovery/iam.v1.json")),
    ("iamcredentials", include_str!("discovery/iamcredentials.v1.json")),
    ("monitoring", include_str!("discovery/monitoring.v1.json")),
    ("monitoring", include_str!("discovery/monitoring.v3.json")),
    ("orgpolicy", include_str!("discovery/orgpolicy.v2.json")),
    ("pubsub", include_str!("discovery/pubsub.v1.json")),
    ("serviceusage", include_str!("discovery/serviceusage.v1.json")),
    ("serviceusage", include_str!("discovery/serviceusage.v1beta1.json")),
    ("storage", include_str!("discovery/storage.v1.json")),
];

/// All documents.
pub(crate) struct Discovery(Vec<(&'static str, Value)>);

/// What a request turned out to be.
pub(crate) struct Fit {
    /// Id of its method, `pubsub.projects.topics.create`.
    pub(crate) method: String,
    /// What of it is not as described.
    pub(crate) problems: Vec<String>,
}

impl Discovery {
    pub(crate) fn read() -> Self {
        Self(DOCUMENTS.map(|(api, text)| (api, serde_json::from_str(text).unwrap())).to_vec())
    }

    /// Whether there is a document of an API.
    pub(crate) fn has(&self, api: Api) -> bool {
        self.0.iter().any(|(name, _)| *name == name_of(api))
    }

    /// The method that a request is of, and what about it is wrong; nothing when there is no such method.
    pub(crate) fn check(&self, request: &Request) -> Option<Fit> {
        let api = name_of(request.api);
        let (document, method) = self.0.iter().filter(|(name, _)| *name == api).find_map(|(_, document)| {
            let mut methods = document["methods"].as_array()?.iter();
            Some((document, methods.find(|method| is_of(document, method, request))?))
        })?;
        let mut problems = Vec::new();
        query(document, method, request, &mut problems);
        let content = request.query.iter().any(|(key, value)| *key == "uploadType" && value == "media");
        match (&method["request"]["$ref"], &request.body) {
            // The object itself, which may be anything.
            _ if content && method["mediaUpload"].is_object() => {}
            (Value::String(name), Some(body)) => {
                masks(document, name, request, body, &mut problems);
                fits(document, &document["schemas"][name], body, "body", &mut problems);
            }
            (_, None) => {}
            (_, Some(_)) => problems.push("it has a body, and its method takes none".to_owned()),
        }
        Some(Fit { method: method["id"].as_str().unwrap_or_default().to_owned(), problems })
    }
}

fn name_of(api: Api) -> String {
    serde_json::to_value(api).unwrap().as_str().unwrap_or_default().to_owned()
}

/// Whether a request has the method's verb and path, or the path of its upload.
fn is_of(document: &Value, method: &Value, request: &Request) -> bool {
    if method["httpMethod"] != request.method.as_str() {
        return false;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().trim_start_matches('/').to_owned();
    let path = match &method["flatPath"] {
        Value::String(flat) => flat.clone(),
        _ => text(&method["path"]),
    };
    let plain = format!("{}{path}", text(&document["servicePath"]));
    let upload = text(&method["mediaUpload"]["protocols"]["simple"]["path"]);
    [plain, upload].iter().any(|template| matches(template, &request.path))
}

/// Whether a path is one of a template such as `v1/projects/{p}/topics/{t}:publish`, with something in every hole.
fn matches(template: &str, path: &str) -> bool {
    let (desired, found): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    desired.len() == found.len()
        && desired.iter().zip(found).all(|(desired, found)| match desired.find('{') {
            None => *desired == found,
            Some(start) => {
                let after = desired.rsplit_once('}').map_or("", |(_, after)| after);
                let inner = found.strip_prefix(&desired[..start]).and_then(|rest| rest.strip_suffix(after));
                inner.is_some_and(|inner| !inner.is_empty() && !inner.contains(':'))
            }
        })
}

fn query(document: &Value, method: &Value, request: &Request, problems: &mut Vec<String>) {
    let parameters = |key: &str| method["parameters"].get(key).or_else(|| document["parameters"].get(key));
    let mut seen = BTreeSet::new();
    for (key, value) in &request.query {
        let Some(parameter) = parameters(key).filter(|parameter| parameter["location"] == "query") else {
            problems.push(format!("there is no query parameter {key}"));
            continue;
        };
        if !seen.insert(*key) && parameter["repeated"] != true {
            problems.push(format!("the query parameter {key} is given more than once"));
        }
        let fine = match parameter["type"].as_str() {
            Some("integer") => value.parse::<i64>().is_ok(),
            Some("boolean") => matches!(value.as_str(), "true" | "false"),
            _ if *key == "alt" && value == "media" => method["supportsMediaDownload"] == true,
            _ => parameter["enum"].as_array().is_none_or(|words| words.iter().any(|word| word == value)),
        };
        if !fine {
            problems.push(format!("the query parameter {key} cannot be {value:?}"));
        }
    }
    for (key, parameter) in method["parameters"].as_object().into_iter().flatten() {
        if parameter["required"] == true && parameter["location"] == "query" && !seen.contains(key.as_str()) {
            problems.push(format!("the query parameter {key} is missing"));
        }
    }
}

/// Every path of an update mask leads to a field.
fn masks(document: &Value, schema: &str, request: &Request, body: &Value, problems: &mut Vec<String>) {
    let schema = &document["schemas"][schema];
    let in_query = request.query.iter().find(|(key, _)| *key == "updateMask").map(|(_, mask)| (mask.as_str(), schema));
    let in_body = body["updateMask"].as_str().and_then(|mask| {
        let inner = schema["properties"].as_object()?.values().find_map(|property| property["$ref"].as_str())?;
        Some((mask, &document["schemas"][inner]))
    });
    for (mask, schema) in in_query.into_iter().chain(in_body) {
        for path in mask.split(',') {
            let mut schema = schema;
            for part in path.split('.') {
                let name = camel(part);
                match schema["properties"].get(&name) {
                    Some(inner) => schema = inner["$ref"].as_str().map_or(inner, |name| &document["schemas"][name]),
                    // A part of a map is a key of its own.
                    None if schema["additionalProperties"].is_object() => break,
                    None if is_message_list(schema) => break,
                    None => {
                        problems.push(format!("the update mask names {path}, which is no field"));
                        break;
                    }
                }
            }
        }
    }
}

/// The policy masks of Resource Manager are of the policy beside them; its schema is found by the first `$ref`.
fn is_message_list(schema: &Value) -> bool {
    schema["type"] == "array"
}

fn camel(text: &str) -> String {
    let mut parts = text.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let (head, tail) = part.split_at(part.len().min(1));
        text + &head.to_uppercase() + tail
    })
}

/// Whether a value is one of a schema, with all that is inside it.
fn fits(document: &Value, schema: &Value, value: &Value, path: &str, problems: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(document, &document["schemas"][name], value, path, problems);
    }
    // A field is cleared with null.
    if value.is_null() {
        return;
    }
    let mut wrong = |what: &str| problems.push(format!("{path} is {value}, and has to be {what}"));
    match schema["type"].as_str() {
        Some("object") => {
            let Some(fields) = value.as_object() else { return wrong("an object") };
            for (key, inner) in fields {
                let path = format!("{path}.{key}");
                match (schema["properties"].get(key), &schema["additionalProperties"]) {
                    (Some(property), _) if property["readOnly"] == true => {
                        problems.push(format!("{path} is only for answers"));
                    }
                    (Some(property), _) => fits(document, property, inner, &path, problems),
                    (None, more @ Value::Object(_)) => fits(document, more, inner, &path, problems),
                    (None, _) => problems.push(format!("there is no field {path}")),
                }
            }
        }
        Some("array") => {
            let Some(items) = value.as_array() else { return wrong("a list") };
            for (index, item) in items.iter().enumerate() {
                fits(document, &schema["items"], item, &format!("{path}[{index}]"), problems);
            }
        }
        Some("boolean") if !value.is_boolean() => wrong("true or false"),
        Some("integer") if !value.is_i64() && !value.is_u64() => wrong("a number of 32 bits"),
        Some("number") if !value.is_number() => wrong("a number"),
        Some("string") => {
            let Some(text) = value.as_str() else { return wrong("a string") };
            let format = schema["format"].as_str().unwrap_or_default();
            let fine = match format {
                "int64" => text.parse::<i64>().is_ok(),
                "uint64" => text.parse::<u64>().is_ok(),
                "google-duration" => text.strip_suffix('s').is_some_and(|secs| secs.parse::<f64>().is_ok()),
                "google-datetime" | "date-time" => text.parse::<time_text::Timestamp>().is_ok(),
                _ => schema["enum"].as_array().is_none_or(|words| words.iter().any(|word| word == text)),
            };
            if !fine {
                let words: Vec<&str> =
                    schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                wrong(&format!("{format} {}", words.join(" | ")));
            }
        }
        _ => {}
    }
}

/// Times as RFC 3339 has them, as far as their shape goes.
mod time_text {
    pub(super) struct Timestamp;

    impl std::str::FromStr for Timestamp {
        type Err = ();

        fn from_str(text: &str) -> Result<Self, ()> {
            let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            let fine = shape.starts_with("0000-00-00T00:00:00") && (shape.ends_with('Z') || shape.ends_with("00:00"));
            fine.then_some(Self).ok_or(())
        }
    }
}

/// How often each method was used.
pub(crate) type Tally = BTreeMap<String, usize>;

#[test]
fn a_request_that_does_not_fit_is_found_out() {
    use provision::google::Method;
    use serde_json::json;

    let discovery = Discovery::read();
    let problems = |request: Request| discovery.check(&request).map(|fit| fit.problems);
    let subscription = |body: Value| Request::new(Api::Pubsub, Method::Put, "v1/projects/p/subscriptions/s").body(body);
    assert_eq!(problems(subscription(json!({"topic": "t", "ackDeadlineSeconds": 60}))).unwrap(), [""; 0]);
    for (body, word) in [
        (json!({"topik": "t"}), "topik"),
        (json!({"ackDeadlineSeconds": "60"}), "32 bits"),
        (json!({"messageRetentionDuration": 600}), "a string"),
        (json!({"messageRetentionDuration": "600"}), "google-duration"),
        (json!({"state": "ACTIVE"}), "only for answers"),
    ] {
        let found = problems(subscription(body)).unwrap();
        assert!(found.len() == 1 && found[0].contains(word), "{word}: {found:?}");
    }
    let bucket = |body: Value| Request::new(Api::Storage, Method::Post, "storage/v1/b").body(body);
    let found = problems(bucket(json!({"softDeletePolicy": {"retentionDurationSeconds": 0}}))).unwrap();
    assert_eq!(found.len(), 2, "the project is missing, and 64 bits are a string: {found:?}");
    let pool = json!({"nodePool": {"config": {"workloadMetadataConfig": {"mode": "SOMETHING"}}}});
    let request = Request::new(Api::Container, Method::Post, "v1/projects/p/locations/l/clusters/c/nodePools");
    assert!(problems(request.body(pool)).unwrap()[0].contains("GKE_METADATA"));
    let patch = Request::new(Api::Iam, Method::Patch, "v1/projects/p/roles/r").body(json!({}));
    assert!(problems(patch.clone().query("updateMask", "included_permissions,title")).unwrap().is_empty());
    assert!(problems(patch.clone().query("updateMask", "permissions")).unwrap()[0].contains("no field"));
    assert!(problems(patch.query("mask", "title")).unwrap()[0].contains("no query parameter"));
    assert!(problems(Request::get(Api::Pubsub, "v1/projects/p/topic/t")).is_none());
    assert!(problems(Request::new(Api::Pubsub, Method::Post, "v1/projects/p/topics/t")).is_none());
}
