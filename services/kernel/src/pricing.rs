//! The built-in pricing kernel: a book of options in JSON, or a table of trades with market data beside it, in, and
//! prices with standard errors in JSON out. `examples/README.md` describes the fields of both.
//!
//! - A JSON book may leave fields to the market data; what it says itself counts. Fields that are not listed are
//!   errors.
//! - The first line of a table (RFC 4180) names its columns, which are the fields of a trade in any order; `id`,
//!   `kind`, `option`, `strike` and `maturity` must be there. An empty cell is an absent field.
//! - With `sobol`, as many of `paths` are simulated as are 32 to 63 times a power of two.
//! - Observations are equally spaced over the maturity, the last one at maturity and none at the start.
//! - A trade's random numbers follow from the seed and its id, so its price is the same in whatever table, part of a
//!   table or order it stands.

pub mod book;
pub mod csv;
pub mod json;
pub mod market;
pub mod parameters;
pub mod problem;
pub mod read;
pub mod reader;
pub mod result;
mod shown;
pub mod trade;

#[cfg(test)]
mod tests;
