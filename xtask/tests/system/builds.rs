//! `build` with Cloud Build, as a person runs it, against the laptop cloud; and the program with the daily verbs.

use std::io::{BufRead as _, BufReader};

use provision::google::{Api, Request};
use serde_json::Value;

use crate::{laptop::Laptop, setup_verbs::Desk, world::programs};

const FILE: &str = "project = \"build-desk\"\nlocation = \"europe-west1\"\ncloud = \"local\"\n[businesses.bu1]\n";

#[test]
fn cloud_build_makes_images_once_and_tells_their_digests() {
    let desk = Desk::start(FILE);
    let failed = desk.run(&["build"], 1);
    assert!(failed.contains("cargo xtask provision"), "{failed}");
    desk.run(&["provision", "--yes"], 0);

    let shown = desk.xtask(&["build", "engine", "orchestrator", "--dry-run", "--json"]);
    let plan: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(plan["builder"], "cloud-build");
    assert!(plan["steps"].as_array().unwrap().iter().all(|step| step["present"].is_null()), "{plan}");

    let built = desk.xtask(&["build", "engine", "orchestrator", "--json"]);
    let said = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "{said}");
    for word in ["waits for a machine", "| FETCHSOURCE", "| Step #0: cargo xtask build --local", "is done"] {
        assert!(said.contains(word), "{word:?} is not in\n{said}");
    }
    let built: Value = serde_json::from_slice(&built.stdout).unwrap();
    assert_eq!(built["source"], plan["source"]);
    let images = built["images"].as_array().unwrap();
    assert_eq!(images.len(), 2);
    for image in images {
        let (repository, digest) = image["reference"].as_str().unwrap().split_once('@').unwrap();
        assert!(repository.starts_with("europe-west1-docker.pkg.dev/build-desk/build-desk-images/"), "{image}");
        assert_eq!((digest.len(), image["built"].as_bool()), (71, Some(true)), "{image}");
    }

    // Nothing changed: nothing is built, and the same digests are told.
    let again = desk.xtask(&["build", "engine", "orchestrator", "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    for (one, other) in images.iter().zip(again["images"].as_array().unwrap()) {
        assert_eq!(one["reference"], other["reference"]);
        assert_eq!(other["built"], false);
    }
    // The nodes know an image by its digest, so a rendered manifest runs.
    desk.run(&["render", "--out", desk.folder().join("out").to_str().unwrap()], 0);
    let manifest = std::fs::read_to_string(desk.folder().join("out/manifests/bu1/orchestrator.yaml")).unwrap();
    let orchestrator = images.iter().find(|image| image["image"] == "orchestrator").unwrap();
    assert!(manifest.contains(orchestrator["reference"].as_str().unwrap()), "{manifest}");
}

#[tokio::test]
async fn ctrl_c_cancels_the_build_that_is_in_progress() {
    let _ = cloud::clients::install_tls_provider();
    let desk = Desk::start(FILE);
    desk.run(&["provision", "--yes"], 0);
    let mut builds = desk.begin(&["build", "engine"]);
    let mut said = BufReader::new(builds.stderr.take().unwrap()).lines().map_while(Result::ok);
    let begun = said.by_ref().find_map(|line| Some(line.strip_prefix("  build ")?.split_once(' ')?.0.to_owned()));
    let id = begun.expect("it says which build it ordered");
    interrupt(&builds);
    let rest: Vec<String> = said.collect();
    assert_eq!(builds.wait().unwrap().code(), Some(130), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("error[interrupted]")), "{rest:#?}");
    let path = format!("v1/projects/build-desk/locations/europe-west1/builds/{id}");
    let build = desk.cloud().await.google.send(&Request::get(Api::CloudBuild, path)).await.unwrap();
    assert_eq!(build["status"], "CANCELLED", "{build}");
    // What was cancelled is not waited for: the next one is another.
    let again = desk.json(&["build", "engine"], 0);
    assert_eq!(again["images"][0]["built"], true, "{again}");
}

/// What a terminal does on Ctrl-C.
fn interrupt(child: &std::process::Child) {
    let pid = i32::try_from(child.id()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT).unwrap();
}

#[test]
fn what_cannot_be_built_is_said_before_anything_is_compiled() {
    let desk = Desk::start(FILE);
    for (arguments, code, said) in [
        (&["build", "nobody"][..], 64, "client, deskgrid, engine"),
        (&["build", "--local"], 64, "--output"),
        (&["build", "--registry", "localhost:1/x"], 64, "--local"),
        (&["build", "--username", "me"], 64, "--password-stdin"),
        (&["build", "--local", "engine:src-1"], 64, "--registry"),
        (&["build", "--local", "--registry", "localhost:1/x", "engine:src-1", "client"], 64, "every image has a tag"),
        (&["build", "--local", "--registry", "localhost:1/x", "engine:src-1"], 1, "error[registry-unreachable]"),
        (&["build", "--local", "--registry", "localhost:1/x"], 1, "error[registry-unreachable]"),
        // Whoever is to be acted as is acted as, towards a registry too.
        (
            &["build", "--local", "--registry", "gcr.io/x", "--impersonate-service-account", "me"],
            64,
            "email of a service account",
        ),
    ] {
        let output = desk.run(arguments, code);
        assert!(output.contains(said), "{arguments:?}: {said:?} is not in\n{output}");
    }
}

#[test]
fn deskgrid_needs_a_configuration_and_no_source() {
    let laptop = Laptop::start("project = \"daily-desk\"\n[businesses.bu1]\n");
    laptop.ok("xtask provision --yes");
    let config = laptop.folder().join("generated/desk/config.json");
    let deskgrid = programs()["deskgrid"].display().to_string();
    let line = |verb: &str| format!("{deskgrid} --config {} {verb}", config.display());
    std::fs::write(laptop.folder().join("book.json"), "{}").unwrap();
    laptop.ok(&line("submit --session one book.json"));
    laptop.shows(&line("jobs --json"), "\"book.json\"");
    laptop.shows(&line("session list"), "one");
    // What it says is what can be typed.
    let missing = laptop.run(&line("job nobody"));
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(said.contains("deskgrid") && !said.contains("cargo xtask"), "{said}");
    laptop.shows(&format!("{deskgrid} explain no-such-job"), "deskgrid jobs");
    laptop.shows(&format!("{deskgrid} completions bash"), "_deskgrid");
    let verbs = laptop.ok(&format!("{deskgrid} --help"));
    assert!(!verbs.contains("provision ") && verbs.contains("dead-letters"), "{verbs}");
}
