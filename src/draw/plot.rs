//! Draws line plots as PNG and SVG, with bands around the lines.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use plotters::coord::combinators::BindKeyPoints;
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use crate::draw::pixels::encode_png;
use crate::files::atomic::write_atomically;

const SIZE: (u32, u32) = (960, 560);
const FONT: &str = "sans-serif";
/// Colours that people who do not see all colours can tell apart (Okabe and Ito, 2008), with grey in place of yellow.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(150, 150, 150),
];

/// One line of a plot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Line {
    /// Name in the legend.
    pub label: String,
    /// Points x and y; those that are not finite leave a gap.
    pub points: Vec<(f64, f64)>,
    /// Band as x, lower and upper bound; empty for no band.
    pub band: Vec<(f64, f64, f64)>,
}

/// How the y axis is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances are equal differences.
    #[default]
    Linear,
    /// Equal distances are equal ratios, which shows the end of a curve that falls by far. Where the values are not all above
    /// 0, or lie close together, the axis is linear all the same.
    Logarithmic,
}

/// The content of a plot.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// Title above the plot.
    pub title: String,
    /// Quantity on the x axis, with its unit.
    pub x_label: String,
    /// Quantity on the y axis, with its unit.
    pub y_label: String,
    /// How the y axis is divided.
    pub y_scale: Scale,
    /// Lines, each in a colour of its own.
    pub lines: Vec<Line>,
    /// Height of a horizontal line, such as a target.
    pub level: Option<f64>,
}

impl Plot {
    /// Writes `<stem>.png` and `<stem>.svg`; returns their paths.
    ///
    /// # Errors
    /// There is no finite point, or a file cannot be written.
    pub fn save(&self, stem: &Path) -> Result<[PathBuf; 2]> {
        let axes = self.axes().with_context(|| format!("cannot plot '{}': there is no finite value", self.title))?;
        let [png, svg] = ["png", "svg"].map(|ending| {
            let mut path = stem.as_os_str().to_owned();
            path.push(format!(".{ending}"));
            PathBuf::from(path)
        });
        // An error would mean that the bytes are no font.
        let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
        let mut pixels = vec![0; (SIZE.0 * SIZE.1 * 3) as usize];
        self.draw(&BitMapBackend::with_buffer(&mut pixels, SIZE).into_drawing_area(), &axes)?;
        encode_png(&png, &pixels, SIZE.0 as usize, SIZE.1 as usize, 3)?;
        let mut text = String::new();
        self.draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area(), &axes)?;
        write_atomically(&svg, |file| Ok(file.write_all(text.as_bytes())?))?;
        Ok([png, svg])
    }

    fn draw<B: DrawingBackend>(&self, area: &Area<B>, axes: &PlotAxes) -> Result<()> {
        let (low, high) = axes.y;
        match axes.scale {
            Scale::Linear => self.draw_on(area, axes, low..high),
            Scale::Logarithmic => self.draw_on(area, axes, (low..high).log_scale().with_key_points(ticks(axes.y))),
        }
    }

    fn draw_on<B, Y>(&self, area: &Area<B>, axes: &PlotAxes, y: Y) -> Result<()>
    where
        B: DrawingBackend,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        let x = axes.x;
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, (FONT, 22))
            .margin(12)
            .x_label_area_size(44)
            .y_label_area_size(70)
            .build_cartesian_2d(x.0..x.1, y)
            .map_err(failed)?;
        chart
            .configure_mesh()
            .x_desc(&self.x_label)
            .y_desc(&self.y_label)
            .axis_desc_style((FONT, 17))
            .x_label_formatter(&|value| number_text(*value, x))
            .y_label_formatter(&|value| axes.y_text(*value))
            .label_style((FONT, 14))
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.12))
            .draw()
            .map_err(failed)?;
        if let Some(level) = self.level {
            let line = LineSeries::new([(x.0, level), (x.1, level)], BLACK.mix(0.5).stroke_width(1));
            chart.draw_series(line).map_err(failed)?;
        }
        // Bands are drawn first, so that none hides a line.
        let coloured = || self.lines.iter().zip(COLOURS.iter().cycle());
        for (line, colour) in coloured() {
            draw_band(&mut chart, line, axes.y, *colour)?;
        }
        for (line, colour) in coloured() {
            draw_line(&mut chart, line, *colour)?;
        }
        chart
            .configure_series_labels()
            .position(self.emptiest_corner(axes))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.2))
            .label_font((FONT, 16))
            .draw()
            .map_err(failed)?;
        area.present().map_err(failed)
    }

    /// Returns the corner in which the legend hides the fewest points.
    fn emptiest_corner(&self, axes: &PlotAxes) -> SeriesLabelPosition {
        let places = || self.lines.iter().flat_map(|line| &line.points).map(|&point| axes.place(point));
        let corners = [
            (SeriesLabelPosition::UpperRight, places().filter(|at| at.0 > 0.7 && at.1 > 0.6).count()),
            (SeriesLabelPosition::LowerRight, places().filter(|at| at.0 > 0.7 && at.1 < 0.4).count()),
            (SeriesLabelPosition::UpperLeft, places().filter(|at| at.0 < 0.3 && at.1 > 0.6).count()),
            (SeriesLabelPosition::LowerLeft, places().filter(|at| at.0 < 0.3 && at.1 < 0.4).count()),
        ];
        // min_by_key takes the first of equal corners.
        corners.into_iter().min_by_key(|corner| corner.1).map_or(SeriesLabelPosition::UpperRight, |corner| corner.0)
    }

    /// Returns what the axes show: all values, with some room.
    fn axes(&self) -> Option<PlotAxes> {
        let is_finite = |&(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        let points: Vec<_> = self.lines.iter().flat_map(|line| line.points.iter().copied()).filter(is_finite).collect();
        let bands = self.lines.iter().flat_map(|line| &line.band);
        let bands = bands.flat_map(|&(x, low, high)| [(x, low), (x, high)]).filter(is_finite);
        let (least, most) = limits(points.iter().map(|point| point.1).chain(self.level));
        let scale = match self.y_scale {
            Scale::Logarithmic if least > 0.0 && most >= FEWEST_TIMES * least => Scale::Logarithmic,
            _ => Scale::Linear,
        };
        // A band may reach down to 0 and below, which has no place on a logarithmic axis.
        let lowest = if scale == Scale::Logarithmic { least / 2.0 } else { f64::NEG_INFINITY };
        let all: Vec<_> = points.iter().copied().chain(bands.filter(|point| point.1 >= lowest)).collect();
        let x = range(all.iter().map(|point| point.0), 0.0)?;
        let y = all.iter().map(|point| point.1).chain(self.level);
        let y = match scale {
            Scale::Linear => range(y, 0.05)?,
            Scale::Logarithmic => {
                let (low, high) = range(y.map(f64::ln), 0.05)?;
                (low.exp(), high.exp())
            }
        };
        Some(PlotAxes { x, y, scale })
    }
}

/// The ratio of the largest to the least value from which on a logarithmic axis is one.
const FEWEST_TIMES: f64 = 3.0;

type Range = (f64, f64);
type Area<B> = DrawingArea<B, plotters::coord::Shift>;
type Chart<'a, B, Y> = ChartContext<'a, B, Cartesian2d<RangedCoordf64, Y>>;

/// What both axes show.
#[derive(Clone, Copy, Debug, PartialEq)]
struct PlotAxes {
    x: Range,
    y: Range,
    /// How the y axis is divided.
    scale: Scale,
}

impl PlotAxes {
    /// Returns the place of a point as shares of both axes, from 0 at the left and at the bottom to 1.
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let share = |value: f64, (low, high): Range| (value - low) / (high - low);
        let height = match self.scale {
            Scale::Linear => share(y, self.y),
            Scale::Logarithmic => share(y.ln(), (self.y.0.ln(), self.y.1.ln())),
        };
        (share(x, self.x), height)
    }

    fn y_text(&self, value: f64) -> String {
        match self.scale {
            Scale::Linear => number_text(value, self.y),
            // A tick is 1, 2, 3, 5 or 7 times a power of ten.
            Scale::Logarithmic => number_text(value, (0.0, value)),
        }
    }
}

/// Returns the values that a logarithmic axis is labelled at: 1, 2 and 5 times the powers of ten, 3 and 7 times too where that is few.
fn ticks((low, high): Range) -> Vec<f64> {
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let within = |factors: &[f64]| -> Vec<f64> {
        let all = powers.clone().flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
        all.filter(|value| (low..=high).contains(value)).collect()
    };
    let ticks = within(&[1.0, 2.0, 5.0]);
    if ticks.len() < 5 { within(&[1.0, 2.0, 3.0, 5.0, 7.0]) } else { ticks }
}

fn draw_band<B: DrawingBackend, Y: Ranged<ValueType = f64>>(
    chart: &mut Chart<'_, B, Y>,
    line: &Line,
    (lowest, _): Range,
    colour: RGBColor,
) -> Result<()> {
    let upper = line.band.iter().map(|&(x, _, high)| (x, high));
    let lower = line.band.iter().rev().map(|&(x, low, _)| (x, low.max(lowest)));
    let outline: Vec<_> = upper.chain(lower).filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    if outline.len() > 2 {
        chart.draw_series([Polygon::new(outline, colour.mix(0.18))]).map_err(failed)?;
    }
    Ok(())
}

fn draw_line<B: DrawingBackend, Y: Ranged<ValueType = f64>>(
    chart: &mut Chart<'_, B, Y>,
    line: &Line,
    colour: RGBColor,
) -> Result<()> {
    let style = colour.stroke_width(2);
    for (index, piece) in line.points.split(|(x, y)| !x.is_finite() || !y.is_finite()).enumerate() {
        let series = chart.draw_series(LineSeries::new(piece.iter().copied(), style)).map_err(failed)?;
        if index == 0 {
            let sample = move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style);
            series.label(&line.label).legend(sample);
        }
    }
    Ok(())
}

/// Returns the range from the least to the largest value, and `room` of its width on both sides; equal values lie in
/// the middle of a range as wide as they are large, at least 1.
fn range(values: impl Iterator<Item = f64>, room: f64) -> Option<Range> {
    let (low, high) = limits(values);
    let width = if high > low { high - low } else { low.abs().max(1.0) };
    let room = if high > low { width * room } else { width / 2.0 };
    (low <= high).then_some((low - room, high + room))
}

/// Returns the least and the largest of values; infinity and its negative where there are none.
fn limits(values: impl Iterator<Item = f64>) -> Range {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

/// Writes a number with as many digits behind the point as tell a hundredth of the axis.
fn number_text(value: f64, (low, high): Range) -> String {
    let digits = (2.0 - (high - low).log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    // What rounds to zero from below is no "-0".
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn failed(error: impl Display) -> anyhow::Error {
    anyhow!("cannot draw the plot: {error}")
}

/// Returns the centred mean over `window` points (odd) at every point, over fewer at the ends; 1 leaves the points as
/// they are.
///
/// # Errors
/// The window is 0 or another even number.
pub fn smoothed(points: &[(f64, f64)], window: usize) -> Result<Vec<(f64, f64)>> {
    ensure!(window % 2 == 1, "cannot smooth over {window} points; pass an odd number");
    let mean = |index: usize| {
        let reach = (window / 2).min(index).min(points.len() - 1 - index);
        let near = &points[index - reach..=index + reach];
        near.iter().map(|point| point.1).sum::<f64>() / near.len() as f64
    };
    Ok(points.iter().enumerate().map(|(index, &(x, _))| (x, mean(index))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(label: &str, points: &[(f64, f64)]) -> Line {
        let band = points.iter().map(|&(x, y)| (x, y - 0.5, y + 0.5)).collect();
        Line { label: label.to_owned(), points: points.to_vec(), band }
    }

    #[test]
    fn labels_have_the_digits_of_their_axis() {
        let labels = |low: f64, high: f64, values: &[f64]| {
            values.iter().map(|&value| number_text(value, (low, high))).collect::<Vec<_>>()
        };
        assert_eq!(labels(0.0, 6e-5, &[0.0, 1e-5, 5.5e-5]), ["0", "0.00001", "0.000055"]);
        assert_eq!(labels(-1.0, 1.0, &[-1.0, -1e-17, 0.25]), ["-1", "0", "0.25"]);
        assert_eq!(labels(0.0, 25_000.0, &[0.0, 500.0, 20_000.0]), ["0", "500", "20000"]);
    }

    #[test]
    fn a_plot_is_written_as_png_and_svg_with_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let lines = vec![
            line("rooted, k = 2", &[(0.0, 1.0), (1.0, 3.0), (2.0, f64::NAN), (3.0, 2.0)]),
            line("logistic", &[(0.0, 2.0), (3.0, 1.0)]),
        ];
        let plot = Plot {
            title: "FID against images".to_owned(),
            x_label: "kimg".to_owned(),
            y_label: "fid10k".to_owned(),
            y_scale: Scale::Linear,
            lines,
            level: Some(0.6),
        };
        let [png, svg] = plot.save(&folder.path().join("out")).unwrap();
        let picture = image::open(png).unwrap().into_rgb8();
        assert_eq!(picture.dimensions(), SIZE);
        for colour in &COLOURS[..2] {
            assert!(picture.pixels().any(|pixel| pixel.0 == [colour.0, colour.1, colour.2]), "{colour:?}");
        }
        let text = std::fs::read_to_string(svg).unwrap();
        for words in ["FID against images", "kimg", "fid10k", "rooted, k = 2", "logistic"] {
            assert!(text.contains(words), "'{words}' is missing");
        }
    }

    #[test]
    fn the_legend_goes_where_the_fewest_points_are() {
        let corner = |points: &[(f64, f64)]| {
            let plot = Plot { lines: vec![line("x", points)], ..Plot::default() };
            plot.emptiest_corner(&PlotAxes { x: (0.0, 1.0), y: (0.0, 1.0), scale: Scale::Linear })
        };
        assert!(matches!(corner(&[(0.9, 0.1)]), SeriesLabelPosition::UpperRight));
        assert!(matches!(corner(&[(0.1, 0.2), (0.9, 0.9)]), SeriesLabelPosition::LowerRight));
        assert!(matches!(corner(&[(0.9, 0.2), (0.9, 0.9)]), SeriesLabelPosition::UpperLeft));
    }

    #[test]
    fn a_logarithmic_axis_has_ticks_at_round_numbers_and_bands_that_end_at_it() {
        let labels =
            |low, high| ticks((low, high)).iter().map(|&tick| number_text(tick, (0.0, tick))).collect::<Vec<_>>();
        assert_eq!(labels(0.13, 2.6), ["0.2", "0.3", "0.5", "0.7", "1", "2"]);
        assert_eq!(labels(0.9, 210.0), ["1", "2", "5", "10", "20", "50", "100", "200"]);
        let plot =
            |points: &[(f64, f64)], scale| Plot { lines: vec![line("x", points)], y_scale: scale, ..Plot::default() };
        let falling = plot(&[(0.0, 2.4), (1.0, 0.4), (2.0, 0.15)], Scale::Logarithmic);
        let axes = falling.axes().unwrap();
        assert_eq!(axes.scale, Scale::Logarithmic);
        // The bands reach from -0.35 to 2.9.
        assert!((0.05..0.15).contains(&axes.y.0) && (2.9..4.0).contains(&axes.y.1), "{axes:?}");
        let heights = [axes.y.0, (axes.y.0 * axes.y.1).sqrt(), axes.y.1].map(|y| axes.place((0.0, y)).1);
        assert!(
            heights.iter().zip([0.0, 0.5, 1.0]).all(|(found, expected)| (found - expected).abs() < 1e-9),
            "{heights:?}"
        );
        assert_eq!([0.05, 0.2, 7.0, 300.0].map(|tick| axes.y_text(tick)), ["0.05", "0.2", "7", "300"]);
        let folder = tempfile::tempdir().unwrap();
        let [_, svg] = falling.save(&folder.path().join("out")).unwrap();
        let text = std::fs::read_to_string(svg).unwrap();
        assert!(text.contains("\n0.2\n") && text.contains("\n2\n"), "{text}");

        for points in [[(0.0, -1.0), (1.0, 8.0)], [(0.0, 0.0), (1.0, 8.0)], [(0.0, 4.0), (1.0, 5.0)]] {
            assert_eq!(plot(&points, Scale::Logarithmic).axes().unwrap().scale, Scale::Linear, "{points:?}");
        }
        assert_eq!(plot(&[(0.0, 2.4), (1.0, 0.15)], Scale::Linear).axes().unwrap().scale, Scale::Linear);
    }

    #[test]
    fn nothing_finite_is_an_error_and_one_point_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let plot = |points: &[(f64, f64)]| Plot { lines: vec![line("x", points)], ..Plot::default() };
        assert!(plot(&[(0.0, f64::NAN)]).save(&folder.path().join("a")).is_err());
        assert!(plot(&[(5.0, 5.0)]).save(&folder.path().join("b")).is_ok());
    }

    #[test]
    fn smoothing_takes_the_mean_of_neighbours_and_fewer_at_the_ends() {
        let points = [(0.0, 1.0), (1.0, 2.0), (2.0, 6.0), (3.0, 1.0)];
        assert_eq!(smoothed(&points, 3).unwrap(), [(0.0, 1.0), (1.0, 3.0), (2.0, 3.0), (3.0, 1.0)]);
        assert!(smoothed(&points, 2).is_err());
    }
}
