//! What becomes of a build: its source is fetched, its steps run, its images are pushed, each as its account may.

use std::{collections::BTreeMap, io::Read as _, sync::Arc};

use serde_json::{Value, json};

use super::CloudBuild;
use crate::{google::call::time_text, identity::principal::Principal};

/// A build that cannot go on: the type of its failure, and the words.
struct Failed(&'static str, String);

impl CloudBuild {
    /// Brings a build to its end.
    pub(super) async fn work(self: Arc<Self>, id: String) {
        tokio::time::sleep(self.takes / 2).await;
        let started = time_text(self.identity.clock.now());
        let begun = self.change(&id, |build| {
            build["status"] = json!("WORKING");
            build["startTime"] = json!(started);
        });
        let Ok(build) = self.get(&id) else { return };
        if !begun {
            return;
        }
        let mut log = Log { builds: &self, build: &build, text: String::new() };
        let came = self.steps(&build, &mut log).await;
        let failure = match came {
            Ok(images) => log.line("DONE").map(|()| {
                self.end(&id, "SUCCESS", json!({"images": images}), Value::Null);
            }),
            Err(failed) => Err(failed),
        };
        if let Err(Failed(kind, why)) = failure {
            // Whoever may not write the log cannot be told there.
            let _ = log.line(&format!("ERROR: {why}"));
            self.end(&id, "FAILURE", Value::Null, json!({"type": kind, "detail": why}));
        }
    }

    fn end(&self, id: &str, status: &str, results: Value, failure: Value) {
        let now = time_text(self.identity.clock.now());
        self.change(id, |build| {
            build["status"] = json!(status);
            build["finishTime"] = json!(now);
            for (key, value) in [("results", results), ("failureInfo", failure)] {
                if !value.is_null() {
                    build[key] = value;
                }
            }
        });
    }

    async fn steps(&self, build: &Value, log: &mut Log<'_>) -> Result<Vec<Value>, Failed> {
        let account = account(self, build);
        log.line("FETCHSOURCE")?;
        let source = self.source(build, &account)?;
        log.line(&format!("{} files", source.len()))?;
        log.line("BUILD")?;
        let id = build["id"].as_str().unwrap_or_default();
        let steps = build["steps"].as_array().cloned().unwrap_or_default();
        let pause = self.takes / u32::try_from(steps.len().max(1)).unwrap_or(1);
        let mut stages: BTreeMap<String, String> = BTreeMap::new();
        for (number, step) in steps.iter().enumerate() {
            tokio::time::sleep(pause).await;
            if self.get(id).map_or(true, |build| super::has_ended(&build)) {
                return Err(Failed("FAILURE_TYPE_UNSPECIFIED", "the build was cancelled".to_owned()));
            }
            let label = format!("Step #{number} - \"{}\"", step["id"].as_str().unwrap_or_default());
            let arguments: Vec<&str> =
                step["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let after = |flag: &str| {
                let place = arguments.iter().position(|argument| *argument == flag)?;
                arguments.get(place + 1).copied()
            };
            let (Some(stage), Some(name)) = (after("--target"), after("--tag")) else {
                log.line(&format!("{label}: nothing to do on a laptop"))?;
                continue;
            };
            let file = after("--file").unwrap_or("Dockerfile");
            let fails = |why: String| Failed("USER_BUILD_STEP", format!("build step {number} failed: {why}"));
            let text = source.get(file).ok_or_else(|| fails(format!("there is no {file} in the source")))?;
            let declared = format!(" AS {stage}");
            if !text.lines().any(|line| line.starts_with("FROM ") && line.trim_end().ends_with(&declared)) {
                return Err(fails(format!("target stage \"{stage}\" could not be found")));
            }
            log.line(&format!("{label}: stage {stage} of {file} is a program of this machine"))?;
            stages.insert(name.to_owned(), stage.to_owned());
        }
        log.line("PUSH")?;
        let mut pushed = Vec::new();
        for name in build["images"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let missing = || Failed("PUSH_IMAGE_NOT_FOUND", format!("no step made the image {name}"));
            let stage = stages.get(name).ok_or_else(missing)?;
            pushed.push(self.push(&account, name, stage, log)?);
        }
        Ok(pushed)
    }

    /// Files of the source, as text.
    fn source(&self, build: &Value, account: &Principal) -> Result<BTreeMap<String, String>, Failed> {
        let from = &build["source"]["storageSource"];
        let text = |key: &str| from[key].as_str().unwrap_or_default();
        let fails = |why: String| Failed("FETCH_SOURCE_FAILED", why);
        let generation = from["generation"].as_str().and_then(|text| text.parse().ok());
        let bytes = self
            .storage
            .fetch_as(account, text("bucket"), text("object"), generation)
            .map_err(|error| fails(error.message().to_owned()))?;
        let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(bytes.as_ref()));
        let unreadable = |error: std::io::Error| fails(format!("the source is no tar.gz file: {error}"));
        let mut files = BTreeMap::new();
        for entry in tar.entries().map_err(unreadable)? {
            let mut entry = entry.map_err(unreadable)?;
            let path = entry.path().map_err(unreadable)?.display().to_string();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(unreadable)?;
            files.insert(path, String::from_utf8_lossy(&content).into_owned());
        }
        Ok(files)
    }

    fn push(&self, account: &Principal, name: &str, stage: &str, log: &mut Log<'_>) -> Result<Value, Failed> {
        let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let digest = match self.programs.get() {
            Some(programs) => programs(repository, stage)
                .map_err(|error| Failed("USER_BUILD_STEP", format!("make the image {name}: {error:#}")))?,
            None => {
                return Err(Failed("USER_BUILD_STEP", "this laptop cloud has no programs to make images of".into()));
            }
        };
        self.registry
            .push(account, repository, tag, &digest)
            .map_err(|error| Failed("PUSH_NOT_AUTHORIZED", error.message().to_owned()))?;
        log.line(&format!("{name}: digest: {digest}"))?;
        Ok(json!({"name": name, "digest": digest}))
    }
}

/// The log of a build, an object that is written over as it grows.
struct Log<'a> {
    builds: &'a CloudBuild,
    build: &'a Value,
    text: String,
}

impl Log<'_> {
    fn line(&mut self, line: &str) -> Result<(), Failed> {
        self.text.push_str(line);
        self.text.push('\n');
        let place = self.build["logsBucket"].as_str().unwrap_or_default();
        let Some((bucket, folder)) = place.trim_start_matches("gs://").split_once('/') else { return Ok(()) };
        let name = format!("{folder}/log-{}.txt", self.build["id"].as_str().unwrap_or_default());
        let account = account(self.builds, self.build);
        self.builds
            .storage
            .put_as(&account, bucket, &name, self.text.clone().into())
            .map_err(|error| Failed("LOGGING_FAILURE", error.message().to_owned()))
    }
}

/// The account that a build runs as; nobody when it is gone meanwhile.
fn account(builds: &CloudBuild, build: &Value) -> Principal {
    let email = build["serviceAccount"].as_str().and_then(|name| name.rsplit('/').next()).unwrap_or_default();
    builds.identity.service_account(email).unwrap_or(Principal::Anonymous)
}
