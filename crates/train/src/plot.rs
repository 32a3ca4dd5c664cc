//! Charts as SVG: points and lines on linear or logarithmic axes, in panels that share axes and a legend.
//!
//! Made for print: every series has its own marker and dash besides its colour, and the command that made the chart stands below it.
//! The same figure gives the same bytes.

mod ruler;

use crate::error::{Error, Result};
use ruler::Ruler;
pub use ruler::Scale;
use std::fmt::Write as _;

/// An axis.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it shows, with its unit.
    pub label: String,
    /// How it runs.
    pub scale: Scale,
}

/// A point of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// Horizontal.
    pub x: f64,
    /// Vertical.
    pub y: f64,
    /// Written beside it, where there is room; may be empty.
    pub label: String,
}

/// Points of one kind; a series of the same name looks the same in every panel.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in the order in which a line joins them.
    pub points: Vec<Point>,
    /// Whether they are joined.
    pub join: Join,
}

/// Whether the points of a series are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// Points alone.
    Points,
    /// Points and straight lines between them.
    Line,
}

impl Series {
    /// Adds a point to the series of this name, which begins with its first point.
    pub(crate) fn add(all: &mut Vec<Self>, name: String, join: Join, point: Point) {
        match all.iter_mut().find(|s| s.name == name) {
            Some(s) => s.points.push(point),
            None => all.push(Self {
                name,
                points: vec![point],
                join,
            }),
        }
    }
}

/// One chart of a figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// Above it; may be empty.
    pub title: String,
    /// What it shows.
    pub series: Vec<Series>,
}

/// A figure: one or more panels side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Above everything.
    pub title: String,
    /// The command that made it.
    pub command: String,
    /// All panels' horizontal axis.
    pub x: Axis,
    /// All panels' vertical axis.
    pub y: Axis,
    /// From left to right.
    pub panels: Vec<Panel>,
}

/// Colours that are told apart with any colour vision (Okabe and Ito), dark ones first.
const COLOURS: [&str; 7] = [
    "#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00",
];
const DASHES: [&str; 4] = ["", "6 3", "2 2", "8 2 2 2"];
/// Markers within ±1 of the point; an even number of them is filled, so that neighbours differ in both.
const MARKERS: [&str; 6] = [
    "M1 0A1 1 0 1 1 -1 0A1 1 0 1 1 1 0Z",
    "M-.9 -.9H.9V.9H-.9Z",
    "M0 -1.1L1.1 .9H-1.1Z",
    "M0 -1.2L1.2 0L0 1.2L-1.2 0Z",
    "M0 1.1L1.1 -.9H-1.1Z",
    "M-1 -1L1 1M-1 1L1 -1",
];
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 58.0;
const GAP: f64 = 16.0;
const LEGEND_ROW: f64 = 18.0;

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Axis {
    /// Of this label.
    #[must_use]
    pub fn new(label: &str, scale: Scale) -> Self {
        Self {
            label: label.into(),
            scale,
        }
    }
}

impl Figure {
    /// The figure as an SVG file.
    ///
    /// # Errors
    /// [`Error::Chart`] for a figure without points, or with one that has no place on its axes.
    pub fn svg(&self) -> Result<String> {
        let refuse = |reason: String| {
            let title = self.title.clone();
            Err(Error::Chart { title, reason })
        };
        let series = || self.panels.iter().flat_map(|p| &p.series);
        let mut names: Vec<&str> = Vec::new();
        for s in series() {
            if !names.contains(&s.name.as_str()) {
                names.push(&s.name);
            }
            let bad =
                |axis: &Axis, v: f64| !v.is_finite() || (axis.scale == Scale::Log && v <= 0.0);
            let bad = |p: &&Point| bad(&self.x, p.x) || bad(&self.y, p.y);
            if let Some(&Point { x, y, .. }) = s.points.iter().find(bad) {
                return refuse(format!(
                    "point ({x}, {y}) of series {} is not finite, or not positive on a logarithmic axis; leave it out or take a linear axis",
                    s.name
                ));
            }
        }
        let points = || series().flat_map(|s| &s.points);
        if points().next().is_none() {
            return refuse("there are no points; give every figure at least one".into());
        }
        let x = Ruler::new(self.x.scale, points().map(|p| p.x));
        let y = Ruler::new(self.y.scale, points().map(|p| p.y));
        let each = if self.panels.len() == 1 { 520.0 } else { 290.0 };
        let width = LEFT + self.panels.len() as f64 * (each + GAP) + 8.0;
        let columns = (if self.panels.len() == 1 { 3 } else { 5 }).min(names.len());
        let legend = TOP + HEIGHT + 52.0;
        let bottom = legend + names.len().div_ceil(columns) as f64 * LEGEND_ROW + 10.0;
        let mut svg = String::new();
        let out = &mut svg;
        // writing to a string cannot fail
        let _ = writeln!(
            out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {h}\" width=\"{width}\" height=\"{h}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#000\">\n<title>{t}</title>\n<desc>{c}</desc>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
            h = bottom + 14.0,
            t = escaped(&self.title),
            c = escaped(&self.command),
        );
        let style = "font-size=\"14\" font-weight=\"bold\"";
        text(out, LEFT, 20.0, style, &self.title);
        let _ = writeln!(
            out,
            "<text transform=\"translate(15 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            TOP + HEIGHT / 2.0,
            escaped(&self.y.label)
        );
        let frame = Frame {
            figure: self,
            x,
            y,
            names,
            each,
        };
        for (i, panel) in self.panels.iter().enumerate() {
            frame.axes(out, i, panel);
            frame.series(out, i, panel);
        }
        for (i, name) in frame.names.iter().enumerate() {
            let lx = LEFT + (i % columns) as f64 * (width - LEFT) / columns as f64;
            let ly = legend + (i / columns) as f64 * LEGEND_ROW;
            if series().any(|s| s.name == *name && s.join == Join::Line) {
                line(out, i, &format!("{lx:.1} {ly:.1}h28"));
            }
            marker(out, i, lx + 14.0, ly);
            text(out, lx + 34.0, ly + 4.0, "", name);
        }
        let style = "font-size=\"9\" font-family=\"monospace\" fill=\"#444\"";
        text(out, LEFT, bottom + 4.0, style, &self.command);
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

/// What all panels of a plot share.
struct Frame<'a> {
    figure: &'a Figure,
    x: Ruler,
    y: Ruler,
    /// The series' names, which decide their styles.
    names: Vec<&'a str>,
    /// Width of a panel.
    each: f64,
}

impl Frame<'_> {
    fn left(&self, i: usize) -> f64 {
        LEFT + i as f64 * (self.each + GAP)
    }

    fn axes(&self, out: &mut String, i: usize, panel: &Panel) {
        let left = self.left(i);
        let (centre, middle) = (left + self.each / 2.0, "text-anchor=\"middle\"");
        let bold = format!("{middle} font-weight=\"bold\"");
        text(out, centre, TOP - 8.0, &bold, &panel.title);
        for &t in &self.x.ticks {
            let px = left + self.each * self.x.place(t);
            let _ = writeln!(out, "<path d=\"M{px:.1} {TOP}v{HEIGHT}\" stroke=\"#ddd\"/>");
            text(out, px, TOP + HEIGHT + 15.0, middle, &Ruler::text(t));
        }
        for &t in &self.y.ticks {
            let py = TOP + HEIGHT * (1.0 - self.y.place(t));
            let _ = writeln!(
                out,
                "<path d=\"M{left} {py:.1}h{}\" stroke=\"#ddd\"/>",
                self.each
            );
            if i == 0 {
                let style = "text-anchor=\"end\"";
                text(out, left - 6.0, py + 4.0, style, &Ruler::text(t));
            }
        }
        let _ = writeln!(
            out,
            "<rect x=\"{left}\" y=\"{TOP}\" width=\"{}\" height=\"{HEIGHT}\" fill=\"none\" stroke=\"#000\"/>",
            self.each
        );
        let label = &self.figure.x.label;
        text(out, centre, TOP + HEIGHT + 34.0, middle, label);
    }

    fn series(&self, out: &mut String, i: usize, panel: &Panel) {
        let left = self.left(i);
        let at = |p: &Point| {
            (
                left + self.each * self.x.place(p.x),
                TOP + HEIGHT * (1.0 - self.y.place(p.y)),
            )
        };
        let points = panel.series.iter().flat_map(|s| &s.points);
        let markers: Vec<(f64, f64)> = points.map(at).collect();
        // (left, baseline, width) of labels that are written
        let mut labels: Vec<(f64, f64, f64)> = Vec::new();
        for s in &panel.series {
            let style = self.names.iter().position(|n| *n == s.name).unwrap_or(0);
            if s.join == Join::Line {
                let path: Vec<String> = s
                    .points
                    .iter()
                    .map(|p| format!("{:.1} {:.1}", at(p).0, at(p).1))
                    .collect();
                line(out, style, &path.join("L"));
            }
            for p in &s.points {
                let (px, py) = at(p);
                marker(out, style, px, py);
                let long = 5.5 * p.label.chars().count() as f64;
                let clear = |&(lx, ly): &(f64, f64)| {
                    let inside = left < lx
                        && lx + long < left + self.each
                        && TOP + 8.0 < ly
                        && ly < TOP + HEIGHT - 2.0;
                    inside
                        && markers.iter().all(|&(mx, my)| {
                            mx < lx - 3.5 || mx > lx + long + 3.5 || my < ly - 10.5 || my > ly + 3.5
                        })
                        && labels
                            .iter()
                            .all(|l| (l.1 - ly).abs() > 9.0 || lx > l.0 + l.2 || l.0 > lx + long)
                };
                let places = [
                    (px + 6.0, py - 4.0),
                    (px + 7.0, py + 4.0),
                    (px + 5.0, py + 11.0),
                    (px - 5.0 - long, py - 4.0),
                    (px - 6.0 - long, py + 8.0),
                ];
                if !p.label.is_empty()
                    && let Some((lx, ly)) = places.into_iter().find(clear)
                {
                    let rest = format!("font-size=\"9\" fill=\"{}\"", colour(style));
                    text(out, lx, ly, &rest, &p.label);
                    labels.push((lx, ly, long));
                }
            }
        }
    }
}

fn text(out: &mut String, x: f64, y: f64, rest: &str, content: &str) {
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" {rest}>{}</text>",
        escaped(content)
    );
}

fn colour(style: usize) -> &'static str {
    COLOURS[style % COLOURS.len()]
}

fn line(out: &mut String, style: usize, path: &str) {
    let dash = DASHES[style % DASHES.len()];
    let _ = writeln!(
        out,
        "<path d=\"M{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.4\" stroke-dasharray=\"{dash}\"/>",
        colour(style)
    );
}

fn marker(out: &mut String, style: usize, x: f64, y: f64) {
    let fill = if style.is_multiple_of(2) {
        colour(style)
    } else {
        "#fff"
    };
    let _ = writeln!(
        out,
        "<path transform=\"translate({x:.1} {y:.1}) scale(3.4)\" d=\"{}\" fill=\"{fill}\" stroke=\"{}\" stroke-width=\".35\"/>",
        MARKERS[style % MARKERS.len()],
        colour(style)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(points: Vec<(f64, f64)>, scale: Scale) -> Figure {
        let axis = |label: &str| Axis {
            label: label.into(),
            scale,
        };
        let point = |(x, y): (f64, f64)| Point {
            x,
            y,
            label: "a<b".into(),
        };
        Figure {
            title: "errors & costs".into(),
            command: "polyveil-train study".into(),
            x: axis("seconds"),
            y: axis("error"),
            panels: vec![Panel {
                title: "R = 5".into(),
                series: vec![Series {
                    name: "relu".into(),
                    points: points.into_iter().map(point).collect(),
                    join: Join::Line,
                }],
            }],
        }
    }

    #[test]
    fn points_lie_where_the_axes_say() {
        let svg = figure(vec![(0.0, 0.0), (10.0, 5.0)], Scale::Linear)
            .svg()
            .expect("draws");
        // the ends of both axes: the lower left and the upper right corner of the panel
        assert!(svg.contains(&format!("translate({LEFT:.1} {:.1})", TOP + HEIGHT)));
        assert!(svg.contains(&format!("translate({:.1} {TOP:.1})", LEFT + 520.0)));
        assert!(svg.contains("errors &amp; costs") && svg.contains(">a&lt;b<"));
        assert!(svg.contains(">polyveil-train study<"));
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn what_has_no_place_is_refused() {
        for (points, scale, what) in [
            (vec![], Scale::Linear, "no points"),
            (vec![(1.0, f64::NAN)], Scale::Linear, "not finite"),
            (vec![(0.0, 1.0)], Scale::Log, "not positive"),
        ] {
            let error = figure(points, scale).svg().expect_err("refused");
            assert!(error.to_string().contains(what), "{error}");
        }
    }
}
