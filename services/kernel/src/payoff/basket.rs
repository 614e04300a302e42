//! Options on a level made of the prices of several underlyings at maturity, with correlated Brownian motions.
//!
//! The payoff is continuous in the prices, so delta, vega, rho and theta are pathwise; gamma is the likelihood ratio's
//! derivative of the pathwise delta, by the spot price of the same underlying.

use super::{Common, Rules};
use crate::{
    montecarlo::{
        correlation::Factor,
        draws::{Draws, Lane},
        elementary::{exp, ln},
        normal::BLOCK,
        plan::{Asset, Shape, Terms, Workspace},
    },
    pricing::{
        book::AMOUNT_MAX,
        market::{BASKET_MAX, Market},
        reader::{Cell, Field, Fields},
    },
};

const FIELDS: [Field; 3] =
    [Field("underlyings", Cell::Texts), Field("weights", Cell::Numbers), Field("basket_type", Cell::Text)];

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
        market.check_moving(fields, common);
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

    fn shape(&self, _: &Terms, assets: Vec<Asset>) -> Box<dyn Shape> {
        Box::new(Level { assets, basket: self.clone() })
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

        let Terms { strike, sign, maturity, rate, discount } = *terms;
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
            for path in 0..BLOCK {
                let (exposed, walk) = (level[path] * exposures[i][path], walks[i][path]);
                let delta = exposed / spot;
                deltas[i][path] = delta;
                gammas[i][path] = delta * (normals[i][path] / (volatility * root) - 1.0) / spot;
                vegas[i][path] = exposed * (root * walk - volatility * maturity);
                rho[path] += exposed * maturity;
                theta[path] -= exposed * (drift + 0.5 * volatility * walk / root);
            }
        }
    }
}

impl Level {
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

    /// Replaces the independent normals by the correlation matrix's inverse times the correlated ones. Where there is no
    /// inverse nobody asked for what it is needed for.
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
