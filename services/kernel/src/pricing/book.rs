//! A book of options, as the pricing input describes it once it was checked, and the limits it was checked against.

use crate::payoff::Payoff;

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
    /// Words in the input, in the order of the variants.
    pub const WORDS: [(&'static str, Self); 3] =
        [("pseudo-random", Self::PseudoRandom), ("antithetic", Self::Antithetic), ("sobol", Self::Sobol)];

    /// Its word.
    pub fn name(self) -> &'static str {
        Self::WORDS[self as usize].0
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

impl OnError {
    /// Words in the input.
    pub const WORDS: [(&'static str, Self); 2] = [("fail", Self::Fail), ("row", Self::Row)];
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
    /// What it pays.
    pub payoff: Payoff,
}

/// Call or put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionType {
    /// Right to buy.
    Call,
    /// Right to sell.
    Put,
}

impl OptionType {
    /// Words in the input.
    pub const WORDS: [(&'static str, Self); 2] = [("call", Self::Call), ("put", Self::Put)];
}
