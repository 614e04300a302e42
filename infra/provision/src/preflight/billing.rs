//! Whether the project can be billed.

use crate::{
    environment::{CloudKind, Environment},
    finding::Finding,
    google::{Api, Client, Request, escape},
};

/// Whether somebody pays for the project.
pub(super) async fn check(environment: &Environment, client: &Client) -> Finding {
    let project = &environment.project;
    let request = Request::get(Api::CloudBilling, format!("v1/projects/{}/billingInfo", escape(project)));
    let link = format!("gcloud billing projects link {project} --billing-account ACCOUNT");
    match client.send(&request).await {
        Ok(info) if info["billingEnabled"] == true => {
            Finding::good("billing", info["billingAccountName"].as_str().unwrap_or("enabled"))
        }
        Ok(info) => {
            let account = info["billingAccountName"].as_str().filter(|name| !name.is_empty());
            let seen = match account {
                Some(account) => format!("{account} is closed, so Google refuses paid resources"),
                None => "no billing account pays for the project, so Google refuses paid resources".to_owned(),
            };
            let finding = Finding::bad("no-billing", "billing", seen, link);
            // A laptop costs nothing.
            if environment.cloud == CloudKind::Google { finding } else { finding.optional() }
        }
        Err(error) if error.is_service_disabled() => {
            let fix = format!("gcloud services enable --project {project} cloudbilling.googleapis.com");
            Finding::warning("billing", "cannot be checked: cloudbilling.googleapis.com is not enabled", fix)
        }
        Err(error) => Finding::unchecked("billing", error),
    }
}
