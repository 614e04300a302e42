//! The Monte Carlo kernel: counter-based streams, exact stepping of geometric Brownian motion, and a fixed order of
//! summation, so that a result depends on the input only and not on threads, items or pods.
//!
//! Greeks are pathwise where the payoff is continuous, and by the likelihood ratio of the path where it is not: each
//! payoff says which (Glasserman, Monte Carlo Methods in Financial Engineering, chapter 7).

pub mod bridge;
pub mod correlation;
pub mod draws;
pub mod elementary;
pub mod level;
pub mod model;
pub mod moments;
pub mod normal;
pub mod philox;
pub mod plan;
pub mod proposal;
pub mod search;
pub mod simulate;
pub mod sobol;

pub use simulate::{Estimate, Share, simulate};

#[cfg(test)]
mod tests;
