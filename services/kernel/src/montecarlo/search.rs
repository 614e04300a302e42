//! Searches the shifted laws under which paths say more about a payoff.
//!
//! Along some lines through the origin of the draws, a shift goes to the place that adds most to the price (Glasserman,
//! Heidelberger and Shahabuddin, Asymptotically Optimal Importance Sampling and Stratification, 1999). A share of the
//! paths is not shifted, which bounds the weights (Hesterberg, Weighted Average Importance Sampling and Defensive
//! Mixture Distributions, 1995).

use super::{
    draws::{Draws, Source},
    elementary::{exp, ln},
    model::{Shape, Terms, Workspace},
    normal::{BLOCK, Lane},
    proposal::Proposal,
};

/// Skewness of the payoff up to which paths of their own law say enough.
const SKEWNESS_MAX: f64 = 6.0;
/// How far the search goes along a line, on both sides. What lies further away is smaller than the smallest number.
const REACH: f64 = 40.0;
/// Share of the paths that are not shifted, where there is more than one draw.
const UNSHIFTED: f64 = 0.5;

/// The mixture for a payoff, with a component for each line of unit length; none when it needs none. With a heavy tail
/// one line that needs it is enough, else all of them must.
pub fn proposal(shape: &dyn Shape, terms: &Terms, lines: &[Vec<f64>], is_heavy: bool) -> Option<Proposal> {
    let mut space = Workspace::default();
    let mut search = |line: &Vec<f64>| search(shape, terms, line, &mut space).map(|found| (line.clone(), found));
    let found: Vec<(Vec<f64>, (f64, f64))> = lines.iter().filter_map(&mut search).collect();
    let needed = found.iter().filter(|(_, (skewness, _))| *skewness > SKEWNESS_MAX).count();
    if needed == 0 || !is_heavy && needed < found.len() {
        return None;
    }
    let unshifted = if shape.is_one_level() { 0.0 } else { UNSHIFTED };
    let shifts: Vec<(Vec<f64>, f64)> = found.into_iter().map(|(line, (_, place))| (line, place)).collect();
    Some(Proposal::new(&shifts, unshifted))
}

/// The payoff along a line: its skewness under the normal law, and where it times the density is largest.
fn search(shape: &dyn Shape, terms: &Terms, line: &[f64], space: &mut Workspace) -> Option<(f64, f64)> {
    let width = 2.0 * REACH / (BLOCK - 1) as f64;
    let places: Lane = std::array::from_fn(|number| number as f64 * width - REACH);
    let mut draws = Draws { source: Source::Ray { direction: line, places: &places }, tilt: None };
    shape.evaluate(terms, &mut draws, &[0], space);
    let paid: Vec<(f64, f64)> =
        places.iter().zip(&space.lanes[0]).map(|(at, paid)| (*at, *paid)).filter(|(_, paid)| *paid > 1e-300).collect();
    let height = |(at, paid): &(f64, f64)| ln(*paid) - 0.5 * at * at;
    let best = paid.iter().copied().max_by(|one, other| height(one).total_cmp(&height(other)))?;
    // Powers of the payoff, in units of the best.
    let scale = width / std::f64::consts::TAU.sqrt();
    let power = |power: i32| {
        paid.iter().map(|(at, paid)| scale * exp(-0.5 * at * at) * (paid / best.1).powi(power)).sum::<f64>()
    };
    let [first, second, third] = [power(1), power(2), power(3)];
    let variance = second - first * first;
    let skewness = (third - 3.0 * first * second + 2.0 * first.powi(3)) / variance.max(1e-300).powf(1.5);
    // Where hardly a path pays, rounding leaves nothing of these.
    let is_rare = first * first < 1e-3 * second;
    Some((if is_rare || !skewness.is_finite() { f64::INFINITY } else { skewness.abs() }, best.0))
}
