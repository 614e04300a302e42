//! A book of options, as the pricing input describes it after it was checked.

use std::sync::Arc;

use super::parameters::{Correlation, Measure, OptionType, Sampling, Underlying};
use crate::payoff::Payoff;

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
    pub underlyings: Arc<[(String, Underlying)]>,
    /// Correlations of pairs of underlyings, by their numbers.
    pub correlation: Arc<[Correlation]>,
    /// Trades in the order of the input, without those that are wrong.
    pub trades: Vec<Trade>,
    /// Trades that are wrong in a book that is priced all the same.
    pub broken: Vec<Broken>,
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
