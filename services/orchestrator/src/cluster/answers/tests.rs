//! What each answer of the API server means.

use super::*;

fn status(code: u16, reason: &str, message: &str, kind: &str, retry_after_seconds: u32) -> kube::Error {
    let status = serde_json::json!({
        "status": "Failure", "code": code, "reason": reason, "message": message,
        "details": {"kind": kind, "retryAfterSeconds": retry_after_seconds},
    });
    kube::Error::Api(serde_json::from_value(status).unwrap())
}

fn retry(reason: &'static str) -> Answer {
    Answer::Retry { reason, after: Duration::ZERO }
}

#[track_caller]
fn check(error: &kube::Error, expected: Answer) {
    let actual = classify(error);
    // The texts of faults and rejections are the server's own; which of the two it is is what counts.
    match (&actual, &expected) {
        (Answer::OurFault(_), Answer::OurFault(_)) | (Answer::Rejected(_), Answer::Rejected(_)) => {}
        _ => assert_eq!(actual, expected),
    }
}

#[test]
fn answers_are_told_apart() {
    let fault = || Answer::OurFault(String::new());
    let rejected = || Answer::Rejected(String::new());
    // As Kubernetes 1.34 words them.
    for (code, reason, message, kind, expected) in [
        (409, "AlreadyExists", "jobs.batch \"job-1\" already exists", "jobs", Answer::Exists),
        (
            409,
            "Conflict",
            "Operation cannot be fulfilled on resourcequotas \"q\": the object has been modified; please apply your \
             changes to the latest version and try again",
            "resourcequotas",
            retry(retry::QUOTA),
        ),
        (
            403,
            "Forbidden",
            "jobs.batch \"job-1\" is forbidden: exceeded quota: q, requested: count/jobs.batch=1, used: \
             count/jobs.batch=5, limited: count/jobs.batch=5",
            "jobs",
            retry(retry::QUOTA),
        ),
        (403, "Forbidden", "jobs.batch \"j\" is forbidden: status unknown for quota: q", "jobs", retry(retry::QUOTA)),
        (
            403,
            "Forbidden",
            "jobs.batch is forbidden: User \"system:serviceaccount:bu1:orchestrator\" cannot create resource \"jobs\" \
             in API group \"batch\" in the namespace \"bu1\"",
            "jobs",
            fault(),
        ),
        (
            403,
            "Forbidden",
            "jobs.batch \"j\" is forbidden: unable to create new content in namespace bu1 because it is being terminated",
            "jobs",
            fault(),
        ),
        (404, "NotFound", "namespaces \"bu1\" not found", "namespaces", fault()),
        (401, "Unauthorized", "Unauthorized", "", fault()),
        (400, "BadRequest", "admission webhook \"policy.example\" denied the request: no", "", fault()),
        (
            422,
            "Invalid",
            "jobs.batch \"j\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no",
            "jobs",
            fault(),
        ),
        (422, "Invalid", "Job.batch \"j\" is invalid: spec.completions: Invalid value", "Job", rejected()),
        (400, "BadRequest", "Job in version \"v1\" cannot be handled as a Job: strict decoding error", "", rejected()),
        (413, "RequestEntityTooLarge", "Request entity too large: limit is 3145728", "", rejected()),
        (429, "TooManyRequests", "Too many requests, please try again later.", "", retry(retry::THROTTLED)),
        (500, "InternalError", "failed calling webhook \"w\": connection refused", "", retry(retry::UNAVAILABLE)),
        (
            503,
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
            "",
            retry(retry::UNAVAILABLE),
        ),
        (504, "Timeout", "request did not complete within requested timeout", "", retry(retry::UNAVAILABLE)),
    ] {
        check(&status(code, reason, message, kind, 0), expected);
    }
}

#[test]
fn the_server_says_when_to_come_again() {
    let error = status(429, "TooManyRequests", "slow down", "", 7);
    check(&error, Answer::Retry { reason: retry::THROTTLED, after: Duration::from_secs(7) });
}

#[test]
fn no_answer_is_no_verdict() {
    check(&kube::Error::Service("connection refused".into()), retry(retry::UNAVAILABLE));
}
