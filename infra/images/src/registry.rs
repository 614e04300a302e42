//! Registries with the OCI distribution protocol, such as Google's and Docker's: finding an image, and pushing one.

use std::{fmt, path::Path, process::Stdio, time::Duration};

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use oci_client::{
    Client, Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    secrets::RegistryAuth,
};
use serde_json::Value;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{
    assemble::{Image, base_layer},
    blob::Blob,
};

mod error;

pub use error::RegistryError;
use error::{is_busy, is_missing, is_temporary};

/// Attempts of a call.
const MAX_ATTEMPTS: u32 = 5;
/// Pause before the second attempt; it doubles for each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// A login to a registry.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// No login.
    Anonymous,
    /// A name and a password; `oauth2accesstoken` and a token for Google's.
    Password(String, String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Password(name, _) => write!(f, "Password({name}, …)"),
        }
    }
}

/// A place for images: a host and the path that they are below.
pub struct Registry {
    client: Client,
    auth: RegistryAuth,
    host: String,
    path: String,
    pause: Duration,
}

impl Registry {
    /// `place` is a host and a path, such as `europe-west1-docker.pkg.dev/my-project/my-images`. A host on this machine
    /// is used without TLS.
    ///
    /// # Errors
    /// When the place is not a host and a path.
    pub fn new(place: &str, login: Login) -> anyhow::Result<Self> {
        let (host, path) = place.trim_end_matches('/').split_once('/').unwrap_or((place, ""));
        let auth = match login {
            Login::Anonymous => RegistryAuth::Anonymous,
            Login::Password(name, password) => RegistryAuth::Basic(name, password),
        };
        let config = ClientConfig {
            protocol: if is_loopback(host) { ClientProtocol::Http } else { ClientProtocol::Https },
            // Google's registry takes a blob in one piece only.
            use_monolithic_push: true,
            user_agent: "deskgrid",
            ..ClientConfig::default()
        };
        let registry =
            Self { client: Client::new(config), auth, host: host.to_owned(), path: path.to_owned(), pause: PAUSE };
        registry.reference("image", "tag").with_context(|| format!("use {place:?} as a place for images"))?;
        Ok(registry)
    }

    /// The same registry, with another pause before the second attempt.
    #[must_use]
    pub fn pausing(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Name of an image here, without a tag: `HOST/PATH/IMAGE`.
    pub fn repository(&self, image: &str) -> String {
        let path = if self.path.is_empty() { String::new() } else { format!("{}/", self.path) };
        format!("{}/{path}{image}", self.host)
    }

    /// Digest of an image under a tag; `None` when there is no such image.
    ///
    /// # Errors
    /// When the registry does not answer, or denies it.
    pub async fn digest_of(&self, image: &str, tag: &str) -> Result<Option<String>, RegistryError> {
        let reference = self.named(image, tag)?;
        match self.with_retries(is_busy, async || self.client.fetch_manifest_digest(&reference, &self.auth).await).await
        {
            Ok(digest) => Ok(Some(digest)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Pushes the layer that all images share, under the name of one: a missing right or a missing place is reported
    /// before anything is compiled.
    ///
    /// # Errors
    /// When the registry does not accept it.
    pub async fn check_push(&self, image: &str) -> Result<(), RegistryError> {
        let reference = self.named(image, "latest")?;
        let layer = base_layer().map_err(|error| RegistryError::Refused(format!("{error:#}")))?;
        self.log_in(&reference).await?;
        self.push_blob(&reference, &layer).await
    }

    /// Pushes an image under the tag of its source, and returns its reference by digest. Blobs that the registry has
    /// are not sent again; the manifest is sent last, so that the image is complete. Temporary failures are retried.
    ///
    /// # Errors
    /// When the registry does not accept it.
    pub async fn push(&self, image: &Image) -> Result<String, RegistryError> {
        let reference = self.named(image.name, &image.source)?;
        self.log_in(&reference).await?;
        for blob in image.blobs() {
            self.push_blob(&reference, blob).await?;
        }
        let kind = HeaderValue::from_str(image.manifest.media_type.as_ref())
            .map_err(|error| RegistryError::Refused(error.to_string()))?;
        let manifest =
            async || self.client.push_manifest_raw(&reference, image.manifest.bytes.clone(), kind.clone()).await;
        self.with_retries(is_temporary, manifest).await.map_err(RegistryError::from)?;
        Ok(format!("{}@{}", self.repository(image.name), image.digest()))
    }

    async fn log_in(&self, reference: &Reference) -> Result<(), RegistryError> {
        let enter = async || self.client.auth(reference, &self.auth, RegistryOperation::Push).await;
        self.with_retries(is_temporary, enter).await.map_err(RegistryError::from)?;
        Ok(())
    }

    /// Sends a blob that the registry does not have.
    async fn push_blob(&self, reference: &Reference, blob: &Blob) -> Result<(), RegistryError> {
        let there = self.with_retries(is_temporary, async || self.client.blob_exists(reference, &blob.digest).await);
        if there.await.map_err(RegistryError::from)? {
            return Ok(());
        }
        let send = async || self.client.push_blob(reference, blob.bytes.clone(), &blob.digest).await;
        self.with_retries(is_temporary, send).await.map_err(RegistryError::from)?;
        Ok(())
    }

    /// Makes a call, and retries failures that `is_temporary`.
    async fn with_retries<T>(
        &self,
        is_temporary: impl Fn(&OciDistributionError) -> bool,
        call: impl AsyncFn() -> Result<T, OciDistributionError>,
    ) -> Result<T, OciDistributionError> {
        let (mut pause, mut attempts) = (self.pause, 1);
        loop {
            match call().await {
                Err(error) if attempts < MAX_ATTEMPTS && is_temporary(&error) => tokio::time::sleep(pause).await,
                answer => return answer,
            }
            (pause, attempts) = (pause * 2, attempts + 1);
        }
    }

    fn named(&self, image: &str, tag: &str) -> Result<Reference, RegistryError> {
        self.reference(image, tag).map_err(|error| RegistryError::Refused(format!("{error:#}")))
    }

    fn reference(&self, image: &str, tag: &str) -> anyhow::Result<Reference> {
        format!("{}:{tag}", self.repository(image)).parse().context("read the name of the image")
    }
}

/// Whether a host, with or without a port, is this machine.
fn is_loopback(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(name, _)| name);
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The login that `docker login` stored for a host, in a folder such as `~/.docker`; `None` when there is none.
///
/// # Errors
/// When there is one that cannot be used.
pub async fn docker_login(folder: &Path, host: &str) -> anyhow::Result<Option<Login>> {
    let path = folder.join("config.json");
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        read => read.with_context(|| format!("read {}", path.display()))?,
    };
    let config: Value = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
    let keys = [host.to_owned(), format!("https://{host}"), format!("https://{host}/v1/")];
    let stored = |section: &str| keys.iter().find_map(|key| config[section].get(key)).cloned();
    let helper = stored("credHelpers").and_then(|name| name.as_str().map(str::to_owned));
    let store = config["credsStore"].as_str().filter(|_| stored("auths").is_some()).map(str::to_owned);
    if let Some(helper) = helper.or(store) {
        return run_helper(&helper, host).await.map(Some);
    }
    let Some(encoded) = stored("auths").and_then(|entry| entry["auth"].as_str().map(str::to_owned)) else {
        return Ok(None);
    };
    let context = || format!("read the login to {host} in {}", path.display());
    let decoded = STANDARD.decode(encoded).with_context(context)?;
    let decoded = String::from_utf8(decoded).with_context(context)?;
    let (name, password) = decoded.split_once(':').context("it is not NAME:PASSWORD").with_context(context)?;
    Ok(Some(Login::Password(name.to_owned(), password.to_owned())))
}

/// Runs a credential helper of Docker's: the host on standard input, a name and a secret as JSON on standard output.
async fn run_helper(helper: &str, host: &str) -> anyhow::Result<Login> {
    let program = format!("docker-credential-{helper}");
    let context = || format!("run {program} for the login to {host}");
    let mut child = Command::new(&program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .with_context(context)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(host.as_bytes()).await.with_context(context)?;
    }
    let output = child.wait_with_output().await.with_context(context)?;
    anyhow::ensure!(output.status.success(), "{program} ended with {}", output.status);
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(context)?;
    match (answer["Username"].as_str(), answer["Secret"].as_str()) {
        (Some(name), Some(secret)) => Ok(Login::Password(name.to_owned(), secret.to_owned())),
        _ => anyhow::bail!("{program} gave no name and secret for {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_used_without_tls() {
        for host in ["localhost", "localhost:5001", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example.com", "10.0.0.1:5000", "europe-west1-docker.pkg.dev", "registry:5000"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_place_is_a_host_and_a_path() {
        let registry = |place: &str| Registry::new(place, Login::Anonymous);
        assert_eq!(registry("localhost:5001").unwrap().repository("engine"), "localhost:5001/engine");
        assert_eq!(
            registry("europe-west1-docker.pkg.dev/p/images/").unwrap().repository("engine"),
            "europe-west1-docker.pkg.dev/p/images/engine"
        );
        assert!(registry("localhost:5001/Not A Path").is_err());
    }

    #[tokio::test]
    async fn a_docker_login_is_found_by_host() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(docker_login(folder.path(), "r.example").await.unwrap(), None);
        let auth = STANDARD.encode("me:se:cret");
        let text =
            serde_json::json!({"auths": {"r.example": {"auth": auth}, "https://hub.example/v1/": {"auth": auth}}});
        std::fs::write(folder.path().join("config.json"), text.to_string()).unwrap();
        let login = Login::Password("me".to_owned(), "se:cret".to_owned());
        assert_eq!(docker_login(folder.path(), "r.example").await.unwrap(), Some(login.clone()));
        assert_eq!(docker_login(folder.path(), "hub.example").await.unwrap(), Some(login.clone()));
        assert_eq!(docker_login(folder.path(), "other.example").await.unwrap(), None);
        assert!(!format!("{login:?}").contains("cret"));
        std::fs::write(folder.path().join("config.json"), r#"{"credHelpers": {"r.example": "not-there"}}"#).unwrap();
        let error = docker_login(folder.path(), "r.example").await.unwrap_err();
        assert!(error.to_string().contains("docker-credential-not-there"), "{error:#}");
    }
}
