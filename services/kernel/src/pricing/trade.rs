//! Reads one trade and checks it against the market.

use std::collections::HashMap;

use super::{
    book::{
        AMOUNT_MAX, Averaging, BASKET_MAX, Barrier, BasketType, Correlation, DEVIATION_MIN, Kind, MATURITY_MAX,
        Measure, Monitoring, OBSERVATIONS_MAX, OptionType, SOBOL_OBSERVATIONS_MAX, Sampling, Trade, Underlying,
    },
    json::Node,
    problem::Problems,
    reader::{Fields, Item},
};
use crate::montecarlo::correlation::{Factor, cholesky};

const KINDS: [&str; 4] = ["european", "asian", "barrier", "basket"];

/// What trades refer to.
pub struct Market<'m> {
    names: &'m HashMap<String, usize>,
    underlyings: &'m [(String, Option<Underlying>)],
    correlation: HashMap<(usize, usize), f64>,
    sampling: Sampling,
    gamma: bool,
    /// Factors of the baskets met so far.
    factors: HashMap<Vec<usize>, Result<Factor, String>>,
}

impl<'m> Market<'m> {
    /// The market of a book.
    pub fn new(
        names: &'m HashMap<String, usize>,
        underlyings: &'m [(String, Option<Underlying>)],
        correlation: &[Correlation],
        sampling: Sampling,
        measures: &[Measure],
    ) -> Self {
        let pairs = correlation.iter().map(|pair| (ordered(pair.between[0], pair.between[1]), pair.value));
        Self {
            names,
            underlyings,
            correlation: pairs.collect(),
            sampling,
            gamma: measures.contains(&Measure::Gamma),
            factors: HashMap::new(),
        }
    }

    /// The factor of some underlyings' correlations, or why there is none.
    fn factor(&mut self, numbers: &[usize]) -> Result<Factor, String> {
        if let Some(known) = self.factors.get(numbers) {
            return known.clone();
        }
        let found = self.factorise(numbers);
        self.factors.insert(numbers.to_vec(), found.clone());
        found
    }

    fn factorise(&self, numbers: &[usize]) -> Result<Factor, String> {
        let name = |number: usize| &self.underlyings[number].0;
        let mut matrix = Vec::with_capacity(numbers.len());
        for (i, &one) in numbers.iter().enumerate() {
            let mut row = Vec::with_capacity(i + 1);
            for &other in &numbers[..i] {
                let Some(value) = self.correlation.get(&ordered(one, other)) else {
                    return Err(format!("there is no correlation between {:?} and {:?}", name(other), name(one)));
                };
                row.push(*value);
            }
            row.push(1.0);
            matrix.push(row);
        }
        cholesky(&matrix).ok_or_else(|| {
            let names: Vec<&str> = numbers.iter().map(|&number| name(number).as_str()).collect();
            let names = names.join(", ");
            format!("the correlation matrix of {names} is not positive semi-definite, so no prices can move like that")
        })
    }
}

fn ordered(one: usize, other: usize) -> (usize, usize) {
    (one.min(other), one.max(other))
}

/// Reads a trade; what is wrong with it goes to `problems`.
pub fn read<'n>(
    node: &'n Node<'n>,
    path: String,
    position: usize,
    ids: &mut HashMap<String, usize>,
    market: &mut Market<'_>,
    problems: &mut Problems,
) -> Option<Trade> {
    let mut fields = Fields::new(node, path, problems)?;
    let id = fields.text("id");
    if let Some(id) = &id
        && let Some(first) = ids.get(id)
    {
        fields.reject("id", format!("{id:?} is the id of trades[{first}] already"));
    } else if let Some(id) = &id {
        ids.insert(id.clone(), position);
    }
    let kind = fields.choice("kind", &KINDS);
    let option = fields.choice("option", &["call", "put"]);
    let is_basket = kind == Some(3);
    let underlyings = match kind {
        Some(3) => read_underlyings(&mut fields, market),
        None if fields.has("underlyings") => None,
        _ => fields.item("underlying").and_then(|name| fields.known(&name, market.names)).map(|number| vec![number]),
    };
    let strike = if is_basket {
        // The exchange of two assets has none.
        fields.number_between("strike", 0.0, AMOUNT_MAX)
    } else {
        fields.positive("strike", AMOUNT_MAX)
    };
    let maturity = fields.positive("maturity", MATURITY_MAX);
    let quantity = fields.optional_number_between("quantity", -AMOUNT_MAX, AMOUNT_MAX, 1.0);
    let read = match kind {
        Some(0) => Some(Kind::European),
        Some(1) => {
            let averaging = fields.choice("averaging", &["arithmetic", "geometric"]);
            let observations = observations(&mut fields, market);
            averaging.zip(observations).map(|(averaging, observations)| Kind::Asian {
                averaging: if averaging == 0 { Averaging::Arithmetic } else { Averaging::Geometric },
                observations,
            })
        }
        Some(2) => read_barrier(&mut fields, market),
        Some(_) => read_basket(&mut fields, underlyings.as_deref(), market),
        None => None,
    };
    if matches!(kind, Some(2 | 3))
        && let (Some(numbers), Some(maturity)) = (&underlyings, maturity)
    {
        check_moving(&mut fields, numbers, maturity, market);
    }
    // Which fields belong to a trade depends on its kind, so without one only what lacks is known.
    if kind.is_some() {
        fields.finish();
    } else {
        fields.finish_known();
    }
    Some(Trade {
        position,
        id: id?,
        quantity: quantity?,
        underlyings: underlyings?,
        option: if option? == 0 { OptionType::Call } else { OptionType::Put },
        strike: strike?,
        maturity: maturity?,
        kind: read?,
    })
}

fn observations(fields: &mut Fields<'_, '_>, market: &Market<'_>) -> Option<u32> {
    let observations = fields.integer("observations", 1, OBSERVATIONS_MAX)? as u32;
    if market.sampling == Sampling::Sobol && observations > SOBOL_OBSERVATIONS_MAX {
        let message =
            format!("expected at most {SOBOL_OBSERVATIONS_MAX} with sampling \"sobol\", found {observations}");
        fields.reject("observations", message);
        return None;
    }
    Some(observations)
}

fn read_barrier(fields: &mut Fields<'_, '_>, market: &Market<'_>) -> Option<Kind> {
    let level = fields.positive("barrier", AMOUNT_MAX);
    let barrier_type = fields.choice("barrier_type", &Barrier::NAMES);
    let monitoring = match fields.choice("monitoring", &Monitoring::NAMES) {
        Some(1) => Some(Monitoring::Continuous),
        Some(0) => observations(fields, market).map(|observations| Monitoring::Discrete { observations }),
        Some(_) => fields
            .integer("observations", 1, OBSERVATIONS_MAX)
            .map(|observations| Monitoring::Shifted { observations: observations as u32 }),
        None => {
            fields.optional_integer("observations", 1, OBSERVATIONS_MAX);
            None
        }
    };
    let barrier_type = barrier_type?;
    let barrier = Barrier { level: level?, up: barrier_type < 2, knock_in: barrier_type % 2 == 1 };
    Some(Kind::Barrier { barrier, monitoring: monitoring? })
}

fn read_underlyings(fields: &mut Fields<'_, '_>, market: &Market<'_>) -> Option<Vec<usize>> {
    let items: Vec<Item<'_>> = fields.list("underlyings", BASKET_MAX)?;
    if items.is_empty() {
        fields.reject("underlyings", "expected at least one underlying".to_owned());
        return None;
    }
    let read: Vec<Option<usize>> = items.iter().map(|item| fields.known(item, market.names)).collect();
    let numbers = read.into_iter().collect::<Option<Vec<usize>>>()?;
    for (i, number) in numbers.iter().enumerate() {
        if numbers[..i].contains(number) {
            let name = &market.underlyings[*number].0;
            fields.reject("underlyings", format!("{name:?} is there twice; give it one weight instead"));
            return None;
        }
    }
    let rate = |number: &usize| market.underlyings[*number].1.map(|underlying| underlying.rate);
    let (first, rest) = numbers.split_first()?;
    for number in rest {
        if let (Some(one), Some(other)) = (rate(first), rate(number))
            && one != other
        {
            let (first, second) = (&market.underlyings[*first].0, &market.underlyings[*number].0);
            let message = format!(
                "expected underlyings of one currency, but the rate of {first:?} is {one} and that of {second:?} {other}"
            );
            fields.reject("underlyings", message);
            return None;
        }
    }
    Some(numbers)
}

fn read_basket(fields: &mut Fields<'_, '_>, underlyings: Option<&[usize]>, market: &mut Market<'_>) -> Option<Kind> {
    let weights = fields.numbers("weights", BASKET_MAX, -AMOUNT_MAX, AMOUNT_MAX);
    let basket_type = fields.choice("basket_type", &BasketType::NAMES).map(BasketType::numbered);
    let underlyings = underlyings?;
    if let Some(weights) = &weights
        && weights.len() != underlyings.len()
    {
        let message =
            format!("expected one for each of the {} underlyings, found {}", underlyings.len(), weights.len());
        fields.reject("weights", message);
        return None;
    }
    let factor = match market.factor(underlyings) {
        Ok(factor) if market.gamma && !factor.definite => {
            let message = "gamma needs correlations whose matrix can be inverted; leave gamma out of the measures";
            fields.reject("underlyings", message.to_owned());
            return None;
        }
        Ok(factor) => factor,
        Err(message) => {
            fields.reject("underlyings", message);
            return None;
        }
    };
    Some(Kind::Basket { basket_type: basket_type?, weights: weights?, factor })
}

/// Formulas of barriers and baskets divide by the volatility.
fn check_moving(fields: &mut Fields<'_, '_>, numbers: &[usize], maturity: f64, market: &Market<'_>) {
    for &number in numbers {
        let (name, Some(underlying)) = &market.underlyings[number] else { continue };
        let deviation = underlying.volatility * maturity.sqrt();
        if deviation < DEVIATION_MIN {
            let message = format!(
                "expected underlyings that move: volatility times the root of the maturity of {name:?} is {deviation}, \
                 less than {DEVIATION_MIN}"
            );
            fields.reject(if numbers.len() > 1 { "underlyings" } else { "underlying" }, message);
        }
    }
}
