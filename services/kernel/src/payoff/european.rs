//! European options: the price at maturity.

use super::{Common, Rules};
use crate::{
    montecarlo::{
        draws::Draws,
        elementary::exp,
        level::{self, Law},
        model::{Asset, Model, Shape, Terms, Workspace},
        normal::BLOCK,
    },
    pricing::{
        market::Market,
        reader::{Field, Fields},
    },
};

/// A European option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct European;

impl Rules for European {
    const NAME: &'static str = "european";
    const FIELDS: &'static [Field] = &[];

    fn read(_: &mut Fields<'_, '_>, _: Common<'_>, _: &mut Market<'_>) -> Option<Self> {
        Some(Self)
    }

    fn model(&self, terms: Terms, assets: Vec<Asset>) -> Model {
        let (asset, maturity) = (assets[0], terms.maturity);
        let forward = asset.forward(maturity);
        let law = Law {
            forward,
            vega: 0.0,
            rho: maturity * forward,
            deviation: asset.deviation(maturity),
            is_lognormal: true,
            lines: vec![vec![1.0]],
        };
        level::model(Box::new(Last(asset)), terms, asset, law)
    }
}

/// The last price of a path of one step.
#[derive(Debug)]
struct Last(Asset);

impl Shape for Last {
    fn draws(&self) -> usize {
        1
    }

    fn is_one_level(&self) -> bool {
        true
    }

    fn evaluate(&self, terms: &Terms, draws: &mut Draws<'_>, wanted: &[usize], space: &mut Workspace) {
        space.fit(6, level::SCRATCH);
        let greeks = level::greeks(wanted);
        let [_, first, _, relative, by_volatility, by_rate, ..] = &mut space.scratch[..] else { return };
        let Asset { volatility, drift, .. } = self.0;
        let step = terms.maturity;
        let (drift, root) = (drift * step, step.sqrt());
        let deviation = volatility * root;
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
        level::pay(terms, self.0, step, greeks, space);
    }
}
