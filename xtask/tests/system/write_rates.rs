//! A bucket that takes only so many writes a second, and one a second of each name: everything takes longer, and
//! nothing fails.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use cloud::storage::Properties;
use contract::{object, outcome::State};
use localcloud::storage::WriteRates;
use orchestrator::Hooks;
use sessions::submit::{Existing, Input, Options, Source, Submitter};
use tokio_util::sync::CancellationToken;

use crate::{
    sample::is_long,
    world::{Setup, World},
};

/// Each is written, and so are its result and its outcome; then it is deleted.
const SHORT: usize = 200;
const LONG: usize = 5000;
/// Below what a busy machine does otherwise, as 1,000 are below what a cluster does.
const WRITES_A_SECOND: u32 = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_inputs_are_submitted_and_settled_at_the_rate_that_the_bucket_takes() {
    let rates = Some(WriteRates { per_bucket: WRITES_A_SECOND });
    let world = World::start_as(&["bu1"], Setup::default(), |options| options.write_rates = rates).await;
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let started = Instant::now();
    let business = world.business("bu1").clone();
    let publisher = world.connection.base_publisher().await.unwrap();
    let submitter = Submitter::new(world.store.clone(), &publisher, business.clone());
    let count = if is_long() { LONG } else { SHORT };
    let inputs = (0..count).map(|index| Input {
        job: format!("{index:04}"),
        source: Source::Bytes(Bytes::from(format!("payload {index}"))),
        content_type: "text/plain".to_owned(),
    });
    let options = Options { session: "many".to_owned(), ..Options::default() };
    let report =
        submitter.run(inputs.collect(), &options, &Existing::default(), &CancellationToken::new(), |_, _| {}).await;
    assert!(report.is_complete(), "{report:?}");
    let submitted = started.elapsed();
    let expected: BTreeMap<String, State> =
        report.jobs.iter().map(|(job, _)| (object::input("bu1", "many", job), State::Succeeded)).collect();
    world.assert_equation("bu1", &expected).await;
    let refused = world.cloud.google.storage().refused_writes();
    println!("submitted after {submitted:.1?}, settled after {:.1?}; {refused:?}", started.elapsed());
    assert!(refused.of_buckets > 0, "{refused:?}");

    // One name, over JSON and over gRPC.
    let (store, bucket) = (&world.store, &business.bucket);
    let name = "bu1/common/many/market.json";
    for text in ["1", "2"] {
        store.write(bucket, name, text, Properties::json()).await.unwrap();
    }
    let change = |_: &_| Some(BTreeMap::from([("k".to_owned(), "v".to_owned())]));
    let amended = store.amend(bucket, name, change).await.unwrap().unwrap();
    assert!(store.delete(bucket, name, amended.generation).await.unwrap());
    let names = world.cloud.google.storage().refused_writes().of_names;
    assert!(names >= refused.of_names + 3, "{names}");
    orchestrator.stop().await;
    world.stop().await;
}
