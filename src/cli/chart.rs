// SPDX-License-Identifier: MIT OR Apache-2.0
//! Curves of accuracy and loss as an SVG.

use std::fmt::Display;
use std::ops::Range;

use kiln::{Error, Result};
use plotters::coord::types::{RangedCoordf64, RangedCoordu32};
use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::metrics::Epoch;

/// The history of one run.
pub(super) struct Curve<'a> {
    /// What sets the run apart from the others; may be empty.
    pub(super) label: String,
    pub(super) history: &'a [Epoch],
}

/// The most runs that one drawing tells apart.
pub(super) const MOST_CURVES: usize = 8;

/// One of the drawing's two halves.
struct Panel {
    caption: &'static str,
    unit: &'static str,
    decimals: usize,
    train: fn(&Epoch) -> f64,
    test: fn(&Epoch) -> f64,
    legend: SeriesLabelPosition,
}

const SIZE: (u32, u32) = (1120, 500);
/// Told apart by everybody: Okabe and Ito's, but for black.
const COLOURS: [RGBColor; MOST_CURVES] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
    RGBColor(150, 75, 0),
];
const INK: RGBColor = RGBColor(51, 51, 51);
const GRID: RGBColor = RGBColor(225, 225, 225);
const FONT: &str = "sans-serif";

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Axes<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordu32, RangedCoordf64>>;

/// Draws accuracy and loss over epochs, for training and test, of one run or several.
pub(super) fn draw(title: &str, curves: &[Curve<'_>]) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(undrawn)?;
        let heading = (FONT, 26).into_font().color(&INK);
        let root = root.titled(title, heading).map_err(undrawn)?;
        let panels = [
            Panel {
                caption: "accuracy",
                unit: "%",
                decimals: 0,
                train: |epoch| 100.0 * epoch.train_accuracy,
                test: |epoch| 100.0 * epoch.test_accuracy,
                legend: SeriesLabelPosition::LowerRight,
            },
            Panel {
                caption: "loss",
                unit: "cross-entropy",
                decimals: 1,
                train: |epoch| epoch.train_loss,
                test: |epoch| epoch.test_loss,
                legend: SeriesLabelPosition::UpperRight,
            },
        ];
        for (area, panel) in root.split_evenly((1, panels.len())).iter().zip(panels) {
            draw_panel(area, &panel, curves)?;
        }
        root.present().map_err(undrawn)?;
    }
    Ok(svg)
}

fn draw_panel(area: &Area<'_>, panel: &Panel, curves: &[Curve<'_>]) -> Result<()> {
    let epochs = curves.iter().map(|curve| curve.history.len()).max().unwrap_or(0).max(2);
    let mut axes = ChartBuilder::on(area)
        .margin(12)
        .caption(panel.caption, (FONT, 20).into_font().color(&INK))
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(1..epochs as u32, range(panel, curves))
        .map_err(undrawn)?;
    axes.configure_mesh()
        .x_desc("epoch")
        .y_desc(panel.unit)
        .y_label_formatter(&|value| format!("{value:.*}", panel.decimals))
        .label_style((FONT, 16).into_font().color(&INK))
        .axis_style(INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(undrawn)?;
    for (curve, colour) in curves.iter().zip(COLOURS.into_iter().cycle()) {
        draw_curve(&mut axes, panel, curve, colour)?;
    }
    axes.configure_series_labels()
        .position(panel.legend.clone())
        .label_font((FONT, 16).into_font().color(&INK))
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .draw()
        .map_err(undrawn)
}

/// The test as a solid line, training as a dashed one.
fn draw_curve(
    axes: &mut Axes<'_, '_>,
    panel: &Panel,
    curve: &Curve<'_>,
    colour: RGBColor,
) -> Result<()> {
    let points = |value: fn(&Epoch) -> f64| {
        let points = curve.history.iter().map(move |epoch| (epoch.epoch as u32, value(epoch)));
        points.filter(|(_, value)| value.is_finite()).collect::<Vec<_>>()
    };
    let label = |part: &str| format!("{part} {}", curve.label).trim().to_string();
    let (solid, dashed) = (colour.stroke_width(2), colour.stroke_width(1));
    axes.draw_series(LineSeries::new(points(panel.test), solid))
        .map_err(undrawn)?
        .label(label("test"))
        .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 22, y)], solid));
    axes.draw_series(DashedLineSeries::new(points(panel.train), 6, 4, dashed))
        .map_err(undrawn)?
        .label(label("train"))
        .legend(move |(x, y)| DashedPathElement::new([(x, y), (x + 22, y)], 6, 4, dashed));
    Ok(())
}

/// All finite values of a panel with a little room around them.
fn range(panel: &Panel, curves: &[Curve<'_>]) -> Range<f64> {
    let epochs = curves.iter().flat_map(|curve| curve.history);
    let values = epochs.flat_map(|epoch| [(panel.train)(epoch), (panel.test)(epoch)]);
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low > high {
        return 0.0..1.0;
    }
    let room = ((high - low) * 0.05).max(0.01);
    (low - room).max(0.0)..high + room
}

fn undrawn(error: impl Display) -> Error {
    Error::Internal { pass: "chart", message: error.to_string() }
}
