//! The state of a small world that an orchestrator runs in, and the means to run, kill and restart one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use contract::{Outcome, message::Work, outcome::State as Ended};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::watch};

use crate::google;

mod engines;
mod process;
mod state;

pub(crate) use process::{Process, Setting, hold_at};
pub(crate) use state::{Object, State};

/// Only a safety net: everything here takes milliseconds.
const WITHIN: Duration = Duration::from_secs(60);

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

    /// Submits so many good ones, whose names begin with `prefix`; each message `times` times.
    pub(crate) fn submit_many(&self, prefix: &str, count: usize, times: usize) -> Vec<Work> {
        (0..count).map(|index| self.submit(&format!("{prefix}{index}"), "good", None, times)).collect()
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
            let object = contract::object::input("bu1", session, job);
            let generation = state.write_once(&object, contents.into(), BTreeMap::new()).unwrap();
            let identity = contract::Identity { bucket: "p-bucket".into(), object, generation, attempt: 0 };
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
            let name = contract::object::control("bu1", session);
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

    /// As [`World::check`], of works that all succeeded.
    #[track_caller]
    pub(crate) fn check_succeeded<'a>(&self, works: impl IntoIterator<Item = &'a Work>) {
        self.check(&works.into_iter().map(|work| (work, Ended::Succeeded, "completed")).collect::<Vec<_>>());
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
