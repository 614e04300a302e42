//! Every stable error code, with what is behind it and what to do.

/// One error code.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Code {
    /// The code, as in `error[CODE]`.
    pub(crate) code: &'static str,
    /// What is behind it.
    pub(crate) cause: &'static str,
    /// What to do.
    pub(crate) fix: &'static str,
}

const fn code(code: &'static str, cause: &'static str, fix: &'static str) -> Code {
    Code { code, cause, fix }
}

/// All of them, by name.
pub(crate) const CODES: &[Code] = &[
    code(
        "admission",
        "a policy of the cluster, a webhook or a limit refuses an object or its pods",
        "ask whoever looks after the policy that is named, or change the manifest so that it is content",
    ),
    code(
        "already-running",
        "a laptop cloud of this environment is running",
        "use it, or end it with `cargo xtask local down`",
    ),
    code(
        "blocked",
        "a resource is somebody else's, missing, or cannot become what the environment file says",
        "see what `cargo xtask plan` says of it; --adopt takes foreign resources over",
    ),
    code("build", "the services do not compile", "see the messages of the compiler"),
    code("check", "a check of the repository failed", "see its messages; `cargo xtask check` repeats it"),
    code(
        "cloud-build",
        "a build on Cloud Build did not end well: a step failed, it took too long, waited too long, or was cancelled",
        "see its log; `cargo xtask build` tries again, `cargo xtask build --local` needs no Cloud Build",
    ),
    code(
        "cloud-build-refused",
        "Cloud Build refused the build: the service is not enabled, the region has none, or your account may not build",
        "`cargo xtask doctor`; roles/cloudbuild.builds.editor on the project, roles/iam.serviceAccountUser on the \
         builder's account",
    ),
    code(
        "cluster-denied",
        "your account may not do this on the cluster",
        "`kubectl auth can-i --list` shows what it may; ask for the role that is missing",
    ),
    code(
        "cluster-refused",
        "the API server refused a request",
        "see its message; deploy again when a template changed",
    ),
    code(
        "cluster-unreachable",
        "the API server does not answer",
        "see whether the cluster is up and `kubectl get pods` works with the same context",
    ),
    code(
        "crash-loop",
        "a container ends again and again",
        "see the last lines of its log, which are shown; deploy a corrected version",
    ),
    code(
        "credentials",
        "there is no credential, or it is not valid any more",
        "`gcloud auth application-default login`, or name a file with GOOGLE_APPLICATION_CREDENTIALS",
    ),
    code("denied", "your account may not do this", "ask for the role that the message names, or use another account"),
    code("environment-file", "the environment file has errors", "correct the places that are shown"),
    code("failed", "something failed that has no code of its own", "see the message; --verbose says more"),
    code(
        "field-conflict",
        "another tool owns fields that the deploy would change",
        "see the difference with `cargo xtask deploy --dry-run`; --force-conflicts takes the fields over",
    ),
    code("folder-loop", "a symbolic link leads back to a folder above it", "submit another folder, or remove the link"),
    code(
        "identity",
        "Google does not let a pod be who it should be",
        "`cargo xtask provision` makes the binding between the Kubernetes and the Google account; a new one takes two minutes to be known as a rule, and at times seven",
    ),
    code(
        "image-pull",
        "an image cannot be pulled",
        "see whether the registry has it, and whether the nodes may read the registry",
    ),
    code("interrupted", "it was stopped by a signal", "run it again; it begins from nothing"),
    code(
        "keys-forbidden",
        "the organisation forbids keys of service accounts",
        "set `auth = \"workload-identity\"` in the environment file, or have the constraint lifted for the project",
    ),
    code(
        "keys-in-use",
        "engines that began with the old keys still run, so these were not deleted",
        "`cargo xtask rotate-keys` again when they have ended, or wait longer with --wait SECONDS",
    ),
    code(
        "left-behind",
        "something that should be gone is still there",
        "run it again, or remove what is named by hand",
    ),
    code("local-start", "the laptop cloud did not start", "see the log that is named"),
    code(
        "lock-denied",
        "your account may not write the lock object of the environment in its bucket",
        "ask for roles/storage.objectUser on the bucket, or for its objects that begin with deskgrid/",
    ),
    code(
        "lock-lost",
        "the lock on the environment could not be renewed, or somebody took it over",
        "see who works on it, then run the same again; it goes on from what is there",
    ),
    code(
        "locked",
        "somebody else works on the environment",
        "run it again when that is done, or wait longer with --lock-wait SECONDS; a lock whose holder died ends by \
         itself after a minute",
    ),
    code("name-collision", "two inputs would be Jobs of the same name", "rename one of them, or submit them apart"),
    code("no-business", "the environment has no business", "`cargo xtask add-business NAME`"),
    code(
        "no-cluster",
        "there is no way to the cluster",
        "`gcloud container clusters get-credentials`, or `cargo xtask local up` for a laptop cloud",
    ),
    code(
        "no-image",
        "no image was built for this environment, or this machine cannot make one",
        "`cargo xtask build`, or name images with --orchestrator-image and --engine-image",
    ),
    code(
        "no-log",
        "nothing has written a log yet, or it is gone with its pod",
        "`cargo xtask job JOB` shows the last lines",
    ),
    code("no-results", "nothing has a result yet", "`cargo xtask jobs` shows how the Jobs stand"),
    code("no-such-file", "a file or folder does not exist", "check its name"),
    code("no-such-job", "there is no Job of that name", "`cargo xtask jobs` lists them"),
    code(
        "no-such-session",
        "no Job of that session is there, and nothing was decided about it",
        "`cargo xtask session list` lists them",
    ),
    code(
        "no-web-app",
        "a web app is not deployed, or not ready",
        "`cargo xtask deploy`, with `web.enabled` in the environment file",
    ),
    code("not-a-file", "something is neither a file nor a folder", "name files or folders"),
    code("not-agreed", "the question was not answered with yes", "answer it, or agree beforehand with --yes"),
    code("not-found", "something does not exist in the cloud", "`cargo xtask provision` makes what is missing"),
    code(
        "not-retried",
        "Jobs could not be given another attempt",
        "see the first error; submit again what has no input any more, and run the same command for the rest",
    ),
    code("not-running", "the laptop cloud is not running", "`cargo xtask local up`"),
    code("not-set-up", "the environment was not provisioned from here", "`cargo xtask provision`"),
    code(
        "not-settled",
        "Jobs of the session still wait or run when the time was over",
        "`cargo xtask session wait` goes on waiting; `cargo xtask job JOB` says what one waits for",
    ),
    code(
        "not-submitted",
        "Jobs were not submitted",
        "see the first error; run it again, which sends only what is missing",
    ),
    code("nothing-to-submit", "there is no input among what was named", "name files, or folders with files"),
    code(
        "pending",
        "work of the business waits or runs",
        "wait until it is done (`cargo xtask status`), or cancel it with --cancel",
    ),
    code(
        "plan-file",
        "a file is not a plan that this version can carry out",
        "make a new one with `cargo xtask plan --out FILE`",
    ),
    code(
        "plan-moved",
        "the project, the cluster or the environment file changed since it was agreed what to do; nothing was changed",
        "look at a new plan with `cargo xtask plan` (of a deploy: `cargo xtask deploy --dry-run`), and agree to that",
    ),
    code(
        "pod-config",
        "a container cannot be made, since something that it names is missing",
        "deploy again, which makes what is missing; see the message",
    ),
    code(
        "preflight",
        "something would stop `provision` halfway, so it did not begin",
        "do what is said of each finding; `cargo xtask doctor` looks at all of them again",
    ),
    code(
        "probe",
        "something runs, but its probes say that it does not work",
        "see its log: `cargo xtask logs --orchestrator`",
    ),
    code(
        "quota",
        "a quota of the cluster or of the project is used up",
        "`kubectl describe quota` and `cargo xtask doctor` show what is used; raise it, or delete what uses it",
    ),
    code(
        "registry-denied",
        "the image registry denied access",
        "for Google's: `gcloud auth application-default login` and roles/artifactregistry.writer; for another one: \
         `docker login HOST`, or --username NAME --password-stdin",
    ),
    code(
        "registry-refused",
        "the image registry did not take an image",
        "see what it says; building again sends only what is missing",
    ),
    code("registry-unreachable", "the image registry does not answer", "check its address, and the network"),
    code(
        "rollout-stuck",
        "a rollout does not come on, for no reason that is known",
        "`kubectl describe deployment,pod` shows all that the cluster knows",
    ),
    code("stopped", "it was stopped before it was done", "run it again; it goes on"),
    code("timeout", "no answer came in time", "see whether the service is up, and the network"),
    code(
        "unhealthy",
        "something that the environment needs is not as it should be",
        "do what `cargo xtask doctor` says of each",
    ),
    code("unknown-code", "there is no such error code", "`cargo xtask explain` lists them all"),
    code(
        "unreachable",
        "a service does not answer",
        "`cargo xtask local status` for the laptop cloud, else the network and proxy",
    ),
    code(
        "unschedulable",
        "no node takes a pod, and none is being made for it",
        "more or larger nodes, a higher limit of the autoscaler, or smaller requests",
    ),
    code("usage", "the command line is not understood", "see --help"),
];

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        path::{Path, PathBuf},
    };

    use super::*;

    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    /// Codes that begin right after `mark` in the text.
    fn after(text: &str, mark: &str) -> Vec<String> {
        let word = |rest: &str| {
            let (word, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
            let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
            plain.then(|| word.to_owned())
        };
        text.match_indices(mark).filter_map(|(at, _)| word(&text[at + mark.len()..])).collect()
    }

    #[test]
    fn every_code_that_is_used_is_explained_once() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&root, &mut files);
        for folder in ["xtask/src", "infra/provision/src"] {
            sources(&root.join("../../..").join(folder), &mut files);
        }
        let mut used = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            // Tests make codes up.
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            used.extend(after(text, "Failure::new("));
            used.extend(after(text, "code:"));
            if file == root.join("error.rs") {
                used.extend(after(text, "("));
                used.extend(after(text, "Self::new("));
            }
        }
        used.retain(|code| !code.ends_with('-') && !["on", "why", "next"].contains(&code.as_str()));
        let known: Vec<&str> = CODES.iter().map(|code| code.code).collect();
        let unexplained: Vec<&String> = used.iter().filter(|code| !known.contains(&code.as_str())).collect();
        assert!(unexplained.is_empty(), "without an entry: {unexplained:?}");
        assert!(used.len() > 20, "{used:?}");
        assert!(known.is_sorted(), "the table is sorted, each code once");
        assert!(known.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
