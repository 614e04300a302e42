//! Whom this program acts as on Google Cloud.

use google_cloud_auth::credentials::Credentials;
use provision::{Environment, google};

use crate::globals::Globals;

/// The credentials of the person who runs this, or of the account that they impersonate.
///
/// # Errors
/// When they cannot be read, or the email is not that of an account.
pub(crate) fn credentials(environment: &Environment, globals: &Globals) -> anyhow::Result<Credentials> {
    let own = cloud::clients::default_credentials()?;
    match globals.impersonated() {
        Some(email) => {
            let client = google::Client::new(google::Endpoints::default(), own)?
                .through(&environment.network)?
                .counted_in(&environment.project)?;
            google::impersonated(&client, email)
        }
        None => Ok(own),
    }
}
