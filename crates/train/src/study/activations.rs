//! Activations: which degree on which range gives which error, at which price.
//!
//! Functions are approximated on `[−R, R]`. What an evaluation costs is the caller's to say: this crate knows no ciphertexts.

use crate::error::{Error, Result};
use crate::plot::{Axis, Figure, Join, Panel, Point, Scale, Series};
use crate::table::Table;
use approx::least_squares::{density_samples, weighted_root_mean_square};
use approx::{Activation, Approximation, Composite, Polynomial};

/// What is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Functions with f(x) − x/2 even.
    pub functions: Vec<Activation>,
    /// Degrees of single polynomials.
    pub degrees: Vec<usize>,
    /// R of the intervals [−R, R].
    pub ranges: Vec<f64>,
    /// Precisions 2^−α of composite ReLUs (on [−1, 1]).
    pub alphas: Vec<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            functions: vec![Activation::Relu, Activation::Gelu, Activation::Silu],
            degrees: vec![2, 3, 4, 6, 8, 12, 15, 18, 23, 31, 63],
            ranges: vec![2.0, 5.0, 10.0, 20.0, 50.0],
            alphas: (8..=14).collect(),
        }
    }
}

/// How the function became a polynomial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Least squares at Chebyshev nodes: what most frameworks do.
    Chebyshev,
    /// Least squares where the data lies, as calibration does it: a normal density of deviation R/3.5 with an even floor of 2 %.
    Density,
    /// The smallest largest error.
    Minimax,
    /// x·(1 + P(x/R))/2 with a composite sign.
    Composite {
        /// Precision.
        alpha: u32,
    },
}

impl Method {
    fn name(self) -> String {
        match self {
            Self::Chebyshev => "chebyshev least squares".into(),
            Self::Density => "density least squares".into(),
            Self::Minimax => "minimax".into(),
            Self::Composite { alpha } => format!("composite sign α = {alpha}"),
        }
    }
}

/// What is to be priced.
#[derive(Clone, Copy, Debug)]
pub enum Candidate<'a> {
    /// One polynomial.
    Polynomial(&'a Polynomial),
    /// ReLU by a composite sign.
    Composite(&'a Composite),
}

/// Its price, for one full ciphertext.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Levels that it takes.
    pub levels: usize,
    /// Bootstraps for each layer in a deep network.
    pub bootstraps: f64,
    /// Predicted CPU seconds, bootstraps included.
    pub seconds: f64,
}

impl Cost {
    fn cells(&self) -> [(String, String); 3] {
        let two = |v: f64| format!("{v:.2}");
        [
            ("levels".into(), self.levels.to_string()),
            ("bootstraps".into(), two(self.bootstraps)),
            ("seconds".into(), two(self.seconds)),
        ]
    }
}

/// Whatever kept the caller from a price.
pub type CostError = Box<dyn std::error::Error + Send + Sync>;

/// One approximation.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Of which function.
    pub function: Activation,
    /// By which method.
    pub method: Method,
    /// The degree asked for; a composite's: the product of its polynomials'.
    pub degree: usize,
    /// R.
    pub range: f64,
    /// Largest error on [−R, R].
    pub sup: f64,
    /// Root mean square error under a normal density of deviation R/3.5, cut off at ±R.
    pub rms: f64,
    /// Price.
    pub cost: Cost,
}

impl Row {
    /// Largest error in units of R.
    #[must_use]
    pub fn relative(&self) -> f64 {
        self.sup / self.range
    }
}

/// Points of the density's quadrature.
const POINTS: usize = 4000;
/// Even share of the weights: what calibration takes.
const FLOOR: f64 = 0.02;

fn samples(range: f64, floor: f64) -> Vec<(f64, f64)> {
    let deviation = range / 3.5;
    let density = |x: f64| {
        (-0.5 * (x / deviation).powi(2)).exp() / (deviation * (2.0 * std::f64::consts::PI).sqrt())
    };
    density_samples(density, (-range, range), floor, POINTS)
}

/// The average of p(x) and p(−x) + x. It is no farther than p from a function whose odd part is x/2, in any symmetric measure.
fn with_odd_part_of_half_x(p: &Polynomial) -> Result<Polynomial, approx::Error> {
    let (_, range) = p.interval();
    let mut coefficients = p.coefficients().to_vec();
    coefficients.resize(coefficients.len().max(2), 0.0);
    for (k, c) in coefficients.iter_mut().enumerate() {
        if k % 2 == 1 {
            *c = if k == 1 { 0.5 * range } else { 0.0 };
        }
    }
    Polynomial::new(coefficients, (-range, range))
}

/// All rows: by function, method, range and degree, then composites.
///
/// # Errors
/// [`Error::Setting`] for a function whose odd part is not x/2, [`Error::Study`] where there is no polynomial or no price.
pub fn activations(
    options: &Options,
    cost: &dyn Fn(Candidate<'_>) -> Result<Cost, CostError>,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let price = |function, degree, candidate: Candidate<'_>| {
        let what = format!("pricing {function} at degree {degree}");
        cost(candidate).map_err(|source| Error::Study { what, source })
    };
    let failed = |function, degree, range: f64, e: approx::Error| Error::Study {
        what: format!("{function} at degree {degree} on [-{range}, {range}]"),
        source: e.into(),
    };
    for &function in &options.functions {
        let f = |x: f64| function.value(x);
        if [0.3, 1.7].iter().any(|&x| (f(x) - f(-x) - x).abs() > 1e-12) {
            let remedy =
                "f(x) - x/2 must be even, which this study relies on; take relu, gelu or silu";
            return Err(Error::setting("functions", function, remedy));
        }
        for method in [Method::Chebyshev, Method::Density, Method::Minimax] {
            for &range in &options.ranges {
                let interval = (-range, range);
                let weights = samples(range, FLOOR);
                let density = samples(range, 0.0);
                for &degree in &options.degrees {
                    let made = match method {
                        Method::Density => {
                            approx::weighted_least_squares(f, interval, degree, &weights)
                        }
                        Method::Minimax => approx::remez(f, interval, degree),
                        Method::Chebyshev | Method::Composite { .. } => {
                            approx::chebyshev_least_squares(f, interval, degree)
                        }
                    };
                    let made = made
                        .and_then(|a| with_odd_part_of_half_x(&a.polynomial))
                        .and_then(|p| Approximation::measure(f, p, None))
                        .map_err(|e| failed(function, degree, range, e))?;
                    let polynomial = &made.polynomial;
                    rows.push(Row {
                        function,
                        method,
                        degree,
                        range,
                        sup: made.sup_error,
                        rms: weighted_root_mean_square(f, |x| polynomial.eval(x), &density),
                        cost: price(function, degree, Candidate::Polynomial(polynomial))?,
                    });
                }
            }
        }
    }
    let function = Activation::Relu;
    for &alpha in &options.alphas {
        for &range in &options.ranges {
            let composite = Composite::published_relu(range, alpha)
                .map_err(|e| failed(function, 0, range, e))?;
            let degree = composite
                .polynomials()
                .iter()
                .map(Polynomial::degree)
                .product();
            let (f, density) = (|x| function.value(x), samples(range, 0.0));
            rows.push(Row {
                function,
                method: Method::Composite { alpha },
                degree,
                range,
                sup: composite.sup_error(),
                rms: weighted_root_mean_square(f, |x| composite.eval(x), &density),
                cost: price(function, degree, Candidate::Composite(&composite))?,
            });
        }
    }
    Ok(rows)
}

/// How [`csv`] begins.
pub const COLUMNS: &str = "function,method,degree,range,sup_error,sup_error_over_range,rms_error,levels,bootstraps,seconds";

/// All rows as comma-separated values.
#[must_use]
pub fn csv(rows: &[Row]) -> String {
    let mut out = format!("{COLUMNS}\n");
    for r in rows {
        let (sup, relative, cost) = (r.sup, r.relative(), r.cost);
        out += &format!(
            "{},{},{},{},{sup:.4e},{relative:.4e},{:.4e},{},{:.4},{:.4}\n",
            r.function,
            r.method.name(),
            r.degree,
            r.range,
            r.rms,
            cost.levels,
            cost.bootstraps,
            cost.seconds
        );
    }
    out
}

/// Errors to two significant digits; nothing below the precision of ciphertexts.
fn short(error: f64) -> String {
    if error < 1e-6 {
        "< 1e-6".into()
    } else if error < 1e-3 {
        format!("{error:.1e}")
    } else {
        let digits = (1 - error.log10().floor() as i32).max(0) as usize;
        format!("{error:.digits$}")
    }
}

/// Markdown: a table for each range, one of composites.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let mut out = String::new();
    let mut ranges: Vec<f64> = rows.iter().map(|r| r.range).collect();
    ranges.sort_by(f64::total_cmp);
    ranges.dedup();
    let mut functions: Vec<Activation> = Vec::new();
    for r in rows {
        if !functions.contains(&r.function) {
            functions.push(r.function);
        }
    }
    for &range in &ranges {
        let find = |f: Activation, m: Method, degree: usize| {
            rows.iter()
                .find(|r| (r.range, r.function, r.method, r.degree) == (range, f, m, degree))
        };
        let mut table = Table::default();
        let first = rows.iter().filter(|r| {
            (r.range, r.method) == (range, Method::Minimax)
                && Some(&r.function) == functions.first()
        });
        for row in first {
            let of = |f: &Activation, m| find(*f, m, row.degree);
            let costs = functions.iter().filter_map(|f| of(f, Method::Minimax));
            let dearest = costs
                .map(|r| r.cost)
                .fold(row.cost, |d, c| if c.seconds > d.seconds { c } else { d });
            let mut cells = vec![("degree".to_string(), row.degree.to_string())];
            cells.extend(dearest.cells());
            for f in &functions {
                let max = of(f, Method::Minimax).map_or(String::new(), |r| short(r.sup));
                let rms = of(f, Method::Density).map_or(String::new(), |r| short(r.rms));
                cells.extend([(format!("{f} max"), max), (format!("{f} rms"), rms)]);
            }
            table.row(cells);
        }
        out += &format!("\n### R = {range}\n\n{table}");
    }
    let (mut table, mut shown) = (Table::default(), None);
    for r in rows {
        let Method::Composite { alpha } = r.method else {
            continue;
        };
        if *shown.get_or_insert(r.range) != r.range {
            continue;
        }
        let published = approx::composite::PUBLISHED_DEGREES.iter();
        let degrees = published.filter(|(a, _)| *a == alpha).flat_map(|(_, d)| *d);
        let degrees: Vec<String> = degrees.map(usize::to_string).collect();
        let mut cells = vec![("α".into(), alpha.to_string())];
        cells.push(("degrees".into(), degrees.join(", ")));
        cells.extend(r.cost.cells());
        cells.push(("max / R".into(), format!("{:.1e}", r.relative())));
        cells.push(("rms / R".into(), format!("{:.1e}", r.rms / r.range)));
        table.row(cells);
    }
    if shown.is_some() {
        out += &format!("\n### ReLU by a composite sign (errors in units of R)\n\n{table}");
    }
    out
}

/// Relative errors below this are not drawn: ciphertexts are no more precise.
const LEAST_DRAWN: f64 = 1e-6;

/// Error against predicted latency, a panel for each of these ranges. Even degrees stand for the odd ones above them.
///
/// # Errors
/// [`Error::Chart`] where no row has one of these ranges.
pub fn chart(rows: &[Row], ranges: &[f64], command: &str) -> Result<String> {
    let panel = |&range: &f64| {
        let mut series = Vec::new();
        let drawn = |r: &&Row| r.range == range && r.relative() >= LEAST_DRAWN;
        for r in rows.iter().filter(drawn) {
            let (name, label) = match r.method {
                Method::Minimax if r.degree != 3 => (r.function.to_string(), r.degree.to_string()),
                Method::Composite { alpha } => ("relu, composite sign".into(), format!("α{alpha}")),
                _ => continue,
            };
            let point = Point {
                x: r.cost.seconds,
                y: r.relative(),
                label,
            };
            Series::add(&mut series, name, Join::Line, point);
        }
        Panel {
            title: format!("R = {range}"),
            series,
        }
    };
    Figure {
        title: "Activations: error against predicted latency (numbers: degree, α)".into(),
        command: command.into(),
        x: Axis::new("predicted CPU seconds per ciphertext", Scale::Log),
        y: Axis::new("largest error / R (minimax)", Scale::Log),
        panels: ranges.iter().map(panel).collect(),
    }
    .svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(_: Candidate<'_>) -> Result<Cost, CostError> {
        Ok(Cost {
            levels: 1,
            bootstraps: 0.0,
            seconds: 1.0,
        })
    }

    /// Largest errors of Chebyshev least squares, GELU and ReLU, measured independently of this code.
    #[test]
    fn known_errors_are_reproduced() {
        let options = Options {
            functions: vec![Activation::Gelu, Activation::Relu],
            degrees: vec![8, 18, 31],
            ranges: vec![5.0, 10.0, 20.0],
            alphas: vec![],
        };
        let rows = activations(&options, &free).expect("fits");
        for (range, degree, gelu, relu) in [
            (5.0, 8, 0.035, 0.177),
            (5.0, 18, 0.0001, 0.084),
            (10.0, 8, 0.235, 0.354),
            (10.0, 18, 0.028, 0.168),
            (10.0, 31, 0.0009, 0.103),
            (20.0, 8, 0.639, 0.707),
            (20.0, 31, 0.062, 0.205),
        ] {
            for (function, known) in [(Activation::Gelu, gelu), (Activation::Relu, relu)] {
                let row = rows
                    .iter()
                    .find(|r| {
                        (r.function, r.method, r.degree, r.range)
                            == (function, Method::Chebyshev, degree, range)
                    })
                    .expect("tried");
                let unit = if known < 0.001 { 1e-4 } else { 1e-3 };
                assert!(
                    (row.sup - known).abs() < 1.1 * unit,
                    "{function} degree {degree} R {range}: {} but {known} is known",
                    row.sup
                );
            }
        }
    }

    #[test]
    fn each_method_is_best_at_what_it_minimises() {
        let options = Options {
            degrees: vec![3, 4, 15],
            ranges: vec![5.0],
            alphas: vec![8],
            ..Options::default()
        };
        let rows = activations(&options, &free).expect("fits");
        assert_eq!(rows.len(), 3 * 3 * 3 + 1);
        for function in &options.functions {
            for degree in &options.degrees {
                let of = |m: Method| {
                    rows.iter()
                        .find(|r| (r.function, r.method, r.degree) == (*function, m, *degree))
                        .expect("tried")
                };
                let (c, d, m) = (
                    of(Method::Chebyshev),
                    of(Method::Density),
                    of(Method::Minimax),
                );
                assert!(m.sup <= 1.01 * c.sup && m.sup <= 1.01 * d.sup);
                assert!(d.rms < m.rms && d.rms < c.rms);
                assert!(m.rms < m.sup);
            }
        }
    }

    #[test]
    fn odd_terms_above_the_first_are_dropped_without_loss() {
        let p = Polynomial::new(vec![1.0, 2.4, 0.5, 1e-9, 0.1, -1e-9], (-5.0, 5.0)).expect("valid");
        let q = with_odd_part_of_half_x(&p).expect("valid");
        assert_eq!(q.coefficients(), [1.0, 2.5, 0.5, 0.0, 0.1]);
        for x in [0.5, 2.0, 4.9] {
            let average = 0.5 * (p.eval(x) + p.eval(-x) + x);
            assert!((q.eval(x) - average).abs() < 1e-12);
        }
    }

    #[test]
    fn refusals_name_the_function() {
        let tanh = Options {
            functions: vec![Activation::Tanh],
            ..Options::default()
        };
        let error = activations(&tanh, &free).expect_err("refused");
        assert!(
            error.to_string().starts_with("functions = tanh: "),
            "{error}"
        );
        let fails = |_: Candidate<'_>| Err("no levels".into());
        let error = activations(&Options::default(), &fails).expect_err("no price");
        assert_eq!(error.to_string(), "pricing relu at degree 2: no levels");
        let deep = Options {
            functions: vec![Activation::Silu],
            degrees: vec![1000],
            ..Options::default()
        };
        let error = activations(&deep, &free).expect_err("refused");
        assert!(
            error
                .to_string()
                .starts_with("silu at degree 1000 on [-2, 2]: "),
            "{error}"
        );
    }

    #[test]
    fn tables_and_chart_show_every_kind_of_row() {
        let options = Options {
            degrees: vec![2, 4],
            ranges: vec![5.0, 10.0],
            alphas: vec![8, 9],
            ..Options::default()
        };
        let rows = activations(&options, &free).expect("fits");
        assert_eq!(csv(&rows).lines().count(), 1 + rows.len());
        let table = markdown(&rows);
        assert_eq!(table.matches("\n| 2 |").count(), 2);
        assert!(table.contains("| 9 | 15, 15 |"));
        let svg = chart(&rows, &[5.0, 10.0], "study").expect("draws");
        assert!(svg.contains(">R = 10<") && svg.contains(">relu, composite sign<"));
        assert!(matches!(
            chart(&rows, &[7.0], "study"),
            Err(Error::Chart { .. })
        ));
    }
}
