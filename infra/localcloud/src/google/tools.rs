//! The two files and the variables that direct `gcloud`, `gsutil` and Google's libraries to the laptop cloud.

use std::path::Path;

use anyhow::Context as _;

use super::Google;
use crate::identity::tokens::OPERATOR_REFRESH;

impl Google {
    /// Writes a credentials file, a boto file and a scratch configuration into `folder`, and answers the environment
    /// variables that make `gcloud`, `gsutil` and Google's libraries use them, as the operator.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write_tools(&self, folder: &Path) -> anyhow::Result<Vec<(&'static str, String)>> {
        let path = |name: &str| folder.join(name);
        let shown = |name: &str| path(name).display().to_string();
        for name in ["gcloud", "gsutil"] {
            std::fs::create_dir_all(path(name)).with_context(|| format!("create {}", shown(name)))?;
        }
        crate::files::write(&path("credentials.json"), self.operator_credentials().to_string().as_bytes())?;
        crate::files::write(&path("boto"), self.boto(&shown("gsutil")).as_bytes())?;
        let endpoints = self.endpoints();
        let slash = |endpoint: &str| format!("{endpoint}/");
        Ok(vec![
            ("GOOGLE_APPLICATION_CREDENTIALS", shown("credentials.json")),
            ("BOTO_CONFIG", shown("boto")),
            ("CLOUDSDK_CONFIG", shown("gcloud")),
            ("CLOUDSDK_CORE_PROJECT", self.options().project.clone()),
            ("CLOUDSDK_CORE_DISABLE_PROMPTS", "1".to_owned()),
            ("CLOUDSDK_CORE_DISABLE_USAGE_REPORTING", "true".to_owned()),
            ("CLOUDSDK_CORE_PASS_CREDENTIALS_TO_GSUTIL", "false".to_owned()),
            ("CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK", "true".to_owned()),
            ("CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", shown("credentials.json")),
            ("CLOUDSDK_AUTH_TOKEN_HOST", format!("{}/token", endpoints.oauth2)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", format!("{}/storage/v1/", endpoints.storage)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB", slash(&endpoints.pubsub)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAM", slash(&endpoints.iam)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_IAMCREDENTIALS", slash(&endpoints.iamcredentials)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDRESOURCEMANAGER", slash(&endpoints.cloudresourcemanager)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_SERVICEUSAGE", slash(&endpoints.serviceusage)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CONTAINER", slash(&endpoints.container)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY", slash(&endpoints.artifactregistry)),
            ("CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBUILD", slash(&endpoints.cloudbuild)),
            ("USE_GKE_GCLOUD_AUTH_PLUGIN", "True".to_owned()),
        ])
    }

    /// gsutil's own configuration; it speaks TLS only, and does not verify the certificate.
    fn boto(&self, state: &str) -> String {
        let endpoints = self.endpoints();
        let secure = endpoints.storage_tls.trim_start_matches("https://");
        let (host, port) = secure.rsplit_once(':').unwrap_or((secure, "443"));
        format!(
            "[Credentials]\n\
             gs_json_host = {host}\n\
             gs_json_port = {port}\n\
             gs_oauth2_refresh_token = {OPERATOR_REFRESH}\n\
             [OAuth2]\n\
             provider_token_uri = {}/token\n\
             client_id = local\n\
             client_secret = local\n\
             [Boto]\n\
             https_validate_certificates = False\n\
             [GSUtil]\n\
             prefer_api = json\n\
             default_project_id = {}\n\
             software_update_check_period = 0\n\
             state_dir = {state}\n",
            endpoints.oauth2,
            self.options().project,
        )
    }
}
