//! Reason codes of Jobs: of outcomes, and of Jobs that wait or run.

use super::Entry;

/// Reason codes, by name.
pub(super) const REASONS: &[Entry] = &[
    ("already-done", "the result existed already, so the engine computed nothing", "nothing"),
    (
        "cancelled",
        "a person cancelled the Job or its session, or deleted its Kubernetes Job",
        "`cargo xtask session retry SESSION JOB` runs it",
    ),
    (
        "cannot-start",
        "the desk's own program cannot be started",
        "correct `engine.command` of the business, or the image, and deploy",
    ),
    (
        "common-data-missing",
        "the input needs common data that the session does not have",
        "submit again with --common FILE",
    ),
    ("completed", "every result is written", "nothing"),
    (
        "compressed-pack",
        "the input of a pack is stored compressed with gzip, and a range is a part of its bytes",
        "decompress the input, and submit it again",
    ),
    (
        "configuration",
        "the engine cannot read its configuration",
        "deploy again, so that orchestrator and engine have the same version",
    ),
    ("created", "the Kubernetes Job has no pod yet", "wait; `cargo xtask job JOB` shows events and full quotas"),
    ("empty-message", "the message has no data", "publish a message with data"),
    (
        "engine-error",
        "the engine failed, for example because Cloud Storage did not answer",
        "read the message; `cargo xtask session retry SESSION JOB`",
    ),
    (
        "evicted",
        "the node removed the pod, mostly for lack of memory or disk",
        "`cargo xtask session retry SESSION JOB`; raise `engine.memory` if it happens again",
    ),
    (
        "failed",
        "Kubernetes reports a failure without a reason",
        "read the message and the events: `cargo xtask job JOB`",
    ),
    ("input-missing", "the input was deleted or replaced before the Job could read it", "submit the input again"),
    ("input-too-large", "the input is larger than the kernel accepts", "split it into several inputs"),
    (
        "invalid-job",
        "the API server refused the Kubernetes Job",
        "read the message; correct the options of the Job, or the Job template",
    ),
    ("item-missing", "the input of a pack has no rows, lines or files for the item", "submit the pack again"),
    (
        "lost",
        "the input has no Kubernetes Job after an hour, and the options of its message are not known",
        "publish its message again, or run it without options: `cargo xtask session retry SESSION JOB`",
    ),
    (
        "malformed-answer",
        "the desk's own program wrote something other than answers to standard output, which `--resident` does not allow",
        "write it to standard error",
    ),
    (
        "malformed-archive",
        "a pack of files is no tar archive, is cut off, or has links, devices or files of the same name",
        "make an archive of regular files, and submit it again",
    ),
    (
        "malformed-generation",
        "the generation in the message is not a positive integer",
        "correct the message and replay it: `cargo xtask dead-letters replay ID --file FILE`",
    ),
    (
        "malformed-input",
        "the input has errors, which the message lists",
        "correct the input, and replay it with `cargo xtask dead-letters replay JOB --file FILE`",
    ),
    (
        "malformed-message",
        "the data or the attributes of the message have an error",
        "correct the message and replay it: `cargo xtask dead-letters replay ID --file FILE`",
    ),
    (
        "malformed-option",
        "an attribute of the message, or an option in the metadata of an upload, has an invalid value",
        "correct it: `cargo xtask dead-letters replay ID --attribute NAME=VALUE`; upload an input again",
    ),
    (
        "market-unclear",
        "there are several files of common data, and none has the name of the market data",
        "name the market data market.json",
    ),
    (
        "message-too-large",
        "an option of the Job is longer than Pub/Sub accepts in a message, 1,024 bytes",
        "submit it again with shorter or fewer names of common data",
    ),
    (
        "misaligned-range",
        "a message names an item of a pack with which no range of it begins",
        "submit the input again; only the layout of a pack defines its ranges",
    ),
    (
        "no-standard-error",
        "too few independent paths decide a value, so its standard error cannot be trusted",
        "request more paths for the trade in the message",
    ),
    ("numeric-overflow", "a value of the result is too large for a number", "check the numbers of the input"),
    (
        "out-of-memory",
        "the engine used more memory than its limit",
        "`cargo xtask session retry SESSION JOB` --memory MORE, or raise `engine.memory`",
    ),
    (
        "output-held-open",
        "a process that the desk's own program started kept its output open",
        "end all child processes before the program exits",
    ),
    ("output-too-large", "the result is larger than its limit", "write a smaller result, or raise `engine.max_output`"),
    (
        "over-limit",
        "the message or the upload requests more memory or time than an attempt may have",
        "request at most 8 times `engine.memory` and `engine.timeout` of the business",
    ),
    ("pack-mismatch", "the input of a pack has more rows, lines or files than its items", "submit the pack again"),
    ("pending", "the pod of the Job does not run yet", "wait; `cargo xtask job JOB` shows why"),
    (
        "permanent-failure",
        "the engine reported that the input can never work, without a reason code",
        "read the log: `cargo xtask logs JOB`",
    ),
    (
        "pod-failure-policy",
        "the engine reported that the input can never work, and its pod was deleted",
        "read the log: `cargo xtask logs JOB`",
    ),
    (
        "pod-killed",
        "two pods ended while they computed nothing but this item, mostly for lack of memory or disk",
        "`cargo xtask session retry SESSION JOB` --memory MORE, or raise `engine.memory` or `engine.disk`",
    ),
    (
        "program-ended",
        "the desk's own program ended while it had an item to answer",
        "read the log: `cargo xtask logs JOB`",
    ),
    (
        "program-failed",
        "the desk's own program ended with an exit code other than 0",
        "read the log: `cargo xtask logs JOB`",
    ),
    ("program-killed", "a signal ended the desk's own program", "read the log: `cargo xtask logs JOB`"),
    (
        "result-gone",
        "a result does not exist any more, because results are kept for a limited time",
        "submit the input again",
    ),
    (
        "result-missing",
        "the engine succeeded, but a result is missing",
        "`cargo xtask session retry SESSION JOB`; read the log if it happens again",
    ),
    (
        "retries-exhausted",
        "every attempt to compute the input or the item failed",
        "read the last error and the log: `cargo xtask job JOB`; then `cargo xtask session retry SESSION JOB`",
    ),
    (
        "retrying",
        "a pod of the Job failed, and Kubernetes starts the next one",
        "wait; `cargo xtask logs JOB --previous` shows the failure",
    ),
    ("running", "the Job runs", "wait"),
    ("settling", "the Kubernetes Job ended, and its outcome is not written yet", "wait a few seconds"),
    ("stopped", "the cluster stopped the engine", "`cargo xtask session retry SESSION JOB`"),
    ("suspended", "the queue (Kueue) has not admitted the Job", "wait, or raise the quota of the queue"),
    (
        "timeout",
        "the engine ran longer than its time limit",
        "`cargo xtask session retry SESSION JOB` --timeout LONGER, or raise `engine.timeout`",
    ),
    ("unknown-schema", "a newer version of Deskgrid wrote the message", "deploy that version"),
    (
        "unreadable-outcome",
        "the outcome object cannot be read, because another program wrote it or changed it",
        "delete the object in the message, or restore it, and submit the input again",
    ),
    (
        "wrong-bucket",
        "the message names a bucket of another business or project",
        "correct the message and replay it: `cargo xtask dead-letters replay ID --file FILE`",
    ),
    (
        "wrong-event",
        "a storage notification of another event than OBJECT_FINALIZE",
        "limit the notification to OBJECT_FINALIZE",
    ),
    (
        "wrong-object",
        "the object in the message is not an input of this business",
        "correct the message and replay it: `cargo xtask dead-letters replay ID --file FILE`",
    ),
];
