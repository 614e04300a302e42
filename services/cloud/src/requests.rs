//! A record of the requests of a process: one line of JSON each, without names, tokens and bodies, so that it can be
//! given to others.
//!
//! Our client of Google's REST APIs, Google's own libraries (with `GOOGLE_CLOUD_RUST_LOGGING=true`, see `options.rs` of
//! google-cloud-gax-internal) and the Kubernetes client (`client/builder.rs` of kube-client) open a span for each
//! request. A layer writes it down when it closes.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs::File,
    io::{self, Write as _},
    path::Path,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{Layer, filter::filter_fn, layer::Context, registry::LookupSpan};

/// Variable with which Google's libraries open spans, when it is `true`.
pub const ENV_GOOGLE_SPANS: &str = "GOOGLE_CLOUD_RUST_LOGGING";
/// Name of our own spans, which have the fields of the Kubernetes client's.
pub const SPAN: &str = "google_request";
/// Ours, the Kubernetes client's, and those of Google's libraries.
const SPANS: [&str; 4] = [SPAN, "HTTP", "grpc.request", "http_request"];

/// Parts of a path that are the same for everybody. All others are names.
const WORDS: &str = "\
    addresses alertPolicies api apis backendconfigs batch b batches billingAccounts billingInfo buckets builds certificates clusterrolebindings \
    clusterroles clusters compute configmaps cronjobs customresourcedefinitions dashboards default deployments dockerImages events exec \
    firewalls folders frontendconfigs global iam ingresses instances jobs keyRings keys kube-system limitranges \
    localqueues locations log machineTypes managedcertificates namespaces networkpolicies networks nodePools nodes \
    notificationConfigs o operations organizations packages persistentvolumeclaims podmonitorings pods policies \
    portforward priorityclasses projects proxy quotaInfos regions repositories replicasets resourcequotas \
    rolebindings roles routers scale schemas secrets serverConfig serviceAccounts serviceaccounts services snapshots \
    status storage storageLayout subnetworks subscriptions tags testPermissions tokens topics upload v1 v1alpha v1beta \
    v1beta1 v1beta2 v2 v3 version zones apps autoscaling policy";

/// A layer that writes every request to a file, behind what is there.
///
/// # Errors
/// When the file cannot be written to.
pub fn layer<S>(path: &Path) -> io::Result<impl Layer<S> + use<S>>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let file = File::options().create(true).append(true).open(path)?;
    let is_request = filter_fn(|metadata| metadata.is_span() && SPANS.contains(&metadata.name()));
    Ok(Requests(Mutex::new(file)).with_filter(is_request))
}

struct Requests(Mutex<File>);

/// What is known of a request.
struct Seen {
    started: Instant,
    fields: BTreeMap<&'static str, String>,
}

impl Visit for Seen {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }
}

impl<S> Layer<S> for Requests
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut seen = Seen { started: Instant::now(), fields: BTreeMap::new() };
        attributes.record(&mut seen);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(seen);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(seen) = span.extensions_mut().get_mut::<Seen>()
        {
            values.record(seen);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        if let Some(seen) = context.span(&id).and_then(|span| span.extensions_mut().remove::<Seen>()) {
            let line = record(&seen.fields, seen.started.elapsed()).to_string() + "\n";
            // A report with a gap is better than a command that fails.
            let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        }
    }
}

/// A request as it is written down.
fn record(fields: &BTreeMap<&str, String>, elapsed: Duration) -> Value {
    let (method, name, rest) = match fields.get("rpc.method") {
        // The method of a gRPC call names an interface and nothing of ours.
        Some(rpc) => ("gRPC", first(fields, &["server.address"]), rpc.clone()),
        None => {
            let url = first(fields, &["http.url", "url.full"]);
            let (name, rest) = url.split_once("://").map_or(url, |(_, rest)| rest).split_once('/').unwrap_or((url, ""));
            (first(fields, &["http.method", "http.request.method"]), name, path(rest))
        }
    };
    let status = first(fields, &["http.status_code", "http.response.status_code", "rpc.response.status_code"]);
    let reason: String = first(fields, &["reason", "error.type"])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
        .collect();
    json!({
        "method": method,
        "host": host(name),
        "path": rest,
        "status": status,
        "milliseconds": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        "reason": reason,
    })
}

/// The first of these fields that is there.
fn first<'a>(fields: &'a BTreeMap<&str, String>, names: &[&str]) -> &'a str {
    names.iter().find_map(|name| fields.get(*name)).map_or("", String::as_str)
}

/// The name of a server of Google's that is the same for everybody.
fn host(name: &str) -> String {
    let name = name.split(':').next().unwrap_or_default();
    match name.strip_suffix(".googleapis.com") {
        Some(service) if !service.contains('.') => name.to_owned(),
        _ => "*".to_owned(),
    }
}

/// A path without its names and its query.
fn path(text: &str) -> String {
    let text = text.split('?').next().unwrap_or_default();
    let is_word = |part: &str| {
        part.is_empty()
            || WORDS.split_whitespace().any(|word| word == part)
            || [".k8s.io", ".googleapis.com", ".gke.io"].iter().any(|end| part.ends_with(end)) && !part.contains('@')
    };
    let part = |part: &str| match part.split_once(':') {
        Some((name, verb)) if verb.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
            format!("{}:{verb}", if is_word(name) { name } else { "*" })
        }
        _ => if is_word(part) { part } else { "*" }.to_owned(),
    };
    let parts: Vec<String> = text.trim_start_matches('/').split('/').map(part).collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn a_path_keeps_what_is_the_same_for_everybody() {
        for (whole, kept) in [
            ("v1/projects/desk-one/topics/desk-one-bu1-topic:setIamPolicy", "/v1/projects/*/topics/*:setIamPolicy"),
            ("storage/v1/b/their-own/o/bu1%2Finput%2Fa.json?alt=media", "/storage/v1/b/*/o/*"),
            (
                "v1/projects/p/serviceAccounts/me@p.iam.gserviceaccount.com/keys",
                "/v1/projects/*/serviceAccounts/*/keys",
            ),
            (
                "/apis/rbac.authorization.k8s.io/v1/namespaces/bu1/roles/engine",
                "/apis/rbac.authorization.k8s.io/v1/namespaces/*/roles/*",
            ),
            (
                "v1/projects/p/services/pubsub.googleapis.com:enable",
                "/v1/projects/*/services/pubsub.googleapis.com:enable",
            ),
            ("v1/a:b-c", "/v1/*"),
        ] {
            assert_eq!(path(whole), kept);
        }
        assert_eq!(host("pubsub.googleapis.com:443"), "pubsub.googleapis.com");
        for name in ["desk-bucket.storage.googleapis.com", "10.0.0.1:443", "gke-1.europe-west1.gke.goog", ""] {
            assert_eq!(host(name), "*", "{name}");
        }
    }

    #[test]
    fn every_request_is_a_line_when_its_span_closes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("requests");
        let subscriber = tracing_subscriber::registry().with(layer(&file).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::debug_span!(
                "google_request",
                http.method = "GET",
                http.url = "https://iam.googleapis.com/v1/projects/desk-one",
                http.status_code = tracing::field::Empty,
                reason = tracing::field::Empty
            );
            tracing::info_span!("something else");
            span.record("http.status_code", 403);
            span.record("reason", "SERVICE_DISABLED in projects/1");
        });
        let text = std::fs::read_to_string(&file).unwrap();
        let mut line: Value = serde_json::from_str(&text).unwrap();
        assert!(line["milliseconds"].take().is_u64());
        let wanted = json!({
            "method": "GET", "host": "iam.googleapis.com", "path": "/v1/projects/*", "status": "403",
            "milliseconds": null, "reason": "SERVICE_DISABLED",
        });
        assert_eq!(line, wanted);
    }
}
