//! What trades refer to: underlyings, correlations, and how paths are drawn.

use std::collections::HashMap;

use super::{
    parameters::{Correlation, Measure, OBSERVATIONS_MAX, SOBOL_OBSERVATIONS_MAX, Sampling, Underlying},
    reader::Fields,
};
use crate::montecarlo::{
    correlation::{Factor, cholesky},
    model::Asset,
};

/// The name of the field of one underlying.
pub(super) const UNDERLYING: &str = "underlying";
/// Most underlyings of a basket.
pub const BASKET_MAX: usize = 64;

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

    /// Reads the one underlying of a trade.
    pub fn underlying(&self, fields: &mut Fields<'_, '_>) -> Option<usize> {
        let name = fields.item(UNDERLYING)?;
        fields.known(&name, self.names)
    }

    /// Reads a list of underlyings that have one rate.
    pub fn underlyings(&self, fields: &mut Fields<'_, '_>, field: &'static str) -> Option<Vec<usize>> {
        let items = fields.list(field, BASKET_MAX)?;
        if items.is_empty() {
            fields.reject(field, "expected at least one underlying".to_owned());
            return None;
        }
        let read: Vec<Option<usize>> = items.iter().map(|item| fields.known(item, self.names)).collect();
        let numbers = read.into_iter().collect::<Option<Vec<usize>>>()?;
        for (i, number) in numbers.iter().enumerate() {
            if numbers[..i].contains(number) {
                let name = &self.underlyings[*number].0;
                fields.reject(field, format!("{name:?} is there twice; give it one weight instead"));
                return None;
            }
        }
        let rate = |number: &usize| self.underlyings[*number].1.map(|underlying| underlying.rate);
        let (first, rest) = numbers.split_first()?;
        for number in rest {
            if let (Some(one), Some(other)) = (rate(first), rate(number))
                && one != other
            {
                let (first, second) = (&self.underlyings[*first].0, &self.underlyings[*number].0);
                let message = format!(
                    "expected underlyings of one currency, but the rate of {first:?} is {one} and that of {second:?} {other}"
                );
                fields.reject(field, message);
                return None;
            }
        }
        Some(numbers)
    }

    /// Reads a number of observations whose paths are simulated.
    pub fn observations(&self, fields: &mut Fields<'_, '_>, field: &'static str) -> Option<u32> {
        let observations = fields.integer(field, 1, OBSERVATIONS_MAX)? as u32;
        if self.sampling == Sampling::Sobol && observations > SOBOL_OBSERVATIONS_MAX {
            let message =
                format!("expected at most {SOBOL_OBSERVATIONS_MAX} with sampling \"sobol\", found {observations}");
            fields.reject(field, message);
            return None;
        }
        Some(observations)
    }

    /// An underlying as paths know it.
    pub fn asset(&self, number: usize) -> Option<Asset> {
        self.underlyings[number].1.as_ref().map(Asset::new)
    }

    /// Why gammas of a basket cannot be computed: they are estimated from how the underlyings move.
    pub fn check_gamma(&self, numbers: &[usize], maturity: Option<f64>) -> Option<String> {
        let moves = |number: &usize| Some(self.asset(*number)?.moves(maturity?));
        let moves: Vec<bool> = numbers.iter().map(moves).collect::<Option<_>>()?;
        let is_mixed = moves.contains(&true) && moves.contains(&false);
        (self.gamma && is_mixed)
            .then(|| "gamma needs a volatility above 0 of every underlying; leave gamma out of the measures".to_owned())
    }

    /// The factor of some underlyings' correlations, or why there is none that serves.
    pub fn factor(&mut self, numbers: &[usize]) -> Result<Factor, String> {
        if !self.factors.contains_key(numbers) {
            self.factors.insert(numbers.to_vec(), self.factorise(numbers));
        }
        match &self.factors[numbers] {
            Ok(factor) if self.gamma && !factor.definite => {
                let message = "gamma needs correlations whose matrix can be inverted; leave gamma out of the measures";
                Err(message.to_owned())
            }
            known => known.clone(),
        }
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
