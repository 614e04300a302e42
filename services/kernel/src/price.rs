//! From the bytes of an input to the bytes of its result.

use serde::Serialize;

use crate::{
    montecarlo::{Share, simulate},
    pricing::{book, result::PricingResult},
};

/// Most bytes of an input.
pub const INPUT_MAX: usize = 256 * 1024 * 1024;
/// Problems of an input that a refusal lists.
const PROBLEMS_SHOWN: usize = 10;

/// The result of a pricing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// A [`PricingResult`] as JSON, with a line break at its end.
    pub bytes: Vec<u8>,
    /// Seed of the random numbers.
    pub seed: u64,
}

/// Why an input can never be priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable reason code, lower-case with dashes.
    pub code: &'static str,
    /// What is wrong, for a person.
    pub message: String,
}

/// Prices a book, or a task's share of it.
///
/// # Errors
/// When the input is malformed, too large, or its value is no number. The same input gives the same answer always.
pub fn price(bytes: &[u8], share: Share, threads: usize) -> Result<Priced, Refusal> {
    if bytes.len() > INPUT_MAX {
        let message = format!("the input has {} bytes, the limit is {INPUT_MAX}", bytes.len());
        return Err(Refusal { code: "input-too-large", message });
    }
    let book = book::parse(bytes).map_err(|problems| {
        let mut lines: Vec<String> = problems.iter().take(PROBLEMS_SHOWN).map(ToString::to_string).collect();
        if problems.len() > PROBLEMS_SHOWN {
            lines.push(format!("and {} more", problems.len() - PROBLEMS_SHOWN));
        }
        Refusal { code: "malformed-input", message: lines.join("; ") }
    })?;
    let overflow = |message| Refusal { code: "numeric-overflow", message };
    let estimates = simulate(&book, share, threads);
    let result = PricingResult::new(&book, share, &estimates).map_err(overflow)?;
    let bytes = encode(&result).map_err(|error| overflow(error.to_string()))?;
    Ok(Priced { bytes, seed: book.seed })
}

fn encode(result: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(result)?;
    bytes.push(b'\n');
    Ok(bytes)
}
