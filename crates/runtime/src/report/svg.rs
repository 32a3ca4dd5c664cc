//! A report as a drawing: time by layer (bars coloured by what they are for), the staircase of levels, bits of precision.

use super::{LayerReport, PRIVATE, Report};
use crate::operation::Work;
use std::fmt::Write;

/// Height of a layer's row.
const ROW: f64 = 16.0;
/// Space above the rows.
const TOP: f64 = 64.0;
/// Where the bars of time begin, and their greatest length.
const LEFT: f64 = 190.0;
const BAR: f64 = 420.0;
/// Where the staircase of levels begins, and its width.
const LEVELS: f64 = LEFT + BAR + 70.0;
const STAIRS: f64 = 170.0;
/// Where the bars of precision begin, and their greatest length.
const PRECISION: f64 = LEVELS + STAIRS + 20.0;
const BITS: f64 = 150.0;
const WIDTH: f64 = PRECISION + BITS + 50.0;

const fn colour(work: Work) -> &'static str {
    match work {
        Work::Weights => "#3c6fb5",
        Work::Products => "#7a5fb0",
        Work::Bootstrap => "#b5473c",
        Work::Attention => "#c98a2b",
        Work::Functions => "#4a9a5b",
        Work::Rest => "#999999",
        Work::Alarm => "#c45a9a",
    }
}

/// What takes most of a layer's time.
fn main_work(layer: &LayerReport) -> Work {
    let most = (layer.seconds_by_work.iter()).max_by(|a, b| a.1.total_cmp(b.1));
    most.map_or(Work::Rest, |m| *m.0)
}

fn time(layer: &LayerReport) -> f64 {
    layer.seconds.unwrap_or(layer.predicted_cpu_seconds)
}

/// The end of a name that is too long for its column.
fn shortened(name: &str) -> String {
    const MOST: usize = 30;
    match name.chars().count() {
        0..=MOST => name.to_owned(),
        all => std::iter::once('…')
            .chain(name.chars().skip(all + 1 - MOST))
            .collect(),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

impl Report {
    /// A drawing: time by layer (bars coloured by what they are for), the staircase of levels, bits of precision.
    pub fn to_svg(&self) -> String {
        let height = TOP + ROW * self.layers.len() as f64 + 60.0;
        let largest = |least: f64, of: &dyn Fn(&LayerReport) -> f64| {
            let all = self.layers.iter().map(of).filter(|x| x.is_finite());
            all.fold(least, f64::max)
        };
        let longest = largest(f64::MIN_POSITIVE, &time);
        let levels = largest(1.0, &|l| l.level_in.max(l.level_out) as f64);
        let most_bits = largest(1.0, &|l| l.precision_bits.unwrap_or(l.predicted_bits));
        // writing to a String never fails
        let mut s = String::new();
        let _ = write!(
            s,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11\"><rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
        );
        self.draw_titles(&mut s);
        let mut stairs = String::new();
        for (i, l) in self.layers.iter().enumerate() {
            let y = TOP + ROW * i as f64;
            draw_time(&mut s, l, y, BAR * time(l) / longest);
            draw_precision(&mut s, l, y, BITS / most_bits);
            let at = |level: usize| LEVELS + STAIRS * level as f64 / levels;
            let (from, to) = (at(l.level_in), at(l.level_out));
            let _ = write!(stairs, "{from:.1},{y:.1} {to:.1},{:.1} ", y + ROW);
        }
        let _ = write!(
            s,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"#333\" stroke-width=\"1.5\"/>",
            stairs.trim_end()
        );
        self.draw_legend(&mut s, height - 24.0);
        s.push_str("</svg>\n");
        s
    }

    fn draw_titles(&self, s: &mut String) {
        let measured = match self.seconds {
            Some(_) => "measured",
            None => "predicted",
        };
        let _ = write!(
            s,
            "<text x=\"10\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{} — {:.1} s {measured}, {} bootstraps, {} bits of security</text>",
            escape(&self.network),
            self.seconds.unwrap_or(self.predicted_seconds),
            self.bootstraps,
            self.security_bits
        );
        if self.is_private() {
            let _ = write!(s, "<text x=\"10\" y=\"34\" fill=\"#b00\">{PRIVATE}</text>");
        }
        // the last ends at the edge, whatever letters are as wide as
        for (x, anchor, title) in [
            (LEFT, "start", &*format!("seconds ({measured})")),
            (LEVELS, "start", "level"),
            (WIDTH - 10.0, "end", "bits (bar: bound, dot: measured)"),
        ] {
            let _ = write!(
                s,
                "<text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"{anchor}\" fill=\"#555\">{title}</text>",
                TOP - 12.0
            );
        }
    }

    /// The colours of what the plan has.
    fn draw_legend(&self, s: &mut String, y: f64) {
        let has = |w: &Work| {
            self.layers
                .iter()
                .any(|l| l.seconds_by_work.contains_key(w))
        };
        for (i, work) in Work::ALL.into_iter().filter(has).enumerate() {
            let x = LEFT + (WIDTH - LEFT) / Work::ALL.len() as f64 * i as f64;
            let _ = write!(
                s,
                "<rect x=\"{x:.0}\" y=\"{:.0}\" width=\"10\" height=\"10\" fill=\"{}\"/><text x=\"{:.0}\" y=\"{y:.0}\">{}</text>",
                y - 9.0,
                colour(work),
                x + 14.0,
                work.name()
            );
        }
    }
}

fn draw_time(s: &mut String, l: &LayerReport, y: f64, width: f64) {
    let _ = write!(
        s,
        "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"{LEFT:.0}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.0}\" fill=\"{}\"/><text x=\"{:.1}\" y=\"{:.1}\" fill=\"#333\">{:.2}</text>",
        LEFT - 6.0,
        y + 11.0,
        escape(&shortened(&l.layer)),
        y + 2.0,
        ROW - 4.0,
        colour(main_work(l)),
        LEFT + width + 4.0,
        y + 11.0,
        time(l)
    );
}

fn draw_precision(s: &mut String, l: &LayerReport, y: f64, bit: f64) {
    if l.predicted_bits.is_finite() && l.predicted_bits > 0.0 {
        let _ = write!(
            s,
            "<rect x=\"{PRECISION:.0}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"#ddd\"/>",
            y + 2.0,
            bit * l.predicted_bits,
            ROW - 4.0
        );
    }
    if let Some(b) = l.precision_bits.filter(|b| b.is_finite()) {
        let _ = write!(
            s,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"#333\"><title>{b:.1} bits</title></circle>",
            PRECISION + bit * b.max(0.0),
            y + ROW / 2.0
        );
    }
}
