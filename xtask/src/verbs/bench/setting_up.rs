//! `provision` from nothing, and `plan` with nothing to do.

use std::time::Instant;

use provision::{Environment, plan};

use super::report::{Goal, Measure, Row};
use crate::{output::Output, setup};

/// Provisions the environment, and plans again.
pub(super) async fn measure(environment: &Environment, output: &Output) -> anyhow::Result<Vec<Row>> {
    let quiet = output.only_errors();
    let cloud = setup::connect(environment, &crate::args::Globals::default()).await?;
    let begun = Instant::now();
    let plan = setup::look(environment, &cloud, plan::Options::default(), &quiet).await?;
    let report = setup::carry_out(plan, &cloud, &quiet).await?;
    let provisioned = begun.elapsed().as_secs_f64() * 1000.0;
    setup::write_config(environment, &cloud)?;
    let begun = Instant::now();
    let again = setup::look(environment, &cloud, plan::Options::default(), &quiet).await?;
    let planned = begun.elapsed().as_secs_f64() * 1000.0;
    let left = if again.is_empty() { "" } else { "it still finds something to change" };
    Ok(vec![
        Row::new(
            format!("provision from nothing, {} businesses", environment.businesses.len()),
            Measure { value: provisioned, unit: "ms" },
            None,
            Goal::None,
            format!("{} changes; the laptop cloud answers at once", report.applied.done),
        ),
        Row::new("plan with nothing to do", Measure { value: planned, unit: "ms" }, None, Goal::None, left),
    ])
}
