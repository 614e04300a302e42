//! Options of verbs that change something: confirm first, or only show the change.

use crate::{confirm, context::Context};

/// Options of verbs that change something.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub(crate) struct Change {
    /// Do not ask before a change
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Show the change without making it
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Change {
    /// Asks the person to confirm, unless `--yes` is given or the environment is a laptop cloud.
    ///
    /// # Errors
    /// When standard input is no terminal, or the answer is not yes.
    pub(crate) fn confirm(&self, context: &Context, question: &str) -> anyhow::Result<()> {
        if self.yes || context.is_laptop { Ok(()) } else { confirm::yes(question) }
    }
}
