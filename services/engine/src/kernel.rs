//! The built-in kernels: which one an input asks for, and what it makes of it.

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::{
    failure::Failure,
    montecarlo::{Share, simulate},
    pricing::{book, result::PricingResult},
};

/// Most bytes of a pricing input.
pub const PRICING_INPUT_MAX: usize = 256 * 1024 * 1024;
/// Problems of an input that a failure lists.
const PROBLEMS_SHOWN: usize = 10;

/// An input and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Name of the object or file, if it has one.
    pub name: &'a str,
    /// Content type, if there is one.
    pub content_type: &'a str,
}

/// The result of a computation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Content type.
    pub content_type: String,
    /// Seed of the random numbers, if there were any.
    pub seed: Option<u64>,
}

/// A built-in kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Prices a book of options, see [`crate::pricing`].
    Pricing,
    /// Says what the input was.
    Echo,
}

/// The kernel that an input asks for: JSON is priced, anything else is echoed.
pub fn choose(input: Input<'_>) -> Kernel {
    let bytes = input.bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(input.bytes);
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    let media_type = input.content_type.split(';').next().unwrap_or_default().trim();
    let named_json = input.name.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case("json"));
    if matches!(first, Some(b'{' | b'[')) || media_type.eq_ignore_ascii_case("application/json") || named_json {
        Kernel::Pricing
    } else {
        Kernel::Echo
    }
}

/// Computes the result of an input, or of one task's share of it.
///
/// # Errors
/// Permanent failures only: the result depends on nothing but the input.
pub fn compute(input: Input<'_>, share: Share, threads: usize) -> Result<Output, Failure> {
    match choose(input) {
        Kernel::Pricing => price(input, share, threads),
        Kernel::Echo => echo(input),
    }
}

fn price(input: Input<'_>, share: Share, threads: usize) -> Result<Output, Failure> {
    if input.bytes.len() > PRICING_INPUT_MAX {
        let message = format!("the input has {} bytes, the limit is {PRICING_INPUT_MAX}", input.bytes.len());
        return Err(Failure::permanent("input-too-large", message));
    }
    let book = book::parse(input.bytes).map_err(|problems| {
        let mut lines: Vec<String> = problems.iter().take(PROBLEMS_SHOWN).map(ToString::to_string).collect();
        if problems.len() > PROBLEMS_SHOWN {
            lines.push(format!("and {} more", problems.len() - PROBLEMS_SHOWN));
        }
        Failure::permanent("malformed-input", lines.join("; "))
    })?;
    let estimates = simulate(&book, share, threads);
    let result = PricingResult::new(&book, share, &estimates)
        .map_err(|message| Failure::permanent("numeric-overflow", message))?;
    json(&result, Some(book.seed))
}

#[derive(Serialize)]
struct EchoResult<'a> {
    kernel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    bytes: usize,
    sha256: String,
}

fn echo(input: Input<'_>) -> Result<Output, Failure> {
    let hash = Sha256::digest(input.bytes);
    let result = EchoResult {
        kernel: "echo",
        payload: std::str::from_utf8(input.bytes).ok(),
        bytes: input.bytes.len(),
        sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    json(&result, None)
}

fn json(result: &impl Serialize, seed: Option<u64>) -> Result<Output, Failure> {
    let mut bytes =
        serde_json::to_vec(result).map_err(|error| Failure::transient("engine-error", error.to_string()))?;
    bytes.push(b'\n');
    Ok(Output { bytes, content_type: "application/json".to_owned(), seed })
}

#[cfg(test)]
mod tests;
