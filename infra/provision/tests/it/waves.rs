//! How many round trips the verbs take one after another, which is what their time is made of.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use localcloud::faults::{Fault, Faults, When};
use provision::{google::Call, plan};

use crate::fixture::{self, client, cloud, environment, silent};

/// How long every call takes.
const TRIP: Duration = Duration::from_millis(100);

/// When a call began and when it ended.
pub(crate) type Span = (Instant, Instant, String);

/// The most calls of which each began after the one before had ended: the waves.
pub(crate) fn waves(spans: &mut [Span]) -> Vec<String> {
    spans.sort_by_key(|(_, end, _)| *end);
    let mut chain: Vec<String> = Vec::new();
    let mut free = None;
    for (start, end, name) in spans.iter() {
        if free.is_none_or(|free| *start >= free) {
            chain.push(name.clone());
            free = Some(*end);
        }
    }
    chain
}

/// When a call that ends now began.
pub(crate) fn spans(call: &Call<'_>) -> Span {
    let now = Instant::now();
    (now.checked_sub(call.elapsed).unwrap_or(now), now, call.request.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provisioning_three_businesses_takes_the_critical_path_only() {
    let faults = Faults::default();
    let told = faults.clone();
    let google = fixture::google(move |options| options.faults = told).await;
    faults.add("", "", When::Always, Fault::Delay(TRIP));
    let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
    let seen = spans.clone();
    let observed = client(&google).observed(Arc::new(move |call: &Call<'_>| {
        seen.lock().unwrap().push(self::spans(call));
    }));
    let cloud = cloud(observed);
    let environment = environment("[businesses.bu1]\n[businesses.bu2]\n[businesses.bu3]\n");

    let begun = Instant::now();
    let report = provision::run(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
    let took = begun.elapsed();
    let mut calls = std::mem::take(&mut *spans.lock().unwrap());
    let chain = waves(&mut calls);
    println!(
        "provision of 3 businesses: {} changes, {} calls in {} waves, {} ms; one after another they take {} ms\n  {}",
        report.applied.done,
        calls.len(),
        chain.len(),
        took.as_millis(),
        TRIP.as_millis() * calls.len() as u128,
        chain.join("\n  "),
    );
    assert!(chain.len() <= WAVES, "{chain:#?}");
    assert!(calls.len() >= 10 * chain.len(), "{} calls are not a tenth of the way: {}", chain.len(), calls.len());

    let again = provision::make_plan(&environment, &cloud, plan::Options::default(), &silent()).await.unwrap();
    assert!(again.is_empty());
    let mut calls = std::mem::take(&mut *spans.lock().unwrap());
    let chain = waves(&mut calls);
    println!("plan with nothing to do: {} calls in {} waves", calls.len(), chain.len());
    assert!(chain.len() <= 3, "{chain:#?}");
    google.stop().await;
}

/// The critical path from nothing: look; enable the services, its operation, see that they are; the nodes' account;
/// the cluster, its operation; and who in the cluster may act for an account: its policy, read and written.
pub(crate) const WAVES: usize = 9;
