// SPDX-License-Identifier: MIT OR Apache-2.0
//! An axis as a drawing: times on the left, shares of the machine on the right.

use plotters::prelude::*;

use crate::axis::Axis;
use crate::measure::Point;
use crate::Series;

type Failed = Box<dyn std::error::Error>;

const SIZE: (u32, u32) = (1120, 460);
/// Told apart by everybody: of Okabe and Ito's.
const COLOURS: [RGBColor; 4] =
    [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(0, 158, 115), RGBColor(204, 121, 167)];
const INK: RGBColor = RGBColor(51, 51, 51);
const GRID: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "sans-serif";
/// Of the dashes of PyTorch's lines.
const DASH: u32 = 7;

/// Draws all series of an axis.
pub(crate) fn draw(axis: Axis, series: &[Series]) -> Result<String, Failed> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!("{}: {}", axis.name(), axis.subject());
        let root = root.titled(&title, (FONT, 22).into_font().color(&INK))?;
        let halves = root.split_evenly((1, 2));
        let points = || series.iter().flat_map(|series| &series.points);
        let sizes = ends(points().map(|point| point.size as f64), 1.0);
        let times = points().flat_map(|point| {
            [Some(point.ms), Some(point.bound_ms), point.torch_ms].into_iter().flatten()
        });
        let times = ends(times, 1.3);

        let mut left = ChartBuilder::on(&halves[0])
            .margin(12)
            .margin_right(28)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d((sizes.0..sizes.1).log_scale(), (times.0..times.1).log_scale())?;
        left.configure_mesh()
            .x_desc(axis.name())
            .x_label_formatter(&label)
            .y_label_formatter(&label)
            .y_desc("ms of a step; thin: the machine at best")
            .label_style((FONT, 15).into_font().color(&INK))
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (series, colour) in series.iter().zip(COLOURS) {
            let line = |value: fn(&Point) -> f64| {
                series.points.iter().map(move |point| (point.size as f64, value(point)))
            };
            left.draw_series(LineSeries::new(line(|point| point.ms), colour.stroke_width(3)))?
                .label(format!("kiln, threads {}", series.threads))
                .legend(move |(x, y)| {
                    PathElement::new(vec![(x, y), (x + 22, y)], colour.stroke_width(3))
                });
            left.draw_series(LineSeries::new(
                line(|point| point.bound_ms),
                colour.stroke_width(1),
            ))?;
            if let Some(torch) = of_torch(series, |ms, _| ms) {
                left.draw_series(dashed(torch, colour))?
                    .label(format!("PyTorch, threads {}", series.threads))
                    .legend(move |at| legend(at, colour));
            }
        }
        left.configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font((FONT, 15).into_font().color(&INK))
            .background_style(WHITE.mix(0.85))
            .border_style(GRID)
            .draw()?;

        let most = points().map(Point::share).fold(1.0, f64::max);
        let mut right = ChartBuilder::on(&halves[1])
            .margin(12)
            .margin_right(28)
            .x_label_area_size(42)
            .y_label_area_size(64)
            .build_cartesian_2d((sizes.0..sizes.1).log_scale(), 0.0..100.0 * most)?;
        right
            .configure_mesh()
            .x_desc(axis.name())
            .x_label_formatter(&label)
            .y_label_formatter(&|share| format!("{share:.0}"))
            .y_desc("% of the machine at best")
            .label_style((FONT, 15).into_font().color(&INK))
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (series, colour) in series.iter().zip(COLOURS) {
            let line = series.points.iter().map(|point| (point.size as f64, 100.0 * point.share()));
            right.draw_series(LineSeries::new(line, colour.stroke_width(3)))?;
            let share = |ms: f64, point: &Point| 100.0 * point.bound_ms / ms;
            if let Some(torch) = of_torch(series, share) {
                right.draw_series(dashed(torch, colour))?;
            }
        }
        root.present()?;
    }
    Ok(svg)
}

/// A number at a logarithmic axis; only 1, 2 and 5 of each decade, since others run into one another.
fn label(value: &f64) -> String {
    let leading = value / 10_f64.powf(value.log10().floor());
    match leading.round() as u32 {
        1 | 2 | 5 | 10 => format!("{}", (value * 1e6).round() / 1e6),
        _ => String::new(),
    }
}

/// PyTorch's line, if it has been timed: something of its milliseconds at each point.
fn of_torch(series: &Series, value: impl Fn(f64, &Point) -> f64) -> Option<Vec<(f64, f64)>> {
    let at = |point: &Point| Some((point.size as f64, value(point.torch_ms?, point)));
    let line: Vec<(f64, f64)> = series.points.iter().filter_map(at).collect();
    (!line.is_empty()).then_some(line)
}

fn dashed(
    line: Vec<(f64, f64)>,
    colour: RGBColor,
) -> DashedLineSeries<std::vec::IntoIter<(f64, f64)>, u32> {
    DashedLineSeries::new(line, DASH, DASH, colour.stroke_width(2))
}

/// A dash.
fn legend((x, y): (i32, i32), colour: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new(vec![(x, y), (x + 9, y)], colour.stroke_width(2))
}

/// The smallest and the largest value, with some room on both sides.
fn ends(values: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
    let fold = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
    let (low, high) = values.fold((f64::INFINITY, 0.0), fold);
    (low / room, high * room)
}
