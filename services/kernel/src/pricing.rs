//! The built-in pricing kernel: a book of options in JSON in, prices with standard errors in JSON out.
//!
//! # Input, schema 1
//!
//! ```json
//! {
//!   "schema": 1,
//!   "description": "optional text",
//!   "seed": 20260101,
//!   "paths": 200000,
//!   "measures": ["price", "delta"],
//!   "underlyings": {
//!     "ACME": {"spot": 100.0, "volatility": 0.2, "rate": 0.03, "dividend_yield": 0.01}
//!   },
//!   "correlation": [{"between": ["ACME", "OTHER"], "value": 0.4}],
//!   "trades": [
//!     {"id": "t1", "kind": "european", "option": "call", "underlying": "ACME", "strike": 105.0, "maturity": 1.0,
//!      "quantity": 10},
//!     {"id": "t2", "kind": "asian", "option": "put", "underlying": "ACME", "strike": 95.0, "maturity": 0.5,
//!      "averaging": "arithmetic", "observations": 26}
//!   ]
//! }
//! ```
//!
//! - `seed`: integer from 0 to 2^64-1; `paths`: integer from 1 to 1e9, for each trade.
//! - `measures`: what to compute, `price` and `delta`; only `price` when absent.
//! - `spot`, `strike`: prices in the underlying's currency, positive.
//! - `volatility`: of one year, as a decimal (0.2 is 20 %), not negative.
//! - `rate`: risk-free rate, continuously compounded, decimal per year; `dividend_yield` the same, 0 when absent.
//! - `maturity`: years from the valuation date, ACT/365F (days divided by 365), positive.
//! - `quantity`: number of options held, negative when sold; 1 when absent.
//! - `averaging`: `arithmetic` or `geometric`; `observations`: integer from 1 to 10,000, equally spaced over the
//!   maturity, the last one at maturity and none at the start.
//! - `correlation`: between the Brownian motions of two underlyings; checked, and not used by these kinds.
//!
//! Fields that are not listed are errors.
//!
//! # Result, schema 1
//!
//! `price` is the present value of one option, `value` that of the position (`quantity` times `price`), each with
//! its standard error. In a Job split in `n` tasks, task `i` prices trades `i`, `i + n`, ... and `portfolio` is the
//! sum over those.

pub mod book;
pub mod json;
pub mod reader;
pub mod result;

#[cfg(test)]
mod tests;
