//! Closed forms, written from their sources and sharing nothing with the kernel.

use std::f64::consts::TAU;

use statrs::distribution::{ContinuousCDF as _, Normal};

use crate::payoff::{Averaging, BasketType};

/// Everything that a formula may depend on; two underlyings at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) spot: [f64; 2],
    pub(super) volatility: [f64; 2],
    pub(super) dividend_yield: [f64; 2],
    pub(super) rate: f64,
    pub(super) correlation: f64,
    pub(super) strike: f64,
    pub(super) maturity: f64,
    /// Years since the valuation; every date of the contract stays where it is.
    pub(super) passed: f64,
    /// 1 for a call, -1 for a put.
    pub(super) sign: f64,
}

/// The price at a point.
pub(super) type Formula = Box<dyn Fn(&Point) -> f64>;

fn cdf(x: f64) -> f64 {
    // The library's function is for numbers; the tails are wanted as well.
    if x < -38.0 {
        0.0
    } else if x > 38.0 {
        1.0
    } else {
        Normal::standard().cdf(x)
    }
}

fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp() / TAU.sqrt()
}

/// Simpson's rule for the expectation of a function of a standard normal between two bounds.
fn expect(from: f64, to: f64, f: impl Fn(f64) -> f64) -> f64 {
    let (from, to) = (from.max(-9.0), to.min(9.0));
    if from >= to {
        return 0.0;
    }
    let n = 4000;
    let h = (to - from) / f64::from(n);
    let weight = |i: i32| {
        if i == 0 || i == n {
            1.0
        } else if i % 2 == 1 {
            4.0
        } else {
            2.0
        }
    };
    let at = |i: i32| from + h * f64::from(i);
    (0..=n).map(|i| weight(i) * density(at(i)) * f(at(i))).sum::<f64>() * h / 3.0
}

/// Black's formula: the expected payoff on a level whose logarithm is normal, not discounted.
fn black(forward: f64, deviation: f64, strike: f64, sign: f64) -> f64 {
    if strike <= 0.0 {
        return (sign * (forward - strike)).max(0.0);
    }
    let d1 = (forward / strike).ln() / deviation + 0.5 * deviation;
    sign * (forward * cdf(sign * d1) - strike * cdf(sign * (d1 - deviation)))
}

impl Point {
    pub(super) fn time(&self) -> f64 {
        self.maturity - self.passed
    }

    fn discount(&self) -> f64 {
        (-self.rate * self.time()).exp()
    }

    fn forward(&self, asset: usize, time: f64) -> f64 {
        self.spot[asset] * ((self.rate - self.dividend_yield[asset]) * time).exp()
    }
}

/// Black, Scholes and Merton (Hull, Options, Futures and Other Derivatives, section 17.4).
pub(super) fn european(p: &Point) -> f64 {
    p.discount() * black(p.forward(0, p.time()), p.volatility[0] * p.time().sqrt(), p.strike, p.sign)
}

/// Kemna and Vorst's geometric average (1990), with discrete observations.
pub(super) fn geometric_asian(p: &Point, observations: u32) -> f64 {
    let (n, v) = (f64::from(observations), p.volatility[0]);
    let dates: Vec<f64> = (1..=observations).map(|i| p.maturity * f64::from(i) / n - p.passed).collect();
    let drift = p.rate - p.dividend_yield[0] - 0.5 * v * v;
    let mean = p.spot[0].ln() + drift * dates.iter().sum::<f64>() / n;
    let covariance: f64 = (dates.iter().enumerate()).map(|(i, date)| date * (2.0 * (n - 1.0 - i as f64) + 1.0)).sum();
    let variance = v * v * covariance / (n * n);
    p.discount() * black((mean + 0.5 * variance).exp(), variance.sqrt(), p.strike, p.sign)
}

/// An average of two observations: the second is lognormal given the first, which is integrated over.
pub(super) fn arithmetic_asian_of_two(p: &Point) -> f64 {
    let (first, v) = (0.5 * p.maturity - p.passed, p.volatility[0]);
    let drift = p.rate - p.dividend_yield[0];
    let rest = 0.5 * p.maturity;
    p.discount()
        * expect(-9.0, 9.0, |z| {
            let s = p.spot[0] * ((drift - 0.5 * v * v) * first + v * first.sqrt() * z).exp();
            0.5 * black(s * (drift * rest).exp(), v * rest.sqrt(), 2.0 * p.strike - s, p.sign)
        })
}

/// Reiner and Rubinstein's barrier options (1991), as Haug's Complete Guide to Option Pricing Formulas writes them in
/// section 4.17.1, without rebates.
pub(super) fn barrier(p: &Point, level: f64, up: bool, knock_in: bool) -> f64 {
    let (s, x, h, t) = (p.spot[0], p.strike, level, p.time());
    let v = p.volatility[0];
    let b = p.rate - p.dividend_yield[0];
    let mu = (b - 0.5 * v * v) / (v * v);
    let deviation = v * t.sqrt();
    let eta = if up { -1.0 } else { 1.0 };
    let phi = p.sign;
    let (carry, discount) = ((b - p.rate) * t, -p.rate * t);
    let x1 = (s / x).ln() / deviation + (1.0 + mu) * deviation;
    let x2 = (s / h).ln() / deviation + (1.0 + mu) * deviation;
    let y1 = (h * h / (s * x)).ln() / deviation + (1.0 + mu) * deviation;
    let y2 = (h / s).ln() / deviation + (1.0 + mu) * deviation;
    let plain = |d: f64| phi * s * carry.exp() * cdf(phi * d) - phi * x * discount.exp() * cdf(phi * (d - deviation));
    let image = |d: f64| {
        phi * s * carry.exp() * (h / s).powf(2.0 * (mu + 1.0)) * cdf(eta * d)
            - phi * x * discount.exp() * (h / s).powf(2.0 * mu) * cdf(eta * (d - deviation))
    };
    let (a, bb, c, d) = (plain(x1), plain(x2), image(y1), image(y2));
    let above = x > h;
    let inside = match (phi > 0.0, up, above) {
        (true, false, true) => c,
        (true, false, false) => a - bb + d,
        (true, true, true) => a,
        (true, true, false) => bb - c + d,
        (false, false, true) => bb - c + d,
        (false, false, false) => a,
        (false, true, true) => a - bb + d,
        (false, true, false) => c,
    };
    if knock_in { inside } else { european(p) - inside }
}

/// The barrier as Broadie, Glasserman and Kou (1997) move it for `dates` monitoring dates.
pub(super) fn moved(p: &Point, level: f64, up: bool, dates: u32) -> f64 {
    let shift = 0.5826 * p.volatility[0] * (p.maturity / f64::from(dates)).sqrt();
    level * (if up { shift } else { -shift }).exp()
}

/// A barrier from below that is looked at twice: given the price at the first date, the payoff at the second is that of
/// options and digitals, which is integrated over the first.
pub(super) fn up_and_out_call_of_two(p: &Point, level: f64) -> f64 {
    let (first, v) = (0.5 * p.maturity - p.passed, p.volatility[0]);
    let (drift, rest) = (p.rate - p.dividend_yield[0], 0.5 * p.maturity);
    let deviation = v * rest.sqrt();
    let last = ((level / p.spot[0]).ln() - (drift - 0.5 * v * v) * first) / (v * first.sqrt());
    p.discount()
        * expect(-9.0, last, |z| {
            let s = p.spot[0] * ((drift - 0.5 * v * v) * first + v * first.sqrt() * z).exp();
            let forward = s * (drift * rest).exp();
            let d2 = (forward / level).ln() / deviation - 0.5 * deviation;
            black(forward, deviation, p.strike, 1.0)
                - black(forward, deviation, level, 1.0)
                - (level - p.strike) * cdf(d2)
        })
}

/// A barrier that is checked at dates: backwards from the last but one, each step an integral over the prices that did
/// not touch it. The last step has a closed form.
pub(super) fn dates_barrier(p: &Point, level: f64, up: bool, knock_in: bool, dates: u32) -> f64 {
    let v = p.volatility[0];
    let step = p.maturity / f64::from(dates);
    let (mean, deviation) = ((p.rate - p.dividend_yield[0] - 0.5 * v * v) * step, v * step.sqrt());
    let (low, high) = if up { (0.0, level) } else { (level, f64::INFINITY) };
    let (low, high) = if p.sign > 0.0 { (low.max(p.strike), high) } else { (low, high.min(p.strike)) };
    let last = |x: f64| {
        let forward = (x + mean + 0.5 * deviation * deviation).exp();
        let d2 = |bound: f64| (x + mean - bound.ln()) / deviation;
        let worth = |d: f64| forward * cdf(d + deviation) - p.strike * cdf(d);
        if low >= high { 0.0 } else { p.sign * (worth(d2(low)) - worth(d2(high))) }
    };
    let start = p.spot[0].ln();
    let wide = 9.5 * v * p.maturity.sqrt() + (mean * f64::from(dates)).abs();
    let edge = level.ln();
    let (from, to) =
        if up { ((start - wide).min(edge - deviation), edge) } else { (edge, (start + wide).max(edge + deviation)) };
    let n = (((to - from) / deviation * 8.0) as usize).clamp(64, 6000) / 2 * 2;
    let h = (to - from) / n as f64;
    let weight = |i: usize| {
        if i == 0 || i == n {
            1.0
        } else if i % 2 == 1 {
            4.0
        } else {
            2.0
        }
    };
    let reach = (10.0 * deviation / h) as usize + (mean / h).abs() as usize + 1;
    let back = |x: f64, values: &[f64]| {
        let at = ((x - from) / h) as usize;
        (at.saturating_sub(reach)..=(at + reach).min(n))
            .map(|j| {
                let z = (from + h * j as f64 - x - mean) / deviation;
                weight(j) * h / 3.0 * density(z) / deviation * values[j]
            })
            .sum::<f64>()
    };
    let outside = if dates == 1 {
        last(start)
    } else {
        let mut values: Vec<f64> = (0..=n).map(|i| last(from + h * i as f64)).collect();
        for _ in 2..dates {
            values = (0..=n).map(|i| back(from + h * i as f64, &values)).collect();
        }
        back(start, &values)
    };
    let outside = p.discount() * outside;
    if knock_in { european(p) - outside } else { outside }
}

/// Margrabe's exchange of the second asset for the first (1978).
pub(super) fn exchange(p: &Point) -> f64 {
    let t = p.time();
    let [v1, v2] = p.volatility;
    let deviation = ((v1 * v1 + v2 * v2 - 2.0 * p.correlation * v1 * v2) * t).sqrt();
    p.discount() * black(p.forward(0, t), deviation, p.forward(1, t), 1.0)
}

/// A weighted sum of two assets: the second is lognormal given the first.
pub(super) fn sum_of_two(p: &Point, weights: [f64; 2]) -> f64 {
    let (t, rho) = (p.time(), p.correlation);
    let [v1, v2] = p.volatility;
    let rest = (1.0 - rho * rho).sqrt();
    p.discount()
        * expect(-9.0, 9.0, |z| {
            let one = p.forward(0, t) * (-0.5 * v1 * v1 * t + v1 * t.sqrt() * z).exp();
            let other = p.forward(1, t) * (-0.5 * v2 * v2 * t * rho * rho + v2 * t.sqrt() * rho * z).exp();
            let strike = p.strike - weights[0] * one;
            if weights[1] > 0.0 {
                black(weights[1] * other, v2 * t.sqrt() * rest, strike, p.sign)
            } else {
                // Minus a lognormal level against a strike is the opposite option the other way round.
                black(-weights[1] * other, v2 * t.sqrt() * rest, -strike, -p.sign)
            }
        })
}

/// A product of two assets to the power of their weights is lognormal.
pub(super) fn product_of_two(p: &Point, weights: [f64; 2]) -> f64 {
    let t = p.time();
    let mean: f64 = (0..2)
        .map(|i| {
            let v = p.volatility[i];
            weights[i] * (p.spot[i].ln() + (p.rate - p.dividend_yield[i] - 0.5 * v * v) * t)
        })
        .sum();
    let [a, b] = [weights[0] * p.volatility[0], weights[1] * p.volatility[1]];
    let variance = (a * a + b * b + 2.0 * p.correlation * a * b) * t;
    p.discount() * black((mean + 0.5 * variance).exp(), variance.sqrt(), p.strike, p.sign)
}

/// A call on the lower of two prices (Stulz 1982): given the first, the second must lie above it or above the strike.
pub(super) fn call_on_the_lower(p: &Point) -> f64 {
    let (t, rho) = (p.time(), p.correlation);
    let [v1, v2] = p.volatility;
    let rest = v2 * ((1.0 - rho * rho) * t).sqrt();
    let from = ((p.strike / p.forward(0, t)).ln() + 0.5 * v1 * v1 * t) / (v1 * t.sqrt());
    p.discount()
        * expect(from, 9.0, |z| {
            let one = p.forward(0, t) * (-0.5 * v1 * v1 * t + v1 * t.sqrt() * z).exp();
            let other = p.forward(1, t) * (-0.5 * v2 * v2 * t * rho * rho + v2 * t.sqrt() * rho * z).exp();
            black(other, rest, p.strike, 1.0) - black(other, rest, one, 1.0)
        })
}

/// A call on the higher of two prices: both calls together, less that on the lower (Stulz 1982).
pub(super) fn call_on_the_higher(p: &Point) -> f64 {
    let second = Point {
        spot: [p.spot[1]; 2],
        volatility: [p.volatility[1]; 2],
        dividend_yield: [p.dividend_yield[1]; 2],
        ..*p
    };
    european(p) + european(&second) - call_on_the_lower(p)
}

/// The formula of an average.
pub(super) fn asian(averaging: Averaging, observations: u32) -> Formula {
    match averaging {
        Averaging::Geometric => Box::new(move |p| geometric_asian(p, observations)),
        Averaging::Arithmetic => {
            assert_eq!(observations, 2);
            Box::new(arithmetic_asian_of_two)
        }
    }
}

/// The formula of a basket of two.
pub(super) fn basket(basket_type: BasketType, weights: [f64; 2]) -> Formula {
    match basket_type {
        BasketType::WeightedSum => Box::new(move |p| sum_of_two(p, weights)),
        BasketType::Geometric => Box::new(move |p| product_of_two(p, weights)),
        BasketType::BestOf => Box::new(call_on_the_higher),
        BasketType::WorstOf => Box::new(call_on_the_lower),
    }
}
