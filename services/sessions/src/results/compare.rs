//! Compares the results of two sessions, number by number. Pure.

use std::collections::BTreeMap;

use super::Row;

/// A number and its standard error.
pub type Measured = (f64, Option<f64>);

/// A number of one session beside the one of the same input, row and measure in another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compared<'a> {
    /// The row that has it; of the later session where both have it.
    pub row: &'a Row,
    /// In the earlier session; `None` when it is new.
    pub before: Option<Measured>,
    /// In the later session; `None` when it is gone.
    pub after: Option<Measured>,
}

impl Compared<'_> {
    /// How much more it is in the later session. The errors count as independent: where both sessions have the same
    /// random streams, the true error is smaller.
    pub fn difference(&self) -> Option<Measured> {
        let (before, after) = (self.before?, self.after?);
        Some((after.0 - before.0, combined_error([before.1, after.1])))
    }
}

/// The number of a row, when it has one.
pub fn measured(row: &Row) -> Option<Measured> {
    let error = row.standard_error.as_ref().and_then(serde_json::Number::as_f64);
    Some((row.value.as_ref()?.as_f64()?, error))
}

/// The standard error of a sum or difference of independent numbers; `None` when none of them has one.
pub fn combined_error(errors: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let squares = errors.into_iter().flatten().map(|error| error * error);
    squares.reduce(|one, another| one + another).map(f64::sqrt)
}

/// The numbers of two sessions: those of the later one in its order, then those that are gone.
pub fn compare<'a>(
    before: impl IntoIterator<Item = &'a Row>,
    after: impl IntoIterator<Item = &'a Row>,
) -> Vec<Compared<'a>> {
    let numbers = |row: &'a Row| Some(((&*row.job, &*row.row, &*row.measure), (row, measured(row)?)));
    let mut earlier: BTreeMap<_, _> = before.into_iter().filter_map(numbers).collect();
    let later = after.into_iter().filter_map(numbers);
    let mut compared: Vec<Compared<'a>> = later
        .map(|(key, (row, after))| Compared {
            row,
            before: earlier.remove(&key).map(|(_, before)| before),
            after: Some(after),
        })
        .collect();
    compared.extend(earlier.into_values().map(|(row, before)| Compared { row, before: Some(before), after: None }));
    compared
}

#[cfg(test)]
mod tests {
    use serde_json::{Number, json};

    use super::*;

    #[test]
    fn numbers_of_two_sessions_are_changed_new_or_gone() {
        let row = |row: &str, value: f64, error: Option<f64>| Row {
            value: Some(json!(value)),
            standard_error: error.and_then(Number::from_f64),
            ..super::super::row("s", "book.json", row, "price")
        };
        let before = [row("a", 10.0, Some(3.0)), row("gone", 1.0, None)];
        let text = Row { value: Some(json!("text")), ..row("t", 0.0, None) };
        let after = [row("new", 2.0, None), row("a", 12.5, Some(4.0)), text];
        let compared = compare(&before, &after);
        let found: Vec<_> = compared.iter().map(|one| (&*one.row.row, one.before, one.after)).collect();
        assert_eq!(
            found,
            [
                ("new", None, Some((2.0, None))),
                ("a", Some((10.0, Some(3.0))), Some((12.5, Some(4.0)))),
                ("gone", Some((1.0, None)), None),
            ]
        );
        assert_eq!(compared[1].difference(), Some((2.5, Some(5.0))));
        assert_eq!((compared[0].difference(), combined_error([None, None])), (None, None));
    }
}
