//! Requests on resources: which operation each is, and its answer.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, response::Response};
use base64::Engine as _;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    call::{Call, content_type, json, read_body},
    cluster::Cluster,
    delete::{self, Options},
    failure::{Answer, Failure},
    kinds, logs,
    objects::{How, Written},
    patch::Patch,
    render::Shape,
    request::{Query, Target},
    reviews, scale,
    select::Selector,
    store::Key,
    typed::Validation,
    value::text,
    watch::{self, Watch},
};

/// How long a watch lasts that does not say.
const WATCH: Duration = Duration::from_secs(30 * 60);

/// Answers a request on a resource, when the user may.
pub(super) async fn answer(cluster: Arc<Cluster>, target: Target, call: Call) -> Answer<Response> {
    check_subresource(&target)?;
    let collection = target.name.is_empty();
    match (&call.method, target.subresource.as_str(), collection) {
        (&Method::GET, "log", false) => logs::answer(&cluster, &target, &call.query).await,
        (&Method::GET, _, _) if call.query.truth("watch") => watch(cluster, target, &call),
        (&Method::GET, _, true) => list(&cluster, &target, &call),
        (&Method::GET, _, false) => get(&cluster, &target, &call),
        (&Method::POST, "", true) => {
            let body = read_body(&call)?;
            written(&cluster, &target, &call, cluster.create(&target, body, &how(&call)?)?)
        }
        (&Method::POST, "token", false) => {
            let account = find(&cluster, &target)?;
            Ok(json(StatusCode::CREATED, &reviews::token(&cluster, &account, &read_body(&call)?)?))
        }
        (&Method::PUT, "" | "status" | "scale", false) => {
            let body = read_body(&call)?;
            written(&cluster, &target, &call, cluster.update(&target, body, &how(&call)?)?)
        }
        (&Method::PATCH, "" | "status" | "scale", false) => {
            let patch = read_patch(&call)?;
            let mut how = how(&call)?;
            if matches!(patch, Patch::Apply(_)) && call.query.text("fieldManager").is_empty() {
                how.manager.clear();
            }
            written(&cluster, &target, &call, cluster.patch(&target, &patch, &how)?)
        }
        (&Method::DELETE, "", false) => delete(&cluster, &target, &call),
        (&Method::DELETE, "", true) => {
            if target.scope().is_none() {
                return Err(Failure::method_not_allowed());
            }
            let options = Options::parse(&read_body(&call)?, &call.query)?;
            let items = cluster.delete_collection(&target, &selector(&target, &call.query)?, &options)?;
            let version = cluster.store.version().to_string();
            let shape = Shape::accepted(&call.headers, &call.query, &cluster.clock);
            let list = shape.list(&target, items.iter().map(AsRef::as_ref), json!({"resourceVersion": version}));
            Ok(json(StatusCode::OK, &list))
        }
        _ => Err(Failure::method_not_allowed()),
    }
}

fn check_subresource(target: &Target) -> Answer<()> {
    let known = match target.subresource.as_str() {
        "" => true,
        "log" => target.kind == &kinds::POD,
        "token" => target.kind == &kinds::SERVICE_ACCOUNT,
        other => target.kind.has(other),
    };
    if known { Ok(()) } else { Err(Failure::no_such_path()) }
}

fn find(cluster: &Cluster, target: &Target) -> Answer<Arc<Value>> {
    let found = cluster.store.get(target.kind, &target.namespace, &target.name);
    found.ok_or_else(|| Failure::not_found(target.kind, &target.name))
}

fn get(cluster: &Cluster, target: &Target, call: &Call) -> Answer<Response> {
    let object = find(cluster, target)?;
    if target.subresource == "scale" {
        return Ok(json(StatusCode::OK, &scale::view(&object)));
    }
    let shape = Shape::accepted(&call.headers, &call.query, &cluster.clock);
    Ok(json(StatusCode::OK, &shape.object(target, &object)))
}

fn list(cluster: &Cluster, target: &Target, call: &Call) -> Answer<Response> {
    let selector = selector(target, &call.query)?;
    let limit = usize::try_from(call.query.number("limit")?.unwrap_or_default()).unwrap_or_default();
    let token = call.query.text("continue");
    let after = if token.is_empty() { None } else { Some(read_continue(token)?) };
    let shape = Shape::accepted(&call.headers, &call.query, &cluster.clock);
    let mut metadata = json!({});
    let items = match (selector.only_name(), target.scope()) {
        (Some(name), Some(namespace)) => {
            metadata["resourceVersion"] = cluster.store.version().to_string().into();
            let found = cluster.store.get(target.kind, namespace, name);
            found.into_iter().filter(|object| selector.takes(target.kind, object)).collect()
        }
        _ => {
            let place = after.as_ref().map(|(_, namespace, name)| (namespace.as_str(), name.as_str()));
            let takes = |object: &Value| selector.takes(target.kind, object);
            let page = cluster.store.page(target.kind, target.scope(), place, limit, takes);
            // All pages carry the version of the first: who watches from it misses nothing.
            let version = after.as_ref().map_or(page.version, |(version, _, _)| *version);
            metadata["resourceVersion"] = version.to_string().into();
            if let Some((namespace, name)) = &page.next {
                let token = json!([version, namespace, name]).to_string();
                let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
                metadata["continue"] = token.into();
            }
            page.items
        }
    };
    Ok(json(StatusCode::OK, &shape.list(target, items.iter().map(AsRef::as_ref), metadata)))
}

fn read_continue(token: &str) -> Answer<(u64, String, String)> {
    let wrong = || Failure::bad_request("continue key is not valid");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).map_err(|_| wrong())?;
    serde_json::from_slice(&bytes).map_err(|_| wrong())
}

fn watch(cluster: Arc<Cluster>, target: Target, call: &Call) -> Answer<Response> {
    let query = &call.query;
    let initial = query.truth("sendInitialEvents");
    let version = match query.text("resourceVersion") {
        "" | "0" => None,
        _ if initial => None,
        text => Some(text.parse().map_err(|_| Failure::bad_request(format!("invalid resource version {text:?}")))?),
    };
    let timeout = query.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
    let watch = Watch {
        selector: selector(&target, query)?,
        version,
        bookmarks: query.truth("allowWatchBookmarks"),
        initial_end: initial,
        timeout: timeout.filter(|seconds| *seconds > 0).map_or(WATCH, Duration::from_secs),
        shape: Shape::accepted(&call.headers, query, &cluster.clock),
        target,
    };
    let mut response = Response::new(Body::from_stream(watch::lines(cluster, watch)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

fn delete(cluster: &Cluster, target: &Target, call: &Call) -> Answer<Response> {
    let options = Options::parse(&read_body(call)?, &call.query)?;
    let key = Key { kind: target.kind, namespace: target.namespace.clone(), name: target.name.clone() };
    let deleted = cluster.delete(&key, &options)?;
    let returned = [&kinds::POD, &kinds::SERVICE, &kinds::SERVICE_ACCOUNT].contains(&target.kind);
    let mut response = if deleted.gone && !returned {
        json(StatusCode::OK, &delete::success(target.kind, &deleted.object))
    } else {
        let shape = Shape::accepted(&call.headers, &call.query, &cluster.clock);
        json(StatusCode::OK, &shape.object(target, &deleted.object))
    };
    if target.kind == &kinds::JOB && options.propagation.is_none() {
        let text = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to \
                    remove them or set propagationPolicy=Orphan to suppress this warning";
        warn(response.headers_mut(), text);
    }
    Ok(response)
}

fn written(cluster: &Cluster, target: &Target, call: &Call, written: Written) -> Answer<Response> {
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = if target.subresource == "scale" {
        json(code, &scale::view(&written.object))
    } else {
        let shape = Shape::accepted(&call.headers, &call.query, &cluster.clock);
        json(code, &shape.object(target, &written.object))
    };
    for warning in &written.warnings {
        warn(response.headers_mut(), warning);
    }
    Ok(response)
}

fn warn(headers: &mut HeaderMap, text: &str) {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Ok(warning) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
        headers.append(header::WARNING, warning);
    }
}

fn selector(target: &Target, query: &Query) -> Answer<Selector> {
    Selector::parse(target.kind, query.text("labelSelector"), query.text("fieldSelector"))
}

fn how(call: &Call) -> Answer<How> {
    let dry_run = match call.query.text("dryRun") {
        "" => false,
        "All" => true,
        other => return Err(Failure::bad_request(format!("invalid dryRun: {other:?}"))),
    };
    let manager = match call.query.text("fieldManager") {
        "" => {
            let agent = call.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
            agent.unwrap_or_default().split('/').next().unwrap_or_default()
        }
        manager => manager,
    };
    Ok(How {
        dry_run,
        validation: Validation::parse(call.query.text("fieldValidation"))?,
        manager: if manager.is_empty() { "unknown".to_owned() } else { manager.to_owned() },
        force: call.query.truth("force"),
    })
}

fn read_patch(call: &Call) -> Answer<Patch> {
    let body = read_body(call)?;
    match content_type(&call.headers) {
        "application/json-patch+json" => serde_json::from_value(body)
            .map(Patch::Json)
            .map_err(|error| Failure::bad_request(format!("error decoding patch: {error}"))),
        "application/merge-patch+json" => Ok(Patch::Merge(body)),
        "application/strategic-merge-patch+json" => Ok(Patch::Strategic(body)),
        "application/apply-patch+yaml" => Ok(Patch::Apply(body)),
        other => Err(Failure::unsupported_media_type(other)),
    }
    .and_then(|patch| match &patch {
        Patch::Merge(body) | Patch::Strategic(body) | Patch::Apply(body) if !body.is_object() => {
            Err(Failure::bad_request(format!("the patch is not an object: {}", text(body, ""))))
        }
        _ => Ok(patch),
    })
}
