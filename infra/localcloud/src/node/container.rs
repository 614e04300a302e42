//! One container of a pod: started, probed, ended, started again as the pod's restart policy has it.

use std::{fs, sync::Arc, time::Duration};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    environment::{self, Mounts, Variables},
    images::Image,
    logs,
    pod::{Halt, Pod, Shared, Slot, Switch},
    probes::{Place, Probe},
    process::{Exit, Launch, Process},
    status::{State, Terminated},
};
use crate::kubernetes::{
    events::{Weight, brief},
    quota::is_sidecar,
    value::{self, text},
};

/// Variable that names the file of the termination message: a laptop has no `/dev/termination-log` for each container.
const TERMINATION_LOG: &str = "DESKGRID_TERMINATION_LOG";
/// Longest pause between two starts.
const BACK_OFF: Duration = Duration::from_secs(300);
/// Longest termination message, in bytes.
const MESSAGE: usize = 4_096;
/// Most lines and bytes of a log that stand in for a termination message.
const FALLBACK: (usize, usize) = (80, 2_048);

impl Pod {
    /// Runs a container until it is not to be started again. Says whether it ended well.
    pub(super) async fn run_container(self: Arc<Self>, shared: Arc<Shared>, slot: Slot) -> bool {
        let Slot { init, index, .. } = slot;
        let list = if init { "/spec/initContainers" } else { "/spec/containers" };
        let Some(spec) = value::items(&self.object, list).get(index) else { return false };
        let name = text(spec, "/name");
        let policy = match text(&self.object, "/spec/restartPolicy") {
            _ if init && is_sidecar(spec) => "Always",
            // An init container that ended well is done.
            "Always" if init => "OnFailure",
            policy => policy,
        };
        let Some(image) = self.pull(&slot, text(spec, "/image")).await else { return false };
        self.lock_image(init, index, &image);
        let mut run = 0_i64;
        loop {
            if self.is_ending(&slot.halt) {
                return false;
            }
            let ended = match self.once(&shared, &slot, spec, &image, run).await {
                Ok(ended) => ended,
                Err(Fault::Config(error)) => {
                    let message = format!("{error:#}");
                    self.event(Weight::Warning, "Failed", format!("Error: {message}"));
                    self.change(init, index, |container| {
                        container.state = State::Waiting { reason: "CreateContainerConfigError", message };
                    });
                    if self.pause(&slot.halt, Duration::from_millis(500)).await {
                        return false;
                    }
                    continue;
                }
                Err(Fault::Start(error)) => {
                    let message = format!("{error:#}");
                    self.event(Weight::Warning, "Failed", format!("Error: {message}"));
                    let now = self.cluster.clock.now();
                    Terminated { code: 128, signal: 0, reason: "StartError", message, started: now, finished: now }
                }
            };
            let good = ended.code == 0;
            let again = !self.is_ending(&slot.halt) && (policy == "Always" || policy == "OnFailure" && !good);
            if !again {
                self.change(init, index, |container| {
                    container.state = State::Terminated(ended);
                    container.ready = init && !container.sidecar && good;
                    container.started = false;
                });
                return good;
            }
            let delay =
                self.cluster.retry_base.saturating_mul(2_u32.saturating_pow(u32::try_from(run.min(20)).unwrap_or(20)));
            let delay = delay.min(BACK_OFF);
            // A run that lasted is no crash loop: the next start is as quick as the first.
            let lasted = ended.finished.duration_since(ended.started).as_secs() > 600;
            let delay = if lasted { self.cluster.retry_base } else { delay };
            let pod = value::name(&self.object);
            let message = format!(
                "back-off {} restarting failed container={name} pod={pod}_{}({})",
                brief(delay),
                value::namespace(&self.object),
                self.uid
            );
            self.change(init, index, |container| {
                container.last = Some(ended);
                container.state = State::Waiting { reason: "CrashLoopBackOff", message };
                container.ready = false;
                container.started = false;
            });
            self.event(Weight::Warning, "BackOff", format!("Back-off restarting failed container {name} in pod {pod}"));
            if self.pause(&slot.halt, delay).await {
                return false;
            }
            run += 1;
        }
    }

    fn lock_image(&self, init: bool, index: usize, image: &Image) {
        let mut all = self.lock();
        let list = if init { &mut all.init } else { &mut all.main };
        if let Some(container) = list.get_mut(index) {
            container.image_id.clone_from(&image.reference);
        }
    }

    /// One run of a container's process.
    async fn once(
        self: &Arc<Self>,
        shared: &Shared,
        slot: &Slot,
        spec: &Value,
        image: &Image,
        run: i64,
    ) -> Result<Terminated, Fault> {
        let &Slot { init, index, ref halt } = slot;
        let name = text(spec, "/name");
        let (launch, variables, message) = self.launch(shared, spec, image).map_err(Fault::Config)?;
        let path = logs::path(&self.cluster.folder, &self.uid, name, run);
        let log = self.cluster.logs.open(&path).context("open the log").map_err(Fault::Config)?;
        let place = Place {
            ports: shared.ports.clone(),
            environment: launch.environment.clone(),
            folder: launch.folder.clone(),
        };
        let launch = launch.find(spec, image, shared, &variables).map_err(Fault::Start)?;
        let reaper = &self.settings.reaper;
        let mut process = Process::start(&launch, log, &self.cluster.clock, reaper)
            .await
            .with_context(|| format!("start {}", launch.program.display()))
            .map_err(Fault::Start)?;
        let started = self.cluster.clock.now();
        let probes = Probes::of(spec, &place);
        self.change(init, index, |container| {
            container.restarts = run;
            container.state = State::Running(started);
            container.started = probes.startup.is_none();
            container.ready = (!init || container.sidecar) && probes.startup.is_none() && probes.readiness.is_none();
        });
        self.event(Weight::Normal, "Created", format!("Created container: {name}"));
        self.event(Weight::Normal, "Started", format!("Started container {name}"));
        let exit = tokio::select! {
            exit = self.until_end(&mut process, halt, spec) => exit,
            why = self.probe(probes, init, index) => {
                let text = format!("Container {name} failed {why}, will be restarted");
                self.event(Weight::Normal, "Killing", text);
                end(&mut process, halt, self.grace()).await
            }
        };
        process.finish(reaper).await;
        let finished = self.cluster.clock.now();
        let mut text = fs::read(&message).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        if text.is_empty()
            && exit.code != 0
            && value::text(spec, "/terminationMessagePolicy") == "FallbackToLogsOnError"
        {
            text = logs::tail(&path, FALLBACK.0, FALLBACK.1);
        }
        let end = (0..=MESSAGE.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        let reason = if exit.code == 0 { "Completed" } else { "Error" };
        Ok(Terminated { code: exit.code, signal: exit.signal, reason, message: text, started, finished })
    }

    /// What to start, but for program and arguments; and where it may leave a termination message.
    fn launch(
        &self,
        shared: &Shared,
        spec: &Value,
        image: &Image,
    ) -> anyhow::Result<(Launch, Variables, std::path::PathBuf)> {
        let name = text(spec, "/name");
        let folder = self.folder.join("containers").join(name);
        fs::create_dir_all(&folder).context("make the container's folder")?;
        let mounts = Mounts::of(spec, &shared.volumes)?;
        let message = self.folder.join(format!("termination-{name}"));
        fs::write(&message, "").context("make the termination message")?;
        let mut base = shared.environment.clone();
        let home = image.program.parent().map(|home| home.display().to_string()).unwrap_or_default();
        base.push(("PATH".to_owned(), format!("{home}:{}", self.settings.search_path)));
        base.push((TERMINATION_LOG.to_owned(), message.display().to_string()));
        let variables = environment::environment(&self.cluster, &self.object, spec, base, &mounts)?;
        let folder = match text(spec, "/workingDir") {
            "" => folder,
            given => mounts.real(given).map_or(folder, Into::into),
        };
        let environment = variables.all.clone();
        let launch = Launch { program: image.program.clone(), arguments: Vec::new(), environment, folder };
        Ok((launch, variables, message))
    }

    /// Waits for the end of the process, its own or by the switch.
    async fn until_end(&self, process: &mut Process, halt: &Switch, spec: &Value) -> Exit {
        let mut halted = halt.subscribe();
        tokio::select! {
            exit = process.wait() => return exit.unwrap_or(LOST),
            _ = halted.wait_for(Option::is_some) => {}
        }
        let now = (*halt.borrow()).unwrap_or(Halt::new(Duration::ZERO, false));
        if !now.silent {
            self.event(Weight::Normal, "Killing", format!("Stopping container {}", text(spec, "/name")));
        }
        end(process, halt, now.grace).await
    }

    /// Carries out the probes; returns, with the probe's name, when the container is to be ended.
    async fn probe(&self, probes: Probes, init: bool, index: usize) -> &'static str {
        if let Some(startup) = &probes.startup {
            let (sender, mut verdicts) = mpsc::unbounded_channel::<(bool, String)>();
            let good = tokio::select! {
                () = startup.watch(|good, why| drop(sender.send((good, why.to_owned())))) => false,
                verdict = verdicts.recv() => verdict.is_some_and(|(good, _)| good),
            };
            if !good {
                self.event(Weight::Warning, "Unhealthy", "Startup probe failed");
                return "startup probe";
            }
            self.change(init, index, |container| {
                container.started = true;
                container.ready = probes.readiness.is_none();
            });
        }
        let readiness = async {
            if let Some(probe) = &probes.readiness {
                let report = |good: bool, why: &str| {
                    self.change(init, index, |container| container.ready = good);
                    if !good {
                        self.event(Weight::Warning, "Unhealthy", format!("Readiness probe failed: {why}"));
                    }
                };
                probe.watch(report).await;
            }
            std::future::pending::<()>().await;
        };
        let liveness = async {
            let Some(probe) = &probes.liveness else { return std::future::pending::<()>().await };
            let (sender, mut verdicts) = mpsc::unbounded_channel::<(bool, String)>();
            let failed = async {
                while let Some((good, why)) = verdicts.recv().await {
                    if !good {
                        self.event(Weight::Warning, "Unhealthy", format!("Liveness probe failed: {why}"));
                        return;
                    }
                }
            };
            tokio::select! {
                () = probe.watch(|good, why: &str| drop(sender.send((good, why.to_owned())))) => {}
                () = failed => {}
            }
        };
        tokio::select! {
            () = readiness => warn!("readiness probes ended"),
            () = liveness => {}
        }
        "liveness probe"
    }
}

/// SIGTERM, and SIGKILL when the time is up; the time can be cut while it runs.
async fn end(process: &mut Process, halt: &Switch, grace: Duration) -> Exit {
    if !grace.is_zero() {
        process.signal(Signal::SIGTERM);
        let mut halt = halt.subscribe();
        let killed = halt.wait_for(|halt| halt.is_some_and(|halt| halt.grace.is_zero()));
        tokio::select! {
            exit = process.wait() => return exit.unwrap_or(LOST),
            () = tokio::time::sleep(grace) => {}
            _ = killed => {}
        }
    }
    process.signal(Signal::SIGKILL);
    process.wait().await.unwrap_or(LOST)
}

/// The end of a process whose exit status is unknown.
const LOST: Exit = Exit { code: 255, signal: 0 };

enum Fault {
    /// Something the container refers to is missing; it is tried again.
    Config(anyhow::Error),
    /// The process does not start.
    Start(anyhow::Error),
}

struct Probes {
    startup: Option<Probe>,
    readiness: Option<Probe>,
    liveness: Option<Probe>,
}

impl Probes {
    fn of(spec: &Value, place: &Place) -> Self {
        let probe = |field: &str| Probe::of(spec, field, place);
        Self { startup: probe("startupProbe"), readiness: probe("readinessProbe"), liveness: probe("livenessProbe") }
    }
}

impl Launch {
    /// With the program and arguments that the container asks for.
    fn find(mut self, spec: &Value, image: &Image, shared: &Shared, variables: &Variables) -> anyhow::Result<Self> {
        let mounts = Mounts::of(spec, &shared.volumes)?;
        (self.program, self.arguments) = environment::command(spec, image, variables, &mounts)?;
        Ok(self)
    }
}
