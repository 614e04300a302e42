//! European and Asian options: a payoff of one level, the last price or the average of a path.
//!
//! The payoff is continuous in the path, so delta, vega, rho and theta are pathwise. Gamma is the likelihood ratio's
//! derivative of the pathwise delta: the path depends on the spot price only by its first step.

use super::{
    draws::{Draws, Lane},
    elementary::exp,
    normal::BLOCK,
    plan::{Asset, Terms, Workspace},
};

/// The level that is paid on.
#[derive(Clone, Copy, Debug)]
pub struct Level {
    /// Underlying.
    pub asset: Asset,
    /// Equal steps to maturity.
    pub steps: u32,
    /// Which level.
    pub average: Average,
}

/// Which level of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// The last price.
    Last,
    /// Arithmetic mean.
    Arithmetic,
    /// Geometric mean.
    Geometric,
}

/// Price and delta, and with `greeks` the other measures.
pub fn evaluate(terms: &Terms, level: &Level, draws: &mut Draws<'_>, greeks: bool, space: &mut Workspace) {
    space.fit(6, 6);
    let [normals, first, sum, relative, by_volatility, by_rate, ..] = &mut space.scratch[..] else { return };
    let Asset { volatility, drift, .. } = level.asset;
    let steps = f64::from(level.steps);
    let step = terms.maturity / steps;
    let (drift, root) = (drift * step, step.sqrt());
    let deviation = volatility * root;
    match level.average {
        Average::Last => {
            draws.take(0, first);
            for path in 0..BLOCK {
                relative[path] = exp(drift + deviation * first[path]);
            }
            if greeks {
                for path in 0..BLOCK {
                    by_volatility[path] = relative[path] * (root * first[path] - volatility * step);
                    by_rate[path] = relative[path] * step;
                }
            }
        }
        Average::Arithmetic => {
            arithmetic(level, step, draws, greeks, [normals, first, sum, relative, by_volatility, by_rate]);
        }
        Average::Geometric => {
            sum.fill(0.0);
            relative.fill(0.0);
            for number in 0..level.steps {
                draws.take(number, normals);
                if number == 0 {
                    *first = *normals;
                }
                for path in 0..BLOCK {
                    sum[path] += normals[path];
                    relative[path] += sum[path];
                }
            }
            let (share, time) = (1.0 / steps, 0.5 * (steps + 1.0));
            for path in 0..BLOCK {
                let mean = relative[path] * share;
                relative[path] = exp(drift * time + deviation * mean);
                by_volatility[path] = relative[path] * (root * mean - volatility * step * time);
                by_rate[path] = relative[path] * (step * time);
            }
        }
    }
    let [price, delta, gamma, vega, rho, theta] = &mut space.lanes[..6] else { return };
    let Terms { strike, sign, maturity, rate, discount } = *terms;
    let spot = level.asset.spot;
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
    let score = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
    let curved = if deviation > 0.0 { 1.0 / spot } else { 0.0 };
    let (year, wobble) = (level.asset.drift, 0.5 * volatility / root);
    for path in 0..BLOCK {
        let slope = if delta[path] == 0.0 { 0.0 } else { sign * discount * spot };
        gamma[path] = delta[path] * (first[path] * score - 1.0) * curved;
        vega[path] = slope * by_volatility[path];
        rho[path] = slope * by_rate[path] - maturity * price[path];
        // As time passes the first date comes nearer, and with it every later one.
        theta[path] = rate * price[path] - delta[path] * spot * (year + wobble * first[path]);
    }
}

/// The mean level of the path; `greeks` as a constant, so that the loop without them is as short as can be.
fn arithmetic(level: &Level, step: f64, draws: &mut Draws<'_>, greeks: bool, lanes: [&mut Lane; 6]) {
    if greeks { walk::<true>(level, step, draws, lanes) } else { walk::<false>(level, step, draws, lanes) }
}

fn walk<const GREEKS: bool>(level: &Level, step: f64, draws: &mut Draws<'_>, lanes: [&mut Lane; 6]) {
    let [normals, first, sum, relative, by_volatility, by_rate] = lanes;
    let Asset { volatility, drift, .. } = level.asset;
    let (drift, root) = (drift * step, step.sqrt());
    let deviation = volatility * root;
    for lane in [&mut *sum, &mut *relative, &mut *by_volatility, &mut *by_rate] {
        lane.fill(0.0);
    }
    for number in 0..level.steps {
        draws.take(number, normals);
        if number == 0 {
            *first = *normals;
        }
        let count = f64::from(number + 1);
        let (moved, time) = (drift * count, step * count);
        for path in 0..BLOCK {
            sum[path] += normals[path];
            let price = exp(moved + deviation * sum[path]);
            relative[path] += price;
            if GREEKS {
                by_volatility[path] += price * (root * sum[path] - volatility * time);
                by_rate[path] += price * time;
            }
        }
    }
    let share = 1.0 / f64::from(level.steps);
    for lane in [relative, by_volatility, by_rate] {
        lane.iter_mut().for_each(|value| *value *= share);
    }
}
