//! Google credentials that mend themselves.
//!
//! Google's library keeps a failure that it takes for a permanent one for ever, and reads a key file once. In a cluster
//! both pass: the metadata server answers "not found" until it knows of a new binding, and a rotated key is another file
//! in the same place. So credentials are made anew when they failed for good, and when their file changed.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use google_cloud_auth::{
    credentials::{CacheableResource, Credentials, CredentialsProvider},
    errors::CredentialsError,
};
use http::{Extensions, HeaderMap};

/// Shortest time between two that are made because one failed.
const PAUSE: Duration = Duration::from_secs(2);

/// Makes credentials.
pub type Make = Arc<dyn Fn() -> anyhow::Result<Credentials> + Send + Sync>;

/// Credentials that are made anew when they failed for good, or when `file`, which they are made of, changed. Must be
/// called inside a Tokio runtime.
///
/// # Errors
/// When none can be made now.
pub fn mending(make: Make, file: Option<PathBuf>) -> anyhow::Result<Credentials> {
    let mark = file.as_ref().and_then(mark);
    let current = Current { credentials: make()?, made: Instant::now(), mark };
    Ok(Credentials::from(Mending { make: Maker(make), file, current: Mutex::new(current) }))
}

#[derive(Debug)]
struct Mending {
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
    /// What the file was like when they were made of it.
    mark: Option<Mark>,
}

/// What tells a file from the one that was in its place before.
type Mark = (SystemTime, u64);

fn mark(file: &PathBuf) -> Option<Mark> {
    let known = std::fs::metadata(file).ok()?;
    Some((known.modified().ok()?, known.len()))
}

impl Mending {
    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those that hold now: new ones when the file is another one.
    fn fresh(&self) -> Credentials {
        let now = self.file.as_ref().and_then(mark);
        let mut current = self.current();
        if now.is_some() && now != current.mark {
            self.renew(&mut current, "the file of the Google credentials changed", now);
        }
        current.credentials.clone()
    }

    /// New ones in the place of those that failed; `None` when that was tried a moment ago.
    fn again(&self, why: &CredentialsError) -> Option<Credentials> {
        let mut current = self.current();
        if current.made.elapsed() < PAUSE {
            return None;
        }
        let now = self.file.as_ref().and_then(mark);
        let why = format!("the Google credentials failed ({why})");
        self.renew(&mut current, &why, now).then(|| current.credentials.clone())
    }

    fn renew(&self, current: &mut Current, why: &str, mark: Option<Mark>) -> bool {
        // What cannot be made now, such as of a file that is half written, is tried again when it changed once more.
        (current.made, current.mark) = (Instant::now(), mark);
        match (self.make.0)() {
            Ok(credentials) => {
                tracing::info!("made new Google credentials, since {why}");
                current.credentials = credentials;
                true
            }
            Err(error) => {
                tracing::warn!("failed to make new Google credentials, although {why}: {error:#}");
                false
            }
        }
    }
}

impl CredentialsProvider for Mending {
    async fn headers(&self, extensions: Extensions) -> Result<CacheableResource<HeaderMap>, CredentialsError> {
        match self.fresh().headers(extensions.clone()).await {
            // The library itself tries those again that are transient.
            Err(error) if !error.is_transient() => match self.again(&error) {
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

    /// Fails for good until it is told otherwise, as the library's own does.
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
    async fn what_failed_for_good_is_made_anew() {
        let (is_good, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let make: Make = {
            let (is_good, made) = (is_good.clone(), made.clone());
            Arc::new(move || {
                let number = made.fetch_add(1, Ordering::SeqCst);
                Ok(Stuck(if is_good.load(Ordering::SeqCst) { Ok(number) } else { Err(()) }).into())
            })
        };
        let credentials = mending(make, None).unwrap();
        assert_eq!(number(credentials.headers(Extensions::new()).await), Err(false));
        for _ in 0..20 {
            let _ = credentials.headers(Extensions::new()).await;
        }
        assert_eq!(made.load(Ordering::SeqCst), 1, "not with each request");
        is_good.store(true, Ordering::SeqCst);
        let since = Instant::now();
        while number(credentials.headers(Extensions::new()).await).is_err() {
            assert!(since.elapsed() < 10 * PAUSE, "they never come back");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(made.load(Ordering::SeqCst), 2);
        assert_eq!(number(credentials.headers(Extensions::new()).await), Ok("1".to_owned()), "good ones stay");
    }

    #[tokio::test]
    async fn a_file_that_changed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.json");
        std::fs::write(&file, "7").unwrap();
        let make: Make = {
            let file = file.clone();
            Arc::new(move || Ok(Stuck(Ok(std::fs::read_to_string(&file)?.parse()?)).into()))
        };
        let credentials = mending(make, Some(file.clone())).unwrap();
        let now = async || number(credentials.headers(Extensions::new()).await);
        assert_eq!(now().await, Ok("7".to_owned()));
        std::fs::write(&file, "half").unwrap();
        assert_eq!(now().await, Ok("7".to_owned()), "what is there is good until the other one is");
        std::fs::write(&file, "123").unwrap();
        assert_eq!(now().await, Ok("123".to_owned()));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(now().await, Ok("123".to_owned()));
    }
}
