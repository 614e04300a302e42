//! How a payoff is estimated: its terms, the simulation of its paths, and the part that is known.

use std::fmt::Debug;

use super::{
    draws::Draws,
    elementary::{exp, ln},
    normal::{BLOCK, Lane},
    proposal::Proposal,
};
use crate::pricing::parameters::Underlying;

/// What every trade has.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Strike price.
    pub strike: f64,
    /// 1 for a call, -1 for a put.
    pub sign: f64,
    /// Whether the lower of strike and level is paid, which is the strike less a put.
    pub is_least: bool,
    /// Years to maturity.
    pub maturity: f64,
    /// Risk-free rate.
    pub rate: f64,
    /// Present value of 1 at maturity.
    pub discount: f64,
}

/// One underlying over the life of a trade.
#[derive(Clone, Copy, Debug)]
pub struct Asset {
    /// Price now.
    pub spot: f64,
    /// Annual volatility.
    pub volatility: f64,
    /// Mean of the logarithm's change in a year.
    pub drift: f64,
}

impl Asset {
    /// The asset of an underlying.
    pub fn new(underlying: &Underlying) -> Self {
        let Underlying { spot, volatility, rate, dividend_yield } = *underlying;
        Self { spot, volatility, drift: rate - dividend_yield - 0.5 * volatility * volatility }
    }

    /// Standard deviation of the logarithm at maturity.
    pub fn deviation(&self, maturity: f64) -> f64 {
        self.volatility * maturity.sqrt()
    }

    /// Mean of its price after some years.
    pub fn forward(&self, years: f64) -> f64 {
        self.spot * exp((self.drift + 0.5 * self.volatility * self.volatility) * years)
    }

    /// Median of its price's logarithm after some years.
    pub fn median(&self, years: f64) -> f64 {
        ln(self.spot) + self.drift * years
    }

    /// Whether its price moves at all, as far as a number shows.
    pub fn moves(&self, maturity: f64) -> bool {
        self.deviation(maturity) > 1e-12
    }
}

/// How the paths of a trade are simulated.
pub trait Shape: Debug + Send + Sync {
    /// Draws of one path.
    fn draws(&self) -> usize;

    /// Whether the draws are the steps of one path, so that a bridge can fix it.
    fn is_path(&self) -> bool {
        self.draws() > 1
    }

    /// Whether one draw alone makes the level that is paid on.
    fn is_one_level(&self) -> bool {
        false
    }

    /// Whether the price is discontinuous in the draws. The other measures are, for every payoff.
    fn jumps(&self) -> bool {
        false
    }

    /// Whether one underlying alone decides each path, so that paths need not show the Greeks of the others.
    fn is_decided_by_one(&self) -> bool {
        false
    }

    /// Simulates one block: fills the lanes that are wanted.
    fn evaluate(&self, terms: &Terms, draws: &mut Draws<'_>, wanted: &[usize], space: &mut Workspace);
}

/// How a payoff is estimated: a part that is known, and `sign` times a part that is simulated.
#[derive(Debug)]
pub struct Model {
    /// What is simulated.
    pub shape: Box<dyn Shape>,
    /// Terms of what is simulated.
    pub terms: Terms,
    /// The known part of each lane; 0 where there is none.
    pub known: Vec<f64>,
    /// 1, or -1 where the simulated part is taken away.
    pub sign: f64,
    /// Where the paths are drawn from.
    pub proposal: Option<Proposal>,
    /// Whether the simulated part is 0, or so small that it changes no digit of the known one.
    pub is_nothing: bool,
    /// The same with another approximation; what both differ by is an error of the first.
    pub other: Option<Box<dyn Shape>>,
}

impl Model {
    /// Everything is simulated, from the paths' own law.
    pub fn new(shape: Box<dyn Shape>, terms: Terms) -> Self {
        Self { shape, terms, known: Vec::new(), sign: 1.0, proposal: None, is_nothing: false, other: None }
    }
}

/// Arrays of one block, kept between blocks.
#[derive(Default)]
pub struct Workspace {
    /// Measures of each path, discounted.
    pub lanes: Vec<Lane>,
    /// Whatever else the payoff needs.
    pub scratch: Vec<Lane>,
}

impl Workspace {
    /// Room for the plan.
    pub fn fit(&mut self, lanes: usize, scratch: usize) {
        if self.lanes.len() < lanes {
            self.lanes.resize(lanes, [0.0; BLOCK]);
        }
        if self.scratch.len() < scratch {
            self.scratch.resize(scratch, [0.0; BLOCK]);
        }
    }
}
