// SPDX-License-Identifier: MIT OR Apache-2.0
//! Drawings as SVG, in the colours of the page that they stand in.

use std::fmt::Write;

use super::escaped;

/// A drawing: what is marked over two axes.
pub(super) struct Figure {
    /// Sets it apart from the page's other drawings.
    pub(super) id: &'static str,
    pub(super) title: String,
    /// What it shows, for those who do not see it.
    pub(super) description: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) marks: Vec<Mark>,
}

/// An axis, from its lower to its upper end.
pub(super) struct Axis {
    label: String,
    ends: [f64; 2],
    ticks: Vec<(f64, String)>,
}

/// Something drawn, in one of the page's colours.
pub(super) struct Mark {
    pub(super) colour: usize,
    pub(super) shape: Shape,
}

pub(super) enum Shape {
    Line(Vec<[f64; 2]>),
    Dashes(Vec<[f64; 2]>),
    Dots(Vec<[f64; 2]>),
    /// For each x the lower and the upper end.
    Band(Vec<[f64; 3]>),
    /// Likewise, each by itself.
    Bars(Vec<[f64; 3]>),
}

/// Colours before they repeat.
pub(super) const COLOURS: usize = 8;

/// Small, so that its letters are still legible on a telephone.
const SIZE: [f64; 2] = [480.0, 300.0];
/// Room for the labels: left, right, above and below.
const ROOM: [f64; 4] = [62.0, 14.0, 10.0, 46.0];
/// Ticks of an axis, about.
const TICKS: f64 = 5.0;

impl Axis {
    /// An axis that holds all of the values that are finite, with a little room around them.
    pub(super) fn of_numbers(label: &str, values: impl Iterator<Item = f64>) -> Self {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        // Of equal values the room is all that there is.
        let room = (0.05 * (high - low)).max(0.01 * high.abs()).max(1e-3);
        Self::between(label, [low - room, high + room])
    }

    /// An axis from 1 to a whole number.
    pub(super) fn of_epochs(epochs: usize) -> Self {
        let mut axis = Self::between("epoch", [1.0, epochs.max(2) as f64]);
        axis.ticks.retain(|(place, _)| place.fract() == 0.0);
        for (place, label) in &mut axis.ticks {
            *label = format!("{place:.0}");
        }
        axis
    }

    /// An axis with a name at each of the places 0, 1, 2...
    pub(super) fn of_names(label: &str, names: &[&str]) -> Self {
        let ticks = names.iter().enumerate().map(|(place, name)| (place as f64, name.to_string()));
        let ends = [-0.5, names.len() as f64 - 0.5];
        Axis { label: label.into(), ends, ticks: ticks.collect() }
    }

    fn between(label: &str, [low, high]: [f64; 2]) -> Self {
        let raw = (high - low) / TICKS;
        let power = 10_f64.powf(raw.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = steps.into_iter().find(|step| *step >= raw).unwrap_or(raw);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
        let ticks = (first..=last).map(|number| {
            let place = number as f64 * step;
            (place, format!("{place:.decimals$}"))
        });
        Axis { label: label.into(), ends: [low, high], ticks: ticks.collect() }
    }

    /// Where a value is, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (value - self.ends[0]) / (self.ends[1] - self.ends[0])
    }
}

impl Figure {
    /// As an element of a page.
    pub(super) fn svg(&self) -> String {
        let [width, height] = SIZE;
        let [left, right, above, below] = ROOM;
        let (id, title) = (self.id, escaped(&self.title));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\n\
             <title id=\"{id}-title\">{title}</title>\n<desc id=\"{id}-desc\">{}</desc>\n",
            escaped(&self.description)
        );
        for (place, label) in &self.y.ticks {
            let [_, y] = self.at([0.0, *place]);
            let _ = writeln!(
                svg,
                "<path class=\"grid\" d=\"M{left} {y:.1}H{:.1}\"/><text x=\"{}\" y=\"{:.1}\" \
                 class=\"end\">{}</text>\n",
                width - right,
                left - 6.0,
                y + 4.5,
                escaped(label)
            );
        }
        for (place, label) in &self.x.ticks {
            let [x, _] = self.at([*place, 0.0]);
            let bottom = height - below;
            let _ = writeln!(
                svg,
                "<path class=\"tick\" d=\"M{x:.1} {bottom}v5\"/><text x=\"{x:.1}\" y=\"{}\" \
                 class=\"middle\">{}</text>",
                bottom + 19.0,
                escaped(label)
            );
        }
        let [middle_x, middle_y] = [0.5 * (left + width - right), 0.5 * (above + height - below)];
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{left} {above}V{}H{}\"/>\n\
             <text x=\"{middle_x}\" y=\"{}\" class=\"middle\">{}</text>\n\
             <text transform=\"translate(14 {middle_y}) rotate(-90)\" class=\"middle\">{}</text>",
            height - below,
            width - right,
            height - 8.0,
            escaped(&self.x.label),
            escaped(&self.y.label)
        );
        for mark in &self.marks {
            self.draw(mark, &mut svg);
        }
        svg + "</svg>"
    }

    fn draw(&self, mark: &Mark, svg: &mut String) {
        let colour = mark.colour % COLOURS;
        let _ = match &mark.shape {
            Shape::Line(points) => {
                writeln!(svg, "<path class=\"line c{colour}\" d=\"{}\"/>", self.path(points))
            }
            Shape::Dashes(points) => {
                writeln!(svg, "<path class=\"dashes c{colour}\" d=\"{}\"/>", self.path(points))
            }
            Shape::Band(points) => {
                let there = points.iter().map(|[x, low, _]| [*x, *low]);
                let back = points.iter().rev().map(|[x, _, high]| [*x, *high]);
                let path = self.path(&there.chain(back).collect::<Vec<_>>());
                writeln!(svg, "<path class=\"band c{colour}\" d=\"{path}Z\"/>")
            }
            Shape::Bars(points) => points.iter().try_for_each(|[x, low, high]| {
                let path = self.path(&[[*x, *low], [*x, *high]]);
                writeln!(svg, "<path class=\"bar c{colour}\" d=\"{path}\"/>")
            }),
            Shape::Dots(points) => finite(points).try_for_each(|point| {
                let [x, y] = self.at(point);
                writeln!(
                    svg,
                    "<circle class=\"dot c{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\"/>"
                )
            }),
        };
    }

    fn path(&self, points: &[[f64; 2]]) -> String {
        let mut path = String::new();
        for (index, point) in finite(points).enumerate() {
            let [x, y] = self.at(point);
            let _ = write!(path, "{}{x:.1} {y:.1}", if index == 0 { "M" } else { "L" });
        }
        path
    }

    /// Where a point is in the drawing.
    fn at(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [width, height] = SIZE;
        let [left, right, above, below] = ROOM;
        [
            left + self.x.share(x) * (width - left - right),
            above + (1.0 - self.y.share(y)) * (height - above - below),
        ]
    }
}

fn finite(points: &[[f64; 2]]) -> impl Iterator<Item = [f64; 2]> + '_ {
    points.iter().copied().filter(|point| point.iter().all(|value| value.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!(
            labels(&Axis::between("", [0.0, 1.0])),
            ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
        );
        assert_eq!(labels(&Axis::between("", [71.0, 99.0])), ["80", "90"]);
        assert_eq!(
            labels(&Axis::between("", [-0.03, 0.02])),
            ["-0.03", "-0.02", "-0.01", "0.00", "0.01", "0.02"]
        );
        assert_eq!(labels(&Axis::of_epochs(2)), ["1", "2"]);
        assert_eq!(labels(&Axis::of_epochs(60)), ["20", "40", "60"]);
        let flat = Axis::of_numbers("", [5.0, f64::NAN, 5.0].into_iter());
        assert!(flat.ends[0] < 5.0 && flat.ends[1] > 5.0 && !flat.ticks.is_empty());
        assert_eq!(Axis::of_numbers("", std::iter::empty()).ends, [-0.05, 1.05]);
    }

    #[test]
    fn values_that_are_no_numbers_are_left_out() {
        let figure = Figure {
            id: "a",
            title: "<p>".into(),
            description: "b & c".into(),
            x: Axis::of_epochs(3),
            y: Axis::between("y", [0.0, 2.0]),
            marks: vec![Mark {
                colour: 9,
                shape: Shape::Line(vec![[1.0, 0.0], [2.0, f64::NAN], [3.0, 2.0]]),
            }],
        };
        let svg = figure.svg();
        assert!(svg.contains("<path class=\"line c1\" d=\"M62.0 254.0L466.0 10.0\"/>"), "{svg}");
        assert!(svg.contains("&lt;p&gt;</title>") && svg.contains("b &amp; c</desc>"), "{svg}");
        assert!(!svg.contains("NaN"));
    }
}
