//! What becomes of a build: its source is fetched, its steps run and push images, each as its account may.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};

use super::{CloudBuild, Pushed};
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
        let ran = self.run(&build, &mut log).await.and_then(|()| log.line("DONE"));
        if let Err(Failed(_, why)) = &ran {
            // A builder that may not write the log cannot report there.
            let _ = log.line(&format!("ERROR: {why}"));
        }
        let now = time_text(self.identity.clock.now());
        self.change(&id, |build| {
            build["status"] = json!(if ran.is_ok() { "SUCCESS" } else { "FAILURE" });
            build["finishTime"] = json!(now);
            if let Err(Failed(kind, why)) = ran {
                build["failureInfo"] = json!({"type": kind, "detail": why});
            }
        });
    }

    async fn run(&self, build: &Value, log: &mut Log<'_>) -> Result<(), Failed> {
        let account = account(self, build);
        log.line("FETCHSOURCE")?;
        let source = self.source(build, &account)?;
        log.line(&format!("{} files", source.len()))?;
        log.line("BUILD")?;
        let id = build["id"].as_str().unwrap_or_default();
        let steps = build["steps"].as_array().cloned().unwrap_or_default();
        let pause = self.takes / u32::try_from(steps.len().max(1)).unwrap_or(1);
        for (number, step) in steps.iter().enumerate() {
            tokio::time::sleep(pause).await;
            if self.get(id).map_or(true, |build| super::has_ended(&build)) {
                return Err(Failed("FAILURE_TYPE_UNSPECIFIED", "the build was cancelled".to_owned()));
            }
            let arguments = step["args"].as_array().into_iter().flatten();
            let command: Vec<&str> =
                [&step["entrypoint"]].into_iter().chain(arguments).filter_map(Value::as_str).collect();
            log.line(&format!("Step #{number}: {}", command.join(" ")))?;
            let fails = |why: String| Failed("USER_BUILD_STEP", format!("build step {number} failed: {why}"));
            if command.first() == Some(&"cargo") && !source.contains("Cargo.toml") {
                return Err(fails("could not find `Cargo.toml` in `/workspace`".to_owned()));
            }
            let steps = self.steps.get().ok_or_else(|| fails("this laptop cloud runs no steps".to_owned()))?;
            for Pushed { repository, tag, digest } in steps(&command).map_err(|error| fails(format!("{error:#}")))? {
                let pushed = self.registry.push(&account, &repository, &tag, &digest);
                pushed.map_err(|error| fails(error.message().to_owned()))?;
                log.line(&format!("Step #{number}: pushed {repository}:{tag}, {digest}"))?;
            }
        }
        Ok(())
    }

    /// Paths of the files of the source.
    fn source(&self, build: &Value, account: &Principal) -> Result<BTreeSet<String>, Failed> {
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
        let path = |entry: std::io::Result<tar::Entry<'_, _>>| Ok(entry?.path()?.display().to_string());
        tar.entries().and_then(|entries| entries.map(path).collect()).map_err(unreadable)
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
