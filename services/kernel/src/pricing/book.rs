//! A book of options, as the pricing input describes it once it was checked, and the limits it was checked against.

use std::collections::HashMap;

use super::{
    json,
    reader::{Fields, Problem, Problems},
};

/// Schema version of the input that this engine reads.
pub const SCHEMA: u64 = 1;
/// Most paths for each trade.
pub const PATHS_MAX: u64 = 1_000_000_000;
/// Most observations of an average.
pub const OBSERVATIONS_MAX: u64 = 10_000;
/// Most trades in a book.
pub const TRADES_MAX: usize = 100_000;
/// Largest price, strike or quantity.
const AMOUNT_MAX: f64 = 1e15;
/// Largest volatility.
const VOLATILITY_MAX: f64 = 10.0;
/// Largest rate in size.
const RATE_MAX: f64 = 2.0;
/// Longest maturity in years.
const MATURITY_MAX: f64 = 200.0;

/// What to price and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Book {
    /// Seed of the random streams.
    pub seed: u64,
    /// Paths for each trade.
    pub paths: u64,
    /// What to compute beside the price.
    pub measures: Measures,
    /// Underlyings by name, in the order of the input.
    pub underlyings: Vec<(String, Underlying)>,
    /// Correlations of pairs of underlyings, by their numbers.
    pub correlation: Vec<Correlation>,
    /// Trades in the order of the input.
    pub trades: Vec<Trade>,
}

/// What to compute beside the price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// Derivative of the price by the spot price.
    pub delta: bool,
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
    /// Id, unique in the book.
    pub id: String,
    /// Number of options held.
    pub quantity: f64,
    /// Number of the underlying.
    pub underlying: usize,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

/// How a price is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Averaging {
    /// Sum divided by count.
    Arithmetic,
    /// Root of the product.
    Geometric,
}

/// Reads a book.
///
/// # Errors
/// What is wrong with the text, in its order, each with line, column and field.
pub fn parse(bytes: &[u8]) -> Result<Book, Vec<Problem>> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
            let message = "this byte is not UTF-8 text".to_owned();
            return Err(vec![Problem::new(&valid, error.valid_up_to(), String::new(), message)]);
        }
    };
    let root = json::parse(text).map_err(|error| vec![Problem::syntax(text, error)])?;
    let mut problems = Problems::default();
    match read_book(&root, &mut problems) {
        Some(book) if problems.is_empty() => Ok(book),
        _ => Err(problems.in_order(text)),
    }
}

fn read_book<'n>(root: &'n json::Node<'n>, problems: &mut Problems) -> Option<Book> {
    let mut fields = Fields::new(root, String::new(), problems)?;
    let schema = fields.integer("schema", 1, u64::MAX);
    if schema.is_some_and(|schema| schema != SCHEMA) {
        // Another schema may mean anything by its fields, so nothing else is looked at.
        fields.reject("schema", format!("expected {SCHEMA}, the schema version that this engine reads"));
        return None;
    }
    fields.optional_text("description");
    let seed = fields.integer("seed", 0, u64::MAX);
    let paths = fields.integer("paths", 1, PATHS_MAX);
    let measures = read_measures(&mut fields);
    let underlyings = read_underlyings(&mut fields);
    let names: HashMap<String, usize> =
        underlyings.iter().flatten().enumerate().map(|(number, (name, _))| (name.clone(), number)).collect();
    let correlation = read_correlation(&mut fields, &names);
    let trades = read_trades(&mut fields, &names);
    fields.finish();
    Some(Book {
        seed: seed?,
        paths: paths?,
        measures: measures?,
        // An underlying that could not be read is a problem already, so no book comes of it.
        underlyings: underlyings?
            .into_iter()
            .map(|(name, underlying)| Some((name, underlying?)))
            .collect::<Option<_>>()?,
        correlation: correlation?,
        trades: trades?,
    })
}

fn read_measures(fields: &mut Fields<'_, '_>) -> Option<Measures> {
    let mut measures = Measures::default();
    let Some(list) = fields.optional_list("measures", 16)? else { return Some(measures) };
    for item in list {
        match fields.choice_of(&item, &["price", "delta"])? {
            0 => {}
            _ => measures.delta = true,
        }
    }
    Some(measures)
}

/// `None` inside marks one that could not be read: its name still counts as known, so that trades on it are not
/// blamed too.
type Underlyings = Vec<(String, Option<Underlying>)>;

fn read_underlyings(fields: &mut Fields<'_, '_>) -> Option<Underlyings> {
    let entries = fields.map("underlyings", TRADES_MAX)?;
    let mut underlyings = Vec::with_capacity(entries.len());
    for (name, item) in entries {
        let read = fields.nested(&item, |fields| {
            let spot = fields.positive("spot", AMOUNT_MAX);
            let volatility = fields.number_between("volatility", 0.0, VOLATILITY_MAX);
            let rate = fields.number_between("rate", -RATE_MAX, RATE_MAX);
            let dividend_yield = fields.optional_number_between("dividend_yield", -RATE_MAX, RATE_MAX, 0.0);
            fields.finish();
            Some(Underlying { spot: spot?, volatility: volatility?, rate: rate?, dividend_yield: dividend_yield? })
        });
        underlyings.push((name, read));
    }
    Some(underlyings)
}

fn read_correlation(fields: &mut Fields<'_, '_>, names: &HashMap<String, usize>) -> Option<Vec<Correlation>> {
    let Some(items) = fields.optional_list("correlation", TRADES_MAX)? else { return Some(Vec::new()) };
    items
        .into_iter()
        .map(|item| {
            fields.nested(&item, |fields| {
                let between = fields.list("between", 2).and_then(|pair| {
                    if let [first, second] = &pair[..] {
                        Some([fields.known(first, names)?, fields.known(second, names)?])
                    } else {
                        fields.reject("between", "expected two names of underlyings".to_owned());
                        None
                    }
                });
                let value = fields.number_between("value", -1.0, 1.0);
                fields.finish();
                Some(Correlation { between: between?, value: value? })
            })
        })
        // Not `collect` at once: every item is read, so that every problem is found.
        .collect::<Vec<_>>()
        .into_iter()
        .collect()
}

fn read_trades(fields: &mut Fields<'_, '_>, names: &HashMap<String, usize>) -> Option<Vec<Trade>> {
    let items = fields.list("trades", TRADES_MAX)?;
    if items.is_empty() {
        fields.reject("trades", "expected at least one trade".to_owned());
    }
    let mut ids = HashMap::with_capacity(items.len());
    let mut trades = Vec::with_capacity(items.len());
    for (number, item) in items.into_iter().enumerate() {
        if fields.is_full() {
            return None;
        }
        let trade = fields.nested(&item, |fields| {
            let id = fields.text("id");
            if let Some(id) = &id
                && let Some(first) = ids.insert(id.clone(), number)
            {
                fields.reject("id", format!("{id:?} is the id of trades[{first}] already"));
            }
            let kind = fields.choice("kind", &["european", "asian"]);
            let kind_known = kind.is_some();
            let option = fields.choice("option", &["call", "put"]);
            let underlying = fields.item("underlying").and_then(|name| fields.known(&name, names));
            let strike = fields.positive("strike", AMOUNT_MAX);
            let maturity = fields.positive("maturity", MATURITY_MAX);
            let quantity = fields.optional_number_between("quantity", -AMOUNT_MAX, AMOUNT_MAX, 1.0);
            let kind = match kind {
                Some(0) => Some(Kind::European),
                Some(_) => {
                    let averaging = fields.choice("averaging", &["arithmetic", "geometric"]);
                    let observations = fields.integer("observations", 1, OBSERVATIONS_MAX);
                    averaging.zip(observations).map(|(averaging, observations)| Kind::Asian {
                        averaging: if averaging == 0 { Averaging::Arithmetic } else { Averaging::Geometric },
                        observations: observations as u32,
                    })
                }
                None => None,
            };
            // Which fields belong to a trade depends on its kind, so without one only what lacks is known.
            if kind_known {
                fields.finish()
            } else {
                fields.finish_known()
            }
            Some(Trade {
                id: id?,
                quantity: quantity?,
                underlying: underlying?,
                option: if option? == 0 { OptionType::Call } else { OptionType::Put },
                strike: strike?,
                maturity: maturity?,
                kind: kind?,
            })
        });
        trades.push(trade);
    }
    trades.into_iter().collect()
}
