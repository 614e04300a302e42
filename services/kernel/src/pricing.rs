//! The built-in pricing kernel: a book of options in JSON in, prices with standard errors in JSON out.
//!
//! # Input, schema 1
//!
//! Either one JSON book, or a CSV table of trades with the market data beside it.
//!
//! ```json
//! {
//!   "schema": 1,
//!   "description": "optional text",
//!   "day_count": "ACT/365F",
//!   "seed": 20260101,
//!   "paths": 200000,
//!   "sampling": "pseudo-random",
//!   "measures": ["price", "delta", "gamma", "vega", "rho", "theta"],
//!   "on_error": "fail",
//!   "underlyings": {
//!     "ACME": {"spot": 100.0, "volatility": 0.2, "rate": 0.03, "dividend_yield": 0.01}
//!   },
//!   "correlation": [{"between": ["ACME", "OTHER"], "value": 0.4}],
//!   "trades": [
//!     {"id": "t1", "kind": "european", "option": "call", "underlying": "ACME", "strike": 105.0, "maturity": 1.0,
//!      "quantity": 10},
//!     {"id": "t2", "kind": "asian", "option": "put", "underlying": "ACME", "strike": 95.0, "maturity": 0.5,
//!      "averaging": "arithmetic", "observations": 26},
//!     {"id": "t3", "kind": "barrier", "option": "call", "underlying": "ACME", "strike": 95.0, "maturity": 0.5,
//!      "barrier": 120.0, "barrier_type": "up-and-out", "monitoring": "discrete", "observations": 126},
//!     {"id": "t4", "kind": "basket", "option": "call", "underlyings": ["ACME", "OTHER"], "weights": [0.5, 0.5],
//!      "basket_type": "weighted-sum", "strike": 100.0, "maturity": 1.0}
//!   ]
//! }
//! ```
//!
//! - `seed`: integer from 0 to 2^64-1; `paths`: integer from 1 to 1e9, for each trade.
//! - `sampling`: `pseudo-random` (when absent), `antithetic` (pairs of mirrored paths) or `sobol` (quasi-random points,
//!   scrambled at random 32 times or more, from which the standard error comes; as many of `paths` as are 32 to 63
//!   times a power of two).
//! - `measures`: what to compute; only `price` when absent. `delta` and `gamma` are the derivatives by the spot price,
//!   `vega` by the volatility and `rho` by the rate, each for a change of 1 (not of a percent), `theta` that by the time
//!   that passes, per year. Those of a basket are given for each underlying, but for `rho` and `theta`.
//! - `on_error`: `fail` (when absent): a book with anything wrong in it is not priced; `row`: a trade that is wrong has
//!   an `error` in the result, and the others are priced.
//! - `day_count`: `ACT/365F`, which is also what is meant when it is absent.
//! - `spot`, `strike`, `barrier`: prices in the underlying's currency, positive; a basket's strike may be 0.
//! - `volatility`: of one year, as a decimal (0.2 is 20 %), not negative.
//! - `rate`: risk-free rate, continuously compounded, decimal per year; `dividend_yield` the same, 0 when absent.
//! - `maturity`: years from the valuation date, ACT/365F (days divided by 365), positive.
//! - `quantity`: number of options held, negative when sold; 1 when absent.
//! - `averaging`: `arithmetic` or `geometric`; `observations`: integer from 1 to 10,000, equally spaced over the
//!   maturity, the last one at maturity and none at the start.
//! - `barrier_type`: `up-and-out`, `up-and-in`, `down-and-out` or `down-and-in`. `monitoring`: `discrete` (at the
//!   `observations`), `continuous` (exact, by the law of the Brownian bridge), or `shifted` (an approximation of
//!   `observations` dates by a continuous barrier moved outwards, Broadie, Glasserman and Kou 1997; needs one step only).
//! - `basket_type`: what the strike is compared with: `weighted-sum`, `geometric` (product of the prices to the power of
//!   their weights), `best-of` or `worst-of` (of the weighted prices). The rates of a basket's underlyings are the same,
//!   and `correlation`, between their Brownian motions, is given for each of their pairs.
//!
//! Fields that are not listed are errors.
//!
//! # A table of trades
//!
//! CSV (RFC 4180, comma, UTF-8): the first line names the columns, which are the fields of a trade in any order; each
//! further line is a trade. An empty cell is an absent field. `underlyings` and `weights` separate their elements by
//! semicolons. The columns `id`, `kind`, `option`, `strike` and `maturity` must be there.
//!
//! Everything else stands in the market data: a JSON object as above without `trades`, handed over as the session's
//! common data (named `market.json`, or the only one). A JSON book may leave fields to the market data as well; what
//! it says itself counts.
//!
//! A trade's random numbers follow from the seed and its id, so its price is the same in whatever table, part of a
//! table or order it stands.
//!
//! # Result, schema 1
//!
//! `price` is the present value of one option, `value` that of the position (`quantity` times `price`), each with
//! its standard error, and so the other measures, which are those of one option. In a Job split in `n` tasks, task `i`
//! prices trades `i`, `i + n`, ... and `portfolio` is the sum over those.

pub mod book;
pub mod csv;
pub mod json;
pub mod problem;
pub mod read;
pub mod reader;
pub mod result;
mod shown;
pub mod trade;

#[cfg(test)]
mod tests;
