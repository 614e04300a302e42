//! Limits of a book, and the parameters that do not depend on payoffs.

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
