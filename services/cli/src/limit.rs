//! How many items a list shows.

use crate::output::Output;

/// Items that are shown to a person who does not say how many.
const DEFAULT: usize = 100;

/// The limit of a list.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Limit {
    /// Show at most this many [default: 100, all with --json]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl Limit {
    /// The most items to show.
    pub(crate) fn max(&self, output: &Output) -> usize {
        self.limit.unwrap_or(if output.json { usize::MAX } else { DEFAULT })
    }

    /// Cuts a list, and says so.
    pub(crate) fn cut<T>(&self, items: &mut Vec<T>, output: &Output) {
        let max = self.max(output);
        if items.len() > max {
            output.note(format_args!("the list is cut after {max}; --limit shows more"));
            items.truncate(max);
        }
    }
}
