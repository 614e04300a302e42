//! Importance sampling: paths are drawn from a mixture of shifted normal laws, and each is weighted by how much less
//! likely it is under its own law.

use super::{
    elementary::exp,
    normal::{BLOCK, Lane},
};

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
    /// A mixture of shifts along lines, each a line of unit length and a place on it, with equal shares, and of the
    /// unshifted law with the share `unshifted`.
    pub fn new(shifts: &[(Vec<f64>, f64)], unshifted: f64) -> Self {
        let share = (1.0 - unshifted) / shifts.len() as f64;
        let shifted = shifts.iter().map(|(line, place)| Component {
            share,
            shift: line.iter().map(|entry| entry * place).collect(),
            half: 0.5 * place * place,
        });
        let own = Component { share: unshifted, shift: Vec::new(), half: 0.0 };
        Self(shifted.chain((unshifted > 0.0).then_some(own)).collect())
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
