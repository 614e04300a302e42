//! Google credentials that are renewed.
//!
//! Google's library keeps a permanent failure for ever, and reads a key file once. In a cluster neither is final: the
//! metadata server answers "not found" until it knows a new binding, and a rotated key is a new file at the same path.
//! So credentials are renewed after a permanent failure, and when their file changes.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use futures::future::BoxFuture;
use google_cloud_auth::{
    credentials::{CacheableResource, Credentials, CredentialsProvider, EntityTag},
    errors::CredentialsError,
};
use http::{Extensions, HeaderMap, HeaderValue, header::AUTHORIZATION};

/// Minimum time between two renewals after failures.
const PAUSE: Duration = Duration::from_secs(2);

/// Creates credentials.
pub type Make = Arc<dyn Fn() -> anyhow::Result<Credentials> + Send + Sync>;

/// Credentials that are renewed after a permanent failure, and when `file` changes. Must be called inside a Tokio
/// runtime.
///
/// # Errors
/// When `make` fails now.
pub fn renewing(make: Make, file: Option<PathBuf>) -> anyhow::Result<Credentials> {
    let mark = file.as_ref().and_then(mark);
    let current = Current { credentials: make()?, made: Instant::now(), mark };
    Ok(Credentials::from(Renewing { make: Maker(make), file, current: Mutex::new(current) }))
}

/// Scopes of every token; the cluster's API wants the email too.
pub const SCOPES: [&str; 2] =
    ["https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/userinfo.email"];
/// How long a token lasts; an hour is the most that every organisation allows.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// A token is replaced this long before it ends.
const EARLY: Duration = Duration::from_secs(300);

/// Fetches an access token that lasts for [`TOKEN_LIFETIME`].
pub type Fetch = Box<dyn Fn() -> BoxFuture<'static, Result<String, CredentialsError>> + Send + Sync>;

/// Credentials that keep a token until shortly before its end.
pub fn cached(fetch: Fetch) -> Credentials {
    Credentials::from(Cached { fetch, held: tokio::sync::Mutex::new(None) })
}

struct Cached {
    fetch: Fetch,
    /// The current token, and when it was requested.
    held: tokio::sync::Mutex<Option<(HeaderValue, EntityTag, Instant)>>,
}

impl std::fmt::Debug for Cached {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Cached")
    }
}

impl CredentialsProvider for Cached {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        let mut held = self.held.lock().await;
        let (token, tag) = match held.as_ref().filter(|(_, _, made)| made.elapsed() < TOKEN_LIFETIME - EARLY) {
            Some((token, tag, _)) => (token.clone(), tag.clone()),
            None => {
                let made = Instant::now();
                let mut token = HeaderValue::from_str(&format!("Bearer {}", (self.fetch)().await?))
                    .map_err(|_| CredentialsError::from_msg(false, "the token is not the value of a header"))?;
                token.set_sensitive(true);
                let tag = EntityTag::new();
                *held = Some((token.clone(), tag.clone(), made));
                (token, tag)
            }
        };
        if extensions.get::<EntityTag>() == Some(&tag) {
            return Ok(CacheableResource::NotModified);
        }
        Ok(CacheableResource::New { entity_tag: tag, data: HeaderMap::from_iter([(AUTHORIZATION, token)]) })
    }

    async fn universe_domain(&self) -> Option<String> {
        None
    }
}

#[derive(Debug)]
struct Renewing {
    make: Maker,
    file: Option<PathBuf>,
    current: Mutex<Current>,
}

struct Maker(Make);

impl std::fmt::Debug for Maker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Maker")
    }
}

#[derive(Debug)]
struct Current {
    credentials: Credentials,
    made: Instant,
    /// The file that they were created from.
    mark: Option<Mark>,
}

/// Modification time and size of a file, which show that it was replaced.
type Mark = (SystemTime, u64);

fn mark(file: &PathBuf) -> Option<Mark> {
    let known = std::fs::metadata(file).ok()?;
    Some((known.modified().ok()?, known.len()))
}

impl Renewing {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current credentials, renewed when the file has changed.
    fn fresh(&self) -> Credentials {
        let now = self.file.as_ref().and_then(mark);
        let mut current = self.current();
        if now.is_some() && now != current.mark {
            self.renew(&mut current, "the file of the Google credentials changed", now);
        }
        current.credentials.clone()
    }

    /// Renewed credentials after a failure; `None` when the last renewal is too recent.
    fn renew_after(&self, why: &CredentialsError) -> Option<Credentials> {
        let mut current = self.current();
        if current.made.elapsed() < PAUSE {
            return None;
        }
        let now = self.file.as_ref().and_then(mark);
        let why = format!("the Google credentials failed ({why})");
        self.renew(&mut current, &why, now).then(|| current.credentials.clone())
    }

    fn renew(&self, current: &mut Current, why: &str, mark: Option<Mark>) -> bool {
        // When this fails, for example because the file is half written, the next change of the file renews them.
        (current.made, current.mark) = (Instant::now(), mark);
        match (self.make.0)() {
            Ok(credentials) => {
                tracing::info!("renewed the Google credentials, because {why}");
                current.credentials = credentials;
                true
            }
            Err(error) => {
                tracing::warn!("failed to renew the Google credentials, although {why}: {error:#}");
                false
            }
        }
    }
}

impl CredentialsProvider for Renewing {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        match self.fresh().headers(extensions.clone()).await {
            // The library retries transient errors itself.
            Err(error) if !error.is_transient() => match self.renew_after(&error) {
                Some(credentials) => credentials.headers(extensions).await,
                None => Err(error),
            },
            answer => answer,
        }
    }

    async fn universe_domain(&self) -> Option<String> {
        let credentials = self.current().credentials.clone();
        credentials.universe_domain().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    /// Fails permanently, or returns its number.
    #[derive(Debug)]
    struct Stuck(Result<u32, ()>);

    impl CredentialsProvider for Stuck {
        async fn headers(&self, _: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
            let Ok(number) = self.0 else { return Err(CredentialsError::from_msg(false, "no such account")) };
            let mut data = HeaderMap::new();
            data.insert("number", number.into());
            Ok(CacheableResource::New { entity_tag: google_cloud_auth::credentials::EntityTag::new(), data })
        }

        async fn universe_domain(&self) -> Option<String> {
            None
        }
    }

    fn number(answer: Result<CacheableResource<HeaderMap>, CredentialsError>) -> Result<String, bool> {
        match answer {
            Ok(CacheableResource::New { data, .. }) => Ok(data["number"].to_str().unwrap().to_owned()),
            Ok(CacheableResource::NotModified) => panic!("nothing was known before"),
            Err(error) => Err(error.is_transient()),
        }
    }

    #[tokio::test]
    async fn credentials_are_renewed_after_a_permanent_failure() {
        let (is_good, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let make: Make = {
            let (is_good, made) = (is_good.clone(), made.clone());
            Arc::new(move || {
                let number = made.fetch_add(1, Ordering::SeqCst);
                Ok(Stuck(if is_good.load(Ordering::SeqCst) { Ok(number) } else { Err(()) }).into())
            })
        };
        let credentials = renewing(make, None).unwrap();
        assert_eq!(number(credentials.headers(Extensions::new()).await), Err(false));
        for _ in 0..20 {
            let _ = credentials.headers(Extensions::new()).await;
        }
        assert_eq!(made.load(Ordering::SeqCst), 1, "not with each request");
        is_good.store(true, Ordering::SeqCst);
        let since = Instant::now();
        while number(credentials.headers(Extensions::new()).await).is_err() {
            assert!(since.elapsed() < 10 * PAUSE, "they are never renewed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(made.load(Ordering::SeqCst), 2);
        assert_eq!(number(credentials.headers(Extensions::new()).await), Ok("1".to_owned()), "good ones stay");
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.json");
        std::fs::write(&file, "7").unwrap();
        let make: Make = {
            let file = file.clone();
            Arc::new(move || Ok(Stuck(Ok(std::fs::read_to_string(&file)?.parse()?)).into()))
        };
        let credentials = renewing(make, Some(file.clone())).unwrap();
        let now = async || number(credentials.headers(Extensions::new()).await);
        assert_eq!(now().await, Ok("7".to_owned()));
        std::fs::write(&file, "half").unwrap();
        assert_eq!(now().await, Ok("7".to_owned()), "the old ones stay until the file is complete");
        std::fs::write(&file, "123").unwrap();
        assert_eq!(now().await, Ok("123".to_owned()));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(now().await, Ok("123".to_owned()));
    }
}
