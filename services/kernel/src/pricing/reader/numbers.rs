//! Fields that hold numbers.

use super::Fields;
use crate::pricing::{
    json::{Node, Value},
    shown::shown,
};

impl Fields<'_, '_> {
    /// An integer from `least` to `most`; a decimal like `1e6` or `10.0` will do when it is whole.
    pub fn integer(&mut self, name: &'static str, least: u64, most: u64) -> Option<u64> {
        let node = self.required(name)?;
        let read = match &node.value {
            Value::Number(raw) => raw.parse().ok().or_else(|| {
                let number: f64 = raw.parse().ok()?;
                // Above 2^53 a decimal does not say which integer it means.
                (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
            }),
            _ => None,
        };
        let read = read.filter(|read| (least..=most).contains(read));
        if read.is_none() {
            self.reject(name, format!("expected an integer from {least} to {most}, found {}", shown(&node.value)));
        }
        read
    }

    /// An integer from `least` to `most`; `None` without a problem when it is absent.
    pub fn optional_integer(&mut self, name: &'static str, least: u64, most: u64) -> Option<u64> {
        if self.has(name) { self.integer(name, least, most) } else { self.may_have(name) }
    }

    /// The numbers of a list.
    pub fn numbers(&mut self, name: &'static str, most: usize, least: f64, largest: f64) -> Option<Vec<f64>> {
        let items = self.list(name, most)?;
        let read: Vec<Option<f64>> = items
            .iter()
            .map(|item| {
                let number = as_number(item.node).filter(|number| (least..=largest).contains(number));
                if number.is_none() {
                    let found = shown(&item.node.value);
                    let message = format!("expected a number from {least} to {largest}, found {found}");
                    self.problems.add(item.node.at, item.path.clone(), message);
                }
                number
            })
            .collect();
        read.into_iter().collect()
    }

    /// A number above 0 and at most `most`.
    pub fn positive(&mut self, name: &'static str, most: f64) -> Option<f64> {
        let node = self.required(name)?;
        match as_number(node) {
            Some(number) if number > 0.0 && number <= most => Some(number),
            Some(number) if number > most => {
                self.reject(name, format!("expected a positive number up to {most}, found {}", shown(&node.value)));
                None
            }
            _ => {
                self.reject(name, format!("expected a positive number, found {}", shown(&node.value)));
                None
            }
        }
    }

    /// A number from `least` to `most`.
    pub fn number_between(&mut self, name: &'static str, least: f64, most: f64) -> Option<f64> {
        let node = self.required(name)?;
        self.between(name, node, least, most)
    }

    /// A number from `least` to `most`, or `default` when it is absent.
    pub fn optional_number_between(&mut self, name: &'static str, least: f64, most: f64, default: f64) -> Option<f64> {
        match self.optional(name) {
            Some(node) => self.between(name, node, least, most),
            None => Some(default),
        }
    }

    fn between(&mut self, name: &str, node: &Node<'_>, least: f64, most: f64) -> Option<f64> {
        let number = as_number(node).filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.reject(name, format!("expected a number from {least} to {most}, found {}", shown(&node.value)));
        }
        number
    }
}

fn as_number(node: &Node<'_>) -> Option<f64> {
    match &node.value {
        Value::Number(raw) => raw.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}
