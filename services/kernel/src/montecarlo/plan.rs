//! What simulating a trade needs to know, worked out once, and one block of it.

use super::{
    barrier::{self, Continuous, Discrete},
    basket::{self, Basket},
    bridge::Bridge,
    draws::{Draws, Lane},
    elementary::{exp, ln},
    level::{self, Average, Level},
    normal::BLOCK,
    philox,
};
use crate::pricing::book::{Averaging, Book, Kind, Measure, Monitoring, OptionType, Sampling, Trade, Underlying};

/// By how many standard deviations of a step the barrier that is monitored at dates is moved: minus zeta(1/2) divided
/// by the root of two pi (Broadie, Glasserman and Kou, A continuity correction for discrete barrier options, 1997).
const SHIFT: f64 = 0.582_597_157_939_010_7;

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

/// What simulating a trade needs to know.
#[derive(Clone, Debug)]
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
    shape: Shape,
}

#[derive(Clone, Debug)]
enum Shape {
    Level(Level),
    Discrete(Discrete),
    Continuous(Continuous),
    Basket(Basket),
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
    let is_basket = matches!(trade.kind, Kind::Basket { .. });
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
        if is_basket && each {
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
        let assets: Vec<Asset> =
            trade.underlyings.iter().map(|&number| Asset::new(&book.underlyings[number].1)).collect();
        let first = assets[0];
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
        let (draws, shape) = match &trade.kind {
            Kind::European => (1, Shape::Level(Level { asset: first, steps: 1, average: Average::Last })),
            Kind::Asian { averaging, observations } => {
                let average = match averaging {
                    Averaging::Arithmetic => Average::Arithmetic,
                    Averaging::Geometric => Average::Geometric,
                };
                (*observations as usize, Shape::Level(Level { asset: first, steps: *observations, average }))
            }
            Kind::Barrier { barrier, monitoring } => {
                let side = if barrier.up { 1.0 } else { -1.0 };
                let height = ln(barrier.level / first.spot);
                match monitoring {
                    Monitoring::Discrete { observations } => {
                        let shape =
                            Discrete { asset: first, steps: *observations, side, height, knock_in: barrier.knock_in };
                        (*observations as usize, Shape::Discrete(shape))
                    }
                    Monitoring::Continuous | Monitoring::Shifted { .. } => {
                        let shift = match monitoring {
                            Monitoring::Shifted { observations } => {
                                side * SHIFT * (trade.maturity / f64::from(*observations)).sqrt()
                            }
                            _ => 0.0,
                        };
                        let height = height + shift * first.volatility;
                        (
                            1,
                            Shape::Continuous(Continuous {
                                asset: first,
                                side,
                                height,
                                shift,
                                knock_in: barrier.knock_in,
                            }),
                        )
                    }
                }
            }
            Kind::Basket { basket_type, weights, factor } => {
                let shape = Basket {
                    assets: assets.clone(),
                    basket_type: *basket_type,
                    weights: weights.clone(),
                    factor: factor.clone(),
                };
                (assets.len(), Shape::Basket(shape))
            }
        };
        let is_path = !matches!(shape, Shape::Basket(_)) && draws > 1;
        Self {
            key: philox::key(book.seed),
            trade: philox::stream(&trade.id),
            sampling: book.sampling,
            draws,
            bridge: (is_path && book.sampling == Sampling::Sobol).then(|| Bridge::new(draws)),
            wanted: columns(book, trade).into_iter().map(|(_, lane)| lane).collect(),
            terms,
            shape,
        }
    }

    /// Simulates one block: fills the lanes that are wanted.
    pub fn evaluate(&self, draws: &mut Draws<'_>, space: &mut Workspace) {
        let greeks = self.wanted.iter().any(|lane| *lane > 1);
        match &self.shape {
            Shape::Level(level) => level::evaluate(&self.terms, level, draws, greeks, space),
            Shape::Discrete(discrete) => {
                barrier::evaluate_discrete(&self.terms, discrete, draws, self.wanted.len() > 1, space);
            }
            Shape::Continuous(continuous) => barrier::evaluate_continuous(&self.terms, continuous, draws, space),
            Shape::Basket(basket) => basket::evaluate(&self.terms, basket, draws, self.wanted.len() > 1, space),
        }
    }
}
