//! Sessions of people who logged in with a token: a signed cookie, so that a restart logs nobody out.
//!
//! The cookie holds the fingerprint of the token, the person's name and the end, and is signed with the token: when the
//! token is removed from the file, its sessions end. The cookie does not hold the token itself.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    tokens::{Token, Tokens},
    visitor::Visitor,
};

/// How long somebody stays logged in.
pub const LASTS: SignedDuration = SignedDuration::from_hours(12);
/// Ended sessions that are remembered until they expire.
const MAX_ENDED: usize = 10_000;

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

/// Opens and seals the sessions of one app.
#[derive(Debug)]
pub struct Sessions {
    app: String,
    /// Sessions that people ended, with the second at which they expire.
    ended: Mutex<HashMap<String, i64>>,
}

impl Sessions {
    /// The sessions of an app of this name.
    pub fn new(app: &str) -> Self {
        Self { app: app.to_owned(), ended: Mutex::default() }
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
        // A struct of strings and a number can always be written.
        let body = BASE64.encode(serde_json::to_vec(&claims).unwrap_or_default());
        let mac = BASE64.encode(sign(token, "session", &body));
        format!("{body}.{mac}")
    }

    /// The visitor of this cookie; `None` when it is not one of ours, has ended, or its token was removed.
    pub fn open(&self, cookie: &str, tokens: &Tokens, now: Timestamp) -> Option<Visitor> {
        let (claims, token) = self.verified(cookie, tokens, now)?;
        let name = if claims.name.is_empty() {
            format!("token {}", token.fingerprint)
        } else {
            format!("{} (token {})", claims.name, token.fingerprint)
        };
        let csrf = BASE64.encode(sign(token, "csrf", &claims.nonce));
        Some(Visitor { name, businesses: token.businesses.clone(), csrf, is_program: false })
    }

    /// Ends the session of this cookie now.
    pub fn end(&self, cookie: &str, tokens: &Tokens, now: Timestamp) {
        if let Some((claims, _)) = self.verified(cookie, tokens, now) {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.retain(|_, until| *until > now.as_second());
            if ended.len() < MAX_ENDED {
                ended.insert(claims.nonce, claims.until);
            }
        }
    }

    fn verified<'a>(&self, cookie: &str, tokens: &'a Tokens, now: Timestamp) -> Option<(Claims, &'a Token)> {
        let (body, mac) = cookie.split_once('.')?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(body).ok()?).ok()?;
        let token = tokens.by_fingerprint(&claims.token)?;
        let mac = BASE64.decode(mac).ok()?;
        hmac::verify(&token.key, &message("session", body), &mac).ok()?;
        let is_over = claims.app != self.app || claims.until <= now.as_second();
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        (!is_over && !ended.contains_key(&claims.nonce)).then_some((claims, token))
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

    #[test]
    fn a_session_ends_with_time_with_its_token_and_at_will() {
        let now = Timestamp::now();
        let tokens = Tokens::parse(&format!("{A} bu1\n{B}")).unwrap();
        let sessions = Sessions::new("monitor");
        let cookie = sessions.seal(tokens.find(A).unwrap(), "alice", now);
        let visitor = sessions.open(&cookie, &tokens, now).unwrap();
        assert!(visitor.may_see("bu1") && !visitor.may_see("bu2") && visitor.name.starts_with("alice (token "));
        assert!(!cookie.contains(A) && !visitor.csrf.is_empty());
        assert!(sessions.open(&cookie, &tokens, now + LASTS).is_none(), "too late");
        assert!(sessions.open(&cookie, &Tokens::parse(B).unwrap(), now).is_none(), "its token is gone");
        assert!(Sessions::new("client").open(&cookie, &tokens, now).is_none(), "of another app");
        let other = sessions.seal(tokens.find(A).unwrap(), "alice", now);
        sessions.end(&cookie, &tokens, now);
        assert!(sessions.open(&cookie, &tokens, now).is_none() && sessions.open(&other, &tokens, now).is_some());
    }

    #[test]
    fn a_cookie_that_was_touched_is_nothing() {
        let now = Timestamp::now();
        let tokens = Tokens::parse(&format!("{A} bu1\n{B}")).unwrap();
        let sessions = Sessions::new("monitor");
        let cookie = sessions.seal(tokens.find(A).unwrap(), "alice", now);
        let (body, mac) = cookie.split_once('.').unwrap();
        // The same claims, but of the token that may see more.
        let mut claims: Claims = serde_json::from_slice(&BASE64.decode(body).unwrap()).unwrap();
        claims.token = tokens.find(B).unwrap().fingerprint.clone();
        let forged = format!("{}.{mac}", BASE64.encode(serde_json::to_vec(&claims).unwrap()));
        for bad in [forged.as_str(), body, ".", "", &format!("{body}."), &format!("{body}.{}", &mac[1..])] {
            assert!(sessions.open(bad, &tokens, now).is_none(), "{bad}");
        }
    }
}
