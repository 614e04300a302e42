//! The orchestrator is killed at every step of its work, alone and as one of two: the equation holds.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use contract::{
    outcome::State,
    pack::{Format, Pack},
};
use futures::FutureExt as _;
use orchestrator::{Hooks, Step};

use crate::{sample::is_long, world::World};

const BUSINESS: &str = "bu1";
/// A book whose strike is no number.
const MALFORMED: &str = include_str!("../../../examples/malformed.json");

/// A hook that stops the world at the first time `step` is reached, and tells of it.
pub(crate) fn crash_at(step: Step) -> (Hooks, tokio::sync::oneshot::Receiver<()>) {
    let (reached, told) = tokio::sync::oneshot::channel();
    let reached = Arc::new(std::sync::Mutex::new(Some(reached)));
    let armed = Arc::new(AtomicBool::new(true));
    let hooks = Hooks::new(move |at| {
        if at.step != step || !armed.swap(false, Ordering::SeqCst) {
            return std::future::ready(()).boxed();
        }
        if let Some(reached) = reached.lock().unwrap().take() {
            let _ = reached.send(());
        }
        std::future::pending().boxed()
    });
    (hooks, told)
}

/// One job of each fate: succeeds, fails, comes inside its message, is refused, is a pack.
pub(crate) async fn submit(world: &World, business: &str) -> BTreeMap<String, State> {
    let mut expected = BTreeMap::new();
    for job in ["a", "b"] {
        let work = world.upload(business, "session", job, &format!("payload of {job}")).await;
        world.publish(&work).await;
        expected.insert(work.identity.object, State::Succeeded);
    }
    let work = world.upload(business, "session", "malformed.json", MALFORMED).await;
    world.publish(&work).await;
    expected.insert(work.identity.object, State::Failed);
    let pack = Pack { format: Format::Lines, items: 5, items_per_range: 2, rows_per_item: 1 };
    let work = world.upload_pack(business, "session", "pack", "1\n2\n3\n4\n5\n", pack).await;
    world.publish(&work).await;
    expected.insert(work.identity.object, State::Succeeded);
    let id = world.publish_raw(business, b"engine payload 1".to_vec(), BTreeMap::new()).await;
    expected.insert(contract::object::input(business, contract::object::INLINE_SESSION, &id), State::Succeeded);
    let ours = BTreeMap::from([("deskgrid".to_owned(), "1".to_owned())]);
    let id = world.publish_raw(business, b"{".to_vec(), ours).await;
    expected.insert(format!("refused/{id}"), State::Refused);
    expected
}

/// Whether a crash at a step runs: in a sample, one orchestrator alone and one of two take turns from step to step.
pub(crate) fn is_sampled(step: Step, replicas: usize) -> bool {
    is_long() || (step as usize + replicas).is_multiple_of(2)
}

async fn check(step: Step, replicas: usize) {
    if !is_sampled(step, replicas) {
        println!("skipped: not in the sample (`cargo xtask test --long` runs it)");
        return;
    }
    let world = World::start(&[BUSINESS], "").await;
    world.apply_without_orchestrators().await;
    let expected = submit(&world, BUSINESS).await;
    let (hooks, reached) = crash_at(step);
    let victim = world.orchestrator(BUSINESS, hooks.clone()).await;
    let mut others = Vec::new();
    for _ in 1..replicas {
        // The step may come to pass in any replica; the one that reaches it stops there, and all are killed.
        others.push(world.orchestrator(BUSINESS, hooks.clone()).await);
    }
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the step is reached").unwrap();
    victim.kill();
    for other in others {
        other.kill();
    }
    let successor = world.orchestrator(BUSINESS, Hooks::none()).await;
    // What the dead one held comes back when its lease ends.
    world.pass(Duration::from_secs(61)).await;
    world.assert_equation(BUSINESS, &expected).await;
    successor.stop().await;
    world.stop().await;
}

/// The steps, each with a name for its tests.
macro_rules! crash_tests {
    ($steps:ident: $($name:ident: $step:ident,)*) => {
        /// Every step, with the name of its tests.
        pub(crate) const $steps: &[(&str, Step)] = &[$((stringify!($name), Step::$step),)*];

        $(
            mod $name {
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn alone() {
                    super::check(super::Step::$step, 1).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn one_of_two() {
                    super::check(super::Step::$step, 2).await;
                }
            }
        )*
    };
}

crash_tests! { STEPS:
    received: Received,
    inline_written: InlineWritten,
    refused_written: RefusedWritten,
    layout_written: LayoutWritten,
    ranges_published: RangesPublished,
    before_create: BeforeCreate,
    created: Created,
    before_ack: BeforeAck,
    after_ack: AfterAck,
    finished: Finished,
    outcome_written: OutcomeWritten,
    event_published: EventPublished,
    input_deleted: InputDeleted,
    finalizer_removed: FinalizerRemoved,
}
