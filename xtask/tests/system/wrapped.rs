//! A desk's own program, wrapped by the engine without a line of cloud code in it.

use std::{collections::BTreeMap, path::Path};

use contract::outcome::State;
use orchestrator::Hooks;

use crate::world::World;

/// The desk's image is the shell; its program sums the numbers of its input, and ends with 65 when it meets a word.
const ENGINE: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", '''sum=0; while read -r n; do case $n in *[!0-9]*) exit 65;; esac; sum=$((sum + n)); done; echo "{\"sum\": $sum}$0"''', '$$ $$$ $(DESKGRID_CONFIG) $$(X)']
permanent_exit_codes = [2, 65]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_the_desks_own_computes_a_job() {
    let world = World::start(&["bu1"], ENGINE).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let good = world.upload("bu1", "session", "numbers.txt", "1\n2\n39\n").await;
    world.publish(&good).await;
    // Nothing that the kubelet would expand is expanded: not in the names of Jobs, and not in the command.
    let dollars = world.upload("bu1", "session", "US$$-collar.json", "1\n").await;
    let reference = world.upload("bu1", "session", "a$(DESKGRID_CONFIG)$.json", "2\n").await;
    for work in [&dollars, &reference] {
        world.publish(work).await;
    }
    // What can never work is not tried again, as the environment file says of this exit code.
    let bad = world.upload("bu1", "session", "words.txt", "1\ntwo\n").await;
    world.publish(&bad).await;
    let expected = BTreeMap::from([
        (good.identity.object.clone(), State::Succeeded),
        (bad.identity.object.clone(), State::Failed),
        (dollars.identity.object.clone(), State::Succeeded),
        (reference.identity.object.clone(), State::Succeeded),
    ]);
    world.assert_equation("bu1", &expected).await;
    let bucket = &world.business("bu1").bucket;
    let (_, result) = world.store.read(bucket, &good.output(), None).await.unwrap().unwrap();
    assert_eq!(std::str::from_utf8(&result).unwrap(), "{\"sum\": 42}$$ $$$ $(DESKGRID_CONFIG) $$(X)\n");
    let (_, outcome) = world.store.read(bucket, &bad.outcome(), None).await.unwrap().unwrap();
    let outcome: contract::Outcome = serde_json::from_slice(&outcome).unwrap();
    assert_eq!((outcome.reason.code.as_str(), outcome.exit_code), ("program-failed", Some(10)), "{outcome:?}");
    orchestrator.stop().await;
    world.cloud.stop().await;
}
