//! The same suite with Google's own Pub/Sub emulator in the place of ours, where it is installed.
//!
//! It comes with the Google Cloud SDK (`gcloud components install pubsub-emulator`) and needs Java; a machine without
//! says that these tests are skipped. The emulator has no IAM, and its clock cannot be moved: a message that a dead
//! orchestrator held comes back when its lease has really ended, so all crash points wait for that together. It does
//! not see that a client is gone, so `goodbye` tells it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use cloud::clients::PUBSUB_EMULATOR_HOST;
use contract::outcome::State;
use orchestrator::Hooks;

use crate::{
    crashes::{self, STEPS, crash_at},
    duplicates,
    goodbye::Goodbye,
    world::{Setup, World, eventually},
};

/// Longest that the emulator takes to answer; a Java program on a busy machine.
const STARTS_WITHIN: Duration = Duration::from_secs(300);
/// Runs a program for as long as its standard input is open, so that it never outlives this process.
const LEASH: &str = r#""$@" & program=$!; cat > /dev/null; kill $program; wait $program"#;

/// The program, which all tests share; it ends with this process. Each test has a project of its own in it.
struct Program {
    _leash: Child,
    address: SocketAddr,
}

impl Program {
    /// The one that runs; `None`, and says why, where there is none.
    fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Program>> = OnceLock::new();
        SHARED.get_or_init(Self::start).as_ref()
    }

    fn start() -> Option<Self> {
        let Some(jar) = jar() else {
            println!(
                "skipped: there is no Pub/Sub emulator of Google's here (`gcloud components install pubsub-emulator`)"
            );
            return None;
        };
        if !Command::new("java").arg("-version").output().is_ok_and(|answer| answer.status.success()) {
            println!("skipped: the Pub/Sub emulator of Google's needs Java");
            return None;
        }
        let address = SocketAddr::from(([127, 0, 0, 1], localcloud::serve::free_port().unwrap()));
        let leash = Command::new("sh")
            .args(["-c", LEASH, "sh", "java", "-Xmx1g", "-jar"])
            .arg(jar)
            .args(["--host=127.0.0.1".to_owned(), format!("--port={}", address.port())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Some(Self { _leash: leash, address })
    }
}

/// A project in the emulator, with the front that one test goes through.
struct Emulator {
    project: &'static str,
    address: SocketAddr,
    front: Goodbye,
}

impl Emulator {
    /// A project of this name; `None`, and says why, where there is no emulator.
    fn with(project: &'static str) -> Option<Self> {
        let Program { address, .. } = Program::shared()?;
        Some(Self { project, address: *address, front: Goodbye::to(*address) })
    }

    /// A world that has it in the place of Pub/Sub.
    async fn world(&self, businesses: &[&str]) -> World {
        let url = format!("http://{}/", self.address);
        let started = Instant::now();
        while reqwest::get(&url).await.is_err() {
            assert!(started.elapsed() < STARTS_WITHIN, "the emulator does not answer at {url}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let front = self.front.address.to_string();
        let variables = BTreeMap::from([(PUBSUB_EMULATOR_HOST.to_owned(), front.clone())]);
        let setup = Setup { project: self.project, emulators: variables, ..Setup::default() };
        let world = World::start_as(businesses, setup, |_| {}).await;
        assert_eq!(world.rendered.config.endpoints.pubsub, Some(format!("http://{front}")));
        world
    }
}

/// The emulator's program in the folder of the Google Cloud SDK that `gcloud` is of.
fn jar() -> Option<PathBuf> {
    let path = contract::config::variables().remove("PATH")?;
    let gcloud = std::env::split_paths(&path).map(|folder| folder.join("gcloud")).find(|file| file.is_file())?;
    let sdk = gcloud.canonicalize().ok()?.parent().and_then(Path::parent)?.to_owned();
    let files = std::fs::read_dir(sdk.join("platform/pubsub-emulator/lib")).ok()?;
    files.flatten().map(|file| file.path()).find(|file| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("cloud-pubsub-emulator") && name.ends_with(".jar")
    })
}

/// One business for each step at which its orchestrators are killed; what they held comes back to all at once.
async fn crash_everywhere(project: &'static str, replicas: usize) {
    let Some(emulator) = Emulator::with(project) else { return };
    let steps: Vec<_> = STEPS.iter().filter(|(_, step)| crashes::is_sampled(*step, replicas)).collect();
    let names: Vec<String> = steps.iter().map(|(name, _)| name.replace('_', "-")).collect();
    let businesses: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = emulator.world(&businesses).await;
    world.apply_without_orchestrators().await;
    let mut all = Vec::new();
    for (business, (_, step)) in businesses.iter().zip(steps) {
        let expected = crashes::submit(&world, business).await;
        let (hooks, reached) = crash_at(*step);
        let mut victims = Vec::new();
        for _ in 0..replicas {
            victims.push(world.orchestrator(business, hooks.clone()).await);
        }
        let reached = tokio::time::timeout(Duration::from_secs(120), reached).await;
        reached.unwrap_or_else(|_| panic!("nothing came to {step:?}")).unwrap();
        for victim in victims {
            victim.kill();
        }
        all.push((business, expected, world.orchestrator(business, Hooks::none()).await));
    }
    for (business, expected, successor) in all {
        world.assert_equation(business, &expected).await;
        successor.stop().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_alone() {
    crash_everywhere("crash-alone", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_of_one_of_two() {
    crash_everywhere("crash-one-of-two", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_published_again_and_again_is_one_job() {
    let Some(emulator) = Emulator::with("again-and-again") else { return };
    duplicates::again_and_again(emulator.world(&["bu1"]).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_deleted_by_hand_is_cancelled_and_stays_so() {
    let Some(emulator) = Emulator::with("deleted-by-hand") else { return };
    duplicates::deleted_by_hand(emulator.world(&["bu1"]).await).await;
}

/// Everything as deployed: the orchestrator is a pod and finds the emulator by its configuration.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployed_desk_works_with_it() {
    let Some(emulator) = Emulator::with("deployed-desk") else { return };
    let world = emulator.world(&["bu1"]).await;
    world.deploy().await;
    let expected: BTreeMap<String, State> = crashes::submit(&world, "bu1").await;
    world.assert_equation("bu1", &expected).await;
    // What is provisioned already stays as it is.
    let plan = provision::make_plan(
        &world.environment,
        &world.clients,
        provision::plan::Options::default(),
        &(std::sync::Arc::new(|_| {}) as provision::apply::Progress),
    )
    .await
    .unwrap();
    assert!(plan.is_empty(), "{plan:#?}");
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = kube::Api::namespaced(world.kube.clone(), "bu1");
    eventually("the engines' pods have ended", async || {
        let list = pods.list(&kube::api::ListParams::default().labels("app=engine")).await.unwrap();
        list.items.iter().all(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        })
    })
    .await;
    world.stop().await;
}
