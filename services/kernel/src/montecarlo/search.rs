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
/// By how much smaller, as a logarithm, what another place adds to the price may be before it needs no shift.
const SMALLER: f64 = 12.0;

/// Standard deviations that no price moves by: what lies further away is smaller than the smallest number.
pub const NEVER: f64 = 37.0;

/// The mixture for a payoff, with a component for each line of unit length; none when it needs none. With a heavy tail
/// one line that needs it is enough, else all of them must.
pub fn proposal(shape: &dyn Shape, terms: &Terms, lines: &[Vec<f64>], is_heavy: bool) -> Option<Proposal> {
    let mut space = Workspace::default();
    let found: Vec<(&Vec<f64>, f64, Vec<f64>)> = (lines.iter())
        .filter_map(|line| search(shape, terms, line, &mut space).map(|(skewness, places)| (line, skewness, places)))
        .collect();
    let needed = found.iter().filter(|(_, skewness, _)| *skewness > SKEWNESS_MAX).count();
    if needed == 0 || !is_heavy && needed < found.len() {
        return None;
    }
    let unshifted = if shape.is_one_level() { 0.0 } else { UNSHIFTED };
    let shifts = found.iter().flat_map(|(line, _, places)| places.iter().map(|place| ((*line).clone(), *place)));
    Some(Proposal::new(&shifts.collect::<Vec<_>>(), unshifted))
}

/// Whether a level that only grows along these lines is never paid on.
pub fn is_out_of_reach(shape: &dyn Shape, terms: &Terms, lines: &[Vec<f64>]) -> bool {
    let mut space = Workspace::default();
    let mut is_never = |line: &Vec<f64>| {
        search(shape, terms, line, &mut space).is_none_or(|(_, places)| places.iter().all(|place| place.abs() > NEVER))
    };
    lines.iter().all(&mut is_never)
}

/// The payoff along a line: its skewness under the normal law, and where it times the density is largest. There may be
/// several such places: a basket with weights of both signs can pay on both sides.
fn search(shape: &dyn Shape, terms: &Terms, line: &[f64], space: &mut Workspace) -> Option<(f64, Vec<f64>)> {
    let width = 2.0 * REACH / (BLOCK - 1) as f64;
    let places: Lane = std::array::from_fn(|number| number as f64 * width - REACH);
    let mut draws = Draws { source: Source::Ray { direction: line, places: &places }, tilt: None };
    shape.evaluate(terms, &mut draws, &[0], space);
    let paid: Vec<(f64, f64)> =
        places.iter().zip(&space.lanes[0]).map(|(at, paid)| (*at, *paid)).filter(|(_, paid)| *paid > 1e-300).collect();
    let height = |(at, paid): &(f64, f64)| ln(*paid) - 0.5 * at * at;
    let best = paid.iter().copied().max_by(|one, other| height(one).total_cmp(&height(other)))?;
    let modes = |power: f64| -> Vec<f64> {
        let height = |at: f64, paid: f64| power * ln(paid) - 0.5 * at * at;
        let heights: Vec<f64> =
            places.iter().zip(&space.lanes[0]).map(|(at, paid)| height(*at, paid.max(0.0))).collect();
        let least = heights.iter().copied().fold(f64::NEG_INFINITY, f64::max) - SMALLER;
        let is_largest = |&number: &usize| {
            let around = &heights[number.saturating_sub(1)..BLOCK.min(number + 2)];
            heights[number] > least && around.iter().all(|other| heights[number] >= *other)
        };
        (0..BLOCK).filter(is_largest).map(|number| places[number]).collect()
    };
    let skewness = |shifts: &[f64]| {
        // By how much more likely a place is with the shifts.
        let likelier = |at: f64| {
            let shifted = shifts.iter().map(|shift| exp(shift * at - 0.5 * shift * shift)).sum::<f64>();
            if shifts.is_empty() { 1.0 } else { UNSHIFTED + (1.0 - UNSHIFTED) * shifted / shifts.len() as f64 }
        };
        // Powers of the payoff, in units of the best.
        let scale = width / std::f64::consts::TAU.sqrt();
        let power = |power: i32| {
            let part = |(at, paid): &(f64, f64)| {
                scale * exp(-0.5 * at * at) * (paid / best.1).powi(power) / likelier(*at).powi(power - 1)
            };
            paid.iter().map(part).sum::<f64>()
        };
        let [first, second, third] = [power(1), power(2), power(3)];
        let variance = second - first * first;
        let skewness = (third - 3.0 * first * second + 2.0 * first.powi(3)) / variance.max(1e-300).powf(1.5);
        // Where hardly a path pays, rounding leaves nothing of these.
        let is_rare = first * first < 1e-3 * second;
        if is_rare || !skewness.is_finite() { f64::INFINITY } else { skewness.abs() }
    };
    let mut shifts = modes(1.0);
    if !shape.is_one_level() && skewness(&shifts) > SKEWNESS_MAX {
        // What pays seldom and much is a small part of the price, and most of its variance.
        shifts.extend(modes(2.0));
    }
    Some((skewness(&[]), shifts))
}
