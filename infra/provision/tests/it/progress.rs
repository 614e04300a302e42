//! What is told while a plan is carried out.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use provision::{
    apply::{Event, Progress},
    plan,
    resource::Kind,
};

use crate::fixture::{self, ONE, client, cloud, environment};

/// Steps that a cluster's operation tells of, in their order, with how many each has.
const STEPS: [(&str, u64); 3] = [("cluster configuring", 8), ("cluster deploying", 12), ("cluster healthchecking", 2)];

/// What is done, and the percentage.
type Advance = (String, Option<u8>);

#[tokio::test]
async fn the_percentage_of_a_cluster_is_what_its_operation_says() {
    let google = fixture::google(|options| options.operations_take = Duration::from_millis(1500)).await;
    let advances: Arc<Mutex<Vec<Advance>>> = Arc::default();
    let seen = advances.clone();
    let progress: Progress = Arc::new(move |event| {
        if let Event::Advanced { id, what, percent } = event
            && id.kind == Kind::Cluster
        {
            seen.lock().unwrap().push((what, percent));
        }
    });
    let cloud = cloud(client(&google));
    provision::run(&environment(ONE), &cloud, plan::Options::default(), &progress).await.unwrap();
    let advances = std::mem::take(&mut *advances.lock().unwrap());
    println!("{advances:?}");
    let all: u64 = STEPS.iter().map(|(_, total)| total).sum();
    let mut last = 0;
    let mut shares = 0;
    for (what, percent) in advances {
        let Some(percent) = percent else { continue };
        let (step, rest) = what.rsplit_once(' ').unwrap();
        let (done, total) = rest.split_once('/').unwrap();
        let place = STEPS.iter().position(|(name, _)| *name == step).unwrap_or_else(|| panic!("{what}"));
        assert_eq!(total.parse::<u64>().unwrap(), STEPS[place].1, "{what}");
        let before: u64 = STEPS[..place].iter().map(|(_, total)| total).sum();
        let share = (before + done.parse::<u64>().unwrap()) * 100 / all;
        assert_eq!(u64::from(percent), share, "{what}");
        assert!(share >= last, "{what}: it went back from {last} %");
        (last, shares) = (share, shares + 1);
    }
    assert!(shares >= 3 && last > 50, "{shares} shares were told, the last of {last} %");
    google.stop().await;
}
