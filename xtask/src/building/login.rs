//! Who we are to a registry: what the command line says, Google's credentials, or what `docker login` noted.

use std::{io::Read as _, path::PathBuf};

use anyhow::Context as _;
use google_cloud_auth::credentials::CacheableResource;
use images::Login;
use provision::{Cloud, google};

use crate::error::Failure;

/// Name that Google's registries take a token under.
const TOKEN_USER: &str = "oauth2accesstoken";

/// A login on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct LoginArgs {
    /// Name for the registry [default: Google's credentials, or what `docker login` noted]
    #[arg(long, value_name = "NAME", requires = "password_stdin")]
    username: Option<String>,
    /// Read the password for the registry from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
}

/// Who we are to the registry at a place.
///
/// # Errors
/// When a password, a credential or a note cannot be read.
pub(crate) async fn of(place: &str, args: &LoginArgs, cloud: Option<&Cloud>) -> anyhow::Result<Login> {
    if let Some(name) = &args.username {
        let mut password = String::new();
        std::io::stdin().read_to_string(&mut password).context("read the password from standard input")?;
        return Ok(Login::Password(name.clone(), password.trim_end_matches(['\r', '\n']).to_owned()));
    }
    let host = place.split('/').next().unwrap_or(place);
    if host.ends_with(".pkg.dev") || host == "gcr.io" || host.ends_with(".gcr.io") {
        let credentials = match cloud {
            Some(cloud) => cloud.google.credentials().clone(),
            None => google::default_credentials()?,
        };
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
        return Ok(token.map_or(Login::Anonymous, |token| Login::Password(TOKEN_USER.to_owned(), token)));
    }
    let variables = common::config::variables();
    let folder = variables
        .get("DOCKER_CONFIG")
        .map(PathBuf::from)
        .or_else(|| variables.get("HOME").map(|home| PathBuf::from(home).join(".docker")));
    match folder {
        Some(folder) => Ok(images::docker_login(&folder, host).await?.unwrap_or(Login::Anonymous)),
        None => Ok(Login::Anonymous),
    }
}
