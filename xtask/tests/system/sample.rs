//! Which cases of an exhaustive suite run: a fixed sample, or all of them when `DESKGRID_TEST_LONG` is set.

/// Whether every case runs, which is what `cargo xtask test --long` asks for.
pub(crate) fn is_long() -> bool {
    contract::config::variables().get("DESKGRID_TEST_LONG").is_some_and(|value| !value.is_empty())
}
