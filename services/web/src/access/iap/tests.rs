use std::path::PathBuf;

use axum::{Router, http::HeaderValue, routing::get};
use jsonwebtoken::{EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

use super::*;

const AUDIENCE: &str = "/projects/1/global/backendServices/2";
const ISSUER: &str = "https://cloud.google.com/iap";

/// A key as Google would sign with, and what it publishes of it.
fn key(kid: &str) -> (EncodingKey, Value) {
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let mut public = serde_json::to_value(Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap()).unwrap();
    public["kid"] = kid.into();
    public["use"] = "sig".into();
    (key, public)
}

fn signed(key: &EncodingKey, kid: &str, change: impl FnOnce(&mut Value)) -> HeaderMap {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({
        "aud": AUDIENCE, "iss": ISSUER, "sub": "accounts.google.com:1", "email": "alice@example.com",
        "iat": now, "exp": now + 600,
    });
    change(&mut claims);
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
    headers(&jsonwebtoken::encode(&header, &claims, key).unwrap())
}

fn headers(assertion: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(HEADER, HeaderValue::from_str(assertion).unwrap());
    headers
}

/// Serves keys; returns their URL.
async fn published(keys: Vec<Value>) -> String {
    let body = json!({ "keys": keys }).to_string();
    let router = Router::new().route("/keys", get(move || std::future::ready(body.clone())));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn iap(keys: String, people: Option<PathBuf>) -> Iap {
    let _ = cloud::clients::install_tls_provider();
    Iap::new(&IapSettings { audience: AUDIENCE.into(), issuer: ISSUER.into(), keys, people }).unwrap()
}

#[tokio::test]
async fn only_what_google_signed_for_us_and_now_counts() {
    let ((google, public), (other, _)) = (key("k1"), key("k1"));
    let iap = iap(published(vec![public]).await, None);
    let good = iap.identify(&signed(&google, "k1", |_| {})).await.unwrap().unwrap();
    assert_eq!((good.name.as_str(), &good.businesses), ("alice@example.com", &Businesses::All));
    assert!(!good.csrf.is_empty() && !good.is_program);
    let now = jsonwebtoken::get_current_timestamp();
    let bob = signed(&google, "k1", |claims| claims["email"] = "bob@example.com".into());
    assert_ne!(iap.identify(&bob).await.unwrap().unwrap().csrf, good.csrf, "the proof is of one person");
    let unsigned = {
        let text = signed(&google, "k1", |_| {})[HEADER].to_str().unwrap().to_owned();
        let (_, rest) = text.split_once('.').unwrap();
        let none = BASE64.encode(r#"{"alg":"none","kid":"k1"}"#);
        headers(&format!("{none}.{}.", rest.split_once('.').unwrap().0))
    };
    let symmetric = {
        let key = EncodingKey::from_secret(b"what-google-publishes-is-no-secret");
        let header = Header { kid: Some("k1".to_owned()), ..Header::new(Algorithm::HS256) };
        headers(&jsonwebtoken::encode(&header, &json!({"sub": "x", "iat": now, "exp": now + 60}), &key).unwrap())
    };
    for (bad, why) in [
        (HeaderMap::new(), "no assertion"),
        (headers("nonsense"), "nonsense"),
        (unsigned, "not signed"),
        (symmetric, "another algorithm"),
        (signed(&other, "k1", |_| {}), "somebody else's key"),
        (signed(&google, "k2", |_| {}), "a key that is not published"),
        (signed(&google, "k1", |claims| claims["aud"] = "/projects/1/apps/other".into()), "for another app"),
        (signed(&google, "k1", |claims| claims["iss"] = "https://evil.example".into()), "by another issuer"),
        (signed(&google, "k1", |claims| claims["exp"] = (now - 60).into()), "over"),
        (signed(&google, "k1", |claims| claims["iat"] = (now + 600).into()), "of the future"),
        (signed(&google, "k1", |claims| drop(claims.as_object_mut().unwrap().remove("aud"))), "for nobody"),
    ] {
        assert_eq!(iap.identify(&bad).await.unwrap(), None, "{why}");
    }
}

#[tokio::test]
async fn people_see_the_businesses_that_the_file_names() {
    let (google, public) = key("k1");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("people.json");
    std::fs::write(&file, r#"{"Alice@example.com": ["bu1"], "carol@example.com": ["*"]}"#).unwrap();
    let iap = iap(published(vec![public]).await, Some(file));
    let of = async |email: &str| {
        let headers = signed(&google, "k1", |claims| claims["email"] = email.into());
        iap.identify(&headers).await.unwrap().map(|visitor| (visitor.may_see("bu1"), visitor.may_see("bu2")))
    };
    assert_eq!(of("alice@example.com").await, Some((true, false)));
    assert_eq!(of("carol@example.com").await, Some((true, true)));
    assert_eq!(of("mallory@example.com").await, None);
}

#[tokio::test]
async fn without_keys_nobody_is_let_in() {
    let (google, _) = key("k1");
    let iap = iap("http://127.0.0.1:9/keys".into(), None);
    assert!(iap.identify(&signed(&google, "k1", |_| {})).await.is_err());
}

/// Serves nothing, and says of each connection that it came; its URL.
async fn silent() -> (String, tokio::sync::mpsc::UnboundedReceiver<tokio::net::TcpStream>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let (came, comes) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = came.send(stream);
        }
    });
    (url, comes)
}

#[tokio::test]
async fn who_is_known_does_not_wait_for_keys_that_do_not_come() {
    let (google, public) = key("k1");
    let mut iap = iap(published(vec![public]).await, None);
    let alice = signed(&google, "k1", |_| {});
    iap.identify(&alice).await.unwrap().unwrap();
    let (url, mut comes) = silent().await;
    iap.settings.keys = url;
    let long_ago = Instant::now().checked_sub(2 * FRESH).unwrap();
    iap.last_read = Mutex::new(Some(LastRead { at: long_ago, succeeded: true }));
    let iap = Arc::new(iap);
    let (asking, who) = (iap.clone(), alice.clone());
    let asking = tokio::spawn(async move { asking.identify(&who).await });
    let _stream = comes.recv().await.unwrap();
    let second = tokio::time::timeout(Duration::from_secs(5), iap.identify(&alice)).await;
    assert!(second.expect("it waits for keys that it does not need").unwrap().is_some());
    assert!(!asking.is_finished(), "the keys are still asked for");
    asking.abort();
}

#[tokio::test]
async fn keys_that_cannot_be_read_are_not_asked_for_at_every_request() {
    let (url, mut comes) = silent().await;
    let (google, _) = key("k1");
    let iap = iap(url, None);
    let alice = signed(&google, "k1", |_| {});
    // Each connection ends without an answer.
    tokio::spawn(async move { while comes.recv().await.is_some() {} });
    let first = iap.identify(&alice).await.unwrap_err();
    assert!(!first.to_string().contains("moments ago"), "{first:#}");
    for _ in 0..3 {
        let said = iap.identify(&alice).await.unwrap_err();
        assert!(said.to_string().contains("moments ago"), "{said:#}");
    }
}

#[test]
fn people_have_what_is_said_of_them_their_domain_and_everybody() {
    let people = |text: &str| serde_json::from_str::<BTreeMap<String, Vec<String>>>(text).unwrap();
    let known = people(r#"{"Alice@example.com": ["bu1"], "*@example.com": ["bu2"], "*@ops.example.com": ["*"]}"#);
    let of = |name: &str| businesses_of_person(&known, name).map(Businesses::from_names);
    let some = |names: &[&str]| Some(Businesses::Some(names.iter().map(|name| (*name).to_owned()).collect()));
    assert_eq!(of("alice@EXAMPLE.com"), some(&["bu1", "bu2"]));
    assert_eq!(of("bob@example.com"), some(&["bu2"]));
    assert_eq!(of("eve@ops.example.com"), Some(Businesses::All));
    for stranger in ["eve@evil-example.com", "eve@example.com.evil", "example.com", "", "*@example.com.evil"] {
        assert_eq!(of(stranger), None, "{stranger}");
    }
    assert_eq!(
        businesses_of_person(&people(r#"{"*": ["bu1"]}"#), "accounts.google.com:7"),
        Some(vec!["bu1".to_owned()])
    );
}

#[tokio::test]
async fn without_an_audience_nobody_is_let_in() {
    let _ = cloud::clients::install_tls_provider();
    let (google, public) = key("k1");
    let settings = IapSettings {
        audience: String::new(),
        issuer: ISSUER.into(),
        keys: published(vec![public]).await,
        people: None,
    };
    let iap = Iap::new(&settings).unwrap();
    for audience in ["", AUDIENCE] {
        let denied = iap.identify(&signed(&google, "k1", |claims| claims["aud"] = audience.into())).await;
        assert!(denied.unwrap_err().to_string().contains("no audience is configured"), "{audience:?}");
    }
    assert_eq!(iap.identify(&HeaderMap::new()).await.unwrap(), None);
}
