//! Small charts as coordinates; the templates draw them. Pure.

use std::collections::VecDeque;

use serde::Serialize;

use crate::board::{Minute, Sample};

/// Width of every chart, in its own units.
pub(crate) const WIDTH: f64 = 600.0;
/// Height.
pub(crate) const HEIGHT: f64 = 120.0;

/// A rectangle.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Rect {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
    pub(crate) class: &'static str,
    pub(crate) title: String,
}

/// Bars over time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Bars {
    pub(crate) rects: Vec<Rect>,
    pub(crate) max: usize,
    /// Numbers at the axis, from the top.
    pub(crate) ticks: Vec<usize>,
    pub(crate) total: usize,
}

/// Ended Jobs per minute.
pub(crate) fn bars(minutes: &[Minute]) -> Bars {
    let max = minutes.iter().map(Minute::total).max().unwrap_or_default();
    let ticks = ticks(max);
    let step = WIDTH / minutes.len().max(1) as f64;
    let mut rects = Vec::new();
    for (index, minute) in minutes.iter().enumerate() {
        let ago = minutes.len() - 1 - index;
        let mut top = HEIGHT;
        for (count, class) in [(minute.succeeded, "succeeded"), (minute.failed, "failed"), (minute.other, "cancelled")]
        {
            if count == 0 {
                continue;
            }
            let height = round((count as f64 / ticks[0] as f64) * HEIGHT);
            top -= height;
            let title = format!("{ago} min ago: {count} {class}");
            rects.push(Rect {
                x: round(index as f64 * step + 1.0),
                y: round(top),
                width: round(step - 2.0),
                height,
                class,
                title,
            });
        }
    }
    Bars { rects, max, ticks, total: minutes.iter().map(Minute::total).sum() }
}

/// A line over time, with the area under it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Line {
    pub(crate) line: String,
    pub(crate) area: String,
    pub(crate) max: usize,
    /// Numbers at the axis, from the top.
    pub(crate) ticks: Vec<usize>,
    pub(crate) minutes: usize,
}

/// Jobs without an outcome over time.
pub(crate) fn line(history: &VecDeque<Sample>) -> Option<Line> {
    let (first, last) = (history.front()?, history.back()?);
    let span = last.time.duration_since(first.time).as_secs_f64();
    if span <= 0.0 {
        return None;
    }
    let max = history.iter().map(|sample| sample.pending).max()?;
    let ticks = ticks(max);
    let points: Vec<String> = history
        .iter()
        .map(|sample| {
            let x = sample.time.duration_since(first.time).as_secs_f64() / span * WIDTH;
            let y = HEIGHT - sample.pending as f64 / ticks[0] as f64 * HEIGHT;
            format!("{} {}", round(x), round(y))
        })
        .collect();
    let line = format!("M{}", points.join("L"));
    let area = format!("{line}L{WIDTH} {HEIGHT}L0 {HEIGHT}Z");
    Some(Line { line, area, max, ticks, minutes: ((span / 60.0).ceil() as usize).max(1) })
}

/// Numbers at an axis up to this one, from the top: whole numbers at equal distances.
fn ticks(max: usize) -> Vec<usize> {
    if max <= 1 { vec![1, 0] } else { vec![max.next_multiple_of(2), max.div_ceil(2), 0] }
}

/// Shares as one bar of 100 units.
pub(crate) fn shares(parts: &[(usize, &'static str)]) -> Vec<Rect> {
    let total: usize = parts.iter().map(|(count, _)| count).sum();
    let mut x = 0.0;
    let mut rects = Vec::new();
    for (count, class) in parts.iter().filter(|(count, _)| *count > 0) {
        let width = *count as f64 / total as f64 * 100.0;
        rects.push(Rect {
            x: round(x),
            y: 0.0,
            width: round(width),
            height: 1.0,
            class,
            title: format!("{count} {class}"),
        });
        x += width;
    }
    rects
}

fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_and_shares_fill_their_space() {
        let mut minutes = vec![Minute::default(); 60];
        minutes[59] = Minute { succeeded: 3, failed: 1, other: 0 };
        let bars = bars(&minutes);
        assert_eq!((bars.max, bars.total, bars.rects.len()), (4, 4, 2));
        let height: f64 = bars.rects.iter().map(|rect| rect.height).sum();
        assert!((height - HEIGHT).abs() < 0.1 && bars.rects.iter().all(|rect| rect.x < WIDTH));
        let shares = shares(&[(1, "a"), (0, "b"), (3, "c")]);
        assert_eq!((shares.len(), shares[1].x, shares[1].width), (2, 25.0, 75.0));
    }

    #[test]
    fn a_line_needs_two_moments() {
        let at = |second, pending| Sample { time: jiff::Timestamp::from_second(second).unwrap(), pending };
        assert_eq!(line(&VecDeque::from([at(0, 5)])), None);
        let line = line(&VecDeque::from([at(0, 10), at(60, 0)])).unwrap();
        assert_eq!((line.line.as_str(), line.max, line.minutes), ("M0 0L600 120", 10, 1));
    }
}
