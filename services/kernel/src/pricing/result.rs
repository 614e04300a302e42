//! The result of the pricing kernel.

use serde::Serialize;

use super::book::Book;
use crate::montecarlo::{Estimate, Share};

/// Schema version of the result that this engine writes.
pub const SCHEMA: u32 = 1;

/// Prices of a book, or of a task's share of it. It has no times in it: the same input gives the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PricingResult {
    /// Always `monte-carlo`.
    pub kernel: &'static str,
    /// Schema version, see [`SCHEMA`].
    pub schema: u32,
    /// Version of the workspace, and so of the engine.
    pub engine_version: &'static str,
    /// Seed of the random streams.
    pub seed: u64,
    /// Paths for each trade.
    pub paths: u64,
    /// Which task of a split Job this is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Prices in the order of the input.
    pub trades: Vec<PricedTrade>,
    /// The sum over these trades.
    pub portfolio: Portfolio,
}

/// Which task of a split Job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Index of the task, from 0.
    pub index: u32,
    /// Number of tasks.
    pub count: u32,
}

/// One priced trade.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PricedTrade {
    /// Id of the trade.
    pub id: String,
    /// Present value of one option.
    pub price: f64,
    /// Standard error of `price`.
    pub standard_error: f64,
    /// Present value of the position.
    pub value: f64,
    /// Derivative of `price` by the spot price, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
    /// Standard error of `delta`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta_standard_error: Option<f64>,
    /// Paths that were simulated.
    pub paths: u64,
}

/// The sum over the trades of a result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Portfolio {
    /// Present value of all positions.
    pub value: f64,
    /// Standard error of `value`; trades have independent streams.
    pub standard_error: f64,
    /// Number of trades.
    pub trades: usize,
}

impl PricingResult {
    /// The result for a share of a book.
    ///
    /// # Errors
    /// Names the first trade whose value is too large for a number.
    pub fn new(book: &Book, share: Share, estimates: &[Estimate]) -> Result<Self, String> {
        let mut trades = Vec::with_capacity(estimates.len());
        let (mut total, mut variance) = (0.0, 0.0);
        for Estimate { trade, sample } in estimates {
            let position = &book.trades[*trade];
            let standard_error = sample.price.standard_error();
            let value = position.quantity * sample.price.mean;
            total += value;
            variance += (position.quantity * standard_error).powi(2);
            if !(value.is_finite() && total.is_finite() && variance.is_finite()) {
                return Err(format!("trades[{trade}]: the value of {:?} is too large for a number", position.id));
            }
            trades.push(PricedTrade {
                id: position.id.clone(),
                price: sample.price.mean,
                standard_error,
                value,
                delta: book.measures.delta.then_some(sample.delta.mean),
                delta_standard_error: book.measures.delta.then(|| sample.delta.standard_error()),
                paths: sample.price.count,
            });
        }
        Ok(Self {
            kernel: "monte-carlo",
            schema: SCHEMA,
            engine_version: env!("CARGO_PKG_VERSION"),
            seed: book.seed,
            paths: book.paths,
            task: (share.count > 1).then_some(Task { index: share.index, count: share.count }),
            portfolio: Portfolio { value: total, standard_error: variance.sqrt(), trades: trades.len() },
            trades,
        })
    }
}
