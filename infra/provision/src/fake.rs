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
    /// Services that are enabled.
    pub(crate) enabled: BTreeSet<String>,
    /// Operations that have not ended, by path: how many more looks each takes.
    pub(crate) operations: BTreeMap<String, usize>,
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
    /// Requests to paths that end so are denied.
    pub(crate) denied: Option<&'static str>,
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
        let cloud = Cloud {
            google,
            kubernetes: Err("a fake has no cluster".to_owned()),
            endpoints: contract::config::Endpoints::default(),
        };
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
            // Their names are numbers.
            let numbered = |path: &str| path.split("/notificationConfigs/").next().unwrap().to_owned();
            resources = resources
                .as_object()
                .unwrap()
                .iter()
                .map(|(path, resource)| match path.contains("/notificationConfigs/") {
                    true => (format!("{} tells {}", numbered(path), resource["topic"]), resource.clone()),
                    false => (path.clone(), resource.clone()),
                })
                .collect();
            for resource in resources.as_object_mut().unwrap().values_mut() {
                for key in ["metageneration", "id"] {
                    resource.as_object_mut().unwrap().remove(key);
                }
            }
            json!({"resources": resources, "policies": policies, "services": world.enabled})
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
    if world.denied.is_some_and(|end| path.ends_with(end)) {
        return error(403, "PERMISSION_DENIED", "User not authorized to perform this action.");
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
    let query = uri.query().unwrap_or_default().replace("%2F", "/");
    let answer = world.answer(&method, &path, &query, &body);
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
    fn answer(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> Answer {
        if ["/services", "/locations/", "/notificationConfigs"].iter().any(|part| path.contains(part))
            && let Some(answer) = self.newer(method, path, query, body)
        {
            return answer;
        }
        if path.ends_with("/serviceAccount") {
            return Ok(json!({"email_address": "service-7@gs-project-accounts.iam.gserviceaccount.com"}));
        }
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
                Some(_) => {
                    self.policies.remove(path);
                    Ok(Value::Null)
                }
                None => fail(404, "NOT_FOUND", "no such"),
            },
            _ => fail(501, "UNIMPLEMENTED", "not in this fake"),
        }
    }

    /// Services, clusters, registries and notifications; nothing for a call that is as of any other kind.
    fn newer(&mut self, method: &Method, path: &str, query: &str, body: &Value) -> Option<Answer> {
        let (parent, last) = path.rsplit_once('/').unwrap();
        Some(match (method.as_str(), last) {
            ("GET", "services:batchGet") => {
                let names = query.split('&').filter_map(|part| part.strip_prefix("names="));
                let state = |name: &str| match self.enabled.contains(name.rsplit('/').next().unwrap()) {
                    true => json!({"name": name, "state": "ENABLED"}),
                    false => json!({"name": name, "state": "DISABLED"}),
                };
                Ok(json!({"services": names.map(state).collect::<Vec<_>>()}))
            }
            ("POST", "services:batchEnable") => {
                let ids = body["serviceIds"].as_array().unwrap().iter();
                self.enabled.extend(ids.map(|id| id.as_str().unwrap().to_owned()));
                Ok(json!({"name": "operations/1", "done": true}))
            }
            ("POST", _) if last.ends_with(":enable") => {
                self.enabled.insert(last.trim_end_matches(":enable").to_owned());
                Ok(json!({"name": "operations/1", "done": true}))
            }
            ("POST", "clusters") => {
                let cluster = format!("{path}/{}", body["cluster"]["name"].as_str().unwrap());
                let mut fields = body["cluster"].clone();
                for pool in fields.as_object_mut().unwrap().remove("nodePools").unwrap().as_array().unwrap() {
                    let name = format!("{cluster}/nodePools/{}", pool["name"].as_str().unwrap());
                    self.resources.entry(name).or_insert_with(|| pool.clone());
                }
                fields["status"] = json!("RUNNING");
                if self.resources.contains_key(&cluster) {
                    return Some(fail(409, "ALREADY_EXISTS", "it exists"));
                }
                self.resources.insert(cluster, fields);
                self.begin(path, "CREATE_CLUSTER")
            }
            ("POST", "nodePools") => {
                let name = format!("{path}/{}", body["nodePool"]["name"].as_str().unwrap());
                self.resources.insert(name, body["nodePool"].clone());
                self.begin(path, "CREATE_NODE_POOL")
            }
            ("POST", _) if last.ends_with(":setAutoscaling") => {
                let pool = path.trim_end_matches(":setAutoscaling");
                self.resources.get_mut(pool).unwrap()["autoscaling"] = body["autoscaling"].clone();
                self.begin(path, "SET_NODE_POOL_SIZE")
            }
            ("POST", _) if last.ends_with(":setResourceLabels") => {
                let cluster = path.trim_end_matches(":setResourceLabels");
                self.resources.get_mut(cluster).unwrap()["resourceLabels"] = body["resourceLabels"].clone();
                self.begin(path, "UPDATE_CLUSTER")
            }
            ("PUT", _) if parent.ends_with("/clusters") => {
                let update = body["update"].as_object().unwrap();
                assert_eq!(update.len(), 1, "one change a request");
                let cluster = self.resources.get_mut(path).unwrap();
                for (key, value) in update {
                    let field = key.strip_prefix("desired").unwrap();
                    cluster[field[..1].to_lowercase() + &field[1..]] = value.clone();
                }
                self.begin(path, "UPDATE_CLUSTER")
            }
            ("PUT", _) if parent.ends_with("/nodePools") => {
                let pool = self.resources.get_mut(path).unwrap();
                for (key, value) in body.as_object().unwrap() {
                    pool["config"][key] = value.clone();
                }
                self.begin(path, "UPDATE_CLUSTER")
            }
            ("DELETE", _) if parent.ends_with("/clusters") => {
                let before = self.resources.len();
                self.resources.retain(|name, _| name != path && !name.starts_with(&format!("{path}/")));
                match self.resources.len() < before {
                    true => self.begin(path, "DELETE_CLUSTER"),
                    false => fail(404, "NOT_FOUND", "no such"),
                }
            }
            ("GET", "operations") => Ok(json!({})),
            ("GET", _) if parent.ends_with("/operations") => {
                let left = self.operations.entry(path.to_owned()).or_default();
                let status = if *left == 0 { "DONE" } else { "RUNNING" };
                *left = left.saturating_sub(1);
                Ok(json!({"name": last, "operationType": "CREATE_CLUSTER", "status": status}))
            }
            ("POST", "repositories") => {
                let name = format!("{path}/{}", query.strip_prefix("repositoryId=").unwrap());
                match self.insert(name, body.clone()) {
                    Ok(_) => Ok(json!({"name": "projects/p/locations/l/operations/1", "done": true})),
                    refused => refused,
                }
            }
            ("POST", "notificationConfigs") => {
                self.serial += 1;
                let mut config = body.clone();
                config["id"] = json!(self.serial.to_string());
                self.resources.insert(format!("{path}/{}", self.serial), config.clone());
                Ok(config)
            }
            ("GET", "notificationConfigs") => {
                if !self.resources.contains_key(parent) {
                    return Some(fail(404, "NOT_FOUND", "no such bucket"));
                }
                let inside = self.resources.iter().filter(|(name, _)| name.starts_with(&format!("{path}/")));
                Ok(json!({"items": inside.map(|(_, item)| item).collect::<Vec<_>>()}))
            }
            ("GET", "clusters") => Ok(json!({})),
            _ => return None,
        })
    }

    /// An operation that has begun.
    fn begin(&mut self, path: &str, kind: &str) -> Answer {
        self.serial += 1;
        let name = format!("operation-{}", self.serial);
        let location: Vec<&str> = path.split('/').take(5).collect();
        self.operations.insert(format!("{}/operations/{name}", location.join("/")), 1);
        Ok(json!({"name": name, "operationType": kind, "status": "RUNNING"}))
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
        let lists = [
            ("topics", "topics"),
            ("subscriptions", "subscriptions"),
            ("serviceAccounts", "accounts"),
            ("repositories", "repositories"),
        ];
        for (list, key) in lists {
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
        let is_project = target.matches('/').count() == 2 && target.starts_with("v1/projects/");
        if !is_project && !self.resources.contains_key(target) {
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
            let pooled = grant.member.contains(".svc.id.goog[");
            if pooled && !self.resources.keys().any(|path| path.contains("/clusters/")) {
                return fail(400, "INVALID_ARGUMENT", "Identity Pool does not exist (desk-one.svc.id.goog).");
            }
            if grant.member.contains("@gs-project-accounts.") {
                continue;
            }
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
