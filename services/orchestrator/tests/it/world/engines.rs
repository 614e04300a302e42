//! What the Job controller and the engines do to the Jobs there are.

use std::collections::BTreeMap;

use bytes::Bytes;
use contract::{
    batch::{Batch, Done, Failed, Manifest, Report},
    message::Work,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::State;

impl State {
    /// What they do for a batch: the inputs at even positions are reported by the first pod, the others by the second,
    /// and of an input that kills its pod there is no report. A first pod that is `half` done leaves the Job running.
    fn run_batch(&mut self, name: &str, mut job: Value) {
        let env = &job["spec"]["template"]["spec"]["containers"][0]["env"];
        let text = env.as_array().unwrap().iter().find(|one| one["name"] == "DESKGRID_BATCH").unwrap();
        let batch: Batch = serde_json::from_str(text["value"].as_str().unwrap()).unwrap();
        let manifest = self.objects.get(&batch.manifest()).expect("the manifest precedes the Job").contents.clone();
        let manifest = Manifest::decode(&manifest, &batch).unwrap();
        let now = Timestamp::now();
        let halves = if self.batches_stop_halfway { 1 } else { 2 };
        let mut killed = false;
        for half in 0..halves {
            let mut report =
                Report { schema: 1, pod: format!("pod-{half}"), cpu_seconds: 1.0, done: vec![], failed: vec![] };
            for (input, entry) in (0..).zip(&manifest.entries).filter(|(input, _)| input % 2 == half) {
                let (work, identity) = (&entry.work, &entry.work.identity);
                let output = work.output(None);
                let contents = self.objects.get(&identity.object).filter(|o| o.generation == identity.generation);
                let contents = contents.map(|object| object.contents.clone());
                let failed = |code: &str| Failed {
                    input,
                    started: now,
                    finished: now,
                    permanent: true,
                    code: code.into(),
                    message: "said the engine".into(),
                    log_tail: Some("a line".into()),
                };
                match contents {
                    _ if self.objects.contains_key(&output) => {}
                    None => {
                        report.failed.push(failed("input-missing"));
                        continue;
                    }
                    Some(contents) if contents.starts_with(b"bad") => {
                        report.failed.push(failed("malformed-input"));
                        continue;
                    }
                    Some(contents) if contents.starts_with(b"kill") => {
                        killed = true;
                        continue;
                    }
                    Some(_) => {
                        self.write_once(&output, Bytes::from_static(b"result"), BTreeMap::new());
                    }
                }
                report.done.push(Done { input, started: now, finished: now });
            }
            let text = serde_json::to_vec(&report).unwrap();
            self.write_once(&batch.report(half, &report.pod), text.into(), BTreeMap::new());
        }
        job["status"]["succeeded"] = halves.into();
        if halves == 2 {
            let condition = if killed { "Failed" } else { "Complete" };
            job["status"]["conditions"] = json!([{"type": condition, "status": "True", "reason": "FailedIndexes"}]);
        }
        if self.jobs.get(name) != Some(&job) && self.jobs[name]["status"] != job["status"] {
            self.show(name, job, "MODIFIED");
        }
    }

    /// What the Job controller and an engine do: a result and success, or exit 10 for an input that is malformed or gone.
    pub(super) fn run_engines(&mut self) {
        if self.engines_wait {
            return;
        }
        let waiting = self
            .jobs
            .iter()
            .filter(|(_, job)| job["status"]["conditions"].is_null() && job["metadata"]["deletionTimestamp"].is_null())
            .filter(|(_, job)| job["spec"]["suspend"] != true);
        for (name, mut job) in waiting.map(|(name, job)| (name.clone(), job.clone())).collect::<Vec<_>>() {
            if contract::batch::is_job_name(&name) {
                self.run_batch(&name, job);
                continue;
            }
            let text = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"].as_str().unwrap();
            // Alone, what killed a pod is found out.
            let work: Work = serde_json::from_str(text).unwrap();
            let outputs = work.outputs();
            let input = self.objects.get(&work.identity.object).filter(|o| o.generation == work.identity.generation);
            let done = outputs.iter().all(|output| self.objects.contains_key(output));
            let refuses = match input {
                _ if done => None,
                None => Some("input-missing"),
                Some(input) if input.contents.starts_with(b"bad") => Some("malformed-input"),
                Some(input) if input.contents.starts_with(b"kill") => Some("kills-pods"),
                Some(_) => None,
            };
            let (condition, exit_code) = if refuses.is_some() { ("Failed", 10) } else { ("Complete", 0) };
            if refuses.is_none() {
                for output in outputs {
                    self.write_once(&output, Bytes::from_static(b"result"), BTreeMap::new());
                }
            }
            let said = json!({"code": refuses.unwrap_or("done"), "message": "said the engine", "cpu_seconds": 0.5});
            let pod = json!({
                "metadata": {"name": format!("{name}-0")},
                "spec": {"containers": [{"name": "engine"}]},
                "status": {
                    "phase": if exit_code == 0 { "Succeeded" } else { "Failed" },
                    "containerStatuses": [{
                        "name": "engine", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
                        "state": {"terminated": {"exitCode": exit_code, "message": said.to_string()}},
                    }],
                },
            });
            self.pods.insert(name.clone(), pod);
            job["status"]["conditions"] = json!([{"type": condition, "status": "True", "reason": "PodFailurePolicy"}]);
            self.show(&name, job, "MODIFIED");
        }
    }
}
