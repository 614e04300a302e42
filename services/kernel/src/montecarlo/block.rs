//! One block of paths of one trade: simulate, pay off, summarise.

use super::{
    elementary::exp,
    moments::Moments,
    normal::{BLOCK, Stream, Words, fill},
};
use crate::pricing::book::{Averaging, Kind, OptionType, Trade, Underlying};

/// What simulating a trade needs to know, worked out once.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    spot: f64,
    strike: f64,
    /// 1 for a call, -1 for a put.
    sign: f64,
    discount: f64,
    steps: u32,
    /// Mean of the logarithm's change in one step.
    drift: f64,
    /// Standard deviation of the logarithm's change in one step.
    deviation: f64,
    average: Average,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Average {
    Last,
    Arithmetic,
    Geometric,
}

/// Moments of one trade's measures over some paths.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Discounted payoff of one option.
    pub price: Moments,
    /// Pathwise derivative of the discounted payoff by the spot price.
    pub delta: Moments,
}

impl Sample {
    /// Both samples together; `self` comes before `other` in path order.
    pub fn merge(self, other: Self) -> Self {
        Self { price: self.price.merge(other.price), delta: self.delta.merge(other.delta) }
    }
}

impl Plan {
    /// The plan for a trade on its underlying.
    pub fn new(trade: &Trade, underlying: &Underlying) -> Self {
        let (steps, average) = match trade.kind {
            Kind::European => (1, Average::Last),
            Kind::Asian { averaging: Averaging::Arithmetic, observations } => (observations, Average::Arithmetic),
            Kind::Asian { averaging: Averaging::Geometric, observations } => (observations, Average::Geometric),
        };
        let step = trade.maturity / f64::from(steps);
        let Underlying { spot, volatility, rate, dividend_yield } = *underlying;
        Self {
            spot,
            strike: trade.strike,
            sign: match trade.option {
                OptionType::Call => 1.0,
                OptionType::Put => -1.0,
            },
            discount: exp(-rate * trade.maturity),
            steps,
            drift: (rate - dividend_yield - 0.5 * volatility * volatility) * step,
            deviation: volatility * step.sqrt(),
            average,
        }
    }
}

/// Arrays of one block, kept between blocks.
pub struct Workspace {
    words: Words,
    normals: [f64; BLOCK],
    logarithm: [f64; BLOCK],
    level: [f64; BLOCK],
    delta: [f64; BLOCK],
}

impl Workspace {
    /// An empty workspace, on the heap because it is large.
    pub fn new() -> Box<Self> {
        Box::new(Self {
            words: Words::new(),
            normals: [0.0; BLOCK],
            logarithm: [0.0; BLOCK],
            level: [0.0; BLOCK],
            delta: [0.0; BLOCK],
        })
    }
}

/// Simulates the first `paths` (at most [`BLOCK`]) paths of a block.
#[inline(always)]
pub fn sample(plan: &Plan, stream: Stream, paths: usize, with_delta: bool, space: &mut Workspace) -> Sample {
    let Workspace { words, normals, logarithm, level, delta } = space;
    let Plan { drift, deviation, .. } = *plan;
    match plan.average {
        Average::Last => {
            fill(stream, 0, words, normals);
            for path in 0..BLOCK {
                level[path] = exp(drift + deviation * normals[path]);
            }
        }
        Average::Arithmetic => {
            logarithm.fill(0.0);
            level.fill(0.0);
            for step in 0..plan.steps {
                fill(stream, step, words, normals);
                for path in 0..BLOCK {
                    let moved = logarithm[path] + (drift + deviation * normals[path]);
                    logarithm[path] = moved;
                    level[path] += exp(moved);
                }
            }
            let share = 1.0 / f64::from(plan.steps);
            level.iter_mut().for_each(|level| *level *= share);
        }
        Average::Geometric => {
            logarithm.fill(0.0);
            level.fill(0.0);
            for step in 0..plan.steps {
                fill(stream, step, words, normals);
                for path in 0..BLOCK {
                    let moved = logarithm[path] + (drift + deviation * normals[path]);
                    logarithm[path] = moved;
                    level[path] += moved;
                }
            }
            let share = 1.0 / f64::from(plan.steps);
            level.iter_mut().for_each(|level| *level = exp(*level * share));
        }
    }
    let Plan { spot, strike, sign, discount, .. } = *plan;
    for path in 0..BLOCK {
        let relative = level[path];
        let gain = sign * (relative * spot - strike);
        let pays = gain > 0.0;
        level[path] = if pays { gain * discount } else { 0.0 };
        // The level is proportional to the spot price, so the payoff's derivative is the relative level where it pays.
        delta[path] = if pays { sign * relative * discount } else { 0.0 };
    }
    Sample {
        price: Moments::of(&level[..paths]),
        delta: if with_delta { Moments::of(&delta[..paths]) } else { Moments::default() },
    }
}
