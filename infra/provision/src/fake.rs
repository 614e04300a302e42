//! A tiny Google Cloud in memory, for the tests of this crate: what it stores is what they look at.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{Method, StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};

use crate::{
    Cloud,
    google::{Client, Endpoints, Retry},
};

/// What the fake holds and how it misbehaves.
#[derive(Default)]
pub(crate) struct World {
    /// Resources by path.
    pub(crate) resources: BTreeMap<String, Value>,
    /// Policies by the path of what they are on.
    pub(crate) policies: BTreeMap<String, Value>,
    /// `METHOD path` of every request.
    pub(crate) log: Vec<String>,
    /// This many requests from now on are answered with 503.
    pub(crate) unavailable: usize,
    /// This many policy writes from now on meet a concurrent change.
    pub(crate) conflicts: usize,
    /// This many uses of each new account fail as if it did not exist.
    pub(crate) lag: usize,
    /// Requests that are served before the process "dies"; the number is of the last one served.
    pub(crate) die_after: Option<usize>,
    /// The last one is carried out, but its answer is lost.
    pub(crate) lose_answer: bool,
    unseen: BTreeMap<String, usize>,
    serial: u64,
}

/// A running fake.
pub(crate) struct Fake {
    pub(crate) world: Arc<Mutex<World>>,
    pub(crate) cloud: Cloud,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(serve).with_state(Arc::clone(&world));
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
        let retry = Retry { attempts: 3, first: Duration::from_millis(1), longest: Duration::from_millis(4) };
        let google = Client::new(Endpoints::all_at(&address), credentials).unwrap().retrying(retry);
        let cloud = Cloud { google, kubernetes: None, endpoints: common::config::Endpoints::default() };
        Self { world, cloud }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.world.lock().unwrap())
    }

    /// Requests that change something, since the last call.
    pub(crate) fn take_writes(&self) -> Vec<String> {
        let log = self.with(|world| std::mem::take(&mut world.log));
        log.into_iter().filter(|line| !line.starts_with("GET ") && !line.ends_with(":getIamPolicy")).collect()
    }

    /// Resources and policies without what differs from run to run.
    pub(crate) fn state(&self) -> Value {
        self.with(|world| {
            let policies: BTreeMap<&String, BTreeSet<String>> = world
                .policies
                .iter()
                .map(|(path, policy)| (path, crate::policy::grants(policy).iter().map(ToString::to_string).collect()))
                .collect();
            let mut resources = json!(world.resources);
            for resource in resources.as_object_mut().unwrap().values_mut() {
                resource.as_object_mut().unwrap().remove("metageneration");
            }
            json!({"resources": resources, "policies": policies})
        })
    }
}

async fn serve(State(world): State<Arc<Mutex<World>>>, method: Method, uri: Uri, body: Bytes) -> Response {
    let mut world = world.lock().unwrap();
    let path = uri.path().trim_start_matches('/').to_owned();
    world.log.push(format!("{method} {path}"));
    if world.unavailable > 0 {
        world.unavailable -= 1;
        return error(503, "UNAVAILABLE", "come back later");
    }
    let last = match &mut world.die_after {
        Some(0) => return error(401, "UNAUTHENTICATED", "the process is dead"),
        Some(left) => {
            *left -= 1;
            *left == 0
        }
        None => false,
    };
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let answer = world.answer(&method, &path, &body);
    if last && world.lose_answer {
        return error(401, "UNAUTHENTICATED", "the process died before it read the answer");
    }
    match answer {
        Ok(value) => axum::Json(value).into_response(),
        Err(response) => *response,
    }
}

fn error(code: u16, status: &str, message: &str) -> Response {
    let body = json!({"error": {"code": code, "status": status, "message": message}});
    (StatusCode::from_u16(code).unwrap(), axum::Json(body)).into_response()
}

type Answer = Result<Value, Box<Response>>;

fn fail(code: u16, status: &str, message: &str) -> Answer {
    Err(Box::new(error(code, status, message)))
}

impl World {
    fn answer(&mut self, method: &Method, path: &str, body: &Value) -> Answer {
        if let Some(target) = path.strip_suffix(":getIamPolicy") {
            return self.read_policy(target);
        }
        if let Some(target) = path.strip_suffix("/iam") {
            return if method == Method::PUT { self.write_policy(target, body) } else { self.read_policy(target) };
        }
        if let Some(target) = path.strip_suffix(":setIamPolicy") {
            return self.write_policy(target, &body["policy"]);
        }
        if let Some(target) = path.strip_suffix(":undelete") {
            let role = self.resources.get_mut(target).unwrap();
            role.as_object_mut().unwrap().remove("deleted");
            return Ok(role.clone());
        }
        match method.as_str() {
            "GET" => self.get(path),
            "PUT" => self.insert(path.to_owned(), body.clone()),
            "POST" if path == "storage/v1/b" => {
                let mut bucket = body.clone();
                bucket["metageneration"] = json!("1");
                self.insert(format!("{path}/{}", body["name"].as_str().unwrap()), bucket)
            }
            "POST" if path.ends_with("/serviceAccounts") => {
                let project = path.split('/').nth(2).unwrap();
                let email = format!("{}@{project}.iam.gserviceaccount.com", body["accountId"].as_str().unwrap());
                self.unseen.insert(email.clone(), self.lag);
                self.insert(format!("{path}/{email}"), body["serviceAccount"].clone())
            }
            "POST" if path.ends_with("/roles") => {
                self.insert(format!("{path}/{}", body["roleId"].as_str().unwrap()), body["role"].clone())
            }
            "PATCH" => {
                let wrapped = ["topic", "subscription", "serviceAccount"].into_iter().find(|key| body[key].is_object());
                let fields = wrapped.map_or(body, |key| &body[key]).as_object().unwrap().clone();
                let Some(resource) = self.resources.get_mut(path) else { return fail(404, "NOT_FOUND", "no such") };
                for (key, value) in fields {
                    resource[key] = value;
                }
                Ok(resource.clone())
            }
            "DELETE" => match self.resources.remove(path) {
                Some(_) => Ok(Value::Null),
                None => fail(404, "NOT_FOUND", "no such"),
            },
            _ => fail(501, "UNIMPLEMENTED", "not in this fake"),
        }
    }

    fn insert(&mut self, path: String, mut fields: Value) -> Answer {
        if self.resources.contains_key(&path) {
            return fail(409, "ALREADY_EXISTS", "it exists");
        }
        if !path.starts_with("storage/") {
            fields["name"] = json!(path.trim_start_matches("v1/"));
        }
        self.resources.insert(path, fields.clone());
        Ok(fields)
    }

    fn get(&self, path: &str) -> Answer {
        for (list, key) in [("topics", "topics"), ("subscriptions", "subscriptions"), ("serviceAccounts", "accounts")] {
            if path.ends_with(&format!("/{list}")) {
                let inside = |name: &str| name.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
                let items: Vec<&Value> =
                    self.resources.iter().filter(|(name, _)| inside(name)).map(|(_, item)| item).collect();
                return Ok(json!({key: items}));
            }
        }
        match self.resources.get(path) {
            Some(resource) => Ok(resource.clone()),
            None => fail(404, "NOT_FOUND", "no such"),
        }
    }

    fn read_policy(&self, target: &str) -> Answer {
        if !self.resources.contains_key(target) {
            return fail(404, "NOT_FOUND", "no such");
        }
        Ok(self.policies.get(target).cloned().unwrap_or_else(|| json!({"etag": "ACAB"})))
    }

    fn write_policy(&mut self, target: &str, policy: &Value) -> Answer {
        let live = self.read_policy(target)?;
        self.serial += 1;
        if self.conflicts > 0 {
            self.conflicts -= 1;
            let mut other = live.clone();
            other["etag"] = json!(format!("etag-{}", self.serial));
            self.policies.insert(target.to_owned(), other);
        }
        if policy["etag"] != self.read_policy(target)?["etag"] {
            return fail(409, "ABORTED", "There were concurrent policy changes.");
        }
        assert_eq!(policy["version"], 3, "{target}");
        for grant in crate::policy::grants(policy) {
            let Some(email) = grant.member.strip_prefix("serviceAccount:").filter(|email| !email.contains('[')) else {
                continue;
            };
            let known = self.resources.keys().any(|path| path.ends_with(&format!("/{email}")));
            let unseen = self.unseen.entry(email.to_owned()).or_default();
            if !known || *unseen > 0 {
                *unseen = unseen.saturating_sub(1);
                return fail(400, "INVALID_ARGUMENT", &format!("Service account {email} does not exist."));
            }
        }
        let mut policy = policy.clone();
        policy["etag"] = json!(format!("etag-{}", self.serial));
        self.policies.insert(target.to_owned(), policy.clone());
        Ok(policy)
    }
}
