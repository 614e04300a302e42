//! Payoffs of one level that is proportional to the spot price: the last price or the average of a path.
//!
//! The payoff is continuous in the path, so delta, vega, rho and theta are pathwise. Gamma is the likelihood ratio's
//! derivative of the pathwise delta: the path depends on the spot price only by its first step.

use super::{
    elementary::ln,
    model::{Asset, Model, Shape, Terms, Workspace},
    normal::BLOCK,
    search,
};

/// Standard deviation of a logarithm up to which a payoff has no heavy tail.
pub const LIGHT: f64 = 0.75;

/// The law of a level, as far as it is known.
#[derive(Clone, Debug)]
pub struct Law {
    /// Its mean.
    pub forward: f64,
    /// The mean's derivative by the volatility.
    pub vega: f64,
    /// The mean's derivative by the rate.
    pub rho: f64,
    /// Standard deviation of its logarithm, or about that.
    pub deviation: f64,
    /// Whether its logarithm is normal.
    pub is_lognormal: bool,
    /// The lines along which it moves, most along the first.
    pub lines: Vec<Vec<f64>>,
}

/// How an option on a level is estimated. Near the money its paths say enough. Elsewhere what is simulated is the
/// smallest of a call, a put, and the lower of strike and level; the rest follows from the mean by put-call parity.
pub fn model(shape: Box<dyn Shape>, terms: Terms, asset: Asset, law: Law) -> Model {
    let mut model = Model::new(shape, terms);
    let Law { forward, vega, rho, deviation, is_lognormal, lines } = law;
    let Terms { strike, sign, maturity, rate, discount, .. } = terms;
    if !(asset.moves(maturity) && forward.is_normal() && forward < 1e300) {
        return model;
    }
    let middle = (ln(forward) - ln(strike)) / deviation;
    if deviation <= LIGHT && middle.abs() <= 1.0 {
        return model;
    }
    let (above, below) = (middle + 0.5 * deviation, middle - 0.5 * deviation);
    let carry = asset.drift + 0.5 * asset.volatility * asset.volatility;
    let level = [forward, forward / asset.spot, 0.0, vega, rho - maturity * forward, (rate - carry) * forward];
    let strike = [strike, 0.0, 0.0, 0.0, -maturity * strike, rate * strike];
    let out_of_the_money = if middle < 0.0 { 1.0 } else { -1.0 };
    let known = |of_level: f64, of_strike: f64| {
        level.iter().zip(strike).map(|(level, strike)| discount * (of_level * level + of_strike * strike)).collect()
    };
    if f64::min(above, -below) > 0.7 {
        model.known = if sign > 0.0 { known(1.0, 0.0) } else { known(0.0, 1.0) };
        model.terms = Terms { sign: -1.0, is_least: true, ..terms };
        model.sign = -1.0;
        model.is_nothing = is_lognormal && f64::min(above, -below) > 8.5;
    } else {
        if sign != out_of_the_money {
            model.known = known(sign, -sign);
            model.terms.sign = out_of_the_money;
        }
        model.is_nothing = if is_lognormal {
            above < -search::NEVER || below > search::NEVER
        } else {
            search::is_out_of_reach(&*model.shape, &model.terms, &lines)
        };
    }
    model.proposal = search::proposal(&*model.shape, &model.terms, &lines, true);
    model
}

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
    let Terms { strike, sign, is_least, maturity, rate, discount } = *terms;
    let Asset { spot, volatility, drift } = asset;
    for path in 0..BLOCK {
        let relative = relative[path];
        let gain = sign * (relative * spot - strike);
        let pays = gain > 0.0;
        price[path] = if pays { gain * discount } else { 0.0 };
        // The level is proportional to the spot price, so the payoff's derivative is the relative level where it pays.
        delta[path] = if pays { sign * relative * discount } else { 0.0 };
    }
    if is_least {
        for path in 0..BLOCK {
            price[path] = strike * discount - price[path];
            delta[path] = -delta[path];
        }
    }
    if !greeks {
        return;
    }
    let sign = if is_least { -sign } else { sign };
    // Without volatility there is one path, and the price is linear around it.
    let root = step.sqrt();
    let deviation = volatility * root;
    let score = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
    let curved = if deviation > 0.0 { 1.0 / spot } else { 0.0 };
    let wobble = if root > 0.0 { 0.5 * volatility / root } else { 0.0 };
    for path in 0..BLOCK {
        let slope = if delta[path] == 0.0 { 0.0 } else { sign * discount * spot };
        gamma[path] = delta[path] * (first[path] * score - 1.0) * curved;
        vega[path] = slope * by_volatility[path];
        rho[path] = slope * by_rate[path] - maturity * price[path];
        // As time passes the first date comes nearer, and with it every later one.
        theta[path] = rate * price[path] - delta[path] * spot * (drift + wobble * first[path]);
    }
}
