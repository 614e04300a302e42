//! Tests of the environment file.

use std::path::Path;

use proptest::prelude::*;

use super::*;

mod web;

const SMALLEST: &str = "project = \"desk-one\"\nlocation = \"europe-west1\"\n[businesses.bu1]\n";

/// The environment that `text` describes; for the tests of other modules too.
pub(crate) fn environment(text: &str) -> Environment {
    parse("e", "e.toml", text, &Overrides::new()).unwrap_or_else(|problems| panic!("{problems}"))
}

/// `text` gives exactly these problems, each "line:column message" and perhaps " | help".
fn check(text: &str, overrides: &[(&str, &str)], expected: &[&str]) {
    let overrides = overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let problems = parse("e", "e.toml", text, &overrides).expect_err("there are problems");
    let found: Vec<String> = problems
        .list
        .iter()
        .map(|problem| {
            let place = match &problem.place {
                Place::File(range) => {
                    let (line, column) = problems.position(range.start);
                    format!("{line}:{column}")
                }
                Place::Variable(name) => name.clone(),
            };
            let help = problem.help.as_ref().map(|help| format!(" | {help}")).unwrap_or_default();
            format!("{place} {}{help}", problem.message)
        })
        .collect();
    assert_eq!(found, expected, "{problems}");
    // What a person sees names the same places.
    for line in expected.iter().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())) {
        let place = line.split(' ').next().unwrap();
        assert!(problems.to_string().contains(&format!("e.toml:{place}\n")), "{place} in {problems}");
    }
}

#[test]
fn the_smallest_file_is_a_project_a_location_and_one_business() {
    let environment = environment(SMALLEST);
    assert_eq!(environment.bucket, "desk-one-bucket");
    assert_eq!(environment.cluster.name, "desk-one-cluster");
    let business = &environment.businesses[0];
    assert_eq!(business.topic, "desk-one-bu1-topic");
    assert_eq!(business.priority_subscription, None);
    assert_eq!(business.accounts.orchestrator, "e-bu1-orchestrator@desk-one.iam.gserviceaccount.com");
    assert_eq!(environment.web.businesses, ["bu1"]);
}

#[test]
fn every_name_can_be_overridden() {
    let environment = environment(
        r#"
        project = "desk-one"
        location = "europe-west1"
        zone = "europe-west1-b"
        auth = "key"
        labels = { team = "risk" }
        cluster = { name = "shared" }
        [businesses.bu1]
        bucket = "their-own"
        namespace = "team-a"
        topic = "t-one"
        priority = true
        priority_subscription = "s-first"
        accounts = { client = "client-account", engine = "e@other.iam.gserviceaccount.com" }
        retention = { finished_jobs = "1h30m", output = "7d" }
        [businesses.bu1.engine]
        image = "registry.example.com/desk@sha256:1"
        command = ["/app/price", "--fast"]
        permanent_exit_codes = [2, 65]
        program_timeout = "10m"
        max_output = "64Mi"
        "#,
    );
    assert_eq!(environment.cluster_location(), "europe-west1-b");
    assert_eq!(environment.auth, Auth::Key);
    let config = environment.config(&config::Endpoints::default());
    let business = &config.businesses["bu1"];
    assert_eq!(business.bucket, "their-own");
    assert_eq!(business.namespace, "team-a");
    assert_eq!(business.topic, "projects/desk-one/topics/t-one");
    assert_eq!(business.priority_subscription.as_deref(), Some("projects/desk-one/subscriptions/s-first"));
    assert_eq!(business.retention.finished_jobs_secs, 5_400);
    assert_eq!(environment.businesses[0].engine.image.as_deref(), Some("registry.example.com/desk@sha256:1"));
    let program = &business.engine.program;
    assert_eq!((&program.permanent_exit_codes[..], program.timeout_secs), (&[2, 65][..], Some(600)));
    assert_eq!(program.max_output_bytes, Some(64 << 20));
    assert_eq!(environment.businesses[0].accounts.client, "client-account@desk-one.iam.gserviceaccount.com");
    assert_eq!(environment.businesses[0].accounts.engine, "e@other.iam.gserviceaccount.com");
    let buckets: Vec<(&str, usize)> =
        environment.buckets().iter().map(|(bucket, businesses)| (*bucket, businesses.len())).collect();
    assert_eq!(buckets, [("desk-one-bucket", 0), ("their-own", 1)]);
}

#[test]
fn every_problem_is_reported_at_once_where_it_is() {
    check(
        r#"project = "Desk"
locaton = "europe-west1"
labels = { managed-by = "me", team = "Risk" }

[businesses.BU_1]
max_active_jobs = 0
dispatch = "batch"
priority = "yes"

[businesses.bu2.engine]
cpu = "two"
timeout = "90"
command = ["run", 1]
permanent_exit_codes = [2, 0, "x"]
max_output = "2Gi"
colour = 1
"#,
        &[],
        &[
            "1:1 `location` is missing",
            "1:11 `project` is \"Desk\", but a project id has 6 to 30 lower-case letters, digits and hyphens, starts with a letter and does not end with a hyphen",
            "2:1 unknown key `locaton` | did you mean `location`?",
            "3:12 the label is called \"managed-by\", but this label is set by Deskgrid itself",
            "3:38 `labels.team` is \"Risk\", but the value of a label has at most 63 lower-case letters, digits, '-' and '_'",
            "5:13 the business is called \"BU_1\", but a business name starts with a letter and has only lower-case letters, digits and inner hyphens",
            "6:19 `businesses.BU_1.max_active_jobs` is 0, but must be from 1 to 10000",
            "7:12 `businesses.BU_1.dispatch` is \"batch\", but packs and pools replace batches: submit many small inputs as one, with `submit --table` or `submit --pack`, and set \"pool\" for engines that stay",
            "8:12 `businesses.BU_1.priority` must be true or false, not text",
            "11:7 `businesses.bu2.engine.cpu` is \"two\", but a quantity looks like \"500m\", \"2\" or \"512Mi\"",
            "12:11 `businesses.bu2.engine.timeout` is \"90\", but a duration looks like \"90s\", \"30m\", \"1h30m\" or \"7d\"",
            "13:12 there is a command, but no `image` to run it in | name the desk's own image as `image`, beside `command`",
            "13:19 `businesses.bu2.engine.command` must hold only texts in quotes, not a number",
            "14:28 `businesses.bu2.engine.permanent_exit_codes` must hold only whole numbers from 1 to 255, not 0",
            "14:31 `businesses.bu2.engine.permanent_exit_codes` must hold only whole numbers from 1 to 255, not \"x\"",
            "15:14 `businesses.bu2.engine.max_output` is \"2Gi\", but it must be from 1 byte to 1Gi",
            "16:1 unknown key `businesses.bu2.engine.colour` | the keys here are command, cpu, disk, image, max_output, memory, permanent_exit_codes, program_timeout, resident, retries, spot, timeout",
        ],
    );
}

#[test]
fn types_tables_and_numbers_are_checked() {
    let smallest_with = |line: &str| SMALLEST.replace("[businesses.bu1]", &format!("{line}\n[businesses.bu1]"));
    for (line, expected) in [
        ("cluster = 1", "3:11 `cluster` must be a table, not a number"),
        ("project_name = 1", "3:1 unknown key `project_name` | did you mean `project`?"),
        (
            "cloud = \"Google\"",
            "3:9 `cloud` is \"Google\", but must be \"google\" or \"local\" | did you mean `google`?",
        ),
        ("cluster.nodes = -1", "3:17 `cluster.nodes` is -1, but must be from 1 to 100"),
        ("cluster.nodes = 99999999999", "3:17 `cluster.nodes` is 99999999999, but must be from 1 to 100"),
        ("cluster.nodes = 1.5", "3:17 `cluster.nodes` must be a whole number, not a number"),
        ("cluster.engine_pool = { min = 9, max = 3 }", "3:31 `cluster.engine_pool.min` is 9, but must be from 0 to 3"),
        (
            "bucket = \"goog-x\"",
            "3:10 `bucket` is \"goog-x\", but a bucket name may not begin with \"goog\" or contain \"google\"",
        ),
        ("zone = \"us-east1-b\"", "3:8 the zone \"us-east1-b\" is not in the location \"europe-west1\""),
        (
            "alerts = { notification_channels = [\"mail\"] }",
            "3:37 \"mail\" is listed, but a notification channel looks like \"projects/desk-one/notificationChannels/123\"",
        ),
        ("alerts.oldest_message = \"5s\"", "3:25 `alerts.oldest_message` is \"5s\", but it must be from 1m to 7d"),
        ("manage.iam = \"no\"", "3:14 `manage.iam` is \"no\", but must be \"create\" or \"verify\" or \"off\""),
        ("web.businesses = [\"bu2\"]", "3:19 there is no business \"bu2\" in this file | did you mean `bu1`?"),
        (
            "security.allowed_locations = [\"us-east1\"]",
            "2:12 the location \"europe-west1\" is not one of `security.allowed_locations` (us-east1) | set `location` to one of these, or list it in `allowed_locations`",
        ),
        (
            "security.soft_delete = \"1d\"",
            "3:24 `security.soft_delete` is \"1d\", but it must be 0s, or from 7d to 90d",
        ),
        (
            "security.role_prefix = \"desk-2\"",
            "3:24 `security.role_prefix` is \"desk-2\", but it has 1 to 40 letters, digits, '_' and '.'",
        ),
        (
            "network = { network = \"projects/host/global/networks/hpc\", pods_range = \"p\", services_range = \"s\" }",
            "3:23 the network is of the project \"host\", and no subnetwork of it in \"europe-west1\" is named | name one: \
             subnetwork = \"projects/host/regions/europe-west1/subnetworks/NAME\"",
        ),
        (
            "network = { subnetwork = \"projects/host/regions/europe-west1/subnetworks/n\" }",
            "3:26 the network is of the project \"desk-one\", and no subnetwork of it in \"europe-west1\" is named | name \
             one: subnetwork = \"projects/desk-one/regions/europe-west1/subnetworks/NAME\"",
        ),
        (
            "network.network = \"host/hpc\"",
            "3:19 `network.network` is \"host/hpc\", but a network looks like \"hpc\", or \
             \"projects/HOST/global/networks/hpc\" in another project",
        ),
        (
            "network.pods_range = \"pods\"",
            "3:22 `pods_range` and `services_range` go together, and one of them is missing",
        ),
        (
            "security.kms_keys.bucket = \"projects/p/locations/us/keyRings/r/cryptoKeys/k\"",
            "3:28 the key of `security.kms_keys.bucket` is in \"us\", and must be in \"europe-west1\"",
        ),
        ("labels.team = 1", "3:15 `labels.team` must be text in quotes, not a number"),
        ("[[businesses.bu2]]", "3:14 `businesses.bu2` must be a table, not a list of tables"),
    ] {
        check(&smallest_with(line), &[], &[expected]);
    }
    let retention = |text: &str| format!("{SMALLEST}retention = {{ {text} }}\n");
    check(
        &retention("outcome = \"7d\""),
        &[],
        &["4:25 `businesses.bu1.retention.outcome` is \"7d\", but it must be from 8d to 3650d"],
    );
    check(
        &retention("output = \"36h\""),
        &[],
        &["4:24 `businesses.bu1.retention.output` is \"36h\", but the bucket counts whole days, like \"7d\""],
    );
}

#[test]
fn what_google_would_refuse_later_is_refused_here() {
    let refused = |text: &str, message: &str| {
        let problems = parse("e", "e.toml", text, &Overrides::new()).unwrap_err();
        assert_eq!(problems.list.len(), 1, "{problems}");
        assert!(problems.list[0].message.contains(message), "{problems}");
    };
    let small = "project = \"desk-one\"\nlocation = \"europe-west1\"\n";
    refused(
        &format!("{small}zone = \"europe-west1-b\"\ncluster.mode = \"autopilot\"\n[businesses.bu1]\n"),
        "has no zone",
    );
    refused(
        &format!("{small}cluster.mode = \"autopilot\"\n[businesses.bu1.engine]\ndisk = \"10Gi\"\n"),
        "on Autopilot it is at most 9Gi",
    );
    let many: String = (0..21).map(|number| format!("[businesses.b{number}]\n")).collect();
    refused(&format!("{small}{many}"), "would serve 21 businesses");
    environment(&format!("{small}web.enabled = false\n{many}"));
}

#[test]
fn settings_of_a_program_need_a_program() {
    let engine = |lines: &str| format!("{SMALLEST}[businesses.bu1.engine]\n{lines}\n");
    let help = "there is no `command` and no `image`, so the built-in kernel computes, which has no such setting | \
                add the desk's own `image` and `command`, or remove the key";
    for (line, place) in [
        ("permanent_exit_codes = [2]", "5:1 `permanent_exit_codes`"),
        ("program_timeout = \"5m\"", "5:1 `program_timeout`"),
        ("max_output = \"1Mi\"", "5:1 `max_output`"),
        ("resident = true", "5:1 `resident`"),
    ] {
        check(&engine(line), &[], &[&format!("{place} is set, but {help}")]);
        environment(&engine(&format!("{line}\nimage = \"r/desk@sha256:1\"\ncommand = [\"/app/price\"]")));
        environment(&engine(&format!("{line}\nimage = \"r/desk@sha256:1\"")));
    }
}

#[test]
fn a_zone_as_location_says_what_to_write() {
    check(
        &SMALLEST.replace("europe-west1", "europe-west1-b"),
        &[],
        &[
            "2:12 `location` is \"europe-west1-b\", but this is a zone; write \"europe-west1\" here and the zone as `zone`",
        ],
    );
}

#[test]
fn an_empty_file_says_what_is_needed() {
    check(
        "",
        &[],
        &[
            "1:1 `project` is missing",
            "1:1 `location` is missing",
            "1:1 there is no business | add a line such as `[businesses.bu1]`",
        ],
    );
}

#[test]
fn names_that_two_things_would_share_are_refused() {
    check(
        &format!("{SMALLEST}topic = \"one\"\n[businesses.bu2]\ntopic = \"one\"\n[businesses.web]\n"),
        &[],
        &[
            "5:13 the topic \"one\" of the business \"bu2\" is already that of the business \"bu1\"",
            "7:13 the service account \"e-web-client@desk-one.iam.gserviceaccount.com\" of the business \"web\" is already that of the environment itself",
        ],
    );
}

#[test]
fn broken_toml_is_shown_the_same_way() {
    check(
        "project = \"desk-one\"\nlocation = europe\n",
        &[],
        &["2:12 this is not TOML: string values must be quoted, expected literal string"],
    );
    check(&format!("{SMALLEST}[businesses.bu1]\n"), &[], &["4:13 this is not TOML: duplicate key"]);
}

#[test]
fn a_file_that_is_not_utf_8_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("e.toml");
    std::fs::write(&file, b"project = \"desk-one\"\n# caf\xe9\nlocation = \"europe-west1\"\n").unwrap();
    let error = load(&file, &Overrides::new()).unwrap_err().to_string();
    assert!(error.contains("the byte 0xe9 is not UTF-8") && error.contains("e.toml:2:6\n"), "{error}");
}

#[test]
fn columns_count_characters() {
    check(
        &format!("{SMALLEST}# é\n\"é\" = 1\n"),
        &[],
        &[
            "5:1 unknown key `businesses.bu1.é` | the keys here are accounts, bucket, dispatch, engine, events_topic, max_active_jobs, max_finished_jobs, namespace, pool, priority, priority_subscription, queue, results, retention, submit_on_upload, subscription, topic",
        ],
    );
    check(
        &format!("{SMALLEST}engine = {{ image = \"é é\" }}\n"),
        &[],
        &[
            "4:20 `businesses.bu1.engine.image` is \"é é\", but an image looks like \"REGION-docker.pkg.dev/PROJECT/REGISTRY/NAME@sha256:…\"",
        ],
    );
}

#[test]
fn a_wrong_dispatch_is_reported_once() {
    let wrong = |value: &str, problem: &str| check(&format!("{SMALLEST}dispatch = {value}\n"), &[], &[problem]);
    wrong("1", "4:12 `businesses.bu1.dispatch` must be text in quotes, not a number");
    wrong("\"jobs\"", "4:12 `businesses.bu1.dispatch` is \"jobs\", but it must be \"job\" or \"pool\"");
}

#[test]
fn a_pool_has_defaults_from_the_engine() {
    let pool = |keys: &str| {
        let environment = environment(&format!("{SMALLEST}dispatch = \"pool\"\n{keys}"));
        environment.config(&config::Endpoints::default()).businesses["bu1"].pool
    };
    let default = config::Pool { min: 0, max: 4, slots: 1, idle_secs: 300, spot: false };
    assert_eq!(pool(""), Some(default));
    assert_eq!(pool("engine = { cpu = \"500m\" }\n"), Some(default));
    let of_engine = config::Pool { slots: 3, spot: true, ..default };
    assert_eq!(pool("engine = { cpu = \"3500m\", spot = true }\n"), Some(of_engine));
    let own = config::Pool { min: 2, max: 9, slots: 256, idle_secs: 10, spot: false };
    let keys = "pool = { min = 2, max = 9, slots = 256, idle = \"10s\", spot = false }\nengine = { spot = true }\n";
    assert_eq!(pool(keys), Some(own));
    assert_eq!(environment(SMALLEST).businesses[0].pool, None);
}

#[test]
fn a_wrong_pool_says_where() {
    check(
        &format!("{SMALLEST}pool = {{ max = 2 }}\n"),
        &[],
        &[
            "4:1 the business has settings of a pool, but its `dispatch` is not \"pool\" | set `dispatch = \"pool\"` for engines that stay, or remove the settings",
        ],
    );
    let wrong = |keys: &str, problems: &[&str]| {
        check(&format!("{SMALLEST}dispatch = \"pool\"\n[businesses.bu1.pool]\n{keys}"), &[], problems);
    };
    check(
        &format!("{SMALLEST}dispatch = \"pool\"\nengine = {{ image = \"r/desk@sha256:1\" }}\n"),
        &[],
        &[
            "4:1 an engine of a pool runs the desk's own program by its `command`, but there is only an `image` | add the `command` beside `image`",
        ],
    );
    wrong("max = 0\n", &["6:7 `businesses.bu1.pool.max` is 0, but must be from 1 to 1000"]);
    wrong("min = 3\nmax = 2\n", &["6:7 `businesses.bu1.pool.min` is 3, but must be from 0 to 2"]);
    wrong(
        "slots = 257\nidle = \"9s\"\nsize = 1\n",
        &[
            "6:9 `businesses.bu1.pool.slots` is 257, but must be from 1 to 256",
            "7:8 `businesses.bu1.pool.idle` is \"9s\", but it must be from 10s to 1d",
            "8:1 unknown key `businesses.bu1.pool.size` | the keys here are idle, max, min, slots, spot",
        ],
    );
}

#[test]
fn results_are_kept_in_objects_on_request() {
    let results = |keys: &str| environment(&format!("{SMALLEST}{keys}")).businesses[0].results;
    assert_eq!((results(""), results("results = \"objects\"\n")), (config::Results::Auto, config::Results::Objects));
}

#[test]
fn environment_variables_override_and_are_named_when_wrong() {
    let overrides = [
        ("PROJECT_NAME", "other-desk"),
        ("LOCATION", "us-east1"),
        ("ZONE", ""),
        ("CLOUD_STORAGE_BUCKET_NAME", "other-data"),
        ("GKE_CLUSTER_NAME", "c-one"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let environment = parse("e", "e.toml", SMALLEST, &overrides).unwrap();
    assert_eq!(environment.project, "other-desk");
    assert_eq!(environment.location, "us-east1");
    assert_eq!(environment.zone, None);
    assert_eq!(environment.bucket, "other-data");
    assert_eq!(environment.cluster.name, "c-one");
    assert_eq!(environment.businesses[0].topic, "other-desk-bu1-topic");

    check(
        SMALLEST,
        &[("GKE_CLUSTER_NAME", "C"), ("ZONE", "us-east1-b")],
        &[
            "ZONE the zone \"us-east1-b\" is not in the location \"europe-west1\"",
            "GKE_CLUSTER_NAME `cluster.name` is \"C\", but a name here has 1 to 40 lower-case letters, digits and inner hyphens, and starts with a letter",
        ],
    );
}

#[test]
fn a_problem_shows_its_line_with_a_marker() {
    let problems = parse("e", "e.toml", &SMALLEST.replace("location", "locaton"), &Overrides::new()).unwrap_err();
    let text = problems.to_string();
    assert!(
        text.contains(
            "error: unknown key `locaton`\n --> e.toml:2:1\n  |\n2 | locaton = \"europe-west1\"\n  | ^^^^^^^\n"
        ),
        "{text}"
    );
    assert!(text.contains("help: did you mean `location`?"), "{text}");
    assert!(text.ends_with("2 problems in e.toml"), "{text}");
    assert!(!text.contains('\u{1b}') && problems.render(true).contains('\u{1b}'));
}

#[test]
fn the_files_of_the_repository_are_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../environments");
    let default = locate(&directory, None).unwrap();
    assert_eq!(load(&default, &Overrides::new()).unwrap().name, "hpc-poc");
    let local = load(&locate(&directory, Some("local")).unwrap(), &Overrides::new()).unwrap();
    assert_eq!(local.cloud, CloudKind::Local);
    assert_eq!(load(&local.path.clone().unwrap(), &Overrides::new()).unwrap(), local);
    let error = locate(&directory, Some("hpc-pco")).unwrap_err().to_string();
    assert!(error.contains("did you mean `hpc-poc`?"), "{error}");
    assert!(locate(&directory, Some("none.toml")).is_err());

    // Every commented key of the example is one that exists.
    let text = std::fs::read_to_string(&default).unwrap();
    let key = |line: &str| {
        let rest = line.strip_prefix("# ").unwrap_or_default();
        let value = rest.split_once(" = ").filter(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        value.is_some() || rest.starts_with('[')
    };
    let all: Vec<&str> = text
        .lines()
        .map(|line| if key(line) { &line[2..] } else { line })
        .filter(|line| !line.contains("cloud-build\" or"))
        .collect();
    // The settings of a pool need one.
    let all = all.join("\n").replace("dispatch = \"job\"", "dispatch = \"pool\"");
    let problems = match parse("e", "e.toml", &all, &Overrides::new()) {
        Ok(_) => vec![],
        Err(problems) => problems.list,
    };
    assert!(problems.is_empty(), "{}", Problems { file: "e.toml".into(), source: all.clone(), list: problems });
}

#[test]
fn a_name_is_needed_when_there_are_several_environments() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("local.toml"), SMALLEST).unwrap();
    assert!(locate(directory.path(), None).unwrap_err().to_string().contains("no environment but"));
    std::fs::write(path("one.toml"), SMALLEST).unwrap();
    assert_eq!(locate(directory.path(), None).unwrap(), path("one.toml"));
    std::fs::write(path("two.toml"), SMALLEST).unwrap();
    assert!(locate(directory.path(), None).unwrap_err().to_string().contains("local, one, two"));
    let named = path("two.toml").display().to_string();
    assert_eq!(locate(Path::new("elsewhere"), Some(&named)).unwrap(), path("two.toml"));
}

#[test]
fn editing_keeps_comments_and_order() {
    let text = "# Ours.\nproject = \"desk-one\" # the project\nlocation = \"europe-west1\"\n\n# First desk.\n[businesses.bu1]\npriority = true # urgent\n\n[businesses.bu1.engine]\ncpu = \"2\"\n\n[web]\nenabled = false\n";
    let added = edit::add_business(text, "bu2").unwrap();
    assert_eq!(added, text.replace("cpu = \"2\"\n", "cpu = \"2\"\n\n[businesses.bu2]\n"));
    assert_eq!(environment(&added).businesses.len(), 2);
    assert_eq!(edit::remove_business(&added, "bu2").unwrap(), text);
    assert!(edit::add_business(&added, "bu2").unwrap_err().to_string().contains("already"));
    assert!(edit::add_business(text, "kube-x").is_err());
    assert!(edit::remove_business(text, "bu2").is_err());
    let without = edit::remove_business(&added, "bu1").unwrap();
    assert!(without.starts_with("# Ours.\nproject = \"desk-one\" # the project\n"), "{without}");
    assert_eq!(environment(&without).businesses[0].name, "bu2");

    let inline = "project = \"desk-one\"\nlocation = \"europe-west1\"\nbusinesses = { bu1 = {} }\n";
    assert_eq!(environment(&edit::add_business(inline, "bu2").unwrap()).businesses.len(), 2);
    let none = "project = \"desk-one\"\nlocation = \"europe-west1\"\n";
    assert_eq!(environment(&edit::add_business(none, "bu2").unwrap()).businesses.len(), 1);
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}|[a-z\\[\\]{}=\".\n #é\t\r0-9-]{0,200}") {
        if let Err(problems) = parse("e", "e.toml", &text, &Overrides::new()) {
            prop_assert!(!problems.render(true).is_empty());
            prop_assert!(!problems.list.is_empty());
        }
        let _ = edit::add_business(&text, "bu9");
        let _ = edit::remove_business(&text, "bu1");
    }

    #[test]
    fn a_damaged_file_never_panics(at in 0usize..6_000, insert in "\\PC{0,3}|[\\[\\]{}=\".\n]{1,3}", cut in 0usize..40) {
        let mut text = include_str!("../../../environments/hpc-poc.toml").replace("# ", "");
        let floor = |text: &str, mut at: usize| { at = at.min(text.len()); while !text.is_char_boundary(at) { at -= 1 } at };
        let start = floor(&text, at);
        let end = floor(&text, start + cut);
        text.replace_range(start..end, &insert);
        if let Err(problems) = parse("e", "e.toml", &text, &Overrides::new()) {
            prop_assert!(!problems.render(false).is_empty());
        }
    }
}
