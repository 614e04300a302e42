//! Against a registry that refuses requests as each test sets it up.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode, header};
use images::{LIBRARY_FOLDERS, Program, Recipe, assemble};
use serde_json::json;

use super::*;

/// A registry that accepts the current password.
#[derive(Default)]
struct Held {
    password: String,
    blobs: BTreeSet<String>,
    manifests: BTreeSet<String>,
    /// What it answers instead, once each: the method, a part of the path, the status and the body.
    faults: Vec<(Method, &'static str, u16, &'static str)>,
}

type Shared = Arc<Mutex<Held>>;

async fn answer(State(held): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let mut held = held.lock().unwrap();
    let meets = |(method, part, ..): &(Method, &str, u16, &str)| method == request.method() && path.contains(part);
    if let Some(at) = held.faults.iter().position(meets) {
        let (_, _, status, body) = held.faults.remove(at);
        return Response::builder().status(status).body(Body::from(body)).unwrap();
    }
    let wanted = format!("Basic {}", STANDARD.encode(format!("me:{}", held.password)));
    let known = request.headers().get(header::AUTHORIZATION).is_some_and(|value| *value == wanted);
    let digest = request.uri().query().and_then(|query| query.split_once("digest=")).map(|(_, digest)| digest);
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    let status = match *request.method() {
        _ if !known => StatusCode::UNAUTHORIZED,
        Method::HEAD if held.blobs.contains(&last) => StatusCode::OK,
        Method::POST => StatusCode::ACCEPTED,
        Method::PUT if path.contains("/manifests/") => {
            held.manifests.insert(path.clone());
            StatusCode::CREATED
        }
        Method::PUT => {
            held.blobs.insert(digest.unwrap_or_default().replace("%3A", ":"));
            StatusCode::CREATED
        }
        Method::GET if path == "/v2/" => StatusCode::OK,
        _ => StatusCode::NOT_FOUND,
    };
    let answer = Response::builder().status(status).header(header::LOCATION, "/v2/desk/upload");
    answer.header(header::WWW_AUTHENTICATE, "Basic realm=\"desk\"").body(Body::empty()).unwrap()
}

/// A registry whose password is empty at first.
async fn served() -> (SocketAddr, Shared) {
    let _ = cloud::clients::install_tls_provider();
    let held = Shared::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(held.clone());
    tokio::spawn(async move {
        // The way to it is broken at first.
        drop(listener.accept().await);
        axum::serve(listener, router).await
    });
    (address, held)
}

fn tagged() -> [Tagged; 1] {
    [Tagged { spec: &CATALOGUE[0], tag: "src-1".to_owned() }]
}

fn image() -> Image {
    let program = Program::read(std::path::Path::new("/bin/true"), LIBRARY_FOLDERS).unwrap();
    let recipe = Recipe { spec: &CATALOGUE[0], program: &program, source: "src-1", sbom: &json!({}) };
    assemble(&recipe).unwrap()
}

#[tokio::test]
async fn a_login_that_ended_while_programs_were_compiled_is_asked_for_again() {
    let (address, held) = served().await;
    let folder = tempfile::tempdir().unwrap();
    let place = format!("{address}/desk");
    let now = |password: &str| {
        held.lock().unwrap().password = password.to_owned();
        let noted = json!({"auths": {address.to_string(): {"auth": STANDARD.encode(format!("me:{password}"))}}});
        std::fs::write(folder.path().join("config.json"), noted.to_string()).unwrap();
    };
    now("before");
    let target = Target::Registry { place: place.clone(), login: LoginSource::Docker(folder.path().to_owned()) };
    let image = image();
    check_target(&target, &tagged()).await.unwrap();
    now("after");
    let made = deliver(&[image], &target, &Output::default().errors_only()).await.unwrap();
    assert!(made[0].reference.starts_with(&format!("{place}/")), "{made:?}");
    assert_eq!(held.lock().unwrap().manifests.len(), 1);
}

#[tokio::test]
async fn who_may_not_push_learns_it_before_anything_is_compiled() {
    let (address, held) = served().await;
    held.lock().unwrap().password = "secret".to_owned();
    let login = LoginSource::Known(Login::Password("me".to_owned(), "wrong".to_owned()));
    let target = Target::Registry { place: format!("{address}/desk"), login };
    let said = check_target(&target, &tagged()).await.unwrap_err();
    assert!(said.to_string().contains("registry-denied"), "{said:#}");
    assert!(held.lock().unwrap().blobs.is_empty());
}

#[tokio::test]
async fn what_a_registry_is_too_busy_for_is_sent_again() {
    let (address, held) = served().await;
    let image = image();
    let login = Login::Password("me".to_owned(), String::new());
    let registry = Registry::new(&format!("{address}/desk"), login).unwrap().pausing(Duration::from_millis(1));
    let faults = [
        (Method::HEAD, "/blobs/", 500, ""),
        (Method::POST, "/uploads/", 503, "busy"),
        (Method::PUT, "/upload", 429, r#"{"errors": [{"code": "TOOMANYREQUESTS"}]}"#),
        (Method::PUT, "/manifests/", 502, "no gateway"),
    ];
    held.lock().unwrap().faults.extend(faults);
    registry.push(&image).await.unwrap();
    assert!(held.lock().unwrap().faults.is_empty(), "it met every one");
    assert_eq!(held.lock().unwrap().manifests.len(), 1);
    // One that stays busy is not asked for ever, and says so itself.
    held.lock().unwrap().faults.extend(vec![(Method::PUT, "/manifests/", 503, "closed today"); 20]);
    let said = registry.push(&image).await.unwrap_err();
    assert!(matches!(&said, RegistryError::Refused(why) if why.contains("closed today")), "{said:?}");
}

#[tokio::test]
async fn a_login_that_is_not_let_in_is_told_from_a_place_that_nobody_made() {
    let (address, held) = served().await;
    let login = LoginSource::Known(Login::Password("me".to_owned(), String::new()));
    let target = Target::Registry { place: format!("{address}/desk"), login };
    let unknown = r#"{"errors": [{"code": "NAME_UNKNOWN", "message": "Repository \"desk\" not found"}]}"#;
    for (fault, said) in [
        ((Method::HEAD, "/blobs/", 403, ""), "error[registry-denied]"),
        ((Method::POST, "/uploads/", 403, ""), "error[registry-denied]"),
        ((Method::POST, "/uploads/", 404, unknown), "error[not-set-up]"),
    ] {
        held.lock().unwrap().faults.push(fault);
        let error = check_target(&target, &tagged()).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
