//! What simulating a trade needs to know, worked out once, and one block of it.

use super::{
    bridge::Bridge,
    draws::{Draws, Source},
    elementary::exp,
    model::{Asset, Model, Terms, Workspace},
    normal::BLOCK,
    philox,
};
use crate::pricing::{
    book::{Book, Trade},
    parameters::{Measure, OptionType, Sampling},
};

/// What simulating a trade needs to know.
#[derive(Debug)]
pub struct Plan {
    /// Key of the random numbers.
    pub key: [u32; 2],
    /// Stream of the trade's random numbers.
    pub trade: [u32; 2],
    /// How paths are drawn.
    pub sampling: Sampling,
    /// Draws of one path.
    pub draws: usize,
    /// The order in which a quasi-random path is fixed; none for draws that are no path.
    pub bridge: Option<Bridge>,
    /// Lanes that are asked for, the price first.
    pub wanted: Vec<usize>,
    /// Price of each underlying now.
    pub spots: Vec<f64>,
    /// The simulated part of each of them, where it needs no simulation.
    pub certain: Option<Vec<f64>>,
    /// How the payoff is estimated.
    pub model: Model,
}

/// What is reported of a trade, in order, and in which lane it is computed.
pub fn columns(book: &Book, trade: &Trade) -> Vec<(String, usize)> {
    let assets = trade.underlyings.len();
    let mut columns = vec![("price".to_owned(), 0)];
    for (measure, first, each) in [
        (Measure::Delta, 1, true),
        (Measure::Gamma, 1 + assets, true),
        (Measure::Vega, 1 + 2 * assets, true),
        (Measure::Rho, 1 + 3 * assets, false),
        (Measure::Theta, 2 + 3 * assets, false),
    ] {
        if !book.measures.contains(&measure) {
            continue;
        }
        if trade.payoff.several() && each {
            let names = trade.underlyings.iter().map(|&number| &book.underlyings[number].0);
            columns.extend(names.enumerate().map(|(i, name)| (format!("{}[{name}]", measure.name()), first + i)));
        } else {
            columns.push((measure.name().to_owned(), first));
        }
    }
    columns
}

impl Plan {
    /// The plan for a trade of a book.
    pub fn new(book: &Book, trade: &Trade) -> Self {
        let underlyings = trade.underlyings.iter().map(|&number| &book.underlyings[number].1);
        let assets: Vec<Asset> = underlyings.map(Asset::new).collect();
        let rate = book.underlyings[trade.underlyings[0]].1.rate;
        let terms = Terms {
            strike: trade.strike,
            sign: match trade.option {
                OptionType::Call => 1.0,
                OptionType::Put => -1.0,
            },
            is_least: false,
            maturity: trade.maturity,
            rate,
            discount: exp(-rate * trade.maturity),
        };
        let is_still = assets.iter().all(|asset| !asset.moves(terms.maturity));
        let spots = assets.iter().map(|asset| asset.spot).collect();
        let model = trade.payoff.model(terms, assets);
        let draws = model.shape.draws();
        let columns = columns(book, trade);
        let mut plan = Self {
            key: philox::key(book.seed),
            trade: philox::stream(&trade.id),
            sampling: book.sampling,
            draws,
            bridge: (model.shape.is_path() && book.sampling == Sampling::Sobol).then(|| Bridge::new(draws)),
            wanted: columns.iter().map(|(_, lane)| *lane).collect(),
            spots,
            certain: None,
            model,
        };
        if plan.model.is_nothing {
            plan.certain = Some(vec![0.0; columns.len()]);
        } else if is_still {
            // There is one path only. At maturity no time is left to pass.
            let mut space = Workspace::default();
            let source = Source::Ray { direction: &vec![0.0; draws], places: &[0.0; BLOCK] };
            plan.evaluate(&mut Draws { source, tilt: None }, &mut space);
            let ends = |name: &str| name == Measure::Theta.name() && terms.maturity == 0.0;
            let value = |(name, lane): &(String, usize)| if ends(name) { 0.0 } else { space.lanes[*lane][0] };
            plan.certain = Some(columns.iter().map(value).collect());
        }
        plan
    }

    /// The same trade with the other approximation, if there is one.
    pub fn other(&mut self) -> Option<Self> {
        let model = Model::new(self.model.other.take()?, self.model.terms);
        let Self { key, trade, sampling, draws, .. } = *self;
        let (wanted, spots) = (self.wanted.clone(), self.spots.clone());
        Some(Self { key, trade, sampling, draws, bridge: None, wanted, spots, certain: None, model })
    }

    /// Simulates one block: fills the lanes that are wanted.
    pub fn evaluate(&self, draws: &mut Draws<'_>, space: &mut Workspace) {
        self.model.shape.evaluate(&self.model.terms, draws, &self.wanted, space);
    }

    /// The mean square of a measure that no path shows, when another underlying decided all of them: in its place it
    /// would move the level as much. `squares` are those of all measures.
    pub fn unseen_square(&self, measure: usize, squares: &[f64]) -> f64 {
        let (lane, count) = (self.wanted[measure], self.spots.len());
        if !self.model.shape.is_decided_by_one() || !(1..=3 * count).contains(&lane) {
            return 0.0;
        }
        let (kind, own) = ((lane - 1) / count, (lane - 1) % count);
        // Squares of delta, gamma and vega.
        let power = [2, 4, 0][kind];
        let of = |other: usize| {
            let at = self.wanted.iter().position(|lane| *lane == 1 + kind * count + other)?;
            Some(squares[at] * (self.spots[other] / self.spots[own]).powi(power))
        };
        (0..count).filter_map(of).fold(0.0, f64::max)
    }

    /// A lane's value from the mean of what was simulated.
    pub fn value(&self, lane: usize, mean: f64) -> f64 {
        self.model.known.get(lane).copied().unwrap_or_default() + self.model.sign * mean
    }
}
