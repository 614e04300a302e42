//! One pod on a node, from its volumes to its last container's end.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};

use super::{
    images::Image,
    pod_environment,
    settings::{MetadataRequest, Settings},
    status::{self, Container, Containers, State, Verdict},
    volumes,
};
use crate::{
    kubernetes::{
        account_tokens,
        cluster::Cluster,
        events::Weight,
        kinds::{self, Kind},
        quantity,
        quota::is_sidecar,
        signer,
        store::Key,
        value::{self, items, number, text},
    },
    serve,
};

/// How often something that a pod lacks is checked again, besides when it changes.
const RETRY: Duration = Duration::from_millis(500);

/// Least time that sidecars get after the containers used up theirs (`minimumGracePeriodInSeconds` of the kubelet).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// How often the sizes of `emptyDir` volumes are compared with their limits; the kubelet does it every 10 seconds.
const DISK_CHECK: Duration = Duration::from_secs(1);
/// Time between SIGTERM and SIGKILL of a pod that is evicted (`immediateEvictionGracePeriodSeconds` of the kubelet).
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// Why and how fast the containers of a pod are to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Halt {
    /// Between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
    /// Whether the node is dead: no status is written any more.
    pub(super) silent: bool,
    since: Instant,
}

impl Halt {
    /// An end from now on.
    pub(super) fn new(grace: Duration, silent: bool) -> Self {
        Self { grace, silent, since: Instant::now() }
    }
}

/// Ends containers once it has a value.
pub(super) type Switch = watch::Sender<Option<Halt>>;

/// A container of a pod: its place, and the switch that ends it.
pub(super) struct Slot {
    /// Whether it is an init container.
    pub(super) init: bool,
    /// Its place among those.
    pub(super) index: usize,
    /// The switch of the pod, or a sidecar's own.
    pub(super) halt: Switch,
}

/// A pod on this node.
pub(super) struct Pod {
    pub(super) cluster: Arc<Cluster>,
    pub(super) settings: Arc<Settings>,
    pub(super) key: Key,
    pub(super) uid: String,
    pub(super) object: Arc<Value>,
    pub(super) folder: PathBuf,
    pub(super) halt: Switch,
    containers: Mutex<Containers>,
    /// Notified when a container's record changes.
    changed: Notify,
    /// Projected tokens by audience and lifetime, each with the time of its renewal.
    tokens: Mutex<BTreeMap<(String, i64), (String, Timestamp)>>,
}

/// What all containers of a pod share once it is set up.
pub(super) struct Shared {
    pub(super) volumes: BTreeMap<String, PathBuf>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) ports: BTreeMap<String, u16>,
}

impl Pod {
    /// A pod that was bound to the node, with the switch that ends it.
    pub(super) fn new(cluster: Arc<Cluster>, settings: Arc<Settings>, object: Arc<Value>, halt: Switch) -> Self {
        let uid = value::uid(&object).to_owned();
        let folder = cluster.folder.join("pods").join(&uid);
        let containers = Mutex::new(status::initial(&object));
        let key = Key::of(&kinds::POD, &object);
        Self {
            cluster,
            settings,
            key,
            uid,
            object,
            folder,
            halt,
            containers,
            changed: Notify::new(),
            tokens: Mutex::default(),
        }
    }

    /// Lives the pod's life. When it returns nothing of the pod runs.
    pub(super) async fn live(self: Arc<Self>) {
        let deadline = async {
            let start = value::time(&self.object, "/status/startTime").unwrap_or_else(|| self.cluster.clock.now());
            match number(&self.object, "/spec/activeDeadlineSeconds") {
                Some(seconds) => {
                    let end = start.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
                    self.cluster.clock.sleep_until(end).await;
                }
                None => std::future::pending().await,
            }
        };
        let work = self.work();
        tokio::pin!(work);
        let (weight, reason, message, grace) = tokio::select! {
            () = &mut work => {
                self.end();
                return;
            }
            () = deadline => {
                let message = "Pod was active on the node longer than the specified deadline".to_owned();
                (Weight::Normal, "DeadlineExceeded", message, self.grace())
            }
            message = self.full_disk() => (Weight::Warning, "Evicted", message, EVICTION_GRACE),
        };
        self.event(weight, reason, message.clone());
        self.lock().verdict = Some(Verdict { reason, message });
        self.halt.send_if_modified(|halt| halt.replace(Halt::new(grace, false)).is_none());
        work.await;
        self.end();
    }

    fn end(&self) {
        self.lock().done = true;
        self.publish();
    }

    /// Waits until an `emptyDir` volume has more bytes than its limit, and returns what the kubelet reports then.
    async fn full_disk(&self) -> String {
        let volumes = items(&self.object, "/spec/volumes").iter();
        let limited = volumes.filter_map(|volume| {
            let limit = text(volume, "/emptyDir/sizeLimit");
            Some((text(volume, "/name"), limit, u128::try_from(quantity::parse(limit)?).ok()? / 1_000))
        });
        let limited: Vec<(&str, &str, u128)> = limited.collect();
        if limited.is_empty() {
            std::future::pending::<()>().await;
        }
        loop {
            self.cluster.clock.sleep(DISK_CHECK).await;
            for (name, limit, bytes) in &limited {
                if volumes::size(&self.folder.join("volumes").join(name)) > *bytes {
                    return format!("Usage of EmptyDir volume {name:?} exceeds the limit {limit:?}. ");
                }
            }
        }
    }

    async fn work(self: &Arc<Self>) {
        let Some(shared) = self.set_up().await else { return };
        tokio::select! {
            () = self.run_containers(Arc::new(shared)) => {}
            () = self.renew_tokens() => {}
        }
    }

    /// Init containers one after another, then the containers; sidecars run beside them and end after them, the last
    /// one first (kubernetes.io/docs/concepts/workloads/pods/sidecar-containers).
    async fn run_containers(self: &Arc<Self>, shared: Arc<Shared>) {
        let mut sidecars = Vec::new();
        let mut good = true;
        for (index, spec) in items(&self.object, "/spec/initContainers").iter().enumerate() {
            let run = |halt| self.clone().run_container(shared.clone(), Slot { init: true, index, halt });
            good = if is_sidecar(spec) {
                let halt = Switch::new(None);
                let mut task = JoinSet::new();
                task.spawn(run(halt.clone()));
                sidecars.push((halt, task));
                self.until_started(index).await
            } else {
                run(self.halt.clone()).await
            };
            if !good {
                break;
            }
        }
        if good {
            let slots = (0..items(&self.object, "/spec/containers").len()).map(|index| Slot {
                init: false,
                index,
                halt: self.halt.clone(),
            });
            join_all(slots.map(|slot| self.clone().run_container(shared.clone(), slot))).await;
        }
        for (halt, mut task) in sidecars.into_iter().rev() {
            let left = match self.halted() {
                Some(now) => Halt::new(now.grace.saturating_sub(now.since.elapsed()).max(LEAST_GRACE), now.silent),
                None => Halt::new(self.grace(), false),
            };
            halt.send_replace(Some(left));
            let mut pod = self.halt.subscribe();
            let is_killed = tokio::select! {
                _ = task.join_next() => false,
                _ = pod.wait_for(|halt| halt.is_some_and(|halt| halt.grace.is_zero())) => true,
            };
            if is_killed {
                halt.send_replace(self.halted());
                task.join_next().await;
            }
        }
    }

    /// Waits until a sidecar runs and its startup probe is content; false when the pod is to end.
    async fn until_started(&self, index: usize) -> bool {
        let mut halt = self.halt.subscribe();
        loop {
            let changed = self.changed.notified();
            if self.lock().init.get(index).is_some_and(|container| container.started) {
                return true;
            }
            tokio::select! {
                () = changed => {}
                _ = halt.wait_for(Option::is_some) => return false,
            }
        }
    }

    /// Makes folders, volumes, tokens and environment; tries again while something is missing.
    async fn set_up(self: &Arc<Self>) -> Option<Shared> {
        loop {
            let error = match self.prepare().await {
                Ok(shared) => return Some(shared),
                Err(error) => error,
            };
            self.event(Weight::Warning, "FailedMount", format!("{error:#}"));
            if self.pause(&self.halt, RETRY).await {
                return None;
            }
        }
    }

    async fn prepare(&self) -> anyhow::Result<Shared> {
        let account = self.account()?;
        let mounts_token =
            [self.object.pointer("/spec/automountServiceAccountToken"), account.get("automountServiceAccountToken")]
                .into_iter()
                .find_map(|given| given?.as_bool())
                .unwrap_or(true);
        let google = value::annotation(&account, "iam.gke.io/gcp-service-account");
        let request = MetadataRequest {
            namespace: value::namespace(&account).to_owned(),
            service_account: value::name(&account).to_owned(),
            google_account: Some(google.to_owned()).filter(|google| !google.is_empty()),
        };
        let metadata = (self.settings.metadata)(request).await?;
        let tokens = |source: &Value| self.projected_token(source);
        let volumes = volumes::prepare(&self.cluster, &self.object, &self.folder.join("volumes"), &tokens)?;
        let audiences = json!([signer::ISSUER]);
        let mint =
            || self.cluster.account_token(&account, Some(&self.object), &audiences, account_tokens::MOUNTED_SECS);
        let token = mounts_token.then(mint).transpose()?;
        let ports = self.ports()?;
        let (settings, pod, folder) = (&self.settings, &self.object, &self.folder);
        pod_environment::environment(settings, pod, folder, token.as_deref(), metadata, &ports)
            .map(|environment| Shared { volumes, environment, ports })
    }

    /// The pod's service account.
    fn account(&self) -> anyhow::Result<Arc<Value>> {
        let (namespace, name) = (value::namespace(&self.object), text(&self.object, "/spec/serviceAccountName"));
        let account = self.cluster.store.get(&kinds::SERVICE_ACCOUNT, namespace, name);
        account.with_context(|| format!("failed to fetch token: serviceaccounts {name:?} not found"))
    }

    /// The token for a `serviceAccountToken` source: the same one until the kubelet asks for the next.
    fn projected_token(&self, source: &Value) -> anyhow::Result<String> {
        let audience = Some(text(source, "/audience")).filter(|audience| !audience.is_empty());
        let audience = audience.unwrap_or(signer::ISSUER).to_owned();
        let seconds = number(source, "/expirationSeconds").unwrap_or(3_600);
        let now = self.cluster.clock.now();
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (audience, seconds);
        if let Some((token, _)) = tokens.get(&key).filter(|(_, renewal)| now < *renewal) {
            return Ok(token.clone());
        }
        let token = self.cluster.account_token(&*self.account()?, Some(&self.object), &json!([key.0]), seconds)?;
        // The kubelet renews a token after 80 % of its life.
        let renewal = now.checked_add(SignedDuration::from_secs(seconds * 4 / 5)).unwrap_or(Timestamp::MAX);
        tokens.insert(key, (token.clone(), renewal));
        Ok(token)
    }

    /// Writes projected tokens anew when it is time; never ends.
    async fn renew_tokens(&self) {
        let next = || {
            let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
            tokens.values().map(|(_, renewal)| *renewal).min()
        };
        while let Some(renewal) = next() {
            self.cluster.clock.sleep_until(renewal).await;
            self.refill(|source| source.get("serviceAccountToken").is_some());
            // For an account that is gone.
            self.cluster.clock.sleep(RETRY).await;
        }
        std::future::pending().await
    }

    /// Writes the volumes that show this ConfigMap or Secret anew.
    pub(super) fn refresh(&self, kind: &Kind, name: &str) {
        self.refill(|source| {
            if kind == &kinds::SECRET {
                text(source, "/secret/secretName") == name || text(source, "/secret/name") == name
            } else {
                text(source, "/configMap/name") == name
            }
        });
    }

    /// Writes the volumes anew that have such a source.
    fn refill(&self, shows: impl Fn(&Value) -> bool) {
        let volumes = items(&self.object, "/spec/volumes").iter();
        for volume in volumes.filter(|one| shows(one) || items(one, "/projected/sources").iter().any(&shows)) {
            let real = self.folder.join("volumes").join(text(volume, "/name"));
            // A pod that is not set up yet reads the new content itself.
            if real.exists()
                && let Err(error) =
                    volumes::fill(&self.cluster, &self.object, volume, &real, &|source| self.projected_token(source))
            {
                self.event(Weight::Warning, "FailedMount", format!("{error:#}"));
            }
        }
    }

    /// A free port of the laptop for every port of a container, by name and by number.
    fn ports(&self) -> anyhow::Result<BTreeMap<String, u16>> {
        let mut ports = BTreeMap::new();
        let mut names = Vec::new();
        for container in
            items(&self.object, "/spec/containers").iter().chain(items(&self.object, "/spec/initContainers"))
        {
            for port in items(container, "/ports") {
                let free = serve::free_port()?;
                let name = text(port, "/name");
                if !name.is_empty() {
                    ports.insert(name.to_owned(), free);
                    names.push((name.to_owned(), free));
                }
                ports.insert(number(port, "/containerPort").unwrap_or_default().to_string(), free);
            }
        }
        if !names.is_empty() {
            self.cluster.store.write(|transaction| {
                transaction.edit(&self.key, |pod| {
                    for (name, port) in &names {
                        let key = format!("deskgrid.dev/port-{name}");
                        value::set(pod, &["metadata", "annotations", &key], port.to_string());
                    }
                    true
                });
            });
        }
        Ok(ports)
    }

    /// The image of a container; waits for one that is not there, as a node does that pulls again and again.
    pub(super) async fn pull(&self, slot: &Slot, image: &str) -> Option<Image> {
        let mut changes = self.cluster.images.changes();
        let mut tries = 0_u32;
        loop {
            changes.borrow_and_update();
            if let Some(found) = self.cluster.images.find(image) {
                self.event(Weight::Normal, "Pulled", format!("Container image {image:?} already present on machine"));
                return Some(found);
            }
            let what = format!("failed to pull and unpack image {image:?}: not found");
            self.event(Weight::Warning, "Failed", format!("Failed to pull image {image:?}: {what}"));
            self.set(slot.init, slot.index, State::Waiting { reason: "ErrImagePull", message: what });
            let delay = (self.cluster.retry_base * 2_u32.saturating_pow(tries)).min(Duration::from_secs(10));
            tries = (tries + 1).min(16);
            let message = format!("Back-off pulling image {image:?}");
            self.event(Weight::Normal, "BackOff", message.clone());
            self.set(slot.init, slot.index, State::Waiting { reason: "ImagePullBackOff", message });
            tokio::select! {
                halted = self.pause(&slot.halt, delay) => if halted { return None },
                _ = changes.changed() => {}
            }
        }
    }

    /// Waits; true when the pod, or the container with this switch, is to end.
    pub(super) async fn pause(&self, halt: &Switch, duration: Duration) -> bool {
        let (mut pod, mut own) = (self.halt.subscribe(), halt.subscribe());
        tokio::select! {
            () = self.cluster.clock.sleep(duration) => self.is_ending(halt),
            _ = pod.wait_for(Option::is_some) => true,
            _ = own.wait_for(Option::is_some) => true,
        }
    }

    /// Whether the pod, or the container with this switch, is to end.
    pub(super) fn is_ending(&self, halt: &Switch) -> bool {
        self.halted().is_some() || halt.borrow().is_some()
    }

    /// Time between SIGTERM and SIGKILL that the pod asks for.
    pub(super) fn grace(&self) -> Duration {
        let grace = number(&self.object, "/spec/terminationGracePeriodSeconds").unwrap_or(30);
        Duration::from_secs(u64::try_from(grace).unwrap_or_default())
    }

    /// How the pod is to end, if it is.
    pub(super) fn halted(&self) -> Option<Halt> {
        *self.halt.borrow()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Containers> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a container's record and writes the status.
    pub(super) fn change(&self, init: bool, index: usize, change: impl FnOnce(&mut Container)) {
        {
            let mut all = self.lock();
            let list = if init { &mut all.init } else { &mut all.main };
            if let Some(container) = list.get_mut(index) {
                change(container);
            }
        }
        self.changed.notify_waiters();
        self.publish();
    }

    fn set(&self, init: bool, index: usize, state: State) {
        self.change(init, index, |container| container.state = state);
    }

    /// Writes the pod's status, if there is anything new.
    pub(super) fn publish(&self) {
        if self.halted().is_some_and(|halt| halt.silent) {
            return;
        }
        let now = self.cluster.clock.now();
        self.cluster.store.write(|transaction| {
            // Read inside the transaction, so that a later state is never overwritten by an earlier one.
            let all = self.lock().clone();
            if transaction.at(&self.key).is_some_and(|pod| value::uid(&pod) == self.uid) {
                transaction.edit(&self.key, |pod| status::write(pod, &all, now));
            }
        });
    }

    pub(super) fn event(&self, weight: Weight, reason: &'static str, message: impl Into<String>) {
        self.cluster.event(&kinds::POD, &self.object, weight, reason, message, "kubelet");
    }
}
