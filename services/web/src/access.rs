//! Who may use an app, and which businesses they may see.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use cloud::storage::Store;
use jiff::Timestamp;

use crate::settings::{AccessSettings, Settings};

pub mod iap;
pub mod limiter;
pub mod session;
pub mod tokens;
mod visitor;

use iap::Iap;
use limiter::Limiter;
use session::Sessions;
use tokens::TokenFile;
pub use visitor::{Businesses, Visitor};

/// How an app finds out who somebody is.
#[derive(Debug)]
pub struct Access {
    kind: Kind,
    /// Slows down guesses of tokens.
    pub(crate) limiter: Limiter,
    pub(crate) cookie: String,
    pub(crate) tls: bool,
}

#[derive(Debug)]
enum Kind {
    Tokens(TokenFile, Sessions),
    Iap(Arc<Iap>),
}

impl Access {
    /// The access to an app of this name; log-outs are noted in the bucket.
    ///
    /// # Errors
    /// When the tokens cannot be read, or the client for Google's keys cannot be built.
    pub fn new(app: &str, settings: &Settings, store: Option<Store>) -> anyhow::Result<Self> {
        let kind = match &settings.access {
            AccessSettings::Tokens { file } => {
                Kind::Tokens(TokenFile::open(file)?, Sessions::new(app, store, &settings.config))
            }
            AccessSettings::Iap(iap) => Kind::Iap(Arc::new(Iap::new(iap)?)),
        };
        // Cookies know no ports: two apps or environments on one host must not take each other's. The prefix makes
        // browsers hold to Secure, to the whole host and to no other host; under a path of its own, to Secure only.
        let prefix = match (settings.tls, settings.base_path.is_empty()) {
            (false, _) => "",
            (true, true) => "__Host-",
            (true, false) => "__Secure-",
        };
        let cookie = format!("{prefix}deskgrid-{app}-{}", settings.config.environment);
        Ok(Self { kind, limiter: Limiter::default(), cookie, tls: settings.tls })
    }

    /// Who sends a request with these headers; `None` when nobody with access does.
    ///
    /// # Errors
    /// When the token file or Google's keys cannot be read.
    pub async fn identify(&self, headers: &HeaderMap) -> anyhow::Result<Option<Visitor>> {
        let (file, sessions) = match &self.kind {
            Kind::Iap(iap) => return iap.identify(headers).await,
            Kind::Tokens(file, sessions) => (file, sessions),
        };
        let tokens = file.tokens().await?;
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let Some(token) = value.to_str().ok().and_then(bearer) else { return Ok(None) };
            return Ok(tokens.find(token).map(|token| Visitor {
                name: format!("token {}", token.fingerprint),
                businesses: token.businesses.clone(),
                csrf: String::new(),
                is_program: true,
            }));
        }
        let cookie = cookies(headers).find(|(name, _)| *name == self.cookie).map(|(_, value)| value);
        let Some(cookie) = cookie else { return Ok(None) };
        Ok(sessions.open(cookie, &tokens, Timestamp::now()).await)
    }

    /// The token file and the sessions; `None` when people log in elsewhere.
    pub(crate) fn tokens(&self) -> Option<(&TokenFile, &Sessions)> {
        match &self.kind {
            Kind::Tokens(file, sessions) => Some((file, sessions)),
            Kind::Iap(_) => None,
        }
    }
}

/// The token of an `Authorization: Bearer TOKEN` header.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The cookies of a request.
pub(crate) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='))
}
