//! Options that every verb of both programs takes.

/// Options that every verb takes, in `deskgrid` and in `cargo xtask`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Globals {
    /// Use this context of your kubeconfig instead of the environment's own cluster
    #[arg(long, global = true, value_name = "NAME", env = "DESKGRID_CONTEXT")]
    pub context: Option<String>,
    /// Print results as JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Print only errors on standard error: no messages, no progress
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more details on standard error
    #[arg(long, short, global = true)]
    pub verbose: bool,
}

impl Globals {
    /// The Kubernetes context named on the command line.
    pub fn context(&self) -> Option<&str> {
        self.context.as_deref().filter(|name| !name.is_empty())
    }
}
