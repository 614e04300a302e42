//! Turns the text of an environment file into an [`Environment`], or says everything that is wrong with it.

use std::collections::BTreeMap;

use contract::{
    config::{Dispatch, Pool, Program, Results},
    names, quantity,
};

use super::{
    Accounts, Auth, Build, Builder, Business, BusinessAccounts, CloudKind, Cluster, ClusterMode, Engine, EnginePool,
    Environment, Manage, Managed, Overrides, Place, Problem, Problems, ROLE_PREFIX, Retention, Security, alerts,
    network,
    read::{Reader, Section, Spanned},
    value, web,
};

/// Parses the environment file `text` of the environment `name`; `file` is how to call the file in messages.
///
/// # Errors
/// Everything that is wrong, at once; of TOML that cannot be read at all, the first place.
pub fn parse(name: &str, file: &str, text: &str, overrides: &Overrides) -> Result<Environment, Problems> {
    let document = toml_edit::Document::parse(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        let message = format!("this is not TOML: {}", error.message().trim().replace('\n', ", "));
        Problems::new(file, text, vec![Problem { place: Place::File(span), message, help: None }])
    })?;
    let reader = Reader::new(overrides);
    let environment = environment(name, &reader, reader.root(document.as_table()));
    let problems = reader.finish();
    match environment {
        Some(environment) if problems.is_empty() => Ok(environment),
        _ => Err(Problems::new(file, text, problems)),
    }
}

fn environment(name: &str, reader: &Reader<'_>, root: Section<'_>) -> Option<Environment> {
    if let Err(message) = value::label(name) {
        reader.problem(root.place(), format!("the environment's name is {name:?}, from the file's, but {message}"));
    }
    let required = |key: &str, read: &Option<Spanned<String>>, was_there: bool| {
        if read.is_none() && !was_there {
            reader.problem(root.place(), format!("`{key}` is missing"));
        }
    };
    let before = root.has("project", "PROJECT_NAME");
    let project = root.overridden("project", "PROJECT_NAME", value::project);
    required("project", &project, before);
    let before = root.has("location", "LOCATION");
    let location = root.overridden("location", "LOCATION", value::region);
    required("location", &location, before);
    let zone = root.overridden("zone", "ZONE", value::zone);
    if let (Some(location), Some(zone)) = (&location, &zone)
        && !zone.value.starts_with(&format!("{}-", location.value))
    {
        reader.problem(&zone.place, format!("the zone {:?} is not in the location {:?}", zone.value, location.value));
    }
    // With these missing the rest is still read, so that everything is reported at once.
    let project = project.map_or_else(|| "project".to_owned(), |project| project.value);
    let location = location.unwrap_or_else(|| Spanned { value: "location".to_owned(), place: root.place().clone() });
    let bucket = root.overridden("bucket", "CLOUD_STORAGE_BUCKET_NAME", value::bucket);
    let bucket = bucket.map_or_else(|| names::bucket(&project), |bucket| bucket.value);

    let cloud = root.choice("cloud", &[("google", CloudKind::Google), ("local", CloudKind::Local)]);
    let auth = root.choice("auth", &[("workload-identity", Auth::WorkloadIdentity), ("key", Auth::Key)]);
    let labels = labels(reader, &root.section("labels"));
    let cluster = cluster(reader, root.section("cluster"), &project);
    if let (ClusterMode::Autopilot, Some(zone)) = (cluster.mode, &zone) {
        let help = Some("leave `zone` out, or make the cluster a `standard` one".to_owned());
        reader.problem_with_help(&zone.place, "an Autopilot cluster is a regional one and has no zone", help);
    }
    let network = network::read(reader, root.section("network"), &project, &location.value);
    let security = security(reader, root.section("security"), &location);
    let alerts = root.place_of("alerts").map(|_| alerts::read(reader, root.section("alerts"), &project));
    let manage = manage(root.section("manage"));
    let build = build(root.section("build"), &project, &location.value);
    // Of this environment alone: a project may have several.
    let own = |id: &str| names::account_email(&names::account_id(&format!("{name}-{id}")), &project);
    let accounts = Accounts {
        web_client: own("web-client"),
        web_monitor: own("web-monitor"),
        nodes: security.node_account.clone().unwrap_or_else(|| own("nodes")),
        builder: own("builder"),
    };

    let shared = Shared { environment: name, project: &project, bucket: &bucket, mode: cluster.mode };
    let mut places = Vec::new();
    let mut businesses = Vec::new();
    for (name, section) in root.sections("businesses") {
        if let Err(error) = names::check_business(&name.value) {
            reader.problem(&name.place, format!("the business is called {:?}, but {error}", name.value));
        }
        businesses.push(business(reader, section, &name, &shared));
        places.push(name.place);
    }
    if businesses.is_empty() {
        reader.problem_with_help(
            root.place(),
            "there is no business",
            Some("add a line such as `[businesses.bu1]`".to_owned()),
        );
    }
    duplicates(reader, &accounts, &businesses, &places);
    let web = web::read(reader, root.section("web"), &businesses, cloud);
    root.finish();
    Some(Environment {
        name: name.to_owned(),
        path: None,
        project,
        location: location.value,
        zone: zone.map(|zone| zone.value),
        bucket,
        cloud,
        auth,
        labels,
        cluster,
        network,
        security,
        manage,
        alerts,
        build,
        web,
        accounts,
        businesses,
    })
}

fn labels(reader: &Reader<'_>, section: &Section<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (key, text) in section.texts() {
        if let Err(message) = value::google_label_key(&key.value) {
            reader.problem(&key.place, format!("the label is called {:?}, but {message}", key.value));
        }
        if let Err(message) = value::google_label_value(&text.value) {
            reader.problem(&text.place, format!("`labels.{}` is {:?}, but {message}", key.value, text.value));
        }
        labels.insert(key.value, text.value);
    }
    labels
}

fn cluster(reader: &Reader<'_>, section: Section<'_>, project: &str) -> Cluster {
    let name = section.overridden("name", "GKE_CLUSTER_NAME", value::resource);
    let machine_type = text(&section, "machine_type", value::label).unwrap_or_else(|| "e2-standard-2".to_owned());
    let pool = section.section("engine_pool");
    let max = pool.number("max", 1..=1_000, 8);
    let cluster = Cluster {
        name: name.map_or_else(|| names::cluster(project), |name| name.value),
        mode: section.choice("mode", &[("standard", ClusterMode::Standard), ("autopilot", ClusterMode::Autopilot)]),
        nodes: section.number("nodes", 1..=100, 1),
        // Google's own default of 100 GB exceeds the quota of many projects with three nodes.
        disk_size_gb: section.number("disk_size_gb", 10..=65_536, 50),
        engine_pool: EnginePool {
            min: pool.number("min", 0..=max, 0),
            max,
            spot: pool.boolean("spot", false),
            machine_type: text(&pool, "machine_type", value::label).unwrap_or_else(|| machine_type.clone()),
        },
        machine_type,
    };
    // Google alone makes node pools there: "Autopilot node pools cannot be accessed or modified" (kube-agents #920).
    let of_nodes = ["nodes", "machine_type", "disk_size_gb", "engine_pool"];
    for key in of_nodes.iter().filter(|_| cluster.mode == ClusterMode::Autopilot) {
        if let Some(place) = section.place_of(key) {
            let help = "leave it out; engines get Spot machines by `spot = true` under [businesses.NAME.engine]";
            let message = format!("`cluster.{key}` is for node pools of our own, which an Autopilot cluster has not");
            reader.problem_with_help(&place, message, Some(help.to_owned()));
        }
    }
    pool.finish();
    section.finish();
    cluster
}

fn security(reader: &Reader<'_>, section: Section<'_>, location: &Spanned<String>) -> Security {
    let keys = section.section("kms_keys");
    let mut kms_keys = BTreeMap::new();
    for class in ["bucket", "pubsub", "cluster", "disks", "registry"] {
        if let Some(key) = keys.parsed(class, value::kms_key) {
            check_place_of_key(reader, class, &key, &location.value);
            kms_keys.insert(class.to_owned(), key.value);
        }
    }
    keys.finish();
    let mut allowed_locations = Vec::new();
    for allowed in section.list("allowed_locations").unwrap_or_default() {
        match value::region(&allowed.value) {
            Ok(region) => allowed_locations.push(region),
            Err(message) => reader.problem(&allowed.place, format!("{:?} is listed, but {message}", allowed.value)),
        }
    }
    if !allowed_locations.is_empty() && !allowed_locations.contains(&location.value) {
        let list = allowed_locations.join(", ");
        let message = format!("the location {:?} is not one of `security.allowed_locations` ({list})", location.value);
        let help = "set `location` to one of these, or list it in `allowed_locations`".to_owned();
        reader.problem_with_help(&location.place, message, Some(help));
    }
    let soft_delete = section.parsed("soft_delete", |text| match value::duration(text, 0, 90 * value::DAY)? {
        seconds if seconds != 0 && seconds < 7 * value::DAY => Err("it must be 0s, or from 7d to 90d".into()),
        seconds => Ok(seconds),
    });
    let security = Security {
        kms_keys,
        node_account: section
            .parsed("node_account", |text| match value::account(text)? {
                email if email.contains('@') => Ok(email),
                _ => Err("an existing account is named by its email".into()),
            })
            .map(|account| account.value),
        allowed_locations,
        // The promise is that a computed input is gone, and soft-deleted objects are paid for.
        soft_delete_secs: soft_delete.map_or(0, |seconds| seconds.value),
        role_prefix: text(&section, "role_prefix", value::role_prefix).unwrap_or_else(|| ROLE_PREFIX.to_owned()),
    };
    section.finish();
    security
}

/// Reports a key that Google refuses for its location. Those of buckets, registries and the Secrets of a cluster are of
/// the same one, disks also take a global key, and Pub/Sub takes any.
fn check_place_of_key(reader: &Reader<'_>, class: &str, key: &Spanned<String>, location: &str) {
    let place = key.value.split('/').nth(3).unwrap_or_default();
    if place != location && class != "pubsub" && (class, place) != ("disks", "global") {
        let message = format!("the key of `security.kms_keys.{class}` is in {place:?}, and must be in {location:?}");
        reader.problem(&key.place, message);
    }
}

fn manage(section: Section<'_>) -> Manage {
    let choices = [("create", Managed::Create), ("verify", Managed::Verify), ("off", Managed::Off)];
    let manage = Manage {
        apis: section.choice("apis", &choices),
        cluster: section.choice("cluster", &choices),
        bucket: section.choice("bucket", &choices),
        pubsub: section.choice("pubsub", &choices),
        iam: section.choice("iam", &choices),
        registry: section.choice("registry", &choices),
    };
    section.finish();
    manage
}

fn build(section: Section<'_>, project: &str, location: &str) -> Build {
    let build = Build {
        builder: section.choice("builder", &[("cloud-build", Builder::CloudBuild), ("local", Builder::Local)]),
        region: text(&section, "region", value::region).unwrap_or_else(|| location.to_owned()),
        registry: text(&section, "registry", value::resource).unwrap_or_else(|| names::registry(project)),
    };
    section.finish();
    build
}

/// What a business takes from its environment.
struct Shared<'a> {
    environment: &'a str,
    project: &'a str,
    bucket: &'a str,
    mode: ClusterMode,
}

fn business(reader: &Reader<'_>, section: Section<'_>, name: &Spanned<String>, shared: &Shared<'_>) -> Business {
    let Shared { project, bucket, mode, .. } = *shared;
    let name = name.value.as_str();
    let id = |key, derived: String| text(&section, key, value::pubsub).unwrap_or(derived);
    let topic = id("topic", names::topic(project, name));
    let subscription = id("subscription", names::subscription(project, name));
    let priority_subscription = id("priority_subscription", names::priority_subscription(project, name));
    let events_topic = id("events_topic", names::events_topic(project, name));
    let priority = section.boolean("priority", false);
    let dispatch = section.parsed("dispatch", dispatch).map(|word| word.value).unwrap_or_default();
    let engine = engine(reader, section.section("engine"), mode);
    let pool = pool(reader, &section, dispatch, &engine);
    let business = Business {
        name: name.to_owned(),
        bucket: text(&section, "bucket", value::bucket).unwrap_or_else(|| bucket.to_owned()),
        namespace: text(&section, "namespace", value::namespace).unwrap_or_else(|| names::namespace(name)),
        topic,
        subscription,
        priority_subscription: priority.then_some(priority_subscription),
        events_topic,
        accounts: business_accounts(section.section("accounts"), name, shared),
        max_active_jobs: section.number("max_active_jobs", 1..=10_000, 32),
        max_finished_jobs: section.number("max_finished_jobs", 0..=100_000, contract::config::MAX_FINISHED_JOBS),
        dispatch,
        pool,
        results: section.choice("results", &[("auto", Results::Auto), ("objects", Results::Objects)]),
        submit_on_upload: section.boolean("submit_on_upload", false),
        queue: text(&section, "queue", value::label),
        retention: retention(section.section("retention")),
        engine,
    };
    section.finish();
    business
}

/// What computes items: `batch`, as version 1 had it, is refused with what replaces it.
fn dispatch(word: &str) -> Result<Dispatch, String> {
    match word {
        "job" => Ok(Dispatch::Job),
        "pool" => Ok(Dispatch::Pool),
        "batch" => Err("packs and pools replace batches: submit many small inputs as one, with `submit --table` or \
                        `submit --pack`, and set \"pool\" for engines that stay"
            .into()),
        _ => Err("it must be \"job\" or \"pool\"".into()),
    }
}

/// The largest number of items at once in one engine.
const MAX_SLOTS: u32 = 256;

/// The pool of a business: always with `dispatch = "pool"`, and never without it.
fn pool(reader: &Reader<'_>, business: &Section<'_>, dispatch: Dispatch, engine: &Engine) -> Option<Pool> {
    let place = business.place_of("pool");
    let section = business.section("pool");
    let max = section.number("max", 1..=1_000, 4);
    let whole_cpus = u32::try_from(quantity::millis(&engine.cpu).unwrap_or_default() / 1_000).unwrap_or(MAX_SLOTS);
    let pool = Pool {
        min: section.number("min", 0..=max, 0),
        max,
        slots: section.number("slots", 1..=MAX_SLOTS, whole_cpus.clamp(1, MAX_SLOTS)),
        idle_secs: section
            .parsed("idle", |text| value::duration(text, 10, value::DAY))
            .map_or(300, |seconds| seconds.value),
        spot: section.boolean("spot", engine.spot),
    };
    section.finish();
    match dispatch {
        Dispatch::Pool => {
            if engine.image.is_some()
                && engine.command.is_empty()
                && let Some(place) = business.place_of("dispatch")
            {
                let message =
                    "an engine of a pool runs the desk's own program by its `command`, but there is only an `image`";
                reader.problem_with_help(&place, message, Some("add the `command` beside `image`".to_owned()));
            }
            Some(pool)
        }
        Dispatch::Job => {
            if let Some(place) = place {
                let message = "the business has settings of a pool, but its `dispatch` is not \"pool\"";
                let help = "set `dispatch = \"pool\"` for engines that stay, or remove the settings".to_owned();
                reader.problem_with_help(&place, message, Some(help));
            }
            None
        }
    }
}

fn business_accounts(section: Section<'_>, business: &str, shared: &Shared<'_>) -> BusinessAccounts {
    let Shared { environment, project, .. } = *shared;
    let email = |key: &'static str| {
        let id = text(&section, key, value::account)
            .unwrap_or_else(|| names::account_id(&format!("{environment}-{business}-{key}")));
        if id.contains('@') { id } else { names::account_email(&id, project) }
    };
    let accounts =
        BusinessAccounts { client: email("client"), orchestrator: email("orchestrator"), engine: email("engine") };
    section.finish();
    accounts
}

fn retention(section: Section<'_>) -> Retention {
    let days = |key, shortest, default| {
        section.parsed(key, |text| value::days(text, shortest, 3_650)).map_or(default, |days| days.value)
    };
    let retention = Retention {
        finished_jobs_secs: section
            .parsed("finished_jobs", |text| value::duration(text, 60, 30 * value::DAY))
            .map_or(3_600, |seconds| seconds.value),
        output_days: days("output", 1, 30),
        // Longer than the 7 days for which Pub/Sub keeps messages: a redelivery must still find the outcome.
        outcome_days: days("outcome", 8, 90),
        common_days: days("common", 1, 30),
    };
    section.finish();
    retention
}

/// The largest work folder on Autopilot, in bytes: a Pod has at most 10 GiB of ephemeral storage there, its logs
/// included (cloud.google.com/kubernetes-engine/docs/concepts/autopilot-resource-requests).
const AUTOPILOT_DISK_BYTES: u64 = 9 << 30;

fn engine(reader: &Reader<'_>, section: Section<'_>, mode: ClusterMode) -> Engine {
    let fits = |disk: &str| match value::quantity(disk)? {
        disk if mode == ClusterMode::Autopilot && quantity::bytes(&disk) > Some(AUTOPILOT_DISK_BYTES) => {
            Err("on Autopilot it is at most 9Gi: a Pod has 10 GiB, its logs included".into())
        }
        disk => Ok(disk),
    };
    let quantity = |key, default: &str| text(&section, key, value::quantity).unwrap_or_else(|| default.to_owned());
    let command: Option<Vec<Spanned<String>>> = section.list("command");
    let engine = Engine {
        image: text(&section, "image", value::image),
        cpu: quantity("cpu", "1"),
        memory: quantity("memory", "1Gi"),
        disk: section.parsed("disk", fits).map_or_else(|| "1Gi".to_owned(), |disk| disk.value),
        retries: section.number("retries", 0..=20, 3),
        timeout_secs: section
            .parsed("timeout", |text| value::duration(text, 1, 7 * value::DAY))
            .map_or(3_600, |seconds| seconds.value),
        spot: section.boolean("spot", false),
        program: Program {
            permanent_exit_codes: section
                .numbers("permanent_exit_codes", 1..=255)
                .into_iter()
                .map(|code| code as u8)
                .collect(),
            timeout_secs: section
                .parsed("program_timeout", |text| value::duration(text, 1, 7 * value::DAY))
                .map(|seconds| seconds.value),
            max_output_bytes: section.parsed("max_output", value::bytes).map(|bytes| bytes.value),
            resident: section.boolean("resident", false),
        },
        command: command.iter().flatten().map(|word| word.value.clone()).collect(),
    };
    if engine.image.is_none()
        && let Some(first) = command.iter().flatten().next()
    {
        reader.problem_with_help(
            &first.place,
            "there is a command, but no `image` to run it in",
            Some("name the desk's own image as `image`, beside `command`".to_owned()),
        );
    }
    if engine.image.is_none() && engine.command.is_empty() {
        for key in ["permanent_exit_codes", "program_timeout", "max_output", "resident"] {
            if let Some(place) = section.place_of(key) {
                reader.problem_with_help(
                    &place,
                    format!(
                        "`{key}` is set, but there is no `command` and no `image`, so the built-in kernel computes, \
                         which has no such setting"
                    ),
                    Some("add the desk's own `image` and `command`, or remove the key".to_owned()),
                );
            }
        }
    }
    section.finish();
    engine
}

/// Reports names that two things of the file would share.
fn duplicates(reader: &Reader<'_>, accounts: &Accounts, businesses: &[Business], places: &[Place]) {
    let mut seen: BTreeMap<(&str, String), String> = BTreeMap::new();
    for email in [&accounts.web_client, &accounts.web_monitor, &accounts.nodes, &accounts.builder] {
        seen.insert(("service account", email.clone()), "the environment itself".to_owned());
    }
    for (business, place) in businesses.iter().zip(places) {
        let Business { name, namespace, topic, subscription, priority_subscription, events_topic, accounts, .. } =
            business;
        let subscriptions = [Some(subscription), priority_subscription.as_ref()].into_iter().flatten();
        let named = [("namespace", namespace), ("topic", topic), ("topic", events_topic)]
            .into_iter()
            .chain(subscriptions.map(|subscription| ("subscription", subscription)))
            .chain([
                ("service account", &accounts.client),
                ("service account", &accounts.orchestrator),
                ("service account", &accounts.engine),
            ]);
        for (kind, value) in named {
            if let Some(other) = seen.insert((kind, value.clone()), format!("the business {name:?}")) {
                let message = format!("the {kind} {value:?} of the business {name:?} is already that of {other}");
                reader.problem(place, message);
            }
        }
    }
}

fn text(section: &Section<'_>, key: &'static str, check: fn(&str) -> Result<String, String>) -> Option<String> {
    section.parsed(key, check).map(|text| text.value)
}
