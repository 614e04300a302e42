//! Asian options: the average of the price over equally spaced observations, the last one at maturity.

use super::{Common, Rules};
use crate::{
    montecarlo::{
        draws::Draws,
        elementary::exp,
        level::{self, Law},
        model::{Asset, Model, Shape, Terms, Workspace},
        normal::{BLOCK, Lane},
    },
    pricing::{
        market::Market,
        reader::{Cell, Field, Fields},
    },
};

const FIELDS: [Field; 2] = [Field("averaging", Cell::Text), Field("observations", Cell::Number)];

/// An option on an average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asian {
    /// How the price is averaged.
    pub averaging: Averaging,
    /// Number of observations.
    pub observations: u32,
}

/// How a price is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Averaging {
    /// Sum divided by count.
    Arithmetic,
    /// Root of the product.
    Geometric,
}

impl Averaging {
    const WORDS: [(&'static str, Self); 2] = [("arithmetic", Self::Arithmetic), ("geometric", Self::Geometric)];
}

impl Rules for Asian {
    const NAME: &'static str = "asian";
    const FIELDS: &'static [Field] = &FIELDS;

    fn read(fields: &mut Fields<'_, '_>, _: Common<'_>, market: &mut Market<'_>) -> Option<Self> {
        let [averaging, observations] = FIELDS.map(|Field(name, _)| name);
        let averaging = fields.choice(averaging, &Averaging::WORDS);
        let observations = market.observations(fields, observations);
        Some(Self { averaging: averaging?, observations: observations? })
    }

    fn model(&self, terms: Terms, assets: Vec<Asset>) -> Model {
        let average = Average { asset: assets[0], asian: *self };
        level::model(Box::new(average), terms, assets[0], average.law(terms.maturity))
    }
}

/// The average of a path.
#[derive(Clone, Copy, Debug)]
struct Average {
    asset: Asset,
    asian: Asian,
}

impl Shape for Average {
    fn draws(&self) -> usize {
        self.asian.observations as usize
    }

    fn is_one_level(&self) -> bool {
        self.asian.observations == 1
    }

    fn evaluate(&self, terms: &Terms, draws: &mut Draws<'_>, wanted: &[usize], space: &mut Workspace) {
        space.fit(6, level::SCRATCH);
        let greeks = level::greeks(wanted);
        let Some((lanes, _)) = space.scratch.split_first_chunk_mut() else { return };
        let step = terms.maturity / f64::from(self.asian.observations);
        match (self.asian.averaging, greeks) {
            // The loop without Greeks is as short as can be.
            (Averaging::Arithmetic, true) => self.arithmetic::<true>(step, draws, lanes),
            (Averaging::Arithmetic, false) => self.arithmetic::<false>(step, draws, lanes),
            (Averaging::Geometric, _) => self.geometric(step, draws, lanes),
        }
        level::pay(terms, self.asset, step, greeks, space);
    }
}

impl Average {
    fn law(&self, maturity: f64) -> Law {
        let n = f64::from(self.asian.observations);
        let volatility = self.asset.volatility;
        // Mean and variance of the geometric average's logarithm; the arithmetic one's is much the same.
        let time = maturity * (n + 1.0) / (2.0 * n);
        let years = maturity * (n + 1.0) * (2.0 * n + 1.0) / (6.0 * n * n);
        let (forward, vega, rho) = match self.asian.averaging {
            Averaging::Geometric => {
                let forward = self.asset.spot * exp(self.asset.drift * time + 0.5 * volatility * volatility * years);
                (forward, volatility * (years - time) * forward, time * forward)
            }
            Averaging::Arithmetic => {
                let dates = (1..=self.asian.observations).map(|number| maturity * f64::from(number) / n);
                let (mut forward, mut rho) = (0.0, 0.0);
                for date in dates {
                    forward += self.asset.forward(date) / n;
                    rho += date * self.asset.forward(date) / n;
                }
                (forward, 0.0, rho)
            }
        };
        // A step moves every later date.
        let later = (1..=self.asian.observations).rev().map(f64::from);
        let length = later.clone().map(|dates| dates * dates).sum::<f64>().sqrt();
        let mut lines = vec![later.map(|dates| dates / length).collect()];
        if self.asian.averaging == Averaging::Arithmetic && self.asian.observations > 1 {
            // The last prices may be much of the sum.
            lines.push(vec![1.0 / n.sqrt(); self.asian.observations as usize]);
        }
        Law {
            forward,
            vega,
            rho,
            deviation: volatility * years.sqrt(),
            is_lognormal: self.asian.averaging == Averaging::Geometric || self.asian.observations == 1,
            lines,
        }
    }

    fn geometric(&self, step: f64, draws: &mut Draws<'_>, lanes: &mut [Lane; level::SCRATCH]) {
        let [normals, first, sum, relative, by_volatility, by_rate] = lanes;
        let Asset { volatility, drift, .. } = self.asset;
        let steps = f64::from(self.asian.observations);
        let (drift, root) = (drift * step, step.sqrt());
        let deviation = volatility * root;
        sum.fill(0.0);
        relative.fill(0.0);
        for number in 0..self.asian.observations {
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

    fn arithmetic<const GREEKS: bool>(&self, step: f64, draws: &mut Draws<'_>, lanes: &mut [Lane; level::SCRATCH]) {
        let [normals, first, sum, relative, by_volatility, by_rate] = lanes;
        let Asset { volatility, drift, .. } = self.asset;
        let (drift, root) = (drift * step, step.sqrt());
        let deviation = volatility * root;
        for lane in [&mut *sum, &mut *relative, &mut *by_volatility, &mut *by_rate] {
            lane.fill(0.0);
        }
        for number in 0..self.asian.observations {
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
        let share = 1.0 / f64::from(self.asian.observations);
        for lane in [relative, by_volatility, by_rate] {
            lane.iter_mut().for_each(|value| *value *= share);
        }
    }
}
