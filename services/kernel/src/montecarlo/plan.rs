//! What simulating a trade needs to know, worked out once, and one block of it.

use std::fmt::Debug;

use super::{
    bridge::Bridge,
    draws::{Draws, Lane, Source},
    elementary::exp,
    normal::BLOCK,
    philox,
    proposal::Proposal,
};
use crate::pricing::book::{Book, Measure, OptionType, Sampling, Trade, Underlying};

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
    /// The simulated part of each of them, where it needs no simulation.
    pub certain: Option<Vec<f64>>,
    /// How the payoff is estimated.
    pub model: Model,
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
        let assets: Vec<Asset> = underlyings.map(Asset::new).collect();
        let rate = book.underlyings[trade.underlyings[0]].1.rate;
        let terms = Terms {
            strike: trade.strike,
            sign: match trade.option {
                OptionType::Call => 1.0,
                OptionType::Put => -1.0,
            },
            is_least: false,
            maturity: trade.maturity,
            rate,
            discount: exp(-rate * trade.maturity),
        };
        let is_still = assets.iter().all(|asset| !asset.moves(terms.maturity));
        let model = trade.payoff.model(terms, assets);
        let draws = model.shape.draws();
        let columns = columns(book, trade);
        let mut plan = Self {
            key: philox::key(book.seed),
            trade: philox::stream(&trade.id),
            sampling: book.sampling,
            draws,
            bridge: (model.shape.is_path() && book.sampling == Sampling::Sobol).then(|| Bridge::new(draws)),
            wanted: columns.iter().map(|(_, lane)| *lane).collect(),
            certain: None,
            model,
        };
        if plan.model.is_nothing {
            plan.certain = Some(vec![0.0; columns.len()]);
        } else if is_still {
            // There is one path only. At maturity no time is left to pass.
            let mut space = Workspace::default();
            let source = Source::Ray { direction: &vec![0.0; draws], places: &[0.0; BLOCK] };
            plan.evaluate(&mut Draws { source, tilt: None }, &mut space);
            let ends = |name: &str| name == Measure::Theta.name() && terms.maturity == 0.0;
            let value = |(name, lane): &(String, usize)| if ends(name) { 0.0 } else { space.lanes[*lane][0] };
            plan.certain = Some(columns.iter().map(value).collect());
        }
        plan
    }

    /// The same trade with the other approximation, if there is one.
    pub fn other(&mut self) -> Option<Self> {
        let model = Model::new(self.model.other.take()?, self.model.terms);
        let Self { key, trade, sampling, draws, .. } = *self;
        Some(Self { key, trade, sampling, draws, bridge: None, wanted: self.wanted.clone(), certain: None, model })
    }

    /// Simulates one block: fills the lanes that are wanted.
    pub fn evaluate(&self, draws: &mut Draws<'_>, space: &mut Workspace) {
        self.model.shape.evaluate(&self.model.terms, draws, &self.wanted, space);
    }

    /// A lane's value from the mean of what was simulated.
    pub fn value(&self, lane: usize, mean: f64) -> f64 {
        self.model.known.get(lane).copied().unwrap_or_default() + self.model.sign * mean
    }
}
