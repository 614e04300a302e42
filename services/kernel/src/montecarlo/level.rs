//! Payoffs of one level that is proportional to the spot price: the last price or the average of a path.
//!
//! The payoff is continuous in the path, so delta, vega, rho and theta are pathwise. Gamma is the likelihood ratio's
//! derivative of the pathwise delta: the path depends on the spot price only by its first step.

use super::{
    normal::BLOCK,
    plan::{Asset, Terms, Workspace},
};

/// Arrays that a level needs: room for draws, the first draw, a sum, the level divided by the spot price, and its
/// derivatives by the volatility and by the rate.
pub const SCRATCH: usize = 6;

/// Whether more is wanted than price and delta.
pub fn greeks(wanted: &[usize]) -> bool {
    wanted.iter().any(|lane| *lane > 1)
}

/// Price and delta, and with `greeks` the other measures, from the arrays in scratch.
#[inline(always)]
pub fn pay(terms: &Terms, asset: Asset, step: f64, greeks: bool, space: &mut Workspace) {
    let [_, first, _, relative, by_volatility, by_rate, ..] = &mut space.scratch[..] else { return };
    let [price, delta, gamma, vega, rho, theta, ..] = &mut space.lanes[..] else { return };
    let Terms { strike, sign, maturity, rate, discount } = *terms;
    let Asset { spot, volatility, drift } = asset;
    for path in 0..BLOCK {
        let relative = relative[path];
        let gain = sign * (relative * spot - strike);
        let pays = gain > 0.0;
        price[path] = if pays { gain * discount } else { 0.0 };
        // The level is proportional to the spot price, so the payoff's derivative is the relative level where it pays.
        delta[path] = if pays { sign * relative * discount } else { 0.0 };
    }
    if !greeks {
        return;
    }
    // Without volatility there is one path, and the price is linear around it.
    let root = step.sqrt();
    let deviation = volatility * root;
    let score = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
    let curved = if deviation > 0.0 { 1.0 / spot } else { 0.0 };
    let wobble = 0.5 * volatility / root;
    for path in 0..BLOCK {
        let slope = if delta[path] == 0.0 { 0.0 } else { sign * discount * spot };
        gamma[path] = delta[path] * (first[path] * score - 1.0) * curved;
        vega[path] = slope * by_volatility[path];
        rho[path] = slope * by_rate[path] - maturity * price[path];
        // As time passes the first date comes nearer, and with it every later one.
        theta[path] = rate * price[path] - delta[path] * spot * (drift + wobble * first[path]);
    }
}
