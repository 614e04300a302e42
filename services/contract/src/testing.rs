//! Fixtures for tests of every package. They are plain values; a test changes the fields it is about.

use crate::{
    Identity,
    config::{Business, Config, Dispatch, Endpoints, Engine, MAX_FINISHED_JOBS, Program, Results, Retention, SCHEMA},
    message::{Resources, Work},
    object,
};

/// What version 1 left of the business `bu1` in the bucket `p-bucket`, as it wrote it: objects and Kubernetes Jobs by
/// name, and messages. The session `old` has ended; of `new` two split Jobs, a batch and a single input run or have
/// ended without an outcome, and three messages wait; the messages of `paused` are parked.
pub const VERSION_1: &str = include_str!("testing/version_1.json");

/// A business with the built-in kernel and no option set: at most 4 Jobs at a time, 3 retries, an hour for each Job.
pub fn business(name: &str) -> Business {
    Business {
        name: name.into(),
        bucket: "p-bucket".into(),
        namespace: name.into(),
        topic: format!("projects/p/topics/p-{name}-topic"),
        subscription: format!("projects/p/subscriptions/p-{name}-subscription"),
        priority_subscription: None,
        events_topic: format!("projects/p/topics/p-{name}-events-topic"),
        max_active_jobs: 4,
        max_finished_jobs: MAX_FINISHED_JOBS,
        dispatch: Dispatch::Job,
        pool: None,
        results: Results::Auto,
        submit_on_upload: false,
        intake: true,
        queue: None,
        retention: Retention { finished_jobs_secs: 3600, output_days: 30, outcome_days: 90 },
        engine: Engine {
            command: vec![],
            cpu: "1".into(),
            memory: "512Mi".into(),
            retries: 3,
            timeout_secs: 3600,
            spot: false,
            program: Program::default(),
        },
    }
}

/// An environment with these businesses.
pub fn config(businesses: &[&str]) -> Config {
    Config {
        schema: SCHEMA,
        environment: "e".into(),
        project: "p".into(),
        location: "l".into(),
        bucket: "p-bucket".into(),
        endpoints: Endpoints::default(),
        cluster: None,
        businesses: businesses.iter().map(|name| ((*name).to_owned(), business(name))).collect(),
    }
}

/// The work of the input at generation 7, first attempt, with no option set.
pub fn work(business: &str, session: &str, job: &str) -> Work {
    let object = object::input(business, session, job);
    Work {
        identity: Identity { bucket: "p-bucket".into(), object, generation: 7, first: None, attempt: 0 },
        business: business.into(),
        session: session.into(),
        job: job.into(),
        client: None,
        pack: None,
        only: None,
        span: None,
        priority: false,
        common: vec![],
        resources: Resources::default(),
    }
}
