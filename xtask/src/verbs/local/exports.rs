//! What other programs must be told to find a laptop cloud.

use std::path::Path;

use provision::{Environment, LocalState};

use crate::laptop::Laptop;

/// Environment variables for `kubectl`, `gcloud`, `gsutil` and this program. `name` is how the environment is named
/// on the command line.
pub(crate) fn exports(
    laptop: &Laptop,
    environment: &Environment,
    name: &str,
    state: &LocalState,
) -> Vec<(String, String)> {
    let google = &state.endpoints.google;
    let folder = laptop.folder();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut exports = vec![
        ("DESKGRID_ENV".to_owned(), name.to_owned()),
        ("KUBECONFIG".to_owned(), text(&state.kubeconfig)),
        ("GOOGLE_APPLICATION_CREDENTIALS".to_owned(), text(&state.credentials)),
        ("BOTO_CONFIG".to_owned(), text(&folder.join("boto"))),
        ("CLOUDSDK_CONFIG".to_owned(), text(&folder.join("gcloud"))),
        ("CLOUDSDK_CORE_PROJECT".to_owned(), environment.project.clone()),
        ("CLOUDSDK_CORE_DISABLE_PROMPTS".to_owned(), "1".to_owned()),
        ("CLOUDSDK_AUTH_ACCESS_TOKEN_FILE".to_owned(), text(&folder.join("token"))),
    ];
    let slash = |address: &str| format!("{}/", address.trim_end_matches('/'));
    for (api, address) in [
        ("PUBSUB", slash(&google.pubsub)),
        ("STORAGE", format!("{}storage/v1/", slash(&google.storage))),
        ("IAM", slash(&google.iam)),
        ("IAMCREDENTIALS", slash(&google.iamcredentials)),
        ("CLOUDRESOURCEMANAGER", slash(&google.cloudresourcemanager)),
        ("SERVICEUSAGE", slash(&google.serviceusage)),
    ] {
        exports.push((format!("CLOUDSDK_API_ENDPOINT_OVERRIDES_{api}"), address));
    }
    exports
}
