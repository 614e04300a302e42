//! Coordinates of a chart: values as dots with bars for their confidence intervals, one below the other. Pure.
//!
//! Horizontal positions are in percent of the chart's width and vertical ones in pixels, so that the chart fits a phone
//! and its texts stay readable.

use serde::Serialize;
use sessions::results::{SPAN, number, spelled};

/// Pixels of one value, and those of the axis.
const ROW: u32 = 40;
const AXIS: u32 = 30;
/// About this many ticks are made.
const TICKS: f64 = 4.0;
/// Room at each side, in percent.
const MARGIN: f64 = 3.0;

/// How values become positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    /// One scale for all.
    #[default]
    Shared,
    /// Each row around its own value, in percent of it.
    Row,
    /// Powers of ten have equal distances, on both sides of zero.
    Logarithmic,
}

/// A value to show.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    /// What it is the value of.
    pub(crate) label: String,
    /// The value.
    pub(crate) value: f64,
    /// Its standard error.
    pub(crate) error: Option<f64>,
}

/// A chart, ready to be drawn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Chart {
    /// Pixels.
    pub(crate) height: u32,
    /// Where the axis is, in pixels from above.
    pub(crate) axis: u32,
    /// Its ticks.
    pub(crate) ticks: Vec<Tick>,
    /// Where zero is, when the chart shows it.
    pub(crate) zero: Option<f64>,
    /// The values.
    pub(crate) marks: Vec<Mark>,
}

/// A tick of the axis.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Tick {
    /// Percent.
    pub(crate) at: f64,
    /// Where its text is anchored, so that it stays inside.
    pub(crate) anchor: &'static str,
    /// Its text.
    pub(crate) text: String,
}

/// A value in the chart.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Mark {
    /// What it is the value of.
    pub(crate) label: String,
    /// Value and half of its confidence interval as text.
    pub(crate) text: String,
    /// Percent of the value.
    pub(crate) at: f64,
    /// Percent of both ends of its bar, when it has one.
    pub(crate) bar: Option<(f64, f64)>,
    /// Pixels from above of its text, and of its dot.
    pub(crate) text_y: u32,
    /// See `text_y`.
    pub(crate) dot_y: u32,
}

/// The chart of some values; `None` without one that is finite.
pub(crate) fn chart(points: &[Point], scale: Scale) -> Option<Chart> {
    let shown: Vec<&Point> = points.iter().filter(|point| point.value.is_finite()).collect();
    let half = |point: &Point| SPAN * point.error.filter(|error| error.is_finite()).unwrap_or_default();
    // A logarithmic scale begins at the smallest value, and has at most six powers of ten.
    let sizes = || shown.iter().map(|point| point.value.abs()).filter(|size| *size > 0.0);
    let unit = sizes().reduce(f64::min).unwrap_or(1.0).max(sizes().fold(0.0, f64::max) / 1e6);
    let scaled = |point: &Point, value: f64| match scale {
        Scale::Shared => value,
        Scale::Row if value == point.value => 0.0,
        Scale::Row => (value - point.value) / if point.value == 0.0 { half(point) } else { point.value.abs() } * 100.0,
        Scale::Logarithmic => logarithmic(value, unit),
    };
    let end = |point: &Point, side: f64| scaled(point, point.value + side * half(point));
    let low = shown.iter().map(|point| end(point, -1.0)).reduce(f64::min)?;
    let high = shown.iter().map(|point| end(point, 1.0)).reduce(f64::max)?;
    // One value alone, or equal ones, stand in the middle.
    let (low, high) =
        if high > low { (low, high) } else { (low - low.abs().max(1.0) / 2.0, high + high.abs().max(1.0) / 2.0) };
    let width = high - low;
    if !width.is_finite() {
        return None;
    }
    let position = |value: f64| rounded(MARGIN + (value - low) / width * (100.0 - 2.0 * MARGIN));
    let axis = ROW * u32::try_from(shown.len()).unwrap_or_default();
    let marks = shown
        .iter()
        .zip(0_u32..)
        .map(|(point, row)| Mark {
            label: point.label.clone(),
            text: spelled(point.value, point.error),
            at: position(scaled(point, point.value)),
            bar: point.error.map(|_| (position(end(point, -1.0)), position(end(point, 1.0)))),
            text_y: row * ROW + 15,
            dot_y: row * ROW + 27,
        })
        .collect();
    let zero = (low <= 0.0 && high >= 0.0).then(|| position(0.0));
    let ticks = match scale {
        Scale::Shared => ticks(low, high, position),
        Scale::Row => {
            let percent = |tick: Tick| Tick { text: format!("{} %", tick.text), ..tick };
            ticks(low, high, position).into_iter().map(percent).collect()
        }
        Scale::Logarithmic => powers(unit, low, high, position),
    };
    Some(Chart { height: axis + AXIS, axis, ticks, zero, marks })
}

/// Zero is zero, and what is much larger than the unit grows with its logarithm.
fn logarithmic(value: f64, unit: f64) -> f64 {
    (value.abs() / unit).ln_1p().copysign(value)
}

/// Zero and powers of ten, on both sides of zero.
fn powers(unit: f64, low: f64, high: f64, position: impl Fn(f64) -> f64) -> Vec<Tick> {
    let first = unit.log10().ceil() as i32;
    let values = (0..20).flat_map(|power| [-1.0, 1.0].map(|sign| sign * 10_f64.powi(first + power)));
    let mut ticks: Vec<Tick> = Vec::new();
    for value in std::iter::once(0.0).chain(values) {
        let place = logarithmic(value, unit);
        let at = position(place);
        // Texts need room.
        if (low..=high).contains(&place) && ticks.iter().all(|tick| (tick.at - at).abs() >= 12.0) {
            let decimals =
                if value == 0.0 { 0 } else { usize::try_from(-value.abs().log10().round() as i64).unwrap_or_default() };
            ticks.push(tick(at, number(value, decimals.min(9))));
        }
    }
    ticks
}

fn ticks(low: f64, high: f64, position: impl Fn(f64) -> f64) -> Vec<Tick> {
    let rough = (high - low) / TICKS;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let decimals = usize::try_from(-(step.log10().floor() as i64)).unwrap_or_default();
    let first = (low / step).ceil();
    let at = |number: u32| (first + f64::from(number)) * step;
    (0..20)
        .map(at)
        .take_while(|value| *value <= high)
        .map(|value| tick(position(value), number(value, decimals.min(9))))
        .collect()
}

fn tick(at: f64, text: String) -> Tick {
    let anchor = match at {
        at if at < 10.0 => "start",
        at if at > 90.0 => "end",
        _ => "middle",
    };
    Tick { at, anchor, text }
}

fn rounded(percent: f64) -> f64 {
    (percent * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(value: f64, error: Option<f64>) -> Point {
        Point { label: "p".to_owned(), value, error }
    }

    #[test]
    fn bars_span_their_errors_and_everything_is_inside() {
        let chart =
            chart(&[point(100.0, Some(5.0)), point(-20.0, None), point(40.0, Some(0.5))], Scale::Shared).unwrap();
        let [first, second, third] = &chart.marks[..] else { panic!() };
        let per_unit = (first.at - second.at) / 120.0;
        let (low, high) = first.bar.unwrap();
        assert!(((high - low) - 2.0 * SPAN * 5.0 * per_unit).abs() < 0.05, "{chart:?}");
        assert!((first.at - (low + high) / 2.0).abs() < 0.02 && second.bar.is_none());
        assert!(third.dot_y > second.dot_y && chart.height > chart.axis);
        let zero = chart.zero.unwrap();
        assert!((zero - (second.at + 20.0 * per_unit)).abs() < 0.05);
        let all = chart
            .marks
            .iter()
            .flat_map(|mark| [mark.bar.map_or(mark.at, |bar| bar.0), mark.bar.map_or(mark.at, |bar| bar.1)]);
        assert!(all.chain(chart.ticks.iter().map(|tick| tick.at)).all(|at| (0.0..=100.0).contains(&at)), "{chart:?}");
        assert!((3..=8).contains(&chart.ticks.len()), "{:?}", chart.ticks);
    }

    #[test]
    fn small_values_are_seen_beside_large_ones() {
        let points = [point(1e6, Some(1e4)), point(-5.0, Some(0.5)), point(0.0, None)];
        let of = |scale| chart(&points, scale).unwrap();
        let bar = |chart: &Chart, row: usize| chart.marks[row].bar.map(|(low, high)| high - low).unwrap();
        assert!(bar(&of(Scale::Shared), 1) < 0.01);
        let row = of(Scale::Row);
        assert!((bar(&row, 1) / bar(&row, 0) - 10.0).abs() < 0.1 && row.marks[2].at == row.zero.unwrap(), "{row:?}");
        assert!(row.ticks.iter().any(|tick| tick.text == "10 %"), "{:?}", row.ticks);
        let log = of(Scale::Logarithmic);
        assert!(log.marks[1].at < log.zero.unwrap() && log.marks[2].at == log.zero.unwrap(), "{log:?}");
        assert!(log.ticks.iter().any(|tick| tick.text == "10,000"), "{:?}", log.ticks);
        let all = log.marks.iter().map(|mark| mark.at).chain(log.ticks.iter().map(|tick| tick.at));
        assert!(all.clone().all(|at| (0.0..=100.0).contains(&at)), "{log:?}");
    }

    #[test]
    fn odd_values_have_a_chart_or_none() {
        assert_eq!(chart(&[], Scale::Shared), None);
        assert_eq!(chart(&[point(f64::NAN, None), point(f64::INFINITY, None)], Scale::Shared), None);
        assert_eq!(chart(&[point(f64::MAX, None), point(-f64::MAX, None)], Scale::Shared), None);
        for value in [0.0, 1.0, -5.0, 1e300, 1e-300] {
            let chart = chart(&[point(value, Some(0.0)), point(value, None)], Scale::Shared).unwrap();
            assert!((chart.marks[0].at - 50.0).abs() < 0.1, "{value}: {chart:?}");
        }
    }
}
