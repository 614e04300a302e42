//! Arguments of every verb.

use clap::Args;

/// Arguments of every verb.
#[derive(Clone, Debug, Default, Args)]
#[group(skip)]
pub struct Globals {
    /// Environment: a name in infra/environments, or a path that ends in .toml [default: the only one that is not
    /// `local`]
    #[arg(long, global = true, value_name = "NAME", env = "DESKGRID_ENV")]
    pub env: Option<String>,
    /// Act as this service account; you need roles/iam.serviceAccountTokenCreator on it
    #[arg(long, global = true, value_name = "EMAIL")]
    pub impersonate_service_account: Option<String>,
    /// Arguments that the program `deskgrid` has too.
    #[command(flatten)]
    pub shared: cli::Globals,
}

impl Globals {
    /// The service account to act as.
    pub(crate) fn impersonated(&self) -> Option<&str> {
        self.impersonate_service_account.as_deref().filter(|email| !email.is_empty())
    }

    /// The Kubernetes context named on the command line.
    pub(crate) fn context(&self) -> Option<&str> {
        self.shared.context()
    }
}
