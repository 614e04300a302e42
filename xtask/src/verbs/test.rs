//! `test` and `check`: the tests and lints that must pass before a change is merged.

use std::{
    io::Write as _,
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cli::{error::Failure, output::Output};
use contract::{exit, labels};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Node},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams},
    config::KubeConfigOptions,
};
use serde_json::json;
use tokio::process::Command;

use crate::{context, globals::Globals};

/// Variable with the context of the kubeconfig that the tests use.
const TEST_CONTEXT: &str = "DESKGRID_TEST_CONTEXT";
/// Variable with the prefix of the names of namespaces and nodes that the tests create in that cluster.
const TEST_PREFIX: &str = "DESKGRID_TEST_PREFIX";
/// Variable that makes the exhaustive suites run every case, and the soak test its full length.
const TEST_LONG: &str = "DESKGRID_TEST_LONG";
/// Variable with the number of tests of a program that run at once.
const TEST_THREADS: &str = "RUST_TEST_THREADS";
/// The tests that pass on any Kubernetes cluster.
const ANY_CLUSTER: [&str; 5] = [
    "crashes::",
    "duplicates::",
    "deploys::",
    "packs::a_pack_survives_the_death_of_an_engine",
    "packs::a_range_whose_job",
];
/// Deadline of the deletion of the namespaces of the tests.
const DELETION_LIMIT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Arguments of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name contains this, as `cargo test` takes it
    filter: Option<String>,
    /// Run every case of the exhaustive suites, not only a sample, and the soak test at its full length
    #[arg(long)]
    long: bool,
}

/// Runs every test of the workspace. With `--context` runs the tests that any cluster must pass, on the cluster of that
/// context, in namespaces that are deleted afterwards; Pub/Sub and storage stay on this machine.
///
/// # Errors
/// When one fails, or cargo or the cluster cannot be reached.
pub(crate) async fn run(globals: &Globals, args: &Args, output: &Output) -> anyhow::Result<u8> {
    let long = args.long.then(|| (TEST_LONG, "1".to_owned()));
    let Some(name) = globals.context() else {
        run_all(args.filter.as_deref(), long.as_slice(), output).await?;
        return Ok(exit::DONE);
    };
    let client = connect(name).await?;
    let prefix = format!("dt{:05x}", std::process::id() & 0xf_ffff);
    output.note(format_args!("testing in context {name}, in namespaces that begin with {prefix}-"));
    let variables = [(TEST_CONTEXT, name.to_owned()), (TEST_PREFIX, prefix.clone())];
    let variables: Vec<_> = variables.into_iter().chain(long).collect();
    let mut arguments = vec!["test", "--package", "xtask", "--test", "system", "--no-fail-fast", "--"];
    match &args.filter {
        Some(filter) => arguments.push(filter),
        None => arguments.extend(ANY_CLUSTER),
    }
    let tested = cargo(&arguments, &variables, output).await;
    let cleaned = clean(&client, &format!("{prefix}-"), output).await;
    tested.and(cleaned)?;
    Ok(exit::DONE)
}

/// Checks format and lints, then runs every test.
///
/// # Errors
/// When a check fails, or cargo cannot be run.
pub(crate) async fn check(output: &Output) -> anyhow::Result<u8> {
    cargo(&["fmt", "--all", "--check"], &[], output).await?;
    cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[], output).await?;
    run(&Globals::default(), &Args { filter: None, long: false }, output).await
}

/// Builds all tests, then runs the system tests in parallel with the others, since they mostly wait for timers.
async fn run_all(filter: Option<&str>, variables: &[(&str, String)], output: &Output) -> anyhow::Result<()> {
    cargo(&["test", "--workspace", "--no-run"], &[], output).await?;
    if Command::new("python3").arg("--version").output().await.is_err() {
        output.note("there is no python3; the tests of the Python package skip themselves");
    }
    let mut others = vec!["test", "--workspace", "--no-fail-fast", "--lib", "--bins", "--test", "it"];
    let mut system = vec!["test", "--workspace", "--no-fail-fast", "--test", "system"];
    others.extend(filter);
    system.extend(filter);
    output.note(format_args!(
        "running {} in parallel with the next command; its output follows at the end",
        line(&system)
    ));
    let mut beside = command(&system, variables);
    let (others, ended) = tokio::join!(cargo(&others, variables, output), beside.output());
    let ended = ended.with_context(|| format!("run {}", line(&system)))?;
    std::io::stdout().write_all(&ended.stdout).context("show the output of the system tests")?;
    std::io::stderr().write_all(&ended.stderr).context("show the output of the system tests")?;
    others.and(passed(&system, ended.status))
}

/// Runs cargo and shows its output as it comes.
async fn cargo(arguments: &[&str], variables: &[(&str, String)], output: &Output) -> anyhow::Result<()> {
    output.note(format_args!("running {}", line(arguments)));
    let status = command(arguments, variables).status().await.with_context(|| format!("run {}", line(arguments)))?;
    passed(arguments, status)
}

fn command(arguments: &[&str], variables: &[(&str, String)]) -> Command {
    let cargo = contract::config::variables().remove("CARGO").unwrap_or_else(|| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(context::root()).stdin(Stdio::null()).kill_on_drop(true);
    // The tests start this program themselves, and must not inherit the settings of this run.
    command
        .env_remove("DESKGRID_ENV")
        .env_remove("DESKGRID_CONTEXT")
        .env_remove(TEST_CONTEXT)
        .env_remove(TEST_PREFIX)
        .env_remove(TEST_LONG);
    // Many tests wait for leases, timers and programs: twice as many as there are processors keep those busy.
    if !contract::config::variables().contains_key(TEST_THREADS) {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command.env(TEST_THREADS, (2 * processors).to_string());
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    command
}

fn line(arguments: &[&str]) -> String {
    format!("cargo {}", arguments.join(" "))
}

fn passed(arguments: &[&str], status: ExitStatus) -> anyhow::Result<()> {
    if status.success() {
        return Ok(());
    }
    let what = format!("{} ended with {status}", line(arguments));
    Err(Failure::new("check", what).next("read its messages above").into())
}

/// A client for a context of the kubeconfig, with a cluster that answers.
async fn connect(name: &str) -> anyhow::Result<Client> {
    let unreachable = |why: String| {
        Failure::new("no-cluster", "the cluster does not answer")
            .on(format!("context {name} of the kubeconfig"))
            .why(why)
            .next("kubectl config get-contexts")
    };
    let options = KubeConfigOptions { context: Some(name.to_owned()), ..KubeConfigOptions::default() };
    let mut config =
        kube::Config::from_kubeconfig(&options).await.map_err(|error| unreachable(format!("{error:#}")))?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|error| unreachable(format!("{error:#}")))?;
    client.apiserver_version().await.map_err(|error| unreachable(format!("{error:#}")))?;
    Ok(client)
}

/// Deletes every namespace and node of the tests, whether they passed or not, and waits until they are gone.
async fn clean(client: &Client, prefix: &str, output: &Output) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let ours = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGED_BY_DESKGRID));
    let started = Instant::now();
    loop {
        let left: Vec<String> = namespaces
            .list(&ours)
            .await
            .context("list the namespaces")?
            .iter()
            .map(ResourceExt::name_any)
            .filter(|name| name.starts_with(prefix))
            .collect();
        if left.is_empty() {
            break;
        }
        if started.elapsed() > DELETION_LIMIT {
            return Err(Failure::new("left-behind", "the tests left something behind")
                .on(format!("namespaces {}", left.join(", ")))
                .why(format!("they are not gone after {} s", DELETION_LIMIT.as_secs()))
                .next(format!("kubectl delete namespace {}", left.join(" ")))
                .into());
        }
        for name in &left {
            release(client, name).await?;
            // Its deletion may have begun already.
            let _ = namespaces.delete(name, &DeleteParams::default()).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&ours).await.context("list the nodes")? {
        let name = node.name_any();
        if name.starts_with(prefix) {
            nodes.delete(&name, &DeleteParams::default()).await.with_context(|| format!("delete the node {name}"))?;
        }
    }
    output.note(format_args!("nothing of the tests is left in the cluster"));
    Ok(())
}

/// Removes the finalizers of the Jobs of a namespace, whose orchestrator ended with the test, and deletes its Pods.
async fn release(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for job in jobs.list(&ListParams::default()).await.context("list the Jobs")? {
        let _ = jobs.patch(&job.name_any(), &PatchParams::default(), &patch).await;
    }
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client.clone(), namespace);
    for pod in pods.list(&ListParams::default()).await.context("list the Pods")? {
        // The test that acted as its kubelet has ended.
        let _ = pods.patch(&pod.name_any(), &PatchParams::default(), &patch).await;
        let _ = pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
    }
    Ok(())
}
