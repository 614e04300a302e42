//! Sessions of people who logged in with a token: a signed cookie, so that a restart logs nobody out.
//!
//! The cookie holds the fingerprint of the token, the person's name and the end, and is signed with the token: when the
//! token is removed from the file, its sessions end. The cookie does not hold the token itself.
//!
//! A session that its person ended is noted in the bucket, beside the decisions of operators, until it would have ended
//! by itself. A process checks a session there when it first sees it.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use anyhow::Context as _;
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use cloud::storage::{Properties, Store};
use contract::{config::Config, object};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    tokens::{Token, Tokens},
    visitor::Visitor,
};

/// How long somebody stays logged in.
pub const LASTS: SignedDuration = SignedDuration::from_hours(12);
/// Sessions that are remembered until they expire.
const MAX_SEEN: usize = 10_000;

/// The contents of the cookie.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Claims {
    /// The app: a cookie of one is not valid in another.
    app: String,
    /// Fingerprint of the token.
    token: String,
    /// The name that the person gave.
    name: String,
    /// Makes each session unique.
    nonce: String,
    /// Second of the epoch at which it ends.
    until: i64,
}

/// Where the sessions that people ended are noted.
#[derive(Debug)]
struct Notes {
    store: Store,
    bucket: String,
    /// Prefix of their names.
    prefix: String,
}

/// Opens and seals the sessions of one app.
#[derive(Debug)]
pub struct Sessions {
    app: String,
    notes: Option<Box<Notes>>,
    /// Sessions that were seen, with the second at which they expire, and whether their person ended them.
    seen: Mutex<HashMap<String, (i64, bool)>>,
}

impl Sessions {
    /// The sessions of an app of this name. Without a store, those that people ended are known to this process only.
    pub fn new(app: &str, store: Option<Store>, config: &Config) -> Self {
        let notes = store.zip(config.businesses.values().next()).map(|(store, business)| {
            let prefix = object::logouts_prefix(&business.name, app);
            Box::new(Notes { store, bucket: business.bucket.clone(), prefix })
        });
        Self { app: app.to_owned(), notes, seen: Mutex::default() }
    }

    fn see(&self, claims: &Claims, is_ended: bool, now: Timestamp) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|_, (until, _)| *until > now.as_second());
        if seen.len() < MAX_SEEN || is_ended {
            seen.insert(claims.nonce.clone(), (claims.until, is_ended));
        }
    }

    /// The cookie of a new session.
    pub fn seal(&self, token: &Token, name: &str, now: Timestamp) -> String {
        let claims = Claims {
            app: self.app.clone(),
            token: token.fingerprint.clone(),
            name: name.to_owned(),
            nonce: BASE64.encode(rand::random::<[u8; 16]>()),
            until: (now + LASTS).as_second(),
        };
        self.see(&claims, false, now);
        // A struct of strings and a number can always be written.
        let body = BASE64.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let mac = BASE64.encode(sign(token, "session", &body));
        format!("{body}.{mac}")
    }

    /// The visitor of this cookie; `None` when it is not one of ours, has ended, or its token was removed. Where it
    /// cannot be found out whether its person ended it, they have to log in again.
    pub async fn open(&self, cookie: &str, tokens: &Tokens, now: Timestamp) -> Option<Visitor> {
        let (claims, token) = self.verified(cookie, tokens, now)?;
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&claims.nonce).copied();
        let is_ended = match (seen, &self.notes) {
            (Some((_, is_ended)), _) => is_ended,
            (None, None) => false,
            (None, Some(notes)) => {
                let found = notes.store.describe(&notes.bucket, &notes.name(&claims), None).await;
                let found =
                    found.inspect_err(|error| tracing::warn!("cannot tell a session from an ended one: {error:#}"));
                let is_ended = found.ok()?.is_some();
                self.see(&claims, is_ended, now);
                is_ended
            }
        };
        if is_ended {
            return None;
        }
        let name = if claims.name.is_empty() {
            format!("token {}", token.fingerprint)
        } else {
            format!("{} (token {})", claims.name, token.fingerprint)
        };
        let csrf = BASE64.encode(sign(token, "csrf", &claims.nonce));
        Some(Visitor { name, businesses: token.businesses.clone(), csrf, is_program: false })
    }

    /// Ends the session of this cookie now.
    ///
    /// # Errors
    /// When that cannot be noted; it is ended until the process restarts.
    pub async fn end(&self, cookie: &str, tokens: &Tokens, now: Timestamp) -> anyhow::Result<()> {
        let Some((claims, _)) = self.verified(cookie, tokens, now) else { return Ok(()) };
        self.see(&claims, true, now);
        let Some(notes) = &self.notes else { return Ok(()) };
        let (store, bucket) = (&notes.store, &notes.bucket);
        store.write_once(bucket, &notes.name(&claims), "", Properties::default()).await.context("note a log-out")?;
        for old in store.list(bucket, &notes.prefix).await? {
            if old.created.is_some_and(|created| created + LASTS < now) {
                store.delete(bucket, &old.name, old.generation).await?;
            }
        }
        Ok(())
    }

    /// The claims of a cookie of this app that has not expired, and their token.
    fn verified<'a>(&self, cookie: &str, tokens: &'a Tokens, now: Timestamp) -> Option<(Claims, &'a Token)> {
        let (body, mac) = cookie.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(body).ok()?).ok()?;
        let token = tokens.by_fingerprint(&claims.token)?;
        let mac = BASE64.decode(mac).ok()?;
        hmac::verify(&token.key, &message("session", body), &mac).ok()?;
        (claims.app == self.app && claims.until > now.as_second()).then_some((claims, token))
    }
}

impl Notes {
    fn name(&self, claims: &Claims) -> String {
        format!("{}{}", self.prefix, claims.nonce)
    }
}

fn sign(token: &Token, purpose: &str, text: &str) -> Vec<u8> {
    hmac::sign(&token.key, &message(purpose, text)).as_ref().to_vec()
}

/// A signature for one purpose is not valid for another.
fn message(purpose: &str, text: &str) -> Vec<u8> {
    format!("deskgrid {purpose} v1\n{text}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0123456789abcdef0123456789abcdef";
    const B: &str = "fedcba9876543210fedcba9876543210";

    fn of(app: &str) -> Sessions {
        Sessions { app: app.to_owned(), notes: None, seen: Mutex::default() }
    }

    #[tokio::test]
    async fn a_session_ends_with_time_with_its_token_and_at_will() {
        let now = Timestamp::now();
        let tokens = Tokens::parse(&format!("{A} bu1\n{B}")).unwrap();
        let sessions = of("monitor");
        let cookie = sessions.seal(tokens.find(A).unwrap(), "alice", now);
        let visitor = sessions.open(&cookie, &tokens, now).await.unwrap();
        assert!(visitor.may_see("bu1") && !visitor.may_see("bu2") && visitor.name.starts_with("alice (token "));
        assert!(!cookie.contains(A) && !visitor.csrf.is_empty());
        assert!(sessions.open(&cookie, &tokens, now + LASTS).await.is_none(), "too late");
        assert!(sessions.open(&cookie, &Tokens::parse(B).unwrap(), now).await.is_none(), "its token is gone");
        assert!(of("client").open(&cookie, &tokens, now).await.is_none(), "of another app");
        let other = sessions.seal(tokens.find(A).unwrap(), "alice", now);
        sessions.end(&cookie, &tokens, now).await.unwrap();
        assert!(
            sessions.open(&cookie, &tokens, now).await.is_none() && sessions.open(&other, &tokens, now).await.is_some()
        );
    }

    #[tokio::test]
    async fn a_cookie_that_was_touched_is_nothing() {
        let now = Timestamp::now();
        let tokens = Tokens::parse(&format!("{A} bu1\n{B}")).unwrap();
        let sessions = of("monitor");
        let cookie = sessions.seal(tokens.find(A).unwrap(), "alice", now);
        let (body, mac) = cookie.split_once('.').unwrap();
        // The same claims, but of the token that may see more.
        let mut claims: Claims = serde_json::from_slice(&BASE64.decode(body).unwrap()).unwrap();
        claims.token = tokens.find(B).unwrap().fingerprint.clone();
        let forged = format!("{}.{mac}", BASE64.encode(serde_json::to_vec(&claims).unwrap()));
        for bad in [forged.as_str(), body, ".", "", &format!("{body}."), &format!("{body}.{}", &mac[1..])] {
            assert!(sessions.open(bad, &tokens, now).await.is_none(), "{bad}");
        }
    }
}
