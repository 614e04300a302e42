//! Environment variables with which other programs find a laptop cloud.

use provision::LocalState;

/// Environment variables for `kubectl`, `gcloud`, `gsutil` and this program. `name` is how the environment is named
/// on the command line.
pub(crate) fn exports(name: &str, state: &LocalState) -> Vec<(String, String)> {
    let this = ("DESKGRID_ENV".to_owned(), name.to_owned());
    let tools = state.tools.iter().map(|(name, value)| (name.clone(), value.clone()));
    std::iter::once(this).chain(tools).collect()
}
