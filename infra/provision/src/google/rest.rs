//! Sends requests: credentials, retries, pages, and one place that sees every call.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use cloud::{credentials::SCOPES, requests};
use google_cloud_auth::credentials::{self, CacheableResource, Credentials};
use http::{HeaderName, HeaderValue};
use rand::RngExt as _;
use serde_json::Value;
use tracing::{Instrument as _, field};

use super::{Endpoints, Error, Method, Request};
use crate::environment::Network;

/// Header that names the project in which a call is counted.
const QUOTA_PROJECT: HeaderName = HeaderName::from_static("x-goog-user-project");
/// An answer that takes longer is given up.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// One attempt at a request, as an [`Observer`] sees it after it ended.
#[derive(Debug)]
pub struct Call<'a> {
    /// What was sent.
    pub request: &'a Request,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// HTTP status code; 0 when no answer came.
    pub code: u16,
    /// How long it took.
    pub elapsed: Duration,
}

/// Sees every call; must not block.
pub type Observer = Arc<dyn Fn(&Call<'_>) + Send + Sync>;

/// How often and how soon a transient error is tried again.
#[derive(Clone, Copy, Debug)]
pub struct Retry {
    /// Most attempts.
    pub attempts: u32,
    /// Pause before the second attempt, doubled each time and spread at random.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

/// How many times as often a call is tried that a quota for each minute refuses: so that a minute passes.
const OVER_QUOTA: u32 = 2;

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 8, first: Duration::from_millis(200), longest: Duration::from_secs(15) }
    }
}

impl Retry {
    /// Pause after the attempt `attempt`, between half of it and all of it.
    pub fn pause(&self, attempt: u32) -> Duration {
        let full = self.first.saturating_mul(1u32 << attempt.saturating_sub(1).min(20)).min(self.longest);
        full.mul_f64(rand::rng().random_range(0.5..=1.0))
    }
}

/// A client of Google's REST APIs. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    credentials: Credentials,
    endpoints: Arc<Endpoints>,
    retry: Retry,
    observer: Option<Observer>,
    /// Counts every call.
    project: Option<HeaderValue>,
}

impl Client {
    /// A client that sends with these credentials to these endpoints.
    ///
    /// # Errors
    /// When the TLS configuration of this machine is unusable.
    pub fn new(endpoints: Endpoints, credentials: Credentials) -> anyhow::Result<Self> {
        let http = builder().build().context("set up the HTTP client")?;
        Ok(Self {
            http,
            credentials,
            endpoints: Arc::new(endpoints),
            retry: Retry::default(),
            observer: None,
            project: None,
        })
    }

    /// Through the proxy, and trusting the certificate authorities, that a network says.
    ///
    /// # Errors
    /// When the proxy is no address, or the file holds no certificates.
    pub fn through(mut self, network: &Network) -> anyhow::Result<Self> {
        let Network { proxy, ca_bundle, .. } = network;
        if proxy.is_none() && ca_bundle.is_none() {
            return Ok(self);
        }
        let mut builder = builder();
        if let Some(proxy) = proxy {
            // What NO_PROXY names is reached directly, as by every other tool.
            let all = reqwest::Proxy::all(proxy.as_str()).with_context(|| format!("use the proxy {proxy:?}"))?;
            builder = builder.proxy(all.no_proxy(reqwest::NoProxy::from_env()));
        }
        if let Some(path) = ca_bundle {
            let context = || format!("read the certificate authorities in {}", path.display());
            let pem = std::fs::read(path).with_context(context)?;
            let authorities = reqwest::Certificate::from_pem_bundle(&pem).with_context(context)?;
            if authorities.is_empty() {
                anyhow::bail!("{} holds no certificate", path.display());
            }
            builder = builder.tls_certs_merge(authorities);
        }
        self.http = builder.build().context("set up the HTTP client")?;
        Ok(self)
    }

    /// Counts every call in this project, whatever quota project the credentials name: an API must be enabled where its
    /// calls are counted (cloud.google.com/apis/docs/system-parameters).
    ///
    /// # Errors
    /// When it is no project id.
    pub fn counted_in(mut self, project: &str) -> anyhow::Result<Self> {
        self.project = Some(HeaderValue::from_str(project).with_context(|| format!("count calls in {project:?}"))?);
        Ok(self)
    }

    /// With an observer of every call.
    #[must_use]
    pub fn observed(mut self, observer: Observer) -> Self {
        self.observer = Some(observer);
        self
    }

    /// With other credentials.
    #[must_use]
    pub fn acting_as(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// With another way of retrying.
    #[must_use]
    pub fn retrying(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// A client that sends each request once: for what is made anew whenever it is asked for, and whose maker reads
    /// whether it was made before asking again.
    #[must_use]
    pub fn once(&self) -> Self {
        self.clone().retrying(Retry { attempts: 1, ..self.retry })
    }

    /// Where it sends to.
    pub fn endpoints(&self) -> &Endpoints {
        &self.endpoints
    }

    /// What this client proves with who it is.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// How this client retries; waiting for what is eventually consistent goes by the same pauses.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// Sends a request, again while its errors are transient, and returns the answer's JSON (null when it is empty).
    ///
    /// Writes are sent again too: each of ours names what it makes or carries an etag, so a second arrival is a
    /// conflict that the caller resolves by a read. The few that Google names itself (keys, notifications, builds)
    /// are sent [`Client::once`] at a time.
    ///
    /// # Errors
    /// The last error.
    pub async fn send(&self, request: &Request) -> Result<Value, Error> {
        let mut attempt = 1;
        loop {
            let error = match self.attempt(request, attempt).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let most = if error.is_over_quota() { self.retry.attempts * OVER_QUOTA } else { self.retry.attempts };
            if attempt >= most || !error.is_transient() {
                return Err(error);
            }
            let wished = error.retry_after_secs.map(|secs| Duration::from_secs(secs).min(self.retry.longest));
            tracing::debug!(attempt, "{error}; trying again");
            tokio::time::sleep(wished.unwrap_or_default().max(self.retry.pause(attempt))).await;
            attempt += 1;
        }
    }

    /// As [`Client::send`], with nothing for what does not exist.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn send_optional(&self, request: &Request) -> Result<Option<Value>, Error> {
        match self.send(request).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every item under `key` of a list request, over all pages.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn list(&self, request: &Request, key: &str) -> Result<Vec<Value>, Error> {
        match self.read(request).await?.get_mut(key).map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// As [`Client::send`]; of an answer in pages, the lists of all pages together.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn read(&self, request: &Request) -> Result<Value, Error> {
        let mut whole = self.send(request).await?;
        while let Some(token) = whole["nextPageToken"].as_str().filter(|token| !token.is_empty()) {
            let mut page = self.send(&request.clone().query("pageToken", token)).await?;
            whole["nextPageToken"] = page["nextPageToken"].take();
            for (key, value) in page.as_object_mut().into_iter().flatten() {
                match (whole.get_mut(key), value) {
                    (Some(Value::Array(items)), Value::Array(more)) => items.append(more),
                    (None, value) => whole[key.as_str()] = value.take(),
                    _ => {}
                }
            }
        }
        Ok(whole)
    }

    async fn attempt(&self, request: &Request, attempt: u32) -> Result<Value, Error> {
        let started = Instant::now();
        let span = tracing::debug_span!(
            requests::SPAN,
            http.method = request.method.as_str(),
            http.url = self.url(request),
            http.status_code = field::Empty,
            reason = field::Empty,
        );
        let result = self.exchange(request).instrument(span.clone()).await;
        span.record("http.status_code", result.as_ref().map_or_else(|error| error.code, |_| 200));
        if let Err(error) = &result {
            span.record("reason", error.reason.as_ref().or(error.status.as_ref()));
        }
        if let Some(observer) = &self.observer {
            let code = result.as_ref().map_or_else(|error| error.code, |_| 200);
            observer(&Call { request, attempt, code, elapsed: started.elapsed() });
        }
        result
    }

    fn url(&self, request: &Request) -> String {
        format!("{}/{}", self.endpoints.of(request.api), request.path)
    }

    async fn exchange(&self, request: &Request) -> Result<Value, Error> {
        let method = match request.method {
            Method::Get => http::Method::GET,
            Method::Post => http::Method::POST,
            Method::Put => http::Method::PUT,
            Method::Patch => http::Method::PATCH,
            Method::Delete => http::Method::DELETE,
        };
        let mut headers = self.headers(request).await?;
        if let Some(project) = &self.project {
            headers.insert(QUOTA_PROJECT, project.clone());
        }
        let mut builder = self.http.request(method, self.url(request)).headers(headers);
        if !request.query.is_empty() {
            builder = builder.query(&request.query);
        }
        builder = match &request.body {
            Some(body) => builder.json(body),
            // Google's front end wants a length on every POST.
            None if request.method == Method::Post => builder.header(http::header::CONTENT_LENGTH, 0),
            None => builder,
        };
        let transport = |error: reqwest::Error| Error::from_transport(request.to_string(), &error);
        let answer = builder.send().await.map_err(transport)?;
        let code = answer.status();
        let retry_after =
            answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.text().await.map_err(transport)?;
        if !code.is_success() {
            return Err(Error::from_answer(request.to_string(), code.as_u16(), &text, retry_after));
        }
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| {
            let message = format!("the answer is not JSON ({error}); is there a proxy in between?");
            Error {
                request: request.to_string(),
                code: 502,
                status: None,
                reason: None,
                message,
                retry_after_secs: None,
            }
        })
    }

    async fn headers(&self, request: &Request) -> Result<http::HeaderMap, Error> {
        match self.credentials.headers(http::Extensions::new()).await {
            Ok(CacheableResource::New { data, .. }) => Ok(data),
            Ok(CacheableResource::NotModified) => Ok(http::HeaderMap::new()),
            Err(error) => Err(Error {
                request: request.to_string(),
                // Transient ones were retried inside already.
                code: 401,
                status: Some("UNAUTHENTICATED".to_owned()),
                reason: None,
                message: format!(
                    "there is no usable credential ({error}); run `gcloud auth application-default login`"
                ),
                retry_after_secs: None,
            }),
        }
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().timeout(ANSWER_LIMIT).user_agent("deskgrid")
}

/// Credentials in a file, of any kind that Google's library reads from one. Must be called inside a Tokio runtime.
///
/// # Errors
/// When the file cannot be read or holds another kind of credential.
pub fn file_credentials(path: &Path) -> anyhow::Result<Credentials> {
    let context = || format!("read the credentials {}", path.display());
    let text = std::fs::read_to_string(path).with_context(context)?;
    let json: Value = serde_json::from_str(&text).with_context(context)?;
    let built = match json["type"].as_str() {
        Some("authorized_user") => credentials::user_account::Builder::new(json).with_scopes(SCOPES).build(),
        Some("service_account") => return cloud::key::credentials(json).with_context(context),
        Some("impersonated_service_account") => {
            credentials::impersonated::Builder::new(json).with_scopes(SCOPES).build()
        }
        Some("external_account") => credentials::external_account::Builder::new(json).with_scopes(SCOPES).build(),
        other => {
            anyhow::bail!("{} holds credentials of the type {other:?}, which is not supported here", path.display())
        }
    };
    built.with_context(context)
}
