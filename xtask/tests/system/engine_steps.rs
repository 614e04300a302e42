//! The engine is killed once at each of its steps, with a single input and with the items of a pack: one outcome and
//! one result each, as if nothing had been.

use std::collections::BTreeMap;

use contract::{
    labels,
    outcome::State,
    pack::{Format, Pack},
};
use orchestrator::Hooks;
use serde_json::json;

use crate::world::World;

const PACK: Pack = Pack { format: Format::Lines, items: 3, items_per_range: 3, rows_per_item: 1 };

/// A book whose strike is no number.
const MALFORMED: &str = include_str!("../../../examples/malformed.json");
/// Businesses whose inputs are packs.
const PACKS: [&str; 3] = ["pack-read", "pack-computed", "pack-part"];
/// Businesses with single inputs.
const JOBS: [&str; 3] = ["job-read", "job-computed", "job-written"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_killed_at_any_step_repeats_nothing() {
    let businesses = [&JOBS[..], &PACKS[..]].concat();
    let world = World::start(&businesses, "").await;
    world.apply_without_orchestrators().await;
    let mut running = Vec::new();
    for business in &businesses {
        let mut expected = BTreeMap::new();
        for index in 0..4 {
            let (job, body) = (format!("{index}"), format!("payload {index}\nanother\n\n"));
            let work = match PACKS.contains(business) {
                true => world.upload_pack(business, "session", &job, &body, PACK).await,
                false => world.upload(business, "session", &job, &body).await,
            };
            world.publish(&work).await;
            expected.insert(work.identity.object, State::Succeeded);
        }
        let work = world.upload(business, "session", "malformed.json", MALFORMED).await;
        world.publish(&work).await;
        expected.insert(work.identity.object, State::Failed);
        let (_, step) = business.split_once('-').unwrap();
        let once = world.folder().join(format!("{business}-was-killed"));
        let variables = [(labels::ENV_ENGINE_STOP_AT, step.to_owned()), (labels::ENV_ENGINE_STOP_ONCE, text(&once))];
        let orchestrator = world.orchestrator_with(business, Hooks::none(), |template| {
            let container = &mut template["spec"]["template"]["spec"]["containers"][0];
            let env = container["env"].as_array_mut().expect("the engine has variables");
            env.extend(variables.map(|(name, value)| json!({"name": name, "value": value})));
        });
        running.push((business, once, expected, orchestrator.await));
    }
    for (business, once, expected, orchestrator) in running {
        world.assert_equation(business, &expected).await;
        assert!(once.exists(), "no engine of {business} came to its step");
        orchestrator.stop().await;
    }
    world.stop().await;
}

fn text(path: &std::path::Path) -> String {
    path.to_str().expect("a folder for temporary files with a readable name").to_owned()
}
