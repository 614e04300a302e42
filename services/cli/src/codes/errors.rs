//! Codes of errors that `cargo xtask` and `deskgrid` print.

use super::Entry;

/// Error codes, by name.
pub(super) const ERRORS: &[Entry] = &[
    ("act-as-denied", "your account may not use the node account", "ask for roles/iam.serviceAccountUser on it"),
    (
        "admission",
        "a policy, a webhook or a limit of the cluster refuses an object or its pods",
        "ask the owner of the policy in the message, or change the manifest to comply with it",
    ),
    ("agents-denied", "service agents lack a role in the host project", "run the commands in the message there"),
    (
        "already-running",
        "a laptop cloud of this environment is running",
        "use it, or stop it with `cargo xtask local down`",
    ),
    ("api-disabled", "services that the project needs are not enabled", "enable them with the command in the message"),
    (
        "bucket-taken",
        "the bucket cannot be read: bucket names are shared by all of Google Cloud, so it may be somebody else's",
        "set another `bucket` in the environment file",
    ),
    ("build", "the services do not compile", "read the messages of the compiler"),
    ("check", "a check of the repository failed", "read its messages; `cargo xtask check` runs the checks again"),
    (
        "cloud-build",
        "a build on Cloud Build failed: a step failed, it took or waited too long, or it was cancelled",
        "read its log; run `cargo xtask build` again, or `cargo xtask build --local` without Cloud Build",
    ),
    (
        "cloud-build-refused",
        "Cloud Build refused the build: the service is disabled or not in this region, or your account may \
         not build",
        "run `cargo xtask doctor`; the account needs roles/cloudbuild.builds.editor on the project and \
         roles/iam.serviceAccountUser on the builder's account",
    ),
    (
        "cluster-denied",
        "your account lacks a permission on the cluster",
        "`kubectl auth can-i --list` shows its permissions; ask for the missing role",
    ),
    (
        "cluster-moved",
        "the cluster, or the keys of its accounts, changed after `deploy` showed its plan; nothing was written",
        "run `cargo xtask deploy` again, and read the new plan",
    ),
    ("cluster-refused", "the API server refused a request", "read its message; deploy again when a template changed"),
    (
        "cluster-unreachable",
        "the API server does not answer",
        "check that the cluster is up, and that `kubectl get pods` works with the same context",
    ),
    (
        "connection-closed",
        "a Python program used a connection that it had closed",
        "call `deskgrid.connect` again; submitted work goes on",
    ),
    (
        "crash-loop",
        "a container fails again after each restart",
        "read the last log lines in the message; deploy a corrected version",
    ),
    (
        "creation-failed",
        "Google could not create a resource",
        "correct the cause, delete the resource, and provision again",
    ),
    (
        "credentials",
        "there are no credentials, or they are not valid any more",
        "run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS to a credentials file",
    ),
    ("denied", "your account lacks a permission", "ask for the role in the message, or use another account"),
    (
        "environment-differs",
        "the pool has other Python packages or another version of Python than the program that submits; nothing was \
         submitted",
        "install the same on both sides, or name the packages that matter with `packages=`",
    ),
    (
        "environment-file",
        "the environment file has errors, or cannot be written",
        "correct the lines in the message, or make it writable",
    ),
    ("failed", "an error without a code of its own", "read the message; --verbose prints more"),
    (
        "field-conflict",
        "another tool owns fields that the deploy would change",
        "`cargo xtask deploy --dry-run` shows the difference; --force-conflicts takes over the fields",
    ),
    (
        "folder-loop",
        "a symbolic link in a folder leads to a folder above it",
        "submit another folder, or remove the link",
    ),
    ("foreign", "somebody else has a resource of our name", "give ours another name, or take it over with --adopt"),
    (
        "identity",
        "Google refuses the identity of a pod",
        "`cargo xtask provision` binds the Kubernetes account to the Google account; a new binding takes two \
         to seven minutes to work",
    ),
    (
        "image-pull",
        "an image cannot be pulled",
        "check that the registry has the image, and that the nodes may read the registry",
    ),
    ("immutable", "a field differs that cannot be changed", "give the resource another name, or delete it by hand"),
    ("interrupted", "a signal stopped the verb", "run it again; it starts from the beginning"),
    ("key-denied", "service agents may not use an encryption key", "run the commands in the message as its owner"),
    ("key-disabled", "the primary version of an encryption key is off", "enable it, or make another one primary"),
    (
        "key-purpose",
        "a key of [security.kms_keys] is not for encryption",
        "name a key with the purpose ENCRYPT_DECRYPT",
    ),
    (
        "keys-forbidden",
        "the organisation forbids keys of service accounts",
        "set `auth = \"workload-identity\"` in the environment file, or have the constraint removed for the \
         project",
    ),
    (
        "keys-in-use",
        "running engines still use the old keys, so the keys were not deleted",
        "run `cargo xtask rotate-keys` again when the engines have ended, or wait longer with --wait SECONDS",
    ),
    (
        "left-behind",
        "a resource that should be deleted still exists",
        "run it again, or delete the resource in the message by hand",
    ),
    ("local-start", "the laptop cloud did not start", "read the log file in the message"),
    (
        "lock-denied",
        "your account may not write the lock object of the environment in its bucket",
        "ask for roles/storage.objectUser on the bucket, or on its objects that begin with deskgrid/",
    ),
    (
        "lock-lost",
        "the lock of the environment could not be renewed, or somebody took it over",
        "find out who works on the environment, then run it again; it continues from the current state",
    ),
    (
        "locked",
        "somebody else works on the environment",
        "run it again later, or wait longer with --lock-wait SECONDS; the lock of a dead process expires \
         after a minute",
    ),
    (
        "malformed-archive",
        "an archive cannot be a pack of files, so nothing was uploaded",
        "make an archive of regular files with tar, and submit it",
    ),
    (
        "malformed-table",
        "a table cannot be priced, so nothing was uploaded",
        "correct the lines in the message, and submit it again",
    ),
    ("missing", "a resource that others look after is missing or differs", "ask them for what the plan shows"),
    ("name-collision", "two inputs would be Jobs of the same name", "rename one of them, or submit them separately"),
    ("name-length", "a name is too long or too short", "give it another name in the environment file"),
    (
        "namespace-ending",
        "a namespace is being deleted",
        "`cargo xtask clean --all` releases its unsettled Jobs; `kubectl describe namespace` shows what else it waits for; then deploy",
    ),
    ("no-billing", "no billing account pays for the project", "link one with the command in the message"),
    ("no-business", "the environment has no business", "`cargo xtask add-business NAME`"),
    (
        "no-cluster",
        "there is no connection to the cluster",
        "run `cargo xtask provision`, or `cargo xtask local up` for a laptop cloud",
    ),
    (
        "no-image",
        "no image was built for this environment, or this machine cannot build one",
        "run `cargo xtask build`, or name images with --orchestrator-image and --engine-image",
    ),
    ("no-key", "an encryption key does not exist", "create it, or name another one under [security.kms_keys]"),
    (
        "no-log",
        "there is no log yet, or it was deleted with its pod",
        "`cargo xtask job JOB` shows the last log lines of a failed Job",
    ),
    ("no-namespace", "a business that was deployed has no namespace", "`cargo xtask deploy` creates it again"),
    ("no-network", "the network does not exist", "create it, or name another one as `network` under [network]"),
    (
        "no-program",
        "the Python package does not find the program deskgrid, or cannot start it",
        "install the wheel of the package, or set DESKGRID_PROGRAM to the path of the program",
    ),
    (
        "no-project",
        "the project cannot be read",
        "check `project` in the environment file, and your roles in the project",
    ),
    (
        "no-range",
        "the subnetwork lacks a secondary range",
        "name existing ranges, or add it with the command in the message",
    ),
    ("no-region", "the region does not exist", "set `location` in the environment file to another one"),
    ("no-results", "no Job has a result yet", "`cargo xtask jobs` shows the states of the Jobs"),
    (
        "no-subnetwork",
        "the subnetwork does not exist",
        "create it, or name another one as `subnetwork` under [network]",
    ),
    ("no-such-file", "a file or folder does not exist", "check its name"),
    (
        "no-such-item",
        "the Job is no pack, is not split yet, or has fewer items",
        "`cargo xtask job JOB` shows its items",
    ),
    ("no-such-job", "there is no Job of that name", "`cargo xtask jobs` lists them"),
    (
        "no-such-session",
        "the session has no Job, and was never paused or cancelled",
        "`cargo xtask session list` lists the sessions",
    ),
    (
        "no-web-app",
        "a web app is not deployed, or not ready",
        "set `web.enabled` in the environment file, and run `cargo xtask deploy`",
    ),
    ("no-zone", "the region has no such zone", "set `zone` in the environment file to one of its zones"),
    ("not-a-file", "a path is neither a file nor a folder", "submit files or folders"),
    ("not-agreed", "the answer to a question was not yes", "answer yes, or confirm with --yes"),
    ("not-attached", "the project is not attached to its host project", "run the commands in the message"),
    ("not-found", "a resource does not exist in the cloud", "`cargo xtask provision` creates missing resources"),
    (
        "not-retried",
        "Jobs were not retried",
        "read the first error; submit Jobs without an input again, and run the same command for the rest",
    ),
    ("not-running", "the laptop cloud is not running", "`cargo xtask local up`"),
    ("not-set-up", "the environment was not provisioned from this machine", "`cargo xtask provision`"),
    (
        "not-settled",
        "Jobs of the session were still waiting or running at the time limit",
        "`cargo xtask session wait` continues; `cargo xtask job JOB` shows why a Job waits",
    ),
    ("not-submitted", "Jobs were not submitted", "read the first error; run it again to send only the missing Jobs"),
    (
        "not-verified",
        "results are missing, or differ from what their outcomes say or from a new computation",
        "read the table above the error; submit the Jobs in it once more in another session, and compare the results",
    ),
    ("nothing-to-submit", "the paths contain no input", "give files, or folders with files"),
    (
        "org-policy",
        "a constraint of the organisation forbids a setting",
        "change the setting, or have the constraint changed",
    ),
    (
        "pending",
        "the business or the session has waiting or running Jobs",
        "wait until they have ended (`cargo xtask status`), or cancel them with --cancel",
    ),
    ("plan-file", "a file is not a plan of this version", "make a new plan with `cargo xtask plan --out FILE`"),
    (
        "plan-moved",
        "the project or the environment file changed after the plan was confirmed; nothing was changed",
        "read a new plan with `cargo xtask plan`, and confirm that",
    ),
    (
        "pod-config",
        "a container cannot be created, because an object that it uses is missing",
        "read the message; `cargo xtask deploy` creates missing objects",
    ),
    (
        "policy-limit",
        "an IAM policy would exceed a limit",
        "give businesses buckets of their own, or `provision --prune`",
    ),
    ("probe", "a container runs, but its probes fail", "read its log: `cargo xtask logs --orchestrator`"),
    (
        "program-ended",
        "the program deskgrid, which a Python program had started, ended",
        "read its messages on standard error, and call `deskgrid.connect` again; submitted work goes on",
    ),
    (
        "quota",
        "a quota of the cluster or of the project is used up",
        "`kubectl describe quota` and `cargo xtask doctor` show its use; raise it, or delete what uses it",
    ),
    ("quota-project", "calls may not count in the project", "ask for roles/serviceusage.serviceUsageConsumer on it"),
    (
        "registry-denied",
        "the image registry denied access",
        "Google's registry: `gcloud auth application-default login` and roles/artifactregistry.writer; \
         another one: `docker login HOST`, or --username NAME --password-stdin",
    ),
    (
        "registry-refused",
        "the image registry refused an image",
        "read its message; another build sends only missing layers",
    ),
    ("registry-unreachable", "the image registry does not answer", "check its address and the network"),
    (
        "rollout-stuck",
        "a rollout makes no progress, for an unknown reason",
        "`kubectl describe deployment,pod` shows what the cluster knows",
    ),
    (
        "shared-identity",
        "two environments have a namespace in common",
        "set another `namespace` in the environment file",
    ),
    (
        "smoke-failed",
        "commands of a smoke test did not end as they should",
        "read the messages above; the report that the message names can be sent to the maintainers",
    ),
    ("stopped", "the verb was stopped before its end", "run it again; it continues"),
    ("subnetwork-unnamed", "the network has subnetworks of its own", "name one as `subnetwork` under [network]"),
    ("timeout", "no answer came in time", "check that the service is up, and check the network"),
    ("too-many-notifications", "a bucket has too many notifications", "give the business a `bucket` of its own"),
    ("too-many-roles", "the project has too many custom roles", "delete one that nothing uses"),
    ("unhealthy", "a check of the environment failed", "follow the advice of `cargo xtask doctor` for each finding"),
    ("unknown-code", "there is no such code", "`cargo xtask explain` lists all codes"),
    (
        "unreachable",
        "a service does not answer",
        "`cargo xtask local status` for a laptop cloud, else check the network and the proxy",
    ),
    (
        "unschedulable",
        "no node has room for a pod, and the autoscaler adds none",
        "add nodes or larger ones, raise the limit of the autoscaler, or lower the requests",
    ),
    ("usage", "the command line has an error", "see --help"),
];
