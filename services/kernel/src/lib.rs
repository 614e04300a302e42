//! The built-in pricing kernel: bytes in, bytes out, and nothing else.
//!
//! It knows no cloud, no files, no clock and no runtime, so a result depends on the input only. It is a crate of its
//! own because it alone is worth the compiler's highest optimisation.

pub mod bench;
pub mod montecarlo;
pub mod payoff;
pub mod price;
pub mod pricing;
pub mod rows;
pub mod table;

pub use montecarlo::Share;
pub use price::{Input, Priced, asked, is_table, market, price, price_book, price_rows, read_items};
pub use pricing::{
    book::Book,
    parameters::TRADES_MAX,
    problem::Refusal,
    read::{Format, MARKET},
};
