//! The test environment of an orchestrator: Pub/Sub, Cloud Storage and a cluster in memory, and processes that run in
//! it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use contract::{
    Outcome,
    message::Work,
    outcome::State as Ended,
    pack::{Format, Item, Pack},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{runtime::Runtime, sync::watch};

use crate::google;

mod engines;
mod engines_of_pool;
mod process;
mod state;
mod warnings;

use engines_of_pool::Pool;
pub(crate) use engines_of_pool::pods as pods_of_pool;
pub(crate) use process::{Process, Setting, hold_at};
pub(crate) use state::{Object, State};
use warnings::Warnings;

/// The deadline of every wait; everything here takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Everything outside the orchestrator. It outlives the processes that run in it.
pub(crate) struct Fixture {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    endpoint: String,
    runtime: Option<Runtime>,
    warnings: Arc<Warnings>,
    pub(crate) pool: Pool,
}

impl Fixture {
    pub(crate) fn new() -> Arc<Self> {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let handle = runtime.handle().clone();
        let fixture = Arc::new(Self {
            state: Mutex::default(),
            changed: watch::Sender::new(()),
            endpoint,
            runtime: Some(runtime),
            warnings: Arc::default(),
            pool: Pool::new(),
        });
        handle.spawn(google::serve(fixture.clone(), listener));
        fixture
    }

    /// As [`Fixture::new`], with two engines in a pool.
    pub(crate) fn with_pool() -> Arc<Self> {
        let fixture = Self::new();
        for slot in 0..2 {
            let engine = engines_of_pool::run(Arc::downgrade(&fixture), slot);
            fixture.runtime.as_ref().unwrap().spawn(engine);
        }
        fixture
    }

    /// Allows WARN and ERROR lines that contain one of these parts; any other fails the test.
    pub(crate) fn expect_warnings(&self, parts: &[&'static str]) {
        self.warnings.expect(parts);
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = {
            let mut state = self.state();
            let result = change(&mut state);
            state.run_engines();
            result
        };
        self.changed.send_replace(());
        result
    }

    /// Ends the engines of the current Jobs, and of no others.
    pub(crate) fn finish(&self) {
        self.change(|state| {
            state.engines_wait = false;
            state.run_engines();
            state.engines_wait = true;
        });
    }

    /// Changes the state without a wake-up of the watches.
    pub(crate) fn change_quietly<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state())
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Uploads an input, with its options, and publishes its message `times` times; returns the work.
    pub(crate) fn submit(&self, job: &str, contents: &'static str, items: Option<u32>, times: usize) -> Work {
        self.submit_to("s1", job, contents, times, |work| work.pack = items.map(pack))
    }

    /// Submits this many good inputs, whose names begin with `prefix`; each message `times` times.
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
            let identity =
                contract::Identity { bucket: "p-bucket".into(), object, generation, first: None, attempt: 0 };
            let mut work = Work::new(identity, "bu1", session, job);
            options(&mut work);
            state.objects.get_mut(&work.identity.object).unwrap().metadata = work.metadata();
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

    /// Sets the decision about a session, or removes it with `None`.
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
                state.replace(&name, control.to_string().into(), BTreeMap::new());
            }
        });
    }

    /// Cancels the work that was submitted to a session until now.
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
        self.state().objects.keys().filter(|name| name.starts_with(&prefix)).count()
    }

    /// The Pub/Sub clients so far.
    pub(crate) fn clients(&self) -> BTreeSet<String> {
        self.state().streams.values().cloned().collect()
    }

    /// Expires the leases of dead processes' messages without the wait.
    pub(crate) fn expire_leases(&self, clients: BTreeSet<String>) {
        self.change(|state| {
            state.dead.extend(clients);
            let State { messages, streams, dead, .. } = state;
            for message in messages.values_mut() {
                message.stream = message.stream.filter(|(stream, _)| !dead.contains(&streams[stream]));
            }
        });
    }

    /// Waits until the state fulfils a condition.
    #[track_caller]
    pub(crate) fn wait(&self, what: &str, expected: impl Fn(&State) -> bool) {
        if !wait_until(|| expected(&self.state()), DEADLINE) {
            let state = self.state();
            panic!(
                "did not happen: {what}; backlog {}, outcomes {:?}, jobs {:#?}",
                state.messages.len(),
                outcomes(&state),
                state.jobs
            );
        }
    }

    /// Waits until no message and no unsettled Job is left.
    #[track_caller]
    pub(crate) fn wait_until_done(&self) {
        self.wait("the end of all work", |state| {
            let held = |job: &Value| job["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
            state.messages.is_empty() && !state.jobs.values().any(held)
        });
    }

    /// The outcomes, by object.
    pub(crate) fn outcomes(&self) -> BTreeMap<String, Outcome> {
        outcomes(&self.state())
    }

    /// As [`Fixture::check`], of works that all succeeded.
    #[track_caller]
    pub(crate) fn check_succeeded<'a>(&self, works: impl IntoIterator<Item = &'a Work>) {
        self.check(&works.into_iter().map(|work| (work, Ended::Succeeded, "completed")).collect::<Vec<_>>());
    }

    /// Checks the end of all work: one outcome for each identity, with matching results and inputs.
    #[track_caller]
    pub(crate) fn check(&self, expected: &[(&Work, Ended, &str)]) {
        // Events are published after the outcome, and nothing waits for them.
        self.wait("an event for every Job", |state| {
            let has_event = |job: &String| state.events.iter().any(|event| event.get("job") == Some(job));
            expected.iter().all(|(work, ..)| has_event(&work.job))
        });
        // Replicas that share the ranges of a pack see its end some seconds later.
        self.wait("the deletion of the inputs", |state| {
            let succeeded = expected.iter().filter(|(_, ended, _)| *ended == Ended::Succeeded);
            succeeded.into_iter().all(|(work, ..)| !state.objects.contains_key(&work.identity.object))
        });
        let state = self.state();
        let outcomes = outcomes(&state);
        for (work, ended, code) in expected {
            for range in ranges(work) {
                let outcome = outcomes.get(&range.outcome()).unwrap_or_else(|| panic!("no outcome for {range:?}"));
                assert_eq!((outcome.state, outcome.reason.code.as_str()), (*ended, *code), "{}", work.job);
                assert_eq!(outcome.identity(), Some(&range.identity));
                if let Some(items) = range.range() {
                    let has_result = |item: &Item| item.state == Ended::Succeeded && item.result.is_some();
                    assert!(outcome.items.iter().map(|item| item.index).eq(items), "{}", work.job);
                    assert!(*ended != Ended::Succeeded || outcome.items.iter().all(has_result), "{}", work.job);
                } else if *ended == Ended::Succeeded {
                    let has_result = outcome.result.is_some() || state.objects.contains_key(&work.output());
                    assert!(has_result, "{}", work.job);
                }
            }
            let input = state.objects.contains_key(&work.identity.object);
            assert_eq!(input, *ended != Ended::Succeeded, "the input of {}", work.job);
        }
        let mut once = BTreeSet::new();
        for name in state.written.iter().filter(|name| !name.contains("/input/") && !name.contains("/parked/")) {
            assert!(once.insert(name), "{name} was written twice");
        }
    }
}

/// A pack of so many items, two in a range.
pub(crate) fn pack(items: u32) -> Pack {
    Pack { format: Format::Whole, items, items_per_range: 2, rows_per_item: 1 }
}

/// The ranges of a pack; a single input itself.
pub(crate) fn ranges(work: &Work) -> Vec<Work> {
    let ranges = work.pack.as_ref().filter(|_| work.identity.first.is_none());
    ranges.map_or_else(|| vec![work.clone()], |pack| pack.ranges().map(|first| work.of_range(first)).collect())
}

/// Whether the condition was fulfilled before the deadline.
pub(crate) fn wait_until(condition: impl Fn() -> bool, deadline: Duration) -> bool {
    let started = Instant::now();
    while !condition() {
        if started.elapsed() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn outcomes(state: &State) -> BTreeMap<String, Outcome> {
    let is_outcome = |name: &str| name.starts_with("bu1/outcome/") && !name.ends_with("-layout.json");
    let all = state.objects.iter().filter(|(name, _)| is_outcome(name));
    all.map(|(name, object)| (name.clone(), serde_json::from_slice(&object.contents).unwrap())).collect()
}
