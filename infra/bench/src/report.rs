//! The report of a run, as a table and as JSON.

use cli::text;
use serde::Serialize;

use super::machine::Machine;

/// A number with its unit.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measure {
    /// The number.
    pub(super) value: f64,
    /// Its unit, such as `ms` or `Jobs/s`.
    pub(super) unit: &'static str,
}

/// Which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Better {
    /// At least the goal.
    Higher,
    /// At most the goal.
    Lower,
}

/// The goal of a row.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Goal {
    /// The measured number itself.
    Value(f64, Better),
    /// Measured divided by the yardstick.
    Ratio(f64, Better),
    /// None; the number is for information.
    None,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// What was measured.
    pub(super) what: String,
    /// The figure.
    pub(super) measured: Measure,
    /// Comparison from the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) yardstick: Option<Yardstick>,
    /// Measured divided by the yardstick.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ratio: Option<f64>,
    /// The goal.
    pub(super) goal: Goal,
    /// Whether the goal is reached; none without a goal or its yardstick.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reached: Option<bool>,
    /// Further information.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) note: String,
}

/// The comparison of a row.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Yardstick {
    /// What was measured.
    pub(super) what: String,
    /// The figure, in the unit of the row.
    pub(super) value: f64,
}

impl Row {
    /// A row; computes the ratio, and whether the goal is reached.
    pub(super) fn new(
        what: impl Into<String>,
        measured: Measure,
        yardstick: Option<(&str, f64)>,
        goal: Goal,
        note: impl Into<String>,
    ) -> Self {
        let yardstick = yardstick.map(|(what, value)| Yardstick { what: what.to_owned(), value });
        let ratio = yardstick.as_ref().filter(|yardstick| yardstick.value > 0.0).map(|y| measured.value / y.value);
        let holds = |value: f64, goal: f64, better| match better {
            Better::Higher => value >= goal,
            Better::Lower => value <= goal,
        };
        let reached = match goal {
            Goal::Value(goal, better) => Some(holds(measured.value, goal, better)),
            Goal::Ratio(goal, better) => ratio.map(|ratio| holds(ratio, goal, better)),
            Goal::None => None,
        };
        Self { what: what.into(), measured, yardstick, ratio, goal, reached, note: note.into() }
    }

    /// The median of start times in milliseconds; the goal is 30.
    pub(super) fn of_starts(what: &str, mut times: Vec<f64>, note: &str) -> Self {
        let value = percentile(&mut times, 0.5);
        let note = format!("median of {}{note}", times.len());
        Self::new(what, Measure { value, unit: "ms" }, None, Goal::Value(30.0, Better::Lower), note)
    }
}

/// All rows of a run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    /// The machine.
    pub(super) machine: Machine,
    /// Whether the loads were the smaller ones.
    pub(super) quick: bool,
    /// Time of the run after the build.
    pub(super) seconds: f64,
    /// The rows.
    pub(super) rows: Vec<Row>,
}

impl Report {
    /// The table for a person.
    pub(super) fn table(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let unit = row.measured.unit;
            let yardstick = row.yardstick.as_ref();
            let yardstick = yardstick.map_or_else(String::new, |y| format!("{} {unit}: {}", number(y.value), y.what));
            let sign = |better| if better == Better::Higher { "≥" } else { "≤" };
            let goal = match row.goal {
                Goal::Value(goal, better) => format!("{} {} {unit}", sign(better), number(goal)),
                Goal::Ratio(goal, better) => format!("{} {} ×", sign(better), number(goal)),
                Goal::None => String::new(),
            };
            let reached = match row.reached {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            };
            vec![
                row.what.clone(),
                format!("{} {unit}", number(row.measured.value)),
                yardstick,
                row.ratio.map_or_else(String::new, |ratio| format!("{} ×", number(ratio))),
                goal,
                reached.to_owned(),
            ]
        });
        let mut table = text::table(&["WHAT", "MEASURED", "YARDSTICK, SAME RUN", "RATIO", "GOAL", "REACHED"], rows);
        table.push('\n');
        for row in self.rows.iter().filter(|row| !row.note.is_empty()) {
            table.push_str(&format!("{}: {}\n", row.what, row.note));
        }
        table.push_str(&format!("{}; {:.0} s after the build\n", self.machine, self.seconds));
        table
    }
}

/// Three significant digits, with words for millions.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.1} M", value / 1e6),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size > 0.0 && size < 0.01 => format!("{value:.4}"),
        _ => format!("{value:.2}"),
    }
}

/// The value below which this share of the values lies, by the nearest rank; 0 of none.
pub(super) fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let rank = (share * values.len() as f64).ceil() as usize;
    values.get(rank.saturating_sub(1).min(values.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
