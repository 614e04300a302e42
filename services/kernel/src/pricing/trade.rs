//! Reads one trade and checks it against the market.

use std::collections::HashMap;

use super::{
    book::Trade,
    json::Node,
    market::{Market, UNDERLYING},
    parameters::{AMOUNT_MAX, MATURITY_MAX, OptionType},
    problem::Problems,
    reader::{Cell, Field, Fields},
};
use crate::payoff::{Common, KINDS};

/// The name of the sum over all trades, which none of them may have.
pub(super) const PORTFOLIO: &str = "portfolio";
/// Fields that every trade has, but for the underlying of one that has several.
pub const FIELDS: [Field; 7] = [
    Field("id", Cell::Text),
    Field("kind", Cell::Text),
    Field("option", Cell::Text),
    Field(UNDERLYING, Cell::Text),
    Field("strike", Cell::Number),
    Field("maturity", Cell::Number),
    Field("quantity", Cell::Number),
];

/// Reads a trade; what is wrong with it goes to `problems`.
pub fn read<'n>(
    node: &'n Node<'n>,
    path: String,
    position: usize,
    ids: &mut HashMap<String, usize>,
    market: &mut Market<'_>,
    problems: &mut Problems,
) -> Option<Trade> {
    let [_, kind, option, _, strike, maturity, quantity] = FIELDS.map(|Field(name, _)| name);
    let mut fields = Fields::new(node, path, problems)?;
    let id = read_id(&mut fields, position, ids);
    let kind = fields.choice(kind, KINDS);
    let option = fields.choice(option, &OptionType::WORDS);
    let underlyings = match kind {
        Some(kind) => (kind.underlyings)(&mut fields, market),
        // A trade of no known kind may have several.
        None => fields.has(UNDERLYING).then(|| market.underlying(&mut fields).map(|number| vec![number])).flatten(),
    };
    let strike = if kind.is_some_and(|kind| kind.several) {
        // An exchange of two assets has none.
        fields.number_between(strike, 0.0, AMOUNT_MAX)
    } else {
        fields.positive(strike, AMOUNT_MAX)
    };
    let maturity = fields.number_between(maturity, 0.0, MATURITY_MAX);
    let quantity = fields.optional_number_between(quantity, -AMOUNT_MAX, AMOUNT_MAX, 1.0);
    let common = Common { underlyings: underlyings.as_deref(), maturity };
    let payoff = kind.and_then(|kind| (kind.read)(&mut fields, common, market));
    // Which fields belong to a trade depends on its kind, so without one only what lacks is known.
    if kind.is_some() {
        fields.finish();
    } else {
        fields.finish_known();
    }
    Some(Trade {
        position,
        id: id?,
        quantity: quantity?,
        underlyings: underlyings?,
        option: option?,
        strike: strike?,
        maturity: maturity?,
        payoff: payoff?,
    })
}

/// Reads the id of a trade, which no other trade may have.
pub(super) fn read_id(
    fields: &mut Fields<'_, '_>,
    position: usize,
    ids: &mut HashMap<String, usize>,
) -> Option<String> {
    let Field(name, _) = FIELDS[0];
    let id = fields.text(name)?;
    if id == PORTFOLIO {
        fields.reject(name, format!("{PORTFOLIO:?} is the name of the sum over all trades"));
    } else if let Some(first) = ids.get(&id) {
        fields.reject(name, format!("{id:?} is the id of trades[{first}] already"));
    } else {
        ids.insert(id.clone(), position);
    }
    Some(id)
}
