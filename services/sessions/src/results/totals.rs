//! The totals of a table of results: its rows, those that lack something, and the sum of the values. Pure.

use super::{Measured, PORTFOLIO, Row, SUMMED, combined_error, is_sum, measured};

/// The totals of a part of a table. Parts add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Totals {
    /// Rows.
    pub rows: usize,
    /// Rows with an error, without the sums that lack something.
    pub errors: usize,
    /// Sums that lack something.
    pub incomplete: usize,
    /// The sum of the values, with its combined error; `None` without a value.
    pub sum: Option<Measured>,
    /// Sums of Jobs or ranges among the rows.
    sums: usize,
}

impl Totals {
    /// The totals of the rows of a Job or a range. Where they have a sum themselves, its parts do not count again.
    pub fn of(rows: &[Row]) -> Self {
        let is_incomplete = |row: &&Row| row.row == PORTFOLIO && row.value.is_some() && row.error.is_some();
        let count = |is_counted: &dyn Fn(&&Row) -> bool| rows.iter().filter(is_counted).count();
        let (sums, incomplete) = (count(&|row| is_sum(row)), count(&is_incomplete));
        let summed = rows.iter().filter(|row| if sums > 0 { is_sum(row) } else { row.measure == SUMMED });
        Self {
            rows: rows.len(),
            errors: count(&|row| row.error.is_some()) - incomplete,
            incomplete,
            sum: summed.filter_map(measured).reduce(plus),
            sums,
        }
    }

    /// Those of a table that has both parts.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            errors: self.errors + other.errors,
            incomplete: self.incomplete + other.incomplete,
            sum: self.sum.into_iter().chain(other.sum).reduce(plus),
            sums: self.sums + other.sums,
        }
    }

    /// Those of a Job with these ranges: the table has one sum for all of them (see [`super::join`]).
    pub fn joined(ranges: &[Self]) -> Self {
        let all = ranges.iter().copied().fold(Self::default(), Self::plus);
        let is_incomplete = all.sums > 0 && (all.incomplete > 0 || all.sums < ranges.len());
        Self {
            rows: all.rows - all.sums + all.sums.min(1),
            incomplete: is_incomplete.into(),
            sums: all.sums.min(1),
            ..all
        }
    }
}

fn plus(one: Measured, another: Measured) -> Measured {
    (one.0 + another.0, combined_error([one.1, another.1]))
}

#[cfg(test)]
mod tests {
    use serde_json::{Number, json};

    use super::{super::join, *};

    fn row(row: &str, measure: &str, value: f64, error: f64) -> Row {
        let standard_error = Number::from_f64(error);
        Row { value: Some(json!(value)), standard_error, ..super::super::row("s", "book.json", row, measure) }
    }

    #[test]
    fn a_sum_counts_once_and_the_ranges_of_a_pack_have_the_totals_of_their_table() {
        let failed = || Row { error: Some("failed: timeout".into()), ..super::super::row("s", "book.json", "t3", "") };
        let first =
            vec![row("t1", "price", 1.0, 0.1), row("t1", "value", 10.0, 3.0), row(PORTFOLIO, "value", 10.0, 3.0)];
        let second = vec![row("t2", "value", -4.0, 4.0), row(PORTFOLIO, "value", -4.0, 4.0)];
        let ranges = [vec![first, vec![failed()]], vec![second]].map(join);
        let table = join(ranges.to_vec());
        let totals = Totals::joined(&ranges.map(|rows| Totals::of(&rows)));
        assert_eq!(totals, Totals::of(&table));
        let expected = Totals { rows: 5, errors: 1, incomplete: 1, sum: Some((6.0, Some(5.0))), sums: 1 };
        assert_eq!(totals, expected);
        // Without a sum of their own, the values are summed.
        let values = [row("a", "value", 1.0, 3.0), row("b", "value", 2.0, 4.0), row("c", "bytes", 9.0, 0.0)];
        let totals = Totals::of(&values).plus(Totals::of(&[failed()]));
        let expected = Totals { rows: 4, errors: 1, sum: Some((3.0, Some(5.0))), ..Totals::default() };
        assert_eq!(totals, expected);
    }
}
