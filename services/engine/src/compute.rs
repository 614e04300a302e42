//! The built-in kernels: which one computes an input, and its result.

use anyhow::Context as _;
use kernel::{Book, Format, Refusal, Share};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::failure::Failure;

const JSON: &str = "application/json";
/// Size of a result from which reading its rows takes long, in bytes.
const BLOCKING_MIN: usize = 64 * 1024;
/// Size of a result of a program whose rows with an error are not counted, in bytes.
const COUNTED_MAX: usize = 4 * 1024 * 1024;

/// An input and its description.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Name of the object or file, if it has one.
    pub name: &'a str,
    /// Content type, if there is one.
    pub content_type: &'a str,
    /// Market data of its session, if there are any.
    pub market: Option<&'a [u8]>,
}

/// Selects the market data from the common data: `market.json`, or the only object.
///
/// # Errors
/// When there are several, and none of them is `market.json`.
pub fn market<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Option<&'n str>, Failure> {
    kernel::market(names).map_err(|refusal| Failure::permanent(refusal.code, refusal.message))
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
    /// Number of rows that have an error in the result.
    pub row_errors: usize,
}

impl Output {
    /// The result of a desk's own program. Rows of a very large one are not counted.
    pub async fn of_program(bytes: Vec<u8>, content_type: String) -> anyhow::Result<Self> {
        let counted = |bytes: Vec<u8>| (kernel::rows::errors(&bytes), bytes);
        let (row_errors, bytes) = match bytes.len() {
            0..BLOCKING_MIN => counted(bytes),
            // Other items are computed meanwhile, and their time limits hold.
            BLOCKING_MIN..COUNTED_MAX => {
                tokio::task::spawn_blocking(move || counted(bytes)).await.context("count the rows with an error")?
            }
            COUNTED_MAX.. => (0, bytes),
        };
        Ok(Self { bytes, content_type, seed: None, row_errors })
    }

    /// Number of rows that have an error, as records hold it.
    pub fn row_errors(&self) -> u32 {
        u32::try_from(self.row_errors).unwrap_or(u32::MAX)
    }
}

/// A built-in kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Prices a book or table of options, see [`kernel::pricing`].
    Pricing(Format),
    /// Returns the input with its size and hash.
    Echo,
}

/// Selects the kernel of an input: JSON and tables of trades are priced, anything else is echoed.
pub fn select_kernel(input: Input<'_>) -> Kernel {
    kernel::asked(input.bytes, input.name, input.content_type).map_or(Kernel::Echo, Kernel::Pricing)
}

/// Computes the result of an input, or of an item's share of it.
///
/// # Errors
/// Permanent failures only: the result depends on nothing but the input.
pub fn compute(input: Input<'_>, share: Share, threads: usize) -> Result<Output, Failure> {
    match select_kernel(input) {
        Kernel::Pricing(format) => {
            let input = kernel::Input { bytes: input.bytes, format, market: input.market };
            priced(kernel::price(input, share, threads))
        }
        Kernel::Echo => return_input(input),
    }
}

/// The result of an input that is only returned; `None` for one that is priced.
pub fn echo(input: Input<'_>) -> Option<Result<Output, Failure>> {
    (select_kernel(input) == Kernel::Echo).then(|| return_input(input))
}

/// Computes the result of some rows of a table that was read, see [`kernel::read_items`].
///
/// # Errors
/// As [`compute`].
pub fn compute_book(book: &Result<Book, Refusal>, threads: usize) -> Result<Output, Failure> {
    priced(book.as_ref().map_err(Clone::clone).and_then(|book| kernel::price_book(book, Share::ALL, threads)))
}

fn priced(priced: Result<kernel::Priced, Refusal>) -> Result<Output, Failure> {
    let priced = priced.map_err(|refusal| Failure::permanent(refusal.code, refusal.message))?;
    Ok(Output {
        bytes: priced.bytes,
        content_type: JSON.to_owned(),
        seed: Some(priced.seed),
        row_errors: priced.errors,
    })
}

#[derive(Serialize)]
struct EchoResult<'a> {
    kernel: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<&'a str>,
    bytes: usize,
    sha256: String,
}

fn return_input(input: Input<'_>) -> Result<Output, Failure> {
    let hash = Sha256::digest(input.bytes);
    let result = EchoResult {
        kernel: "echo",
        payload: std::str::from_utf8(input.bytes).ok(),
        bytes: input.bytes.len(),
        sha256: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let mut bytes =
        serde_json::to_vec(&result).map_err(|error| Failure::transient("engine-error", error.to_string()))?;
    bytes.push(b'\n');
    Ok(Output { bytes, content_type: JSON.to_owned(), seed: None, row_errors: 0 })
}

#[cfg(test)]
mod tests;
