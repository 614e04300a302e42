//! Barrier options: monitored at dates, or continuously.
//!
//! At dates the payoff jumps at the barrier, so every Greek is by the likelihood ratio: the payoff times the derivative
//! of the logarithm of the path's density. Continuously, one step to maturity is exact: whether the path between both
//! ends touched the barrier has a closed form (the Brownian bridge's), which makes the payoff continuous, so that delta,
//! vega, rho and theta are pathwise, and gamma the likelihood ratio's derivative of delta.

use super::{
    draws::Draws,
    elementary::exp,
    normal::BLOCK,
    plan::{Asset, Terms, Workspace},
};

/// Monitored at equally spaced dates.
#[derive(Clone, Copy, Debug)]
pub struct Discrete {
    /// Underlying.
    pub asset: Asset,
    /// Dates, the last one at maturity.
    pub steps: u32,
    /// 1 for a barrier above, -1 for one below.
    pub side: f64,
    /// Logarithm of the barrier divided by the spot price.
    pub height: f64,
    /// Pays only if the barrier was touched; else only if not.
    pub knock_in: bool,
}

/// Monitored continuously.
#[derive(Clone, Copy, Debug)]
pub struct Continuous {
    /// Underlying.
    pub asset: Asset,
    /// 1 for a barrier above, -1 for one below.
    pub side: f64,
    /// Logarithm of the barrier divided by the spot price, moved outwards for dates.
    pub height: f64,
    /// By how much it was moved for each unit of volatility.
    pub shift: f64,
    /// Pays only if the barrier was touched; else only if not.
    pub knock_in: bool,
}

/// Price, and with `greeks` the other measures.
pub fn evaluate_discrete(terms: &Terms, shape: &Discrete, draws: &mut Draws<'_>, greeks: bool, space: &mut Workspace) {
    space.fit(6, 6);
    let [normals, first, sum, furthest, squares, ..] = &mut space.scratch[..] else { return };
    let Asset { spot, volatility, drift } = shape.asset;
    let step = terms.maturity / f64::from(shape.steps);
    let root = step.sqrt();
    let (per_step, deviation) = (drift * step * shape.side, volatility * root * shape.side);
    sum.fill(0.0);
    squares.fill(0.0);
    furthest.fill(f64::NEG_INFINITY);
    for number in 0..shape.steps {
        draws.take(number, normals);
        if number == 0 {
            *first = *normals;
        }
        let moved = per_step * f64::from(number + 1);
        for path in 0..BLOCK {
            sum[path] += normals[path];
            let at = moved + deviation * sum[path];
            furthest[path] = if at > furthest[path] { at } else { furthest[path] };
        }
        if greeks {
            for path in 0..BLOCK {
                squares[path] += normals[path] * normals[path];
            }
        }
    }
    let [price, delta, gamma, vega, rho, theta] = &mut space.lanes[..6] else { return };
    let Terms { strike, sign, maturity, rate, discount } = *terms;
    let (years, barrier) = (drift * maturity, shape.side * shape.height);
    for path in 0..BLOCK {
        let gain = sign * (spot * exp(years + volatility * root * sum[path]) - strike);
        let touched = furthest[path] >= barrier;
        price[path] = if gain > 0.0 && touched == shape.knock_in { gain * discount } else { 0.0 };
    }
    if !greeks {
        return;
    }
    let steps = f64::from(shape.steps);
    let score = 1.0 / (volatility * root);
    for path in 0..BLOCK {
        let (paid, z) = (price[path], first[path]);
        let by_spot = z * score / spot;
        delta[path] = paid * by_spot;
        gamma[path] = paid * ((z * z - 1.0) * score * score - z * score) / (spot * spot);
        vega[path] = paid * ((squares[path] - steps) / volatility - root * sum[path]);
        rho[path] = paid * (root * sum[path] / volatility - maturity);
        theta[path] = paid * (rate - 0.5 * (z * z - 1.0) / step - z * drift * score);
    }
}

/// Every measure.
pub fn evaluate_continuous(terms: &Terms, shape: &Continuous, draws: &mut Draws<'_>, space: &mut Workspace) {
    space.fit(6, 1);
    let [normals, ..] = &mut space.scratch[..] else { return };
    draws.take(0, normals);
    let [price, delta, gamma, vega, rho, theta] = &mut space.lanes[..6] else { return };
    let Terms { strike, sign, maturity, rate, discount } = *terms;
    let Asset { spot, volatility, drift } = shape.asset;
    let (b, root) = (shape.height, maturity.sqrt());
    let variance = volatility * volatility * maturity;
    let deviation = volatility * root;
    let touched_now = shape.side * b <= 0.0;
    let direction = if shape.knock_in { 1.0 } else { -1.0 };
    for path in 0..BLOCK {
        let z = normals[path];
        let x = drift * maturity + deviation * z;
        let relative = exp(x);
        let gain = sign * (spot * relative - strike);
        let pays = gain > 0.0;
        let paid = if pays { gain * discount } else { 0.0 };
        let slope = if pays { sign * discount * relative } else { 0.0 };
        // The chance that a path between these ends touches the barrier, and derivatives of its logarithm.
        let beyond = touched_now || shape.side * (b - x) <= 0.0;
        let exponent = -2.0 * b * (b - x) / variance;
        let touch = if beyond { 1.0 } else { exp(exponent) };
        let chance = if shape.knock_in { touch } else { 1.0 - touch };
        // What the payoff changes by with the logarithm of the chance.
        let swing = if beyond { 0.0 } else { direction * paid * touch };
        let turn = if beyond { 0.0 } else { direction * slope * touch };
        let (by_end, by_both) = (2.0 * (b - x) / variance, 2.0 * (b - x + b) / variance);
        let by_x = 2.0 * b / variance;
        price[path] = paid * chance;
        let first = slope * chance + swing * by_both / spot;
        delta[path] = first;
        let explicit = turn * by_end - slope * chance + swing * (by_end * by_both - by_both - 2.0 / variance) / spot;
        gamma[path] = (first * z / deviation + explicit) / spot;
        let moved = root * z - volatility * maturity;
        let by_volatility = by_x * moved - 2.0 * exponent / volatility - shape.shift * 2.0 * (b - x + b) / variance;
        vega[path] = slope * spot * moved * chance + swing * by_volatility;
        rho[path] = slope * spot * maturity * chance + swing * by_x * maturity - maturity * price[path];
        let drifted = drift + 0.5 * volatility * z / root;
        let by_time = by_x * drifted - exponent / maturity;
        theta[path] = rate * price[path] - slope * spot * drifted * chance - swing * by_time;
    }
}
