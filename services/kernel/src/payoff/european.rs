//! European options: the price at maturity.

use super::{Common, Rules};
use crate::{
    montecarlo::{
        draws::Draws,
        elementary::exp,
        level,
        normal::BLOCK,
        plan::{Asset, Shape, Terms, Workspace},
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

    fn shape(&self, _: &Terms, assets: Vec<Asset>) -> Box<dyn Shape> {
        Box::new(Last(assets[0]))
    }
}

/// The last price of a path of one step.
#[derive(Debug)]
struct Last(Asset);

impl Shape for Last {
    fn draws(&self) -> usize {
        1
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
