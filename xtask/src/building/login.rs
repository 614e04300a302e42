//! The login to a registry: from the command line, Google's credentials, or `docker login`.

use std::{io::Read as _, path::PathBuf};

use anyhow::Context as _;
use cli::error::Failure;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use images::Login;

/// Name that Google's registries take a token under.
const TOKEN_USER: &str = "oauth2accesstoken";

/// A login on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LoginArgs {
    /// Name for the registry [default: Google's credentials, or the login of `docker login`]
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password for the registry from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// Where a login comes from. It is read at every use: compiling can take longer than a token is valid.
#[derive(Clone, Debug)]
pub(crate) enum LoginSource {
    /// The command line, or nothing at all.
    Known(Login),
    /// Google's credentials.
    Google(Credentials),
    /// The login that `docker login` stored in this folder.
    Docker(PathBuf),
}

impl LoginSource {
    /// The login to the registry at a place, as it is now.
    ///
    /// # Errors
    /// When a credential cannot be read.
    pub(crate) async fn login(&self, place: &str) -> anyhow::Result<Login> {
        match self {
            Self::Known(login) => Ok(login.clone()),
            Self::Google(credentials) => token(credentials, place).await,
            Self::Docker(folder) => Ok(images::docker_login(folder, host(place)).await?.unwrap_or(Login::Anonymous)),
        }
    }
}

/// The source of the login to the registry at a place; `google` returns the credentials for one of Google's.
///
/// # Errors
/// When a password or a credential cannot be read.
pub(crate) fn login_source(
    place: &str,
    args: &LoginArgs,
    google: impl FnOnce() -> anyhow::Result<Credentials>,
) -> anyhow::Result<LoginSource> {
    if let Some(name) = &args.username {
        let mut password = String::new();
        std::io::stdin().read_to_string(&mut password).context("read the password from standard input")?;
        return Ok(LoginSource::Known(Login::Password(
            name.clone(),
            password.trim_end_matches(['\r', '\n']).to_owned(),
        )));
    }
    if is_google(place) {
        return google().map(LoginSource::Google);
    }
    let variables = contract::config::variables();
    let folder = variables
        .get("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| variables.get("HOME").map(|home| PathBuf::from(home).join(".docker")));
    Ok(folder.map_or(LoginSource::Known(Login::Anonymous), LoginSource::Docker))
}

/// Whether a place is in a registry of Google's.
pub(super) fn is_google(place: &str) -> bool {
    let host = host(place);
    host.ends_with(".pkg.dev") || host == "gcr.io" || host.ends_with(".gcr.io")
}

/// The host of a place.
pub(super) fn host(place: &str) -> &str {
    place.split('/').next().unwrap_or(place)
}

async fn token(credentials: &Credentials, place: &str) -> anyhow::Result<Login> {
    let headers = match credentials.headers(http::Extensions::new()).await {
        Ok(CacheableResource::New { data, .. }) => data,
        Ok(CacheableResource::NotModified) => http::HeaderMap::new(),
        Err(error) => {
            return Err(Failure::new("credentials", "there is no usable credential")
                .on(place)
                .why(error.to_string())
                .next("gcloud auth application-default login")
                .into());
        }
    };
    let token = headers
        .get(http::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
    Ok(token.map_or(Login::Anonymous, |token| Login::Password(TOKEN_USER.to_owned(), token)))
}
