//! The result of the pricing kernel.

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{
    book::{Book, OnError},
    problem::Refusal,
};
use crate::montecarlo::{Estimate, Share, plan::columns};

/// Schema version of the result that this engine writes.
pub const SCHEMA: u32 = 1;

/// Prices of a book, or of an item's share of it. It has no times in it: the same input gives the same bytes.
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
    /// Paths asked for, for each trade.
    pub paths: u64,
    /// How paths were drawn.
    pub sampling: &'static str,
    /// Which item of a pack this is, when each reads all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Prices in the order of the input.
    pub trades: Vec<Line>,
    /// The sum over these trades.
    pub portfolio: Portfolio,
}

/// Which item of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Task {
    /// Index of the item, from 0.
    pub index: u32,
    /// Number of items.
    pub count: u32,
}

/// What became of one trade.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// It was priced.
    Priced(PricedTrade),
    /// It is wrong, in a book that says that the others are priced all the same.
    Failed {
        /// Id of the trade, or what stands for it.
        id: String,
        /// What is wrong.
        error: String,
    },
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
    /// Standard error of `value`.
    pub value_standard_error: f64,
    /// Derivatives of `price` that were asked for.
    #[serde(flatten)]
    pub greeks: Greeks,
    /// Paths that were simulated.
    pub paths: u64,
}

/// Derivatives of a price: name, value, standard error.
#[derive(Clone, Debug, PartialEq)]
pub struct Greeks(pub Vec<(String, f64, f64)>);

impl Serialize for Greeks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2 * self.0.len()))?;
        for (name, value, error) in &self.0 {
            map.serialize_entry(name, value)?;
            map.serialize_entry(&format!("{name}_standard_error"), error)?;
        }
        map.end()
    }
}

/// The sum over the trades of a result.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Portfolio {
    /// Present value of all positions.
    pub value: f64,
    /// Standard error of `value`; trades have independent streams.
    pub standard_error: f64,
    /// Number of trades that were priced.
    pub trades: usize,
    /// Number of trades that are wrong.
    #[serde(skip_serializing_if = "is_zero")]
    pub errors: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl PricingResult {
    /// The result for a share of a book.
    ///
    /// # Errors
    /// Names the first trade that has no price, in a book where that fails all.
    pub fn new(book: &Book, share: Share, estimates: &[Estimate]) -> Result<Self, Refusal> {
        let broken = book.broken.iter().filter(|broken| share.contains(broken.position));
        let mut lines: Vec<(usize, Line)> = broken
            .map(|broken| (broken.position, Line::Failed { id: broken.id.clone(), error: broken.error.clone() }))
            .collect();
        let (mut total, mut variance) = (0.0, 0.0);
        let mut errors = lines.len();
        for estimate in estimates {
            let trade = &book.trades[estimate.trade];
            let line = match priced(book, estimate) {
                Ok(priced) => {
                    total += priced.value;
                    variance += priced.value_standard_error.powi(2);
                    Line::Priced(priced)
                }
                Err(Refusal { code, message }) => {
                    let message = format!("trades[{}]: {message}", trade.position);
                    if book.on_error == OnError::Fail {
                        return Err(Refusal { code, message });
                    }
                    errors += 1;
                    Line::Failed { id: trade.id.clone(), error: message }
                }
            };
            lines.push((trade.position, line));
        }
        let standard_error = f64::sqrt(variance);
        if !(f64::is_finite(total) && standard_error.is_finite()) {
            return Err(too_large("the value of the portfolio is too large for a number".to_owned()));
        }
        lines.sort_by_key(|(position, _)| *position);
        Ok(Self {
            kernel: "monte-carlo",
            schema: SCHEMA,
            engine_version: env!("CARGO_PKG_VERSION"),
            seed: book.seed,
            paths: book.paths,
            sampling: book.sampling.name(),
            task: (share.count > 1).then_some(Task { index: share.index, count: share.count }),
            portfolio: Portfolio { value: total, standard_error, trades: lines.len() - errors, errors },
            trades: lines.into_iter().map(|(_, line)| line).collect(),
        })
    }
}

fn too_large(message: String) -> Refusal {
    Refusal { code: "numeric-overflow", message }
}

/// The line of a trade, unless one of its numbers is none or cannot be trusted.
fn priced(book: &Book, estimate: &Estimate) -> Result<PricedTrade, Refusal> {
    let trade = &book.trades[estimate.trade];
    if let Some((number, doubt)) = estimate.doubt {
        let (name, _) = &columns(book, trade)[number];
        return Err(Refusal { code: "no-standard-error", message: format!("{name} of {:?}: {doubt}", trade.id) });
    }
    let mut measures = columns(book, trade)
        .into_iter()
        .zip(&estimate.measures)
        .map(|((name, _), moments)| (name, moments.mean, moments.standard_error()));
    let (_, price, standard_error) = measures.next().unwrap_or_default();
    let priced = PricedTrade {
        id: trade.id.clone(),
        price,
        standard_error,
        value: trade.quantity * price,
        value_standard_error: trade.quantity.abs() * standard_error,
        greeks: Greeks(measures.collect()),
        paths: estimate.paths,
    };
    let numbers = [priced.price, priced.standard_error, priced.value, priced.value_standard_error];
    let greeks = priced.greeks.0.iter().flat_map(|(_, value, error)| [*value, *error]);
    if numbers.into_iter().chain(greeks).all(f64::is_finite) {
        Ok(priced)
    } else {
        Err(too_large(format!("a number of {:?} is too large", trade.id)))
    }
}
