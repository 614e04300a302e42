//! From the bytes of an input to the bytes of its result.

use std::ops::Range;

use crate::{
    montecarlo::{Share, simulate},
    pricing::{
        book::Book,
        csv,
        problem::{Problem, Refusal},
        read::{self, Format, MARKET},
        result::PricingResult,
    },
};

/// Most bytes of an input, and of market data.
pub const INPUT_MAX: usize = 256 * 1024 * 1024;
/// Bytes of an input that tell what it is.
const BEGINNING: usize = 64 * 1024;
/// Problems of an input that a refusal lists.
const PROBLEMS_SHOWN: usize = 10;

/// What to price.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The book or table.
    pub bytes: &'a [u8],
    /// Which of both it is.
    pub format: Format,
    /// Market data beside it, JSON.
    pub market: Option<&'a [u8]>,
}

/// The result of a pricing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// A [`PricingResult`] as JSON, with a line break at its end.
    pub bytes: Vec<u8>,
    /// Seed of the random numbers.
    pub seed: u64,
    /// Number of trades that have an error in the result.
    pub errors: usize,
}

/// How an input is to be read when it asks to be priced; `None` when it does not. JSON and tables of trades are priced,
/// recognised by the first bytes, the name of the object or file, and the content type, as far as there are any.
pub fn asked(bytes: &[u8], name: &str, content_type: &str) -> Option<Format> {
    let begins = read::readable(&bytes[..bytes.len().min(BEGINNING)]).0;
    let first = begins.trim_start().chars().next();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let named = |wanted: &str| name.rsplit_once('.').is_some_and(|(_, ending)| ending.eq_ignore_ascii_case(wanted));
    let is_json = matches!(first, Some('{' | '[')) || media_type.eq_ignore_ascii_case("application/json");
    if is_json || named("json") {
        Some(Format::Json)
    } else if media_type.eq_ignore_ascii_case("text/csv") || named("csv") || is_table(bytes) {
        Some(Format::Csv)
    } else {
        None
    }
}

/// Which of the common data is the market data: the one called [`MARKET`], or the only one.
///
/// # Errors
/// When there are several, and none is called so.
pub fn market<'n>(names: impl IntoIterator<Item = &'n str>) -> Result<Option<&'n str>, Refusal> {
    let names: Vec<&str> = names.into_iter().collect();
    let named = names.iter().find(|name| name.rsplit('/').next() == Some(MARKET));
    match (&names[..], named) {
        (_, Some(name)) => Ok(Some(name)),
        ([], None) => Ok(None),
        ([only], None) => Ok(Some(only)),
        (several, None) => {
            let several = several.join(", ");
            let message = format!("which of the common data is the market data? Call it {MARKET}; there is {several}");
            Err(Refusal { code: "market-unclear", message })
        }
    }
}

/// Whether bytes begin as a table of trades does.
pub fn is_table(bytes: &[u8]) -> bool {
    csv::is_table(&read::readable(&bytes[..bytes.len().min(BEGINNING)]).0)
}

/// Prices a book, or an item's share of it.
///
/// # Errors
/// When the input is malformed, too large, or its value is no number. The same input gives the same answer always.
pub fn price(input: Input<'_>, share: Share, threads: usize) -> Result<Priced, Refusal> {
    check_size(input.bytes)?;
    check_size(input.market.unwrap_or_default())?;
    let book = read::parse(input.bytes, input.format, input.market).map_err(malformed)?;
    price_book(&book, share, threads)
}

/// Prices these rows of a table, counted from 0; they are refused as they would be in the whole table, whose size has
/// no limit here.
///
/// # Errors
/// As [`price`].
pub fn price_rows(table: &[u8], rows: &Range<usize>, market: Option<&[u8]>, threads: usize) -> Result<Priced, Refusal> {
    check_size(market.unwrap_or_default())?;
    price_book(&read::parse_rows(table, rows, market).map_err(malformed)?, Share::ALL, threads)
}

/// Reads these rows of a table, counted from 0, and its market once: a book for each `rows_per_item` of them, at least
/// one. [`price_book`] returns for it what [`price_rows`] returns for its rows.
pub fn read_items(
    table: &[u8],
    rows: &Range<usize>,
    rows_per_item: usize,
    market: Option<&[u8]>,
) -> Vec<Result<Book, Refusal>> {
    let read = || {
        check_size(market.unwrap_or_default())?;
        read::parse_items(table, rows, rows_per_item, market).map_err(malformed)
    };
    match read() {
        Ok(books) => books.into_iter().map(|book| book.map_err(malformed)).collect(),
        Err(refusal) => vec![Err(refusal); rows.len().div_ceil(rows_per_item).max(1)],
    }
}

fn check_size(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.len() > INPUT_MAX {
        let message = format!("the input has {} bytes, the limit is {INPUT_MAX}", bytes.len());
        return Err(Refusal { code: "input-too-large", message });
    }
    Ok(())
}

fn malformed(problems: Vec<Problem>) -> Refusal {
    let mut lines: Vec<String> = problems.iter().take(PROBLEMS_SHOWN).map(ToString::to_string).collect();
    if problems.len() > PROBLEMS_SHOWN {
        lines.push(format!("and {} more", problems.len() - PROBLEMS_SHOWN));
    }
    Refusal { code: "malformed-input", message: lines.join("; ") }
}

/// Prices a book that was read, or an item's share of it.
///
/// # Errors
/// When one of its values is no number.
pub fn price_book(book: &Book, share: Share, threads: usize) -> Result<Priced, Refusal> {
    let estimates = simulate(book, share, threads);
    let result = PricingResult::new(book, share, &estimates)?;
    let mut bytes = serde_json::to_vec(&result)
        .map_err(|error| Refusal { code: "numeric-overflow", message: error.to_string() })?;
    bytes.push(b'\n');
    Ok(Priced { bytes, seed: book.seed, errors: result.portfolio.errors })
}
