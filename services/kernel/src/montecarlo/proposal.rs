//! Importance sampling: paths are drawn from a mixture of shifted laws under which they say more about the payoff, and
//! each is weighted by how much less likely it is under its own law.
//!
//! Along some lines through the origin of the draws, a shift goes to the place that adds most to the price (Glasserman,
//! Heidelberger and Shahabuddin, Asymptotically Optimal Importance Sampling and Stratification, 1999). A share of the
//! paths is not shifted, which bounds the weights (Hesterberg, Weighted Average Importance Sampling and Defensive
//! Mixture Distributions, 1995).

use super::{
    draws::{Draws, Lane, Source},
    elementary::{exp, ln},
    normal::BLOCK,
    plan::{Shape, Terms, Workspace},
};

/// Skewness of the payoff up to which paths of their own law say enough.
const SKEWNESS_MAX: f64 = 6.0;
/// How far the search goes along a line, on both sides. What lies further away is smaller than the smallest number.
const REACH: f64 = 40.0;
/// Share of the paths that are not shifted, where there is more than one draw.
const UNSHIFTED: f64 = 0.5;

/// A mixture of shifted normal laws.
#[derive(Clone, Debug)]
pub struct Proposal(Vec<Component>);

#[derive(Clone, Debug)]
struct Component {
    share: f64,
    /// Mean of each draw; none where it is not shifted.
    shift: Vec<f64>,
    /// Half of its squared length.
    half: f64,
}

/// What is known of the components of one block.
#[derive(Default)]
pub struct Space {
    chosen: Vec<usize>,
    logarithms: Vec<Lane>,
}

/// The shifts of one block while its draws are taken.
pub struct Tilt<'d> {
    proposal: &'d Proposal,
    space: &'d mut Space,
}

impl Proposal {
    /// The mixture for a payoff, with a component for each line of unit length; none when it needs none. With a heavy
    /// tail one line that needs it is enough, else all of them must.
    pub fn find(shape: &dyn Shape, terms: &Terms, lines: &[Vec<f64>], is_heavy: bool) -> Option<Self> {
        let mut space = Workspace::default();
        let mut search = |line: &Vec<f64>| search(shape, terms, line, &mut space).map(|found| (line.clone(), found));
        let found: Vec<(Vec<f64>, (f64, f64))> = lines.iter().filter_map(&mut search).collect();
        let needed = found.iter().filter(|(_, (skewness, _))| *skewness > SKEWNESS_MAX).count();
        if needed == 0 || !is_heavy && needed < found.len() {
            return None;
        }
        let unshifted = if shape.is_one_level() { 0.0 } else { UNSHIFTED };
        let share = (1.0 - unshifted) / found.len() as f64;
        let shifted = found.iter().map(|(line, (_, place))| Component {
            share,
            shift: line.iter().map(|entry| entry * place).collect(),
            half: 0.5 * place * place,
        });
        let own = Component { share: unshifted, shift: Vec::new(), half: 0.0 };
        Some(Self(shifted.chain((unshifted > 0.0).then_some(own)).collect()))
    }

    /// Chooses the components of a block's paths, each by a number between 0 and 1.
    pub fn start<'d>(&'d self, choices: &Lane, space: &'d mut Space) -> Tilt<'d> {
        space.chosen.clear();
        space.chosen.resize(BLOCK, 0);
        space.logarithms.clear();
        space.logarithms.resize(self.0.len(), [0.0; BLOCK]);
        for (chosen, choice) in space.chosen.iter_mut().zip(choices) {
            let mut rest = *choice;
            while *chosen + 1 < self.0.len() && rest >= self.0[*chosen].share {
                rest -= self.0[*chosen].share;
                *chosen += 1;
            }
        }
        Tilt { proposal: self, space }
    }

    /// Weighs the lanes that are wanted, after all draws of the block were taken.
    pub fn weigh(&self, space: &Space, wanted: &[usize], lanes: &mut [Lane]) {
        let mut density = [0.0; BLOCK];
        for (component, logarithms) in self.0.iter().zip(&space.logarithms) {
            for (density, logarithm) in density.iter_mut().zip(logarithms) {
                *density += component.share * exp(logarithm - component.half);
            }
        }
        for &lane in wanted {
            for (value, density) in lanes[lane].iter_mut().zip(&density) {
                *value /= density;
            }
        }
    }
}

impl Tilt<'_> {
    /// Moves one draw of every path.
    pub fn shift(&mut self, draw: usize, normals: &mut Lane) {
        let components = &self.proposal.0;
        for (normal, chosen) in normals.iter_mut().zip(&self.space.chosen) {
            *normal += components[*chosen].shift.get(draw).copied().unwrap_or_default();
        }
        for (component, logarithms) in components.iter().zip(&mut self.space.logarithms) {
            let Some(shift) = component.shift.get(draw) else { continue };
            for (logarithm, normal) in logarithms.iter_mut().zip(normals.iter()) {
                *logarithm += shift * normal;
            }
        }
    }
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
