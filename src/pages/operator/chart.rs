//! Small charts as paths of SVG.
//!
//! Input: numbers, one for each step of time; `None` where there was nothing to measure. Output: paths, which are numbers and
//! letters alone. Invariant: a path has as many points as there are steps, at most.

use std::fmt::Write as _;

/// The width of a chart in units of its `viewBox`.
const WIDTH: f64 = 600.0;
/// The height.
const HEIGHT: f64 = 120.0;
/// Above the highest value, for its line.
const ROOM: f64 = 4.0;

/// A line of a chart, and the area below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) line: String,
    pub(super) area: String,
}

/// The line through `values`, of which there are `steps` in the width of the chart, the last one at its right edge.
pub(super) fn line(values: &[Option<f64>], steps: usize, top: f64) -> Line {
    let (mut line, mut area) = (String::new(), String::new());
    let step = WIDTH / count(steps.saturating_sub(1).max(1));
    let first = WIDTH - step * count(values.len().saturating_sub(1));
    let mut begun: Option<f64> = None;
    let mut last = first;
    let close = |area: &mut String, begun: Option<f64>, last: f64| {
        if let Some(begun) = begun {
            // Writing into a string does not fail.
            let _ = write!(area, "L{last:.1} {HEIGHT}L{begun:.1} {HEIGHT}Z");
        }
    };
    for (number, value) in values.iter().enumerate() {
        let x = first + step * count(number);
        let Some(value) = value else {
            close(&mut area, begun.take(), last);
            continue;
        };
        let share = if top > 0.0 {
            (value / top).clamp(0.0, 1.0)
        } else {
            0.0
        };
        let y = HEIGHT - share * (HEIGHT - ROOM);
        let letter = if begun.is_some() { 'L' } else { 'M' };
        begun = begun.or(Some(x));
        let _ = write!(line, "{letter}{x:.1} {y:.1}");
        let _ = write!(area, "{letter}{x:.1} {y:.1}");
        last = x;
    }
    close(&mut area, begun, last);
    Line { line, area }
}

#[expect(clippy::cast_precision_loss, reason = "a chart has a few hundred steps")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_value_is_at_the_right_edge_and_the_highest_at_the_top() {
        let drawn = line(&[Some(0.0), Some(5.0), Some(10.0)], 3, 10.0);
        assert_eq!(drawn.line, "M0.0 120.0L300.0 62.0L600.0 4.0");
        assert_eq!(drawn.area, "M0.0 120.0L300.0 62.0L600.0 4.0L600.0 120L0.0 120Z");
        assert_eq!(line(&[Some(1.0)], 360, 0.0).line, "M600.0 120.0");
        assert_eq!(line(&[], 360, 1.0).line, "");
    }

    #[test]
    fn gap_is_no_line() {
        let drawn = line(&[Some(1.0), None, Some(1.0), Some(1.0)], 4, 1.0);
        assert_eq!(drawn.line, "M0.0 4.0M400.0 4.0L600.0 4.0");
        assert_eq!(
            drawn.area,
            "M0.0 4.0L0.0 120L0.0 120ZM400.0 4.0L600.0 4.0L600.0 120L400.0 120Z"
        );
    }
}
