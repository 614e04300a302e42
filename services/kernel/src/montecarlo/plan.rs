//! What simulating a trade needs to know, worked out once, and one block of it.

use std::fmt::Debug;

use super::{
    bridge::Bridge,
    draws::{Draws, Lane},
    elementary::exp,
    normal::BLOCK,
    philox,
};
use crate::pricing::book::{Book, Measure, OptionType, Sampling, Trade, Underlying};

/// What every trade has.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Strike price.
    pub strike: f64,
    /// 1 for a call, -1 for a put.
    pub sign: f64,
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
    fn new(underlying: &Underlying) -> Self {
        let Underlying { spot, volatility, rate, dividend_yield } = *underlying;
        Self { spot, volatility, drift: rate - dividend_yield - 0.5 * volatility * volatility }
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

    /// Simulates one block: fills the lanes that are wanted.
    fn evaluate(&self, terms: &Terms, draws: &mut Draws<'_>, wanted: &[usize], space: &mut Workspace);
}

/// What simulating a trade needs to know.
#[derive(Debug)]
pub struct Plan {
    /// Key of the random numbers.
    pub key: [u32; 2],
    /// What the trade's random numbers are told apart by.
    pub trade: [u32; 2],
    /// How paths are drawn.
    pub sampling: Sampling,
    /// Draws of one path.
    pub draws: usize,
    /// The order in which a quasi-random path is fixed; none for draws that are no path.
    pub bridge: Option<Bridge>,
    /// Lanes that are asked for, the price first.
    pub wanted: Vec<usize>,
    terms: Terms,
    shape: Box<dyn Shape>,
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

/// What is reported of a trade, in order, and in which lane it is computed.
pub fn columns(book: &Book, trade: &Trade) -> Vec<(String, usize)> {
    let assets = trade.underlyings.len();
    let mut columns = vec![("price".to_owned(), 0)];
    for (measure, first, each) in [
        (Measure::Delta, 1, true),
        (Measure::Gamma, 1 + assets, true),
        (Measure::Vega, 1 + 2 * assets, true),
        (Measure::Rho, 1 + 3 * assets, false),
        (Measure::Theta, 2 + 3 * assets, false),
    ] {
        if !book.measures.contains(&measure) {
            continue;
        }
        if trade.payoff.several() && each {
            let names = trade.underlyings.iter().map(|&number| &book.underlyings[number].0);
            columns.extend(names.enumerate().map(|(i, name)| (format!("{}[{name}]", measure.name()), first + i)));
        } else {
            columns.push((measure.name().to_owned(), first));
        }
    }
    columns
}

impl Plan {
    /// The plan for a trade of a book.
    pub fn new(book: &Book, trade: &Trade) -> Self {
        let underlyings = trade.underlyings.iter().map(|&number| &book.underlyings[number].1);
        let assets = underlyings.map(Asset::new).collect();
        let rate = book.underlyings[trade.underlyings[0]].1.rate;
        let terms = Terms {
            strike: trade.strike,
            sign: match trade.option {
                OptionType::Call => 1.0,
                OptionType::Put => -1.0,
            },
            maturity: trade.maturity,
            rate,
            discount: exp(-rate * trade.maturity),
        };
        let shape = trade.payoff.shape(&terms, assets);
        let draws = shape.draws();
        Self {
            key: philox::key(book.seed),
            trade: philox::stream(&trade.id),
            sampling: book.sampling,
            draws,
            bridge: (shape.is_path() && book.sampling == Sampling::Sobol).then(|| Bridge::new(draws)),
            wanted: columns(book, trade).into_iter().map(|(_, lane)| lane).collect(),
            terms,
            shape,
        }
    }

    /// Simulates one block: fills the lanes that are wanted.
    pub fn evaluate(&self, draws: &mut Draws<'_>, space: &mut Workspace) {
        self.shape.evaluate(&self.terms, draws, &self.wanted, space);
    }
}
