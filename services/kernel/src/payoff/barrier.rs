//! Barrier options: the price at maturity, if the price touched a barrier before, or if it did not.
//!
//! At dates the payoff jumps at the barrier, so every Greek is by the likelihood ratio: the payoff times the derivative
//! of the logarithm of the path's density. Continuously, one step to maturity is exact: whether the path between both
//! ends touched the barrier has a closed form (the Brownian bridge's), which makes the payoff continuous, so that
//! delta, vega, rho and theta are pathwise, and gamma the likelihood ratio's derivative of delta.

use super::{Common, Rules};
use crate::{
    montecarlo::{
        draws::Draws,
        elementary::{exp, ln},
        level::{self, LIGHT},
        model::{Asset, Model, Shape, Terms, Workspace},
        normal::BLOCK,
        search,
    },
    pricing::{
        market::Market,
        parameters::{AMOUNT_MAX, OBSERVATIONS_MAX},
        reader::{Cell, Field, Fields},
    },
};

/// By how many standard deviations of a step the barrier that is monitored at dates is moved: minus zeta(1/2) divided
/// by the root of two pi (Broadie, Glasserman and Kou, A continuity correction for discrete barrier options, 1997).
const SHIFT: f64 = 0.582_597_157_939_010_7;
/// By how much more the barrier is moved to see how wrong that is, times the root of the number of dates; measured in
/// the tests.
const SHIFT_ERROR: f64 = 0.35;
/// How far away a barrier that stands for dates must be, in standard deviations of the time between two of them.
const STEPS_MIN: f64 = 2.0;
/// Least number of dates that a barrier can stand for.
const SHIFTED_MIN: u32 = 12;

const FIELDS: [Field; 4] = [
    Field("barrier", Cell::Number),
    Field("barrier_type", Cell::Text),
    Field("monitoring", Cell::Text),
    Field("observations", Cell::Number),
];

/// An option with a barrier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Barrier {
    /// Price that counts as touched.
    pub level: f64,
    /// From where it is touched, and what for.
    pub barrier_type: BarrierType,
    /// When it is checked.
    pub monitoring: Monitoring,
}

/// From where a barrier is touched, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierType {
    /// Whether it is touched from below.
    pub up: bool,
    /// Whether the option pays only if it was touched; else only if not.
    pub knock_in: bool,
}

impl BarrierType {
    const WORDS: [(&'static str, Self); 4] = [
        ("up-and-out", Self { up: true, knock_in: false }),
        ("up-and-in", Self { up: true, knock_in: true }),
        ("down-and-out", Self { up: false, knock_in: false }),
        ("down-and-in", Self { up: false, knock_in: true }),
    ];
}

/// When a barrier is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Monitoring {
    /// At equally spaced dates, the last one at maturity.
    Discrete {
        /// Number of dates.
        observations: u32,
    },
    /// Always.
    Continuous,
    /// As if always, at a barrier that was moved to stand for dates.
    Shifted {
        /// Number of dates.
        observations: u32,
    },
}

/// A word for [`Monitoring`].
#[derive(Clone, Copy)]
enum Word {
    Discrete,
    Continuous,
    Shifted,
}

impl Word {
    const WORDS: [(&'static str, Self); 3] =
        [("discrete", Self::Discrete), ("continuous", Self::Continuous), ("shifted", Self::Shifted)];
}

impl Rules for Barrier {
    const NAME: &'static str = "barrier";
    const FIELDS: &'static [Field] = &FIELDS;

    fn read(fields: &mut Fields<'_, '_>, common: Common<'_>, market: &mut Market<'_>) -> Option<Self> {
        let [level, barrier_type, monitoring_field, observations] = FIELDS.map(|Field(name, _)| name);
        let level = fields.positive(level, AMOUNT_MAX);
        let barrier_type = fields.choice(barrier_type, &BarrierType::WORDS);
        let monitoring = match fields.choice(monitoring_field, &Word::WORDS) {
            Some(Word::Continuous) => Some(Monitoring::Continuous),
            Some(Word::Discrete) => {
                market.observations(fields, observations).map(|observations| Monitoring::Discrete { observations })
            }
            Some(Word::Shifted) => fields
                .integer(observations, 1, OBSERVATIONS_MAX)
                .map(|observations| Monitoring::Shifted { observations: observations as u32 }),
            None => {
                fields.optional_integer(observations, 1, OBSERVATIONS_MAX);
                None
            }
        };
        let barrier = Self { level: level?, barrier_type: barrier_type?, monitoring: monitoring? };
        if let (Some(&[number]), Some(maturity)) = (common.underlyings, common.maturity)
            && let Some(asset) = market.asset(number)
            && !barrier.is_approximated(asset, maturity)
        {
            let message = format!(
                "expected a barrier further than {STEPS_MIN} standard deviations of a step from the spot price, and \
                 {SHIFTED_MIN} observations or more: the approximation \"shifted\" does not hold here; use \"discrete\""
            );
            fields.reject(monitoring_field, message);
        }
        Some(barrier)
    }

    fn model(&self, terms: Terms, assets: Vec<Asset>) -> Model {
        let asset = assets[0];
        let Terms { strike, sign, maturity, .. } = terms;
        let BarrierType { up, knock_in } = self.barrier_type;
        let side = if up { 1.0 } else { -1.0 };
        let height = ln(self.level / asset.spot);
        if !asset.moves(maturity) {
            return Model::new(Box::new(Still { asset, is_paid: self.is_touched(asset, maturity) == knock_in }), terms);
        }
        let continuous = |shift: f64| -> Box<dyn Shape> {
            let height = height + shift * asset.volatility;
            Box::new(Continuous { asset, side, height, shift, knock_in })
        };
        let (shape, other, lines) = match self.monitoring {
            Monitoring::Discrete { observations } => {
                let discrete = Discrete { asset, steps: observations, side, height, knock_in };
                let lines = lines(&terms, &discrete);
                (Box::new(discrete) as Box<dyn Shape>, None, lines)
            }
            Monitoring::Continuous => (continuous(0.0), None, vec![vec![1.0]]),
            Monitoring::Shifted { observations } => {
                let root = f64::from(observations).sqrt();
                let step = side * maturity.sqrt() / root;
                (continuous(SHIFT * step), Some(continuous((SHIFT + SHIFT_ERROR / root) * step)), vec![vec![1.0]])
            }
        };
        let mut model = Model::new(shape, terms);
        // Nothing is paid if it was touched already, or if what pays at maturity lies on the wrong side.
        let is_touched_now = side * height <= 0.0 && !matches!(self.monitoring, Monitoring::Discrete { .. });
        let is_beyond = side * (self.level - strike) <= 0.0;
        model.is_nothing = match (knock_in, self.monitoring) {
            (false, _) => is_touched_now || sign == side && is_beyond,
            (true, Monitoring::Discrete { observations: 1 }) => sign != side && !is_beyond,
            (true, _) => false,
        } || self.is_out_of_reach(asset, &terms);
        if model.is_nothing {
            return model;
        }
        model.other = other;
        let deviation = asset.deviation(maturity);
        let middle = ln(asset.forward(maturity) / strike) / deviation;
        let far = side * height / deviation;
        let is_near = if knock_in { far <= 1.0 } else { far >= 0.3 };
        if !(deviation <= LIGHT && middle.abs() <= 1.0 && is_near) {
            model.proposal = search::proposal(&*model.shape, &terms, &lines, sign > 0.0 && deviation > LIGHT);
        }
        model
    }
}

impl Barrier {
    /// Whether what is computed instead of dates is near to them, where it is.
    fn is_approximated(&self, asset: Asset, maturity: f64) -> bool {
        let Monitoring::Shifted { observations } = self.monitoring else { return true };
        let step = asset.deviation(maturity / f64::from(observations));
        let far = ln(self.level / asset.spot) * if self.barrier_type.up { 1.0 } else { -1.0 };
        !asset.moves(maturity) || observations >= SHIFTED_MIN && far > STEPS_MIN * step
    }

    /// Whether the price never comes as far as it must: to the strike, to a barrier that must be touched and from there
    /// to the strike, or at the first date back over a barrier that it must not touch.
    fn is_out_of_reach(&self, asset: Asset, terms: &Terms) -> bool {
        let Terms { strike, sign, maturity, .. } = *terms;
        let BarrierType { up, knock_in } = self.barrier_type;
        let side = if up { 1.0 } else { -1.0 };
        let (to_strike, to_barrier) = (sign * ln(strike / asset.spot), side * ln(self.level / asset.spot));
        // Paths weighted by their price, as those of a call are, drift by the variance more.
        let weighted = if sign > 0.0 { asset.volatility * asset.volatility } else { 0.0 };
        let never = |distance: f64, toward: f64, years: f64| {
            let drift = f64::max(toward * asset.drift, toward * (asset.drift + weighted)).max(0.0);
            distance - drift * years > search::NEVER * asset.deviation(years)
        };
        let far = match self.monitoring {
            _ if knock_in => {
                let back = to_barrier + (to_barrier + to_strike).max(0.0);
                never(to_barrier, side, maturity)
                    || sign != side && to_barrier > 0.0 && never(back, side, maturity) && never(back, -side, maturity)
            }
            Monitoring::Discrete { observations } => never(-to_barrier, -side, maturity / f64::from(observations)),
            Monitoring::Continuous | Monitoring::Shifted { .. } => false,
        };
        far || never(to_strike, sign, maturity)
    }

    /// Whether a price without volatility touches the barrier.
    fn is_touched(&self, asset: Asset, maturity: f64) -> bool {
        let first = match self.monitoring {
            Monitoring::Continuous => 0.0,
            Monitoring::Discrete { observations } | Monitoring::Shifted { observations } => {
                maturity / f64::from(observations)
            }
        };
        [first, maturity].into_iter().any(|years| {
            let price = asset.forward(years);
            if self.barrier_type.up { price >= self.level } else { price <= self.level }
        })
    }
}

/// Lines along which paths come to the barrier at maturity, or to the barrier on their way and then to the strike.
fn lines(terms: &Terms, discrete: &Discrete) -> Vec<Vec<f64>> {
    let Discrete { asset, side, height, knock_in, .. } = *discrete;
    let steps = discrete.steps as usize;
    let mut lines = vec![vec![1.0; steps]];
    if knock_in && terms.sign != side {
        let end = ln(terms.strike / asset.spot) - asset.drift * terms.maturity;
        for eighth in 1..8 {
            let turn = (steps * eighth / 8).max(1);
            let midway = height - asset.drift * terms.maturity * turn as f64 / steps as f64;
            // From there to the strike, if it is not there by itself.
            let back = if terms.sign > 0.0 { (end - midway).max(0.0) } else { (end - midway).min(0.0) };
            let step = |number| if number < turn { midway / turn as f64 } else { back / (steps - turn) as f64 };
            lines.push((0..steps).map(step).collect());
        }
    }
    lines.retain(|line| line.iter().any(|entry| *entry != 0.0));
    for line in &mut lines {
        let length = line.iter().map(|entry| entry * entry).sum::<f64>().sqrt();
        line.iter_mut().for_each(|entry| *entry /= length);
    }
    lines.dedup();
    lines
}

/// The one path of a price without volatility.
#[derive(Debug)]
struct Still {
    asset: Asset,
    is_paid: bool,
}

impl Shape for Still {
    fn draws(&self) -> usize {
        1
    }

    fn evaluate(&self, terms: &Terms, _: &mut Draws<'_>, _: &[usize], space: &mut Workspace) {
        space.fit(6, level::SCRATCH);
        let [_, first, _, relative, by_volatility, by_rate, ..] = &mut space.scratch[..] else { return };
        let grown = self.asset.forward(terms.maturity) / self.asset.spot;
        first.fill(0.0);
        relative.fill(grown);
        by_volatility.fill(0.0);
        by_rate.fill(grown * terms.maturity);
        level::pay(terms, Asset { volatility: 0.0, ..self.asset }, terms.maturity, true, space);
        if !self.is_paid {
            space.lanes.iter_mut().for_each(|lane| lane.fill(0.0));
        }
    }
}

/// Monitored at equally spaced dates.
#[derive(Debug)]
struct Discrete {
    /// Underlying.
    asset: Asset,
    /// Dates, the last one at maturity.
    steps: u32,
    /// 1 for a barrier above, -1 for one below.
    side: f64,
    /// Logarithm of the barrier divided by the spot price.
    height: f64,
    /// Pays only if the barrier was touched; else only if not.
    knock_in: bool,
}

/// Monitored continuously.
#[derive(Debug)]
struct Continuous {
    /// Underlying.
    asset: Asset,
    /// 1 for a barrier above, -1 for one below.
    side: f64,
    /// Logarithm of the barrier divided by the spot price, moved outwards for dates.
    height: f64,
    /// By how much it was moved for each unit of volatility.
    shift: f64,
    /// Pays only if the barrier was touched; else only if not.
    knock_in: bool,
}

impl Shape for Discrete {
    fn draws(&self) -> usize {
        self.steps as usize
    }

    fn jumps(&self) -> bool {
        true
    }

    fn evaluate(&self, terms: &Terms, draws: &mut Draws<'_>, wanted: &[usize], space: &mut Workspace) {
        let greeks = wanted.len() > 1;
        space.fit(6, 6);
        let [normals, first, sum, furthest, squares, ..] = &mut space.scratch[..] else { return };
        let Asset { spot, volatility, drift } = self.asset;
        let step = terms.maturity / f64::from(self.steps);
        let root = step.sqrt();
        let (per_step, deviation) = (drift * step * self.side, volatility * root * self.side);
        sum.fill(0.0);
        squares.fill(0.0);
        furthest.fill(f64::NEG_INFINITY);
        for number in 0..self.steps {
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
        let Terms { strike, sign, maturity, rate, discount, .. } = *terms;
        let (years, barrier) = (drift * maturity, self.side * self.height);
        for path in 0..BLOCK {
            let gain = sign * (spot * exp(years + volatility * root * sum[path]) - strike);
            let touched = furthest[path] >= barrier;
            price[path] = if gain > 0.0 && touched == self.knock_in { gain * discount } else { 0.0 };
        }
        if !greeks {
            return;
        }
        let steps = f64::from(self.steps);
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
}

impl Shape for Continuous {
    fn draws(&self) -> usize {
        1
    }

    fn evaluate(&self, terms: &Terms, draws: &mut Draws<'_>, _: &[usize], space: &mut Workspace) {
        space.fit(6, 1);
        let [normals, ..] = &mut space.scratch[..] else { return };
        draws.take(0, normals);
        let [price, delta, gamma, vega, rho, theta] = &mut space.lanes[..6] else { return };
        let Terms { strike, sign, maturity, rate, discount, .. } = *terms;
        let Asset { spot, volatility, drift } = self.asset;
        let (b, root) = (self.height, maturity.sqrt());
        let variance = volatility * volatility * maturity;
        let deviation = volatility * root;
        let touched_now = self.side * b <= 0.0;
        let direction = if self.knock_in { 1.0 } else { -1.0 };
        for path in 0..BLOCK {
            let z = normals[path];
            let x = drift * maturity + deviation * z;
            let relative = exp(x);
            let gain = sign * (spot * relative - strike);
            let pays = gain > 0.0;
            let paid = if pays { gain * discount } else { 0.0 };
            let slope = if pays { sign * discount * relative } else { 0.0 };
            // The chance that a path between these ends touches the barrier, and derivatives of its logarithm.
            let beyond = touched_now || self.side * (b - x) <= 0.0;
            let exponent = -2.0 * b * (b - x) / variance;
            let touch = if beyond { 1.0 } else { exp(exponent) };
            let chance = if self.knock_in { touch } else { 1.0 - touch };
            // What the payoff changes by with the logarithm of the chance.
            let swing = if beyond { 0.0 } else { direction * paid * touch };
            let turn = if beyond { 0.0 } else { direction * slope * touch };
            let (by_end, by_both) = (2.0 * (b - x) / variance, 2.0 * (b - x + b) / variance);
            let by_x = 2.0 * b / variance;
            price[path] = paid * chance;
            let first = slope * chance + swing * by_both / spot;
            delta[path] = first;
            let explicit =
                turn * by_end - slope * chance + swing * (by_end * by_both - by_both - 2.0 / variance) / spot;
            gamma[path] = (first * z / deviation + explicit) / spot;
            let moved = root * z - volatility * maturity;
            let by_volatility = by_x * moved - 2.0 * exponent / volatility - self.shift * 2.0 * (b - x + b) / variance;
            vega[path] = slope * spot * moved * chance + swing * by_volatility;
            rho[path] = slope * spot * maturity * chance + swing * by_x * maturity - maturity * price[path];
            let drifted = drift + 0.5 * volatility * z / root;
            let by_time = by_x * drifted - exponent / maturity;
            theta[path] = rate * price[path] - slope * spot * drifted * chance - swing * by_time;
        }
    }
}
