//! The Monte Carlo kernel: counter-based streams, exact stepping of geometric Brownian motion, and a fixed order of
//! summation, so that a result depends on the input only and not on threads, tasks or pods.

pub mod block;
pub mod elementary;
pub mod moments;
pub mod normal;
pub mod philox;
pub mod simulate;

pub use simulate::{Estimate, Share, simulate};

#[cfg(test)]
mod tests;
