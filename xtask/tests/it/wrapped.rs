//! A desk's own program, wrapped by the engine without a line of cloud code in it.

use std::{collections::BTreeMap, path::Path};

use common::outcome::State;
use orchestrator::Hooks;

use crate::world::World;

/// The desk's image is the shell; its program sums the numbers of its input.
const ENGINE: &str = r#"
image = "registry/shell"
command = ["/bin/sh", "-c", '''sum=0; while read -r n; do sum=$((sum + n)); done; echo "{\"sum\": $sum}"''']
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_of_the_desks_own_computes_a_job() {
    let world = World::start(&["bu1"], ENGINE).await;
    world.cloud.kubernetes.images().register("registry/shell", Path::new("/bin/sh")).unwrap();
    world.apply_without_orchestrators().await;
    let orchestrator = world.orchestrator("bu1", Hooks::none()).await;
    let good = world.upload("bu1", "session", "numbers.txt", "1\n2\n39\n").await;
    world.publish(&good).await;
    let expected = BTreeMap::from([(good.identity.object.clone(), State::Succeeded)]);
    world.assert_equation("bu1", &expected).await;
    let bucket = &world.business("bu1").bucket;
    let (_, result) = world.store.read(bucket, &good.output(None), None).await.unwrap().unwrap();
    assert_eq!(std::str::from_utf8(&result).unwrap(), "{\"sum\": 42}\n");
    orchestrator.stop().await;
    world.cloud.stop().await;
}
