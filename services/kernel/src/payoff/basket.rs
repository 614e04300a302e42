//! Options on a level made of the prices of several underlyings at maturity, with correlated Brownian motions.
//!
//! The payoff is continuous in the prices, so delta, vega, rho and theta are pathwise; gamma is the likelihood ratio's
//! derivative of the pathwise delta, by the spot price of the same underlying.

use super::{Common, Rules};
use crate::{
    montecarlo::{
        correlation::Factor,
        draws::Draws,
        elementary::{exp, ln},
        level::LIGHT,
        model::{Asset, Model, Shape, Terms, Workspace},
        normal::{BLOCK, Lane},
        search,
    },
    pricing::{
        market::{BASKET_MAX, Market},
        parameters::AMOUNT_MAX,
        reader::{Cell, Field, Fields},
    },
};

const FIELDS: [Field; 3] =
    [Field("underlyings", Cell::Texts), Field("weights", Cell::Numbers), Field("basket_type", Cell::Text)];

/// Standard deviations that no price moves by in a sum: the chance is 1e-50.
const NEVER: f64 = 15.0;
/// Sweeps over the underlyings that search the nearest normals.
const SWEEPS: usize = 100;
/// Most underlyings whose own lines are searched for paths that pay.
const LINES_MAX: usize = 16;

/// An option on several underlyings.
#[derive(Clone, Debug, PartialEq)]
pub struct Basket {
    /// How the prices make one level.
    pub basket_type: BasketType,
    /// Weight of each.
    pub weights: Vec<f64>,
    /// Factor of their correlation matrix.
    pub factor: Factor,
}

/// How several prices make one level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasketType {
    /// Sum of the weighted prices.
    WeightedSum,
    /// Product of the prices to the power of their weights.
    Geometric,
    /// Highest weighted price.
    BestOf,
    /// Lowest weighted price.
    WorstOf,
}

impl BasketType {
    const WORDS: [(&'static str, Self); 4] = [
        ("weighted-sum", Self::WeightedSum),
        ("geometric", Self::Geometric),
        ("best-of", Self::BestOf),
        ("worst-of", Self::WorstOf),
    ];
}

impl Rules for Basket {
    const NAME: &'static str = "basket";
    const FIELDS: &'static [Field] = &FIELDS;
    const SEVERAL: bool = true;

    fn underlyings(fields: &mut Fields<'_, '_>, market: &Market<'_>) -> Option<Vec<usize>> {
        let [underlyings, ..] = FIELDS.map(|Field(name, _)| name);
        market.underlyings(fields, underlyings)
    }

    fn read(fields: &mut Fields<'_, '_>, common: Common<'_>, market: &mut Market<'_>) -> Option<Self> {
        let [field, weights, basket_type] = FIELDS.map(|Field(name, _)| name);
        let list = fields.numbers(weights, BASKET_MAX, -AMOUNT_MAX, AMOUNT_MAX);
        let basket_type = fields.choice(basket_type, &BasketType::WORDS);
        let underlyings = common.underlyings?;
        if let Some(message) = market.check_gamma(underlyings, common.maturity) {
            fields.reject(field, message);
        }
        if let Some(list) = &list
            && list.len() != underlyings.len()
        {
            let message =
                format!("expected one for each of the {} underlyings, found {}", underlyings.len(), list.len());
            fields.reject(weights, message);
            return None;
        }
        let factor = market.factor(underlyings).map_err(|message| fields.reject(field, message)).ok()?;
        Some(Self { basket_type: basket_type?, weights: list?, factor })
    }

    fn model(&self, terms: Terms, assets: Vec<Asset>) -> Model {
        let level = Level { assets, basket: self.clone() };
        let is_nothing = level.is_nothing(&terms);
        let is_heavy = level.assets.iter().any(|asset| asset.deviation(terms.maturity) > LIGHT);
        let lines = if is_nothing { Vec::new() } else { level.lines(&terms, is_heavy) };
        let proposal = search::proposal(&level, &terms, &lines, is_heavy);
        Model { proposal, is_nothing, ..Model::new(Box::new(level), terms) }
    }
}

/// The level at maturity.
#[derive(Debug)]
struct Level {
    assets: Vec<Asset>,
    basket: Basket,
}

impl Shape for Level {
    fn draws(&self) -> usize {
        self.assets.len()
    }

    fn is_path(&self) -> bool {
        false
    }

    fn is_decided_by_one(&self) -> bool {
        matches!(self.basket.basket_type, BasketType::BestOf | BasketType::WorstOf)
    }

    fn evaluate(&self, terms: &Terms, draws: &mut Draws<'_>, wanted: &[usize], space: &mut Workspace) {
        let greeks = wanted.len() > 1;
        let count = self.assets.len();
        space.fit(3 + 3 * count, 3 * count + 2);
        let (normals, rest) = space.scratch.split_at_mut(count);
        let (walks, rest) = rest.split_at_mut(count);
        // Exposures: how much the level changes when the logarithm of an underlying's price does.
        let (exposures, rest) = rest.split_at_mut(count);
        let [level, best, ..] = rest else { return };
        for (number, normal) in (0_u32..).zip(normals.iter_mut()) {
            draws.take(number, normal);
        }
        let root = terms.maturity.sqrt();
        for (i, walk) in walks.iter_mut().enumerate() {
            walk.fill(0.0);
            for (entry, normal) in self.basket.factor.rows[i].iter().zip(normals.iter()) {
                for path in 0..BLOCK {
                    walk[path] += entry * normal[path];
                }
            }
        }
        self.compose(terms.maturity, walks, exposures, level, best);

        let Terms { strike, sign, maturity, rate, discount, .. } = *terms;
        let (price, lanes) = space.lanes.split_at_mut(1);
        for path in 0..BLOCK {
            let gain = sign * (level[path] - strike);
            price[0][path] = if gain > 0.0 { gain * discount } else { 0.0 };
            // From here on the level holds the payoff's derivative by it.
            level[path] = if gain > 0.0 { sign * discount } else { 0.0 };
        }
        if !greeks {
            return;
        }
        self.solve(normals);
        let (deltas, lanes) = lanes.split_at_mut(count);
        let (gammas, lanes) = lanes.split_at_mut(count);
        let (vegas, lanes) = lanes.split_at_mut(count);
        let [rho, theta, ..] = lanes else { return };
        for path in 0..BLOCK {
            rho[path] = -maturity * price[0][path];
            theta[path] = rate * price[0][path];
        }
        for (i, asset) in self.assets.iter().enumerate() {
            let Asset { spot, volatility, drift } = *asset;
            let wobble = if root > 0.0 { 0.5 * volatility / root } else { 0.0 };
            // Without volatility there is one path, along which only a product is curved.
            let moves = asset.moves(maturity);
            let score = if moves { 1.0 / (volatility * root) } else { 0.0 };
            let curve = match self.basket.basket_type {
                BasketType::Geometric => self.basket.weights[i] - 1.0,
                BasketType::WeightedSum | BasketType::BestOf | BasketType::WorstOf => 0.0,
            };
            for path in 0..BLOCK {
                let (exposed, walk) = (level[path] * exposures[i][path], walks[i][path]);
                let delta = exposed / spot;
                deltas[i][path] = delta;
                gammas[i][path] = delta * (if moves { normals[i][path] * score - 1.0 } else { curve }) / spot;
                vegas[i][path] = exposed * (root * walk - volatility * maturity);
                rho[path] += exposed * maturity;
                theta[path] -= exposed * (drift + wobble * walk);
            }
        }
    }
}

impl Level {
    /// Whether nothing is paid, even if every price moves by more standard deviations than any ever does.
    fn is_nothing(&self, terms: &Terms) -> bool {
        let Basket { basket_type, weights, .. } = &self.basket;
        let call = terms.sign > 0.0;
        // The weighted prices at their best for the option.
        let best = self.assets.iter().zip(weights).map(|(asset, weight)| {
            let up = if (*weight > 0.0) == call { NEVER } else { -NEVER };
            weight * asset.forward(terms.maturity) * exp(up * asset.deviation(terms.maturity))
        });
        let pays = |level: f64| terms.sign * (level - terms.strike) > 0.0;
        match basket_type {
            BasketType::WeightedSum => !pays(best.sum()),
            BasketType::Geometric if terms.strike == 0.0 => !call,
            BasketType::Geometric => {
                let middle =
                    self.assets.iter().zip(weights).map(|(asset, weight)| weight * asset.median(terms.maturity));
                let distance = terms.sign * (ln(terms.strike) - middle.sum::<f64>());
                let deviation = length(&self.most(terms.maturity));
                // Paths weighted by their price, as those of a call are, are a deviation further.
                distance - if call { deviation * deviation } else { 0.0 } > search::NEVER * deviation
            }
            BasketType::BestOf => !pays(best.fold(f64::NEG_INFINITY, f64::max)) || !call && self.is_never_all(terms),
            BasketType::WorstOf => !pays(best.fold(f64::INFINITY, f64::min)) || call && self.is_never_all(terms),
        }
    }

    /// Whether no correlated prices are all beyond the strike, as the best of a put's and the worst of a call's must be:
    /// the nearest normals that make them so are further away than any ever are. What is found here is less than their
    /// distance (Hildreth, A quadratic programming procedure, 1957).
    fn is_never_all(&self, terms: &Terms) -> bool {
        let Basket { weights, factor, .. } = &self.basket;
        let (sign, maturity) = (terms.sign, terms.maturity);
        // Each price is far enough when the product of its line and the normals is more than its distance.
        let wanted: Vec<(Vec<f64>, f64)> = (self.assets.iter().zip(weights).zip(&factor.rows))
            .filter(|((_, weight), _)| **weight > 0.0 && terms.strike > 0.0)
            .map(|((asset, weight), row)| {
                let line = row.iter().map(|entry| sign * asset.deviation(maturity) * entry).collect();
                (line, sign * (ln(terms.strike / weight) - asset.median(maturity)))
            })
            .collect();
        let mut point = vec![0.0; self.assets.len()];
        let mut multipliers = vec![0.0; wanted.len()];
        for _ in 0..SWEEPS {
            for ((line, distance), multiplier) in wanted.iter().zip(&mut multipliers) {
                let square = line.iter().map(|entry| entry * entry).sum::<f64>();
                let left = distance - line.iter().zip(&point).map(|(entry, at)| entry * at).sum::<f64>();
                let step = f64::max(left / square, -*multiplier);
                if square > 0.0 {
                    *multiplier += step;
                    line.iter().zip(&mut point).for_each(|(entry, at)| *at += entry * step);
                }
            }
        }
        let reached: f64 =
            wanted.iter().zip(&multipliers).map(|((_, distance), multiplier)| distance * multiplier).sum();
        let square = 2.0 * reached - point.iter().map(|at| at * at).sum::<f64>();
        let most =
            self.assets.iter().map(|asset| asset.deviation(maturity)).fold(NEVER, |most, one| most.max(NEVER + one));
        square > most * most
    }

    /// The line along which the level moves most, or its logarithm if it is a product.
    fn most(&self, maturity: f64) -> Vec<f64> {
        let mut most = vec![0.0; self.assets.len()];
        for ((asset, weight), row) in self.assets.iter().zip(&self.basket.weights).zip(&self.basket.factor.rows) {
            let part = if self.basket.basket_type == BasketType::Geometric { 1.0 } else { asset.forward(maturity) };
            let moved = weight * part * asset.deviation(maturity);
            most.iter_mut().zip(row).for_each(|(most, entry)| *most += moved * entry);
        }
        most
    }

    /// Lines along which the level moves: that along which it moves most, and that of each underlying where one alone
    /// may decide; none near the money.
    fn lines(&self, terms: &Terms, is_heavy: bool) -> Vec<Vec<f64>> {
        let Basket { basket_type, weights, factor } = &self.basket;
        let maturity = terms.maturity;
        // What each weighted price is and by how much it moves, and what the level is.
        let parts: Vec<(f64, f64)> = (self.assets.iter().zip(weights))
            .map(|(asset, weight)| match basket_type {
                BasketType::Geometric => (weight * ln(asset.forward(maturity)), weight * asset.deviation(maturity)),
                _ => (weight * asset.forward(maturity), weight * asset.forward(maturity) * asset.deviation(maturity)),
            })
            .collect();
        let count = parts.len();
        let most = self.most(maturity);
        let sum = parts.iter().map(|(part, _)| part).sum::<f64>();
        let pays = |(part, moved): &(f64, f64)| terms.sign * (part - terms.strike) >= -moved.abs();
        let is_near = match (basket_type, terms.sign > 0.0) {
            (BasketType::WeightedSum, _) => pays(&(sum, length(&most))),
            (BasketType::Geometric, _) => {
                terms.strike == 0.0 || terms.sign * (sum - ln(terms.strike)) >= -length(&most)
            }
            (BasketType::BestOf, true) | (BasketType::WorstOf, false) => parts.iter().any(pays),
            (BasketType::BestOf, false) | (BasketType::WorstOf, true) => parts.iter().all(pays),
        };
        if is_near && !is_heavy {
            return Vec::new();
        }
        let mut lines = vec![most];
        if *basket_type != BasketType::Geometric {
            let mut order: Vec<usize> = (0..count).collect();
            order.sort_by(|one, other| parts[*other].1.abs().total_cmp(&parts[*one].1.abs()));
            lines.extend(order.into_iter().take(LINES_MAX).map(|number| {
                let mut line = factor.rows[number].clone();
                line.resize(count, 0.0);
                line
            }));
        }
        lines.retain(|line| length(line) > 0.0);
        lines.iter().map(|line| line.iter().map(|entry| entry / length(line)).collect()).collect()
    }

    /// The level and the exposures from the correlated normals.
    fn compose(&self, maturity: f64, walks: &[Lane], exposures: &mut [Lane], level: &mut Lane, best: &mut Lane) {
        let root = maturity.sqrt();
        let extreme = match self.basket.basket_type {
            BasketType::WeightedSum | BasketType::Geometric => 0.0,
            BasketType::BestOf => 1.0,
            BasketType::WorstOf => -1.0,
        };
        level.fill(if extreme == 0.0 { 0.0 } else { f64::NEG_INFINITY });
        best.fill(0.0);
        for (i, (asset, weight)) in self.assets.iter().zip(&self.basket.weights).enumerate() {
            let (moved, deviation) = (asset.drift * maturity, asset.volatility * root);
            let spot = ln(asset.spot);
            let exposure = &mut exposures[i];
            for path in 0..BLOCK {
                let x = moved + deviation * walks[i][path];
                if self.basket.basket_type == BasketType::Geometric {
                    level[path] += weight * (spot + x);
                } else {
                    exposure[path] = weight * asset.spot * exp(x);
                }
            }
            if self.basket.basket_type == BasketType::WeightedSum {
                for path in 0..BLOCK {
                    level[path] += exposure[path];
                }
            }
            if extreme != 0.0 {
                for path in 0..BLOCK {
                    let better = extreme * exposure[path] > level[path];
                    level[path] = if better { extreme * exposure[path] } else { level[path] };
                    best[path] = if better { i as f64 } else { best[path] };
                }
            }
        }
        match self.basket.basket_type {
            BasketType::WeightedSum => {}
            BasketType::Geometric => {
                level.iter_mut().for_each(|level| *level = exp(*level));
                for (exposure, weight) in exposures.iter_mut().zip(&self.basket.weights) {
                    for path in 0..BLOCK {
                        exposure[path] = weight * level[path];
                    }
                }
            }
            BasketType::BestOf | BasketType::WorstOf => {
                level.iter_mut().for_each(|level| *level *= extreme);
                for (i, exposure) in exposures.iter_mut().enumerate() {
                    for path in 0..BLOCK {
                        exposure[path] = if best[path] == i as f64 { exposure[path] } else { 0.0 };
                    }
                }
            }
        }
    }

    /// Replaces the independent normals by the correlation matrix's inverse times the correlated ones. Where there is
    /// no inverse nobody asked for what it is needed for.
    fn solve(&self, normals: &mut [Lane]) {
        if !self.basket.factor.definite {
            return;
        }
        let rows = &self.basket.factor.rows;
        for i in (0..normals.len()).rev() {
            let (before, after) = normals.split_at_mut(i + 1);
            let own = &mut before[i];
            for (k, solved) in after.iter().enumerate() {
                let entry = rows[i + 1 + k][i];
                for path in 0..BLOCK {
                    own[path] -= entry * solved[path];
                }
            }
            let pivot = 1.0 / rows[i][i];
            own.iter_mut().for_each(|value| *value *= pivot);
        }
    }
}

fn length(line: &[f64]) -> f64 {
    line.iter().map(|entry| entry * entry).sum::<f64>().sqrt()
}
