//! Exit codes of the programs.

use super::Entry;

/// Exit codes, by number.
pub(super) const EXITS: &[Entry] = &[
    ("0", "success; for `session wait` and `submit --wait`, every Job succeeded", "nothing"),
    (
        "1",
        "a verb failed, or Jobs did not succeed; of an engine: a failure that a retry may cure",
        "read the error and its code",
    ),
    ("2", "`cargo xtask plan` found changes", "`cargo xtask provision` makes them"),
    (
        "10",
        "of an engine: the input can never work, so Kubernetes does not retry",
        "read the reason code of the outcome: `cargo xtask job JOB`",
    ),
    ("64", "the command line has an error", "see --help"),
    ("130", "a verb was stopped by SIGINT (Ctrl-C)", "run it again; completed steps are kept"),
    (
        "137",
        "of a container: killed (SIGKILL), mostly for using more memory than its limit",
        "`cargo xtask session retry SESSION JOB` --memory MORE",
    ),
    ("139", "of a container: it crashed with a segmentation fault", "correct the program"),
    (
        "143",
        "a verb or a container was stopped by SIGTERM",
        "run the verb again; after a container, Kubernetes starts the next pod",
    ),
];
