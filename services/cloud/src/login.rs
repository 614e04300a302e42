//! Which login Google's libraries use, read from the file that they read, for people.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::Value;

/// Variable that names the file of the application default credentials, as Google's libraries read it.
const CREDENTIALS_FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Where `gcloud auth application-default login` puts them, below the home folder.
const LOGIN_FILE: &str = ".config/gcloud/application_default_credentials.json";

/// The file that a variable names.
pub(crate) fn named_file(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    variables.get(CREDENTIALS_FILE).filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// The file of the application default credentials; `None` means the metadata server.
pub(crate) fn file(variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let usual = || Some(Path::new(variables.get("HOME").filter(|home| !home.is_empty())?).join(LOGIN_FILE));
    named_file(variables).or_else(|| usual().filter(|path| path.is_file()))
}

/// The content of the file, when it is the key of a service account.
pub(crate) fn service_account_key(variables: &BTreeMap<String, String>) -> Option<Value> {
    let json: Value = serde_json::from_slice(&std::fs::read(file(variables)?).ok()?).ok()?;
    (json["type"] == "service_account").then_some(json)
}

/// The kind of login, and who that is where the file says it.
///
/// # Errors
/// When the file cannot be read.
pub fn describe(variables: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let Some(path) = file(variables) else { return Ok("the service account of the metadata server".to_owned()) };
    let context = || format!("read the credentials {}", path.display());
    let json: Value = serde_json::from_slice(&std::fs::read(&path).with_context(context)?).with_context(context)?;
    Ok(format!("{} ({})", of_file(&json), path.display()))
}

fn of_file(json: &Value) -> String {
    let text = |name: &str| json[name].as_str().filter(|text| !text.is_empty());
    // `…/serviceAccounts/EMAIL:generateAccessToken`
    let acts_as = text("service_account_impersonation_url")
        .and_then(|url| url.rsplit('/').next()?.strip_suffix(":generateAccessToken"));
    match json["type"].as_str() {
        Some("authorized_user") => format!("user {}", text("account").unwrap_or("who logged in with gcloud")),
        Some("service_account") => format!("key of {}", text("client_email").unwrap_or("a service account")),
        Some("impersonated_service_account") => {
            format!("impersonation of {}", acts_as.unwrap_or("a service account"))
        }
        Some("external_account") => {
            let audience = text("audience").unwrap_or("an identity pool");
            let acts_as = acts_as.map(|email| format!(", acting as {email}")).unwrap_or_default();
            format!("federated identity of {}{acts_as}", audience.trim_start_matches("//iam.googleapis.com/"))
        }
        other => format!("unknown kind {}", other.unwrap_or("without a name")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_says_who_it_is() {
        let url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/a@p.iam:generateAccessToken";
        for (json, expected) in [
            (json!({"type": "authorized_user", "account": ""}), "user who logged in with gcloud"),
            (json!({"type": "service_account", "client_email": "a@p.iam"}), "key of a@p.iam"),
            (
                json!({"type": "impersonated_service_account", "service_account_impersonation_url": url}),
                "impersonation of a@p.iam",
            ),
            (
                json!({"type": "external_account", "audience": "//iam.googleapis.com/projects/1",
                    "service_account_impersonation_url": url}),
                "federated identity of projects/1, acting as a@p.iam",
            ),
        ] {
            assert_eq!(of_file(&json), expected);
        }
        assert!(describe(&BTreeMap::new()).unwrap().contains("metadata server"));
    }
}
