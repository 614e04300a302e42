//! A book of options, as the pricing input describes it once it was checked, and the limits it was checked against.

use crate::montecarlo::correlation::Factor;

/// Schema version of the input that this engine reads.
pub const SCHEMA: u64 = 1;
/// Most paths for each trade.
pub const PATHS_MAX: u64 = 1_000_000_000;
/// Most observations of an average.
pub const OBSERVATIONS_MAX: u64 = 10_000;
/// Most trades in a book.
pub const TRADES_MAX: usize = 100_000;
/// Most observations of a path whose points are quasi-random: the whole path is kept while it is bridged.
pub const SOBOL_OBSERVATIONS_MAX: u32 = 1_000;
/// Most underlyings of a basket.
pub const BASKET_MAX: usize = 64;
/// Smallest standard deviation of a logarithm over the life of a barrier or basket option.
pub const DEVIATION_MIN: f64 = 1e-6;
/// Largest price, strike or quantity.
pub const AMOUNT_MAX: f64 = 1e15;
/// Largest volatility.
pub const VOLATILITY_MAX: f64 = 10.0;
/// Largest rate in size.
pub const RATE_MAX: f64 = 2.0;
/// Longest maturity in years.
pub const MATURITY_MAX: f64 = 200.0;

/// What to price and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    /// Seed of the random streams.
    pub seed: u64,
    /// Paths for each trade.
    pub paths: u64,
    /// How paths are drawn.
    pub sampling: Sampling,
    /// What to compute beside the price, in order and each once.
    pub measures: Vec<Measure>,
    /// What becomes of a trade that is wrong.
    pub on_error: OnError,
    /// Underlyings by name, in the order of the input.
    pub underlyings: Vec<(String, Underlying)>,
    /// Correlations of pairs of underlyings, by their numbers.
    pub correlation: Vec<Correlation>,
    /// Trades in the order of the input, without those that are wrong.
    pub trades: Vec<Trade>,
    /// Trades that are wrong in a book that is priced all the same.
    pub broken: Vec<Broken>,
}

/// How paths are drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Independent paths.
    #[default]
    PseudoRandom,
    /// Pairs of a path and its mirror image.
    Antithetic,
    /// Sobol's points, scrambled at random.
    Sobol,
}

impl Sampling {
    /// Names in the input, in the order of the variants.
    pub const NAMES: [&'static str; 3] = ["pseudo-random", "antithetic", "sobol"];

    /// The one with this number in [`Self::NAMES`].
    pub fn numbered(number: usize) -> Self {
        [Self::PseudoRandom, Self::Antithetic, Self::Sobol][number.min(2)]
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// What becomes of a trade that is wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnError {
    /// Nothing is priced.
    #[default]
    Fail,
    /// It has an error in the result, and the others are priced.
    Row,
}

/// A derivative of the price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Measure {
    /// First, by the spot price.
    Delta,
    /// Second, by the spot price.
    Gamma,
    /// By the volatility.
    Vega,
    /// By the risk-free rate.
    Rho,
    /// By the time that passes.
    Theta,
}

impl Measure {
    /// All, in the order of results.
    pub const ALL: [Self; 5] = [Self::Delta, Self::Gamma, Self::Vega, Self::Rho, Self::Theta];

    /// Name in input and result.
    pub fn name(self) -> &'static str {
        ["delta", "gamma", "vega", "rho", "theta"][self as usize]
    }
}

/// A trade that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Place in the book, from 0.
    pub position: usize,
    /// Id, or what stands for it when it has none.
    pub id: String,
    /// What is wrong with it.
    pub error: String,
}

/// An asset that follows geometric Brownian motion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Underlying {
    /// Price now.
    pub spot: f64,
    /// Annual volatility as a decimal.
    pub volatility: f64,
    /// Risk-free rate, continuously compounded, decimal per year.
    pub rate: f64,
    /// Dividend yield, continuously compounded, decimal per year.
    pub dividend_yield: f64,
}

/// Correlation of two underlyings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correlation {
    /// Numbers of the two underlyings.
    pub between: [usize; 2],
    /// From -1 to 1.
    pub value: f64,
}

/// A position in one option.
#[derive(Clone, Debug, PartialEq)]
pub struct Trade {
    /// Place in the book, from 0; trades that are wrong have one too.
    pub position: usize,
    /// Id, unique in the book.
    pub id: String,
    /// Number of options held.
    pub quantity: f64,
    /// Numbers of the underlyings: one, or those of a basket.
    pub underlyings: Vec<usize>,
    /// Call or put.
    pub option: OptionType,
    /// Strike price.
    pub strike: f64,
    /// Years to maturity.
    pub maturity: f64,
    /// What the payoff depends on.
    pub kind: Kind,
}

/// Call or put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionType {
    /// Right to buy.
    Call,
    /// Right to sell.
    Put,
}

/// What the payoff depends on.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// The price at maturity.
    European,
    /// The average of the price over equally spaced observations, the last one at maturity.
    Asian {
        /// How it is averaged.
        averaging: Averaging,
        /// Number of observations.
        observations: u32,
    },
    /// The price at maturity, if the price touched a barrier before, or if it did not.
    Barrier {
        /// The barrier.
        barrier: Barrier,
        /// When it is looked at.
        monitoring: Monitoring,
    },
    /// A level made of the prices of several underlyings at maturity.
    Basket {
        /// How they make one level.
        basket_type: BasketType,
        /// Weight of each.
        weights: Vec<f64>,
        /// Factor of their correlation matrix.
        factor: Factor,
    },
}

/// A barrier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Barrier {
    /// Price that counts as touched.
    pub level: f64,
    /// Whether it is touched from below.
    pub up: bool,
    /// Whether the option pays only if it was touched; else only if not.
    pub knock_in: bool,
}

impl Barrier {
    /// Names of the types in the input.
    pub const NAMES: [&'static str; 4] = ["up-and-out", "up-and-in", "down-and-out", "down-and-in"];
}

/// When a barrier is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitoring {
    /// At equally spaced dates, the last one at maturity.
    Discrete {
        /// Number of dates.
        observations: u32,
    },
    /// Always.
    Continuous,
    /// As if always, at a barrier that was moved to stand for dates.
    Shifted {
        /// Number of dates.
        observations: u32,
    },
}

impl Monitoring {
    /// Names in the input.
    pub const NAMES: [&'static str; 3] = ["discrete", "continuous", "shifted"];
}

/// How several prices make one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasketType {
    /// Sum of the weighted prices.
    WeightedSum,
    /// Product of the prices to the power of their weights.
    Geometric,
    /// Highest weighted price.
    BestOf,
    /// Lowest weighted price.
    WorstOf,
}

impl BasketType {
    /// Names in the input, in the order of the variants.
    pub const NAMES: [&'static str; 4] = ["weighted-sum", "geometric", "best-of", "worst-of"];

    /// The one with this number in [`Self::NAMES`].
    pub fn numbered(number: usize) -> Self {
        [Self::WeightedSum, Self::Geometric, Self::BestOf, Self::WorstOf][number.min(3)]
    }
}

/// How a price is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Averaging {
    /// Sum divided by count.
    Arithmetic,
    /// Root of the product.
    Geometric,
}
