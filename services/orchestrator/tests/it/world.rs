//! The state of a small world that an orchestrator runs in, and the means to run, kill and restart one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use common::{
    Outcome,
    batch::{Batch, Done, Failed, Manifest, Report},
    clients::Connection,
    config::{Business, Dispatch, Endpoints, Engine, Retention},
    message::Work,
    outcome::State as Ended,
};
use googleapis_tonic_google_pubsub_v1::google::pubsub::v1 as pubsub;
use jiff::Timestamp;
use orchestrator::{Clients, Config, Hooks, Step, Timing};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::watch};
use tokio_util::sync::CancellationToken;

use crate::{google, kubernetes};

/// Only a safety net: everything here takes milliseconds.
const WITHIN: Duration = Duration::from_secs(60);
/// How long a stream has a message that nobody extends.
const LEASE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) generation: i64,
    pub(crate) contents: Bytes,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) created: Timestamp,
}

#[derive(Clone, Debug)]
struct Message {
    id: String,
    /// Whether it lies in the subscription that is drained first.
    first: bool,
    data: Bytes,
    attributes: BTreeMap<String, String>,
    published: Timestamp,
    /// The stream that has it, while one does, and until when.
    stream: Option<(u64, Instant)>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    counter: u64,
    messages: BTreeMap<String, Message>,
    pub(crate) nacked: usize,
    pub(crate) acked: usize,
    /// Which client opened each stream.
    pub(crate) streams: BTreeMap<u64, String>,
    /// Streams of the subscription that is drained first.
    pub(crate) first_streams: BTreeSet<u64>,
    /// There is a subscription with a filter for priority.
    pub(crate) has_priority: bool,
    /// Clients of dead processes, whose connections may not have noticed yet.
    dead: BTreeSet<String>,
    pub(crate) subscription_fails: Option<tonic::Status>,
    pub(crate) events: Vec<BTreeMap<String, String>>,
    pub(crate) objects: BTreeMap<String, Object>,
    /// Names of objects that were ever written.
    pub(crate) written: Vec<String>,
    pub(crate) jobs: BTreeMap<String, Value>,
    pub(crate) pods: BTreeMap<String, Value>,
    pub(crate) deleted_pods: Vec<String>,
    pub(crate) history: Vec<Value>,
    /// How often a Job of each name was created.
    pub(crate) creations: BTreeMap<String, usize>,
    pub(crate) most_active: usize,
    pub(crate) create_fails: Option<(u16, Value)>,
    pub(crate) create_fails_once: Vec<(u16, Value)>,
    /// Jobs whose engine does nothing.
    pub(crate) engines_wait: bool,
    /// Batches of which only one of two pods ends.
    pub(crate) batches_stop_halfway: bool,
}

impl State {
    pub(crate) fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    pub(crate) fn publish(&mut self, data: &[u8], attributes: BTreeMap<String, String>) -> String {
        let id = format!("{}", 1000 + self.next());
        let data = Bytes::copy_from_slice(data);
        let published = Timestamp::now();
        let message = Message { id: id.clone(), first: false, data, attributes, published, stream: None };
        if self.has_priority && message.attributes.get("priority").is_some_and(|value| value == "true") {
            self.messages.insert(format!("first-{id}"), Message { first: true, ..message.clone() });
        }
        self.messages.insert(id.clone(), message);
        id
    }

    pub(crate) fn take(&mut self, stream: u64, limit: usize) -> Vec<pubsub::ReceivedMessage> {
        if self.dead.contains(&self.streams[&stream]) {
            return Vec::new();
        }
        let now = Instant::now();
        let has =
            self.messages.values().filter(|message| message.stream.is_some_and(|lease| lease.0 == stream)).count();
        let first = self.first_streams.contains(&stream);
        let free = self
            .messages
            .iter_mut()
            .filter(|(_, message)| message.first == first && message.stream.is_none_or(|lease| lease.1 < now));
        free.take(limit.saturating_sub(has))
            .map(|(ack_id, message)| {
                message.stream = Some((stream, now + LEASE));
                let published = message.published;
                pubsub::ReceivedMessage {
                    ack_id: ack_id.clone(),
                    message: Some(pubsub::PubsubMessage {
                        data: message.data.to_vec(),
                        attributes: message.attributes.clone().into_iter().collect(),
                        message_id: message.id.clone(),
                        publish_time: Some(prost_types::Timestamp {
                            seconds: published.as_second(),
                            nanos: published.subsec_nanosecond(),
                        }),
                        ..Default::default()
                    }),
                    ..Default::default()
                }
            })
            .collect()
    }

    /// How many messages are not acknowledged.
    pub(crate) fn messages_left(&self) -> usize {
        self.messages.len()
    }

    /// How many messages no stream has.
    pub(crate) fn untaken(&self) -> usize {
        self.messages.values().filter(|message| message.stream.is_none()).count()
    }

    pub(crate) fn ack(&mut self, id: &str) {
        self.acked += usize::from(self.messages.remove(id).is_some());
    }

    pub(crate) fn extend(&mut self, id: &str, seconds: i32) {
        let lease = self.messages.get_mut(id).and_then(|message| message.stream.as_mut());
        if let Some((_, until)) = lease {
            *until = Instant::now() + Duration::from_secs(u64::try_from(seconds).unwrap());
        }
    }

    pub(crate) fn nack(&mut self, id: &str) {
        if let Some(message) = self.messages.get_mut(id) {
            message.stream = None;
            self.nacked += 1;
        }
    }

    pub(crate) fn write_once(
        &mut self,
        name: &str,
        contents: Bytes,
        metadata: BTreeMap<String, String>,
    ) -> Option<i64> {
        if self.objects.contains_key(name) {
            return None;
        }
        let generation = i64::try_from(self.next()).unwrap();
        let created = Timestamp::now();
        self.objects.insert(name.to_owned(), Object { generation, contents, metadata, created });
        self.written.push(name.to_owned());
        Some(generation)
    }

    /// Writes an object that may be there.
    pub(crate) fn replace(&mut self, name: &str, contents: Bytes) {
        let generation = i64::try_from(self.next()).unwrap();
        let created = Timestamp::now();
        self.objects.insert(name.to_owned(), Object { generation, contents, metadata: BTreeMap::new(), created });
    }

    /// What Kueue does when there is room: lets a Job begin.
    pub(crate) fn admit(&mut self, name: &str) {
        let mut job = self.jobs[name].clone();
        job["spec"]["suspend"] = false.into();
        self.show(name, job, "MODIFIED");
    }

    pub(crate) fn show(&mut self, name: &str, mut job: Value, kind: &str) {
        job["metadata"]["resourceVersion"] = (self.history.len() + 1).to_string().into();
        self.history.push(json!({"type": kind, "object": job}));
        self.jobs.insert(name.to_owned(), job);
        let active = self.jobs.values().filter(|job| job["status"]["conditions"].is_null()).count();
        self.most_active = self.most_active.max(active);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        if let Some(mut job) = self.jobs.remove(name) {
            job["metadata"]["resourceVersion"] = (self.history.len() + 1).to_string().into();
            self.history.push(json!({"type": "DELETED", "object": job}));
        }
    }

    /// `kubectl delete job NAME`.
    pub(crate) fn delete(&mut self, name: &str) {
        let Some(mut job) = self.jobs.get(name).cloned() else { return };
        if job["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            return self.remove(name);
        }
        job["metadata"]["deletionTimestamp"] = "2026-01-01T00:02:00Z".into();
        self.show(name, job, "MODIFIED");
    }

    /// What they do for a batch: the inputs at even positions are reported by the first pod, the others by the second,
    /// and of an input that kills its pod there is no report. A first pod that is `half` done leaves the Job running.
    fn run_batch(&mut self, name: &str, mut job: Value) {
        let env = &job["spec"]["template"]["spec"]["containers"][0]["env"];
        let text = env.as_array().unwrap().iter().find(|one| one["name"] == "DESKGRID_BATCH").unwrap();
        let batch: Batch = serde_json::from_str(text["value"].as_str().unwrap()).unwrap();
        let manifest = self.objects.get(&batch.manifest()).expect("the manifest precedes the Job").contents.clone();
        let manifest = Manifest::decode(&manifest, &batch).unwrap();
        let now = Timestamp::now();
        let halves = if self.batches_stop_halfway { 1 } else { 2 };
        let mut killed = false;
        for half in 0..halves {
            let mut report =
                Report { schema: 1, pod: format!("pod-{half}"), cpu_seconds: 1.0, done: vec![], failed: vec![] };
            for (input, entry) in (0..).zip(&manifest.entries).filter(|(input, _)| input % 2 == half) {
                let (work, identity) = (&entry.work, &entry.work.identity);
                let output = work.output(None);
                let contents = self.objects.get(&identity.object).filter(|o| o.generation == identity.generation);
                let contents = contents.map(|object| object.contents.clone());
                let failed = |code: &str| Failed {
                    input,
                    started: now,
                    finished: now,
                    permanent: true,
                    code: code.into(),
                    message: "said the engine".into(),
                    log_tail: Some("a line".into()),
                };
                match contents {
                    _ if self.objects.contains_key(&output) => {}
                    None => {
                        report.failed.push(failed("input-missing"));
                        continue;
                    }
                    Some(contents) if contents.starts_with(b"bad") => {
                        report.failed.push(failed("malformed-input"));
                        continue;
                    }
                    Some(contents) if contents.starts_with(b"kill") => {
                        killed = true;
                        continue;
                    }
                    Some(_) => {
                        self.write_once(&output, Bytes::from_static(b"result"), BTreeMap::new());
                    }
                }
                report.done.push(Done { input, started: now, finished: now });
            }
            let text = serde_json::to_vec(&report).unwrap();
            self.write_once(&batch.report(half, &report.pod), text.into(), BTreeMap::new());
        }
        job["status"]["succeeded"] = halves.into();
        if halves == 2 {
            let condition = if killed { "Failed" } else { "Complete" };
            job["status"]["conditions"] = json!([{"type": condition, "status": "True", "reason": "FailedIndexes"}]);
        }
        if self.jobs.get(name) != Some(&job) && self.jobs[name]["status"] != job["status"] {
            self.show(name, job, "MODIFIED");
        }
    }

    /// What the Job controller and an engine do: a result and success, or exit 10 for an input that is malformed or gone.
    fn run_engines(&mut self) {
        if self.engines_wait {
            return;
        }
        let waiting = self
            .jobs
            .iter()
            .filter(|(_, job)| job["status"]["conditions"].is_null() && job["metadata"]["deletionTimestamp"].is_null())
            .filter(|(_, job)| job["spec"]["suspend"] != true);
        for (name, mut job) in waiting.map(|(name, job)| (name.clone(), job.clone())).collect::<Vec<_>>() {
            if common::batch::is_job_name(&name) {
                self.run_batch(&name, job);
                continue;
            }
            let text = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap();
            // Alone, what killed a pod is found out.
            let work: Work = serde_json::from_str(text).unwrap();
            let outputs = work.outputs();
            let input = self.objects.get(&work.identity.object).filter(|o| o.generation == work.identity.generation);
            let done = outputs.iter().all(|output| self.objects.contains_key(output));
            let refuses = match input {
                _ if done => None,
                None => Some("input-missing"),
                Some(input) if input.contents.starts_with(b"bad") => Some("malformed-input"),
                Some(input) if input.contents.starts_with(b"kill") => Some("kills-pods"),
                Some(_) => None,
            };
            let (condition, exit_code) = if refuses.is_some() { ("Failed", 10) } else { ("Complete", 0) };
            if refuses.is_none() {
                for output in outputs {
                    self.write_once(&output, Bytes::from_static(b"result"), BTreeMap::new());
                }
            }
            let said = json!({"code": refuses.unwrap_or("done"), "message": "said the engine", "cpu_seconds": 0.5});
            let pod = json!({
                "metadata": {"name": format!("{name}-0")},
                "spec": {"containers": [{"name": "engine"}]},
                "status": {
                    "phase": if exit_code == 0 { "Succeeded" } else { "Failed" },
                    "containerStatuses": [{
                        "name": "engine", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                        "state": {"terminated": {"exitCode": exit_code, "message": said.to_string()}},
                    }],
                },
            });
            self.pods.insert(name.clone(), pod);
            job["status"]["conditions"] = json!([{"type": condition, "status": "True", "reason": "PodFailurePolicy"}]);
            self.show(&name, job, "MODIFIED");
        }
    }
}

/// Everything outside the orchestrator. It outlives those that run in it.
pub(crate) struct World {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    endpoint: String,
    runtime: Option<Runtime>,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let handle = runtime.handle().clone();
        let world = Arc::new(Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            endpoint,
            runtime: Some(runtime),
        });
        handle.spawn(google::serve(world.clone(), listener));
        world
    }

    pub(crate) fn look(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.look();
            let result = change(&mut state);
            state.run_engines();
            result
        };
        self.changed.send_replace(());
        result
    }

    /// Lets the engines of the Jobs that there are now come to their end, and of no others.
    pub(crate) fn finish(&self) {
        self.change(|state| {
            state.engines_wait = false;
            state.run_engines();
            state.engines_wait = true;
        });
    }

    /// Changes what nobody waits for.
    pub(crate) fn change_quietly<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.look())
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Uploads an input and publishes its message `times` times; returns the work.
    pub(crate) fn submit(&self, job: &str, contents: &'static str, tasks: Option<u32>, times: usize) -> Work {
        self.submit_to("s1", job, contents, times, |work| work.tasks = tasks)
    }

    /// The same in any session, with any options.
    pub(crate) fn submit_to(
        &self,
        session: &str,
        job: &str,
        contents: &'static str,
        times: usize,
        options: impl FnOnce(&mut Work),
    ) -> Work {
        self.change(|state| {
            let object = common::object::input("bu1", session, job);
            let generation = state.write_once(&object, contents.into(), BTreeMap::new()).unwrap();
            let identity = common::Identity { bucket: "p-bucket".into(), object, generation, attempt: 0 };
            let mut work = Work {
                identity,
                business: "bu1".into(),
                session: session.into(),
                job: job.into(),
                client: None,
                tasks: None,
                rows_per_task: None,
                priority: false,
                common: vec![],
                resources: Default::default(),
            };
            options(&mut work);
            let (data, attributes) = work.encode();
            for _ in 0..times {
                state.publish(&data, attributes.clone());
            }
            work
        })
    }

    pub(crate) fn publish(&self, data: &[u8], attributes: &[(&str, &str)]) -> String {
        let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        self.change(|state| state.publish(data, attributes.collect()))
    }

    /// What an operator decides about a session; nothing any more with `None`.
    pub(crate) fn decide(&self, session: &str, control: Option<Value>) {
        self.change(|state| {
            let name = common::object::control("bu1", session);
            state.objects.remove(&name);
            if let Some(mut control) = control {
                for (key, value) in [("schema", json!(1)), ("session", json!(session))] {
                    if control[key].is_null() {
                        control[key] = value;
                    }
                }
                control["changed"] = Timestamp::now().to_string().into();
                state.replace(&name, control.to_string().into());
            }
        });
    }

    /// Cancels what was submitted to a session until now.
    pub(crate) fn cancel(&self, session: &str) {
        self.decide(session, Some(json!({"cancelled_before": Timestamp::now().to_string()})));
    }

    /// Publishes the message of some work once more.
    pub(crate) fn publish_work(&self, work: &Work) -> String {
        let (data, attributes) = work.encode();
        self.change(|state| state.publish(&data, attributes))
    }

    /// How many objects there are under a prefix of the business.
    pub(crate) fn count(&self, part: &str) -> usize {
        let prefix = format!("bu1/{part}/");
        self.look().objects.keys().filter(|name| name.starts_with(&prefix)).count()
    }

    /// The Pub/Sub clients so far.
    pub(crate) fn clients(&self) -> BTreeSet<String> {
        self.look().streams.values().cloned().collect()
    }

    /// What the ack deadline does for the messages of dead processes, without the wait.
    pub(crate) fn bury(&self, clients: BTreeSet<String>) {
        self.change(|state| {
            state.dead.extend(clients);
            let State { messages, streams, dead, .. } = state;
            for message in messages.values_mut() {
                message.stream = message.stream.filter(|(stream, _)| !dead.contains(&streams[stream]));
            }
        });
    }

    /// Waits until the state is as wanted.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, wanted: impl Fn(&State) -> bool) {
        let since = Instant::now();
        while !wanted(&self.look()) {
            if since.elapsed() > WITHIN {
                let state = self.look();
                panic!(
                    "never came: {what}; backlog {}, outcomes {:?}, jobs {:#?}",
                    state.messages.len(),
                    outcomes(&state),
                    state.jobs
                );
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until nothing is left to do: no message, no Job that waits for its outcome.
    #[track_caller]
    pub(crate) fn wait_until_done(&self) {
        self.wait("the end of all work", |state| {
            let held = |job: &Value| job["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
            state.messages.is_empty() && !state.jobs.values().any(held)
        });
    }

    /// The outcomes, by object.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, Outcome> {
        outcomes(&self.look())
    }

    /// What must hold once everything is done: one outcome for each identity, results and inputs to match.
    #[track_caller]
    pub(crate) fn check(&self, wanted: &[(&Work, Ended, &str)]) {
        let state = self.look();
        let outcomes = outcomes(&state);
        for (work, ended, code) in wanted {
            let outcome = outcomes.get(&work.outcome()).unwrap_or_else(|| panic!("no outcome for {}", work.job));
            assert_eq!((outcome.state, outcome.reason.code.as_str()), (*ended, *code), "{}", work.job);
            assert_eq!(outcome.identity(), Some(&work.identity));
            let input = state.objects.contains_key(&work.identity.object);
            assert_eq!(input, *ended != Ended::Succeeded, "the input of {}", work.job);
            if *ended == Ended::Succeeded {
                assert!(work.outputs().iter().all(|output| state.objects.contains_key(output)), "{}", work.job);
            }
            let event = |event: &&BTreeMap<String, String>| event.get("job") == Some(&work.job);
            assert!(state.events.iter().any(|e| event(&e)), "no event for {}", work.job);
        }
        let mut once = BTreeSet::new();
        for name in state.written.iter().filter(|name| !name.contains("/input/") && !name.contains("/parked/")) {
            assert!(once.insert(name), "{name} was written twice");
        }
        let left: Vec<&String> = state.objects.keys().filter(|name| name.contains("/.batch/")).collect();
        assert_eq!(left, Vec::<&String>::new(), "manifests or reports are left");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn outcomes(state: &State) -> BTreeMap<String, Outcome> {
    let all = state.objects.iter().filter(|(name, _)| name.starts_with("bu1/outcome/"));
    all.map(|(name, object)| (name.clone(), serde_json::from_slice(&object.contents).unwrap())).collect()
}

fn business(max_active_jobs: u32) -> Business {
    Business {
        name: "bu1".into(),
        bucket: "p-bucket".into(),
        namespace: "bu1".into(),
        topic: "projects/p/topics/p-bu1-topic".into(),
        subscription: "projects/p/subscriptions/p-bu1-subscription".into(),
        priority_subscription: None,
        events_topic: "projects/p/topics/p-bu1-events-topic".into(),
        max_active_jobs,
        dispatch: Dispatch::Job,
        submit_on_upload: false,
        intake: true,
        queue: None,
        retention: Retention { finished_jobs_secs: 3600, output_days: 30, outcome_days: 90 },
        engine: Engine {
            image: "engine@sha256:0".into(),
            command: vec![],
            cpu: "1".into(),
            memory: "512Mi".into(),
            retries: 3,
            timeout_secs: 3600,
            spot: false,
            program: common::config::Program::default(),
        },
    }
}

/// A running orchestrator.
pub(crate) struct Process {
    runtime: Runtime,
    stop: CancellationToken,
    ended: mpsc::Receiver<anyhow::Result<()>>,
    pub(crate) address: std::net::SocketAddr,
}

/// How to run one.
pub(crate) struct Setting {
    pub(crate) max_active_jobs: u32,
    pub(crate) dispatch: Dispatch,
    pub(crate) hooks: Hooks,
    pub(crate) ahead: Duration,
    pub(crate) business: fn(&mut Business),
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            max_active_jobs: 100,
            dispatch: Dispatch::Job,
            hooks: Hooks::none(),
            ahead: Duration::ZERO,
            business: |_| {},
        }
    }
}

impl Process {
    pub(crate) fn start(world: &Arc<World>, setting: Setting) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let endpoints = Endpoints { pubsub: Some(world.endpoint.clone()), storage: Some(world.endpoint.clone()) };
        let template = json!({"spec": {"template": {"spec": {"containers": [{"name": "engine", "image": "i"}]}}}});
        let mut business = business(setting.max_active_jobs);
        business.dispatch = setting.dispatch;
        (setting.business)(&mut business);
        let config = Config {
            business,
            namespace: "bu1".into(),
            endpoints: endpoints.clone(),
            template: template.to_string(),
            port: 0,
            log_filter: String::new(),
            timing: Timing {
                sweep_every: Duration::from_millis(50),
                controls_every: Duration::from_millis(20),
                // Long, since this machine may be busy.
                priority_quiet: Duration::from_secs(2),
                ..Timing::PRODUCTION
            },
        };
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (done, ended) = mpsc::channel();
        let (world, token) = (world.clone(), stop.clone());
        runtime.spawn(async move {
            let credentials = google_cloud_auth::credentials::anonymous::Builder::new().build();
            let clients = Clients {
                kube: kubernetes::client(&world),
                connection: Connection::with_credentials(&endpoints, credentials),
                listener,
            };
            let clock: orchestrator::Clock = Arc::new(move || Timestamp::now() + setting.ahead);
            let _ = done.send(orchestrator::run(config, clients, clock, setting.hooks, token).await);
        });
        Self { runtime, stop, ended, address }
    }

    /// SIGKILL.
    pub(crate) fn kill(self) {
        self.runtime.shutdown_timeout(Duration::from_secs(5));
    }

    /// SIGTERM; returns how it ended.
    pub(crate) fn terminate(self) -> anyhow::Result<()> {
        self.stop.cancel();
        let ended = self.ended.recv_timeout(WITHIN).expect("it stops");
        self.kill();
        ended
    }

    /// The answer of a probe.
    pub(crate) fn get(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

/// Hooks that hold the first thing to come to `step` there for good, and tell so.
pub(crate) fn hold_at(step: Step) -> (Hooks, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let tell = Mutex::new(Some(tell));
    let hooks = Hooks::new(move |at| {
        let first = if at.step == step { tell.lock().unwrap().take() } else { None };
        Box::pin(async move {
            if let Some(tell) = first {
                let _ = tell.send(());
                std::future::pending::<()>().await;
            }
        })
    });
    (hooks, told)
}
