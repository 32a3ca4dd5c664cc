//! From a method to its steps and its proven error.

use super::start::{self, Start, middle_and_half, theta};
use super::{FIRST, Function, INPUT, Method, NUMERATOR, Program, Step};
use crate::error::Error;
use std::collections::BTreeMap;

impl Program {
    /// The method's program on the interval.
    ///
    /// # Errors
    /// [`Error::Positive`] unless 0 < low < high; [`Error::Method`] for a method that the function doesn't have; [`Error::Degree`] and
    /// [`Error::NotConverged`] where a start can't be had; [`Error::Precision`] above 100 bits.
    pub fn new(function: Function, interval: (f64, f64), method: Method) -> Result<Self, Error> {
        Builder::new(function, interval)?.build(method)
    }
}

/// Makes the programs of one function on one interval; starts are kept, since the exchange algorithm takes up to a second.
pub(super) struct Builder {
    function: Function,
    interval: (f64, f64),
    /// l/h.
    ratio: f64,
    starts: BTreeMap<usize, Result<Start, Error>>,
}

/// Steps under construction.
struct Draft {
    steps: Vec<Step>,
}

impl Draft {
    fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        FIRST + self.steps.len() - 1
    }
    fn polynomial(&mut self, start: &Start) -> usize {
        self.push(Step::Polynomial {
            of: INPUT,
            polynomial: start.polynomial.clone(),
        })
    }
    fn sum(&mut self, terms: &[(f64, usize)], constant: f64) -> usize {
        self.push(Step::Sum {
            terms: terms.to_vec(),
            constant,
        })
    }
    /// factor·left·right + Σ c·v.
    fn product(&mut self, factor: i32, left: usize, right: usize, add: &[(f64, usize)]) -> usize {
        self.push(Step::Multiply {
            factor,
            left,
            right,
            add: add.to_vec(),
            constant: 0.0,
        })
    }
    /// 2v² − 1.
    fn double(&mut self, v: usize) -> usize {
        self.push(Step::Multiply {
            factor: 2,
            left: v,
            right: v,
            add: Vec::new(),
            constant: -1.0,
        })
    }
}

impl Builder {
    pub(super) fn new(function: Function, interval: (f64, f64)) -> Result<Self, Error> {
        let (low, high) = interval;
        let ratio = low / high;
        if !(low > 0.0 && high.is_finite() && ratio > 0.0 && ratio < 1.0) {
            return Err(Error::Positive { low, high });
        }
        Ok(Self {
            function,
            interval,
            ratio,
            starts: BTreeMap::new(),
        })
    }

    pub(super) fn ratio(&self) -> f64 {
        self.ratio
    }

    pub(super) fn has_numerator(&self) -> bool {
        self.function.has_numerator()
    }

    /// The start of this degree.
    pub(super) fn start(&mut self, degree: usize) -> Result<&Start, Error> {
        let (function, ratio) = (self.function, self.ratio);
        self.starts
            .entry(degree)
            .or_insert_with(|| {
                if function.has_root() {
                    start::inverse_square_root(ratio, degree)
                } else {
                    start::reciprocal(ratio, degree)
                }
            })
            .as_ref()
            .map_err(Clone::clone)
    }

    pub(super) fn build(&mut self, method: Method) -> Result<Program, Error> {
        let refused = Err(Error::Method {
            function: self.function.name(),
            method: method.to_string(),
        });
        match method {
            Method::Polynomial { degree } => self.polynomial(method, degree),
            Method::Goldschmidt { steps }
                if !self.function.has_root() && (1..=40).contains(&steps) =>
            {
                Ok(self.goldschmidt(method, steps))
            }
            Method::OverRelaxation { start, steps }
                if !self.function.has_root()
                    && (start == 1 && steps >= 1 || start == 3)
                    && steps <= 40 =>
            {
                self.over_relaxation(method, start, steps)
            }
            Method::Newton { degree, steps } | Method::RelaxedNewton { degree, steps }
                if degree >= 1 && (1..=40).contains(&steps) =>
            {
                self.newton(method, degree, steps)
            }
            _ => refused,
        }
    }

    fn program(
        &self,
        method: Method,
        input: (f64, f64),
        draft: Draft,
        output: f64,
        error: f64,
    ) -> Program {
        let h = self.interval.1;
        let unit = if self.function.has_root() {
            h.sqrt()
        } else {
            h
        };
        Program {
            function: self.function,
            method,
            interval: self.interval,
            input: (input.0 / h, input.1),
            steps: draft.steps,
            output: output / unit,
            error,
        }
    }

    /// (scale, shift) of t = scale·ξ + shift.
    fn to_t(&self) -> (f64, f64) {
        let (middle, half) = middle_and_half(self.ratio);
        (1.0 / half, -middle / half)
    }

    fn polynomial(&mut self, method: Method, degree: usize) -> Result<Program, Error> {
        let start = self.start(degree)?.clone();
        let mut draft = Draft { steps: Vec::new() };
        let y = draft.polynomial(&start);
        if self.function.has_numerator() {
            draft.product(1, NUMERATOR, y, &[]);
        }
        Ok(self.program(method, self.to_t(), draft, 1.0, start.error))
    }

    /// r₀ = 1 − ξ/middle, y = (1/middle)·Π (1 + r_k), 1 − ξy = r_steps.
    fn goldschmidt(&self, method: Method, steps: u32) -> Program {
        let (middle, half) = middle_and_half(self.ratio);
        let mut draft = Draft { steps: Vec::new() };
        let mut r = INPUT;
        let mut z = self.first_factor(&mut draft, 1.0, INPUT);
        for _ in 1..steps {
            r = draft.product(1, r, r, &[]);
            z = draft.product(1, z, r, &[(1.0, z)]);
        }
        let error = (f64::from(steps).exp2() * (half / middle).ln()).exp();
        self.program(method, (-1.0 / middle, 1.0), draft, 1.0 / middle, error)
    }

    /// a·(v + constant), or v + constant without a numerator.
    fn first_factor(&self, draft: &mut Draft, constant: f64, v: usize) -> usize {
        if self.function.has_numerator() {
            draft.product(1, NUMERATOR, v, &[(constant, NUMERATOR)])
        } else {
            draft.sum(&[(1.0, v)], constant)
        }
    }

    /// s = T_n(s₀), σ = T_n(σ₀), and z with (σ₀ − s₀)·z = (σ − s)/gain: then (σ₀ − s₀)·z·(σ + s) = (σ² − s²)/gain = (σ' − s')/(2·gain).
    /// With ξ = half·(σ₀ − s₀) the result 1/ξ is z·gain/(half·σ), up to the factor 1 − s/σ.
    fn over_relaxation(&self, method: Method, start: usize, steps: u32) -> Result<Program, Error> {
        let error = start::reciprocal_error(self.ratio, start as f64 * f64::from(steps).exp2())?;
        let (middle, half) = middle_and_half(self.ratio);
        let theta = theta(self.ratio);
        let sigma = |n: f64| (n * theta).cosh();
        let mut draft = Draft { steps: Vec::new() };
        let (mut n, mut gain, mut doublings) = (start as f64, 1.0, steps);
        let (mut s, mut z);
        if start == 3 {
            // (σ₀ − s)·(T_2(s) + 2σ₀·s + 2σ₀² − 1/2) = (T_3(σ₀) − T_3(s))/2
            gain = 2.0;
            let t2 = draft.double(INPUT);
            let sigma0 = sigma(1.0);
            z = draft.sum(
                &[(1.0, t2), (2.0 * sigma0, INPUT)],
                2.0 * sigma0 * sigma0 - 0.5,
            );
            if self.function.has_numerator() {
                z = draft.product(1, NUMERATOR, z, &[]);
            }
            // with no doubling, T_3 is not needed
            s = if steps > 0 {
                draft.product(2, t2, INPUT, &[(-1.0, INPUT)])
            } else {
                INPUT
            };
        } else {
            s = INPUT;
            z = self.first_factor(&mut draft, sigma(1.0), INPUT);
            (n, gain, doublings) = (2.0, 2.0 * gain, doublings - 1);
            if doublings > 0 {
                s = draft.double(s);
            }
        }
        for left in (0..doublings).rev() {
            z = draft.product(1, z, s, &[(sigma(n), z)]);
            (n, gain) = (2.0 * n, 2.0 * gain);
            if left > 0 {
                s = draft.double(s);
            }
        }
        let input = (-1.0 / half, middle / half);
        Ok(self.program(method, input, draft, gain / half * error, error))
    }

    /// y ← αy + βξ·y² or αy + βξ·y³. The last step carries a numerator along: a·y' = |β|·half·((α/|β|half)·ay − (aξ/half)·y·…).
    fn newton(&mut self, method: Method, degree: usize, steps: u32) -> Result<Program, Error> {
        let relaxed = matches!(method, Method::RelaxedNewton { .. });
        let root = self.function.has_root();
        let (middle, half) = middle_and_half(self.ratio);
        let start = self.start(degree)?.clone();
        let mut draft = Draft { steps: Vec::new() };
        let mut y = draft.polynomial(&start);
        let mut w = (1.0 - start.error, 1.0 + start.error);
        let mut output = 1.0;
        for step in 1..=steps {
            // not a number that Newton's steps bring to 1
            if w.0 <= 0.0 {
                return Err(Error::Method {
                    function: self.function.name(),
                    method: method.to_string(),
                });
            }
            let Best { alpha, beta, image } = if root {
                cubic(w, relaxed)
            } else {
                quadratic(w, relaxed)
            };
            if step == steps && self.function.has_numerator() {
                // aξ/half, so that the input's own scale serves
                let ax = draft.product(1, NUMERATOR, INPUT, &[(middle / half, NUMERATOR)]);
                let ay = draft.product(1, NUMERATOR, y, &[]);
                let axy = draft.product(1, ax, y, &[]);
                let other = if root { draft.product(1, y, y, &[]) } else { y };
                output = -beta * half;
                y = draft.product(-1, axy, other, &[(alpha / output, ay)]);
            } else {
                let bx = draft.sum(&[(beta * half, INPUT)], beta * middle);
                let bxy = draft.product(1, bx, y, &[]);
                let other = if root { draft.product(1, y, y, &[]) } else { y };
                y = draft.product(1, bxy, other, &[(alpha, y)]);
            }
            w = image;
        }
        let error = (1.0 - w.0).max(w.1 - 1.0);
        Ok(self.program(method, self.to_t(), draft, output, error))
    }
}

/// w ↦ αw + βw² or αw + βw³ and the interval that it maps w's interval into.
struct Best {
    alpha: f64,
    beta: f64,
    image: (f64, f64),
}

/// What f64 rounding may take from an image's ends.
const SLACK: f64 = 8.0 * f64::EPSILON;

/// The quadratic αw + βw² that is nearest to 1 on [a, b], 0 < a < 1 < b < 2, or 2w − w². Relaxed: 1 − (αw + βw²) = T_2(u)/T_2(σ).
fn quadratic((a, b): (f64, f64), relaxed: bool) -> Best {
    if relaxed {
        let (middle, half) = (0.5 * (a + b), 0.5 * (b - a));
        // 1 − (αw + βw²) = (2(w − middle)² − half²)/(2·middle² − half²)
        let scale = 2.0 / (2.0 * middle * middle - half * half);
        let error = 0.5 * scale * half * half + SLACK;
        Best {
            alpha: 2.0 * middle * scale,
            beta: -scale,
            image: (1.0 - error, 1.0 + error),
        }
    } else {
        let largest = (1.0 - a).abs().max((b - 1.0).abs());
        Best {
            alpha: 2.0,
            beta: -1.0,
            image: (1.0 - largest * largest - SLACK, 1.0 + SLACK),
        }
    }
}

/// The odd cubic αw + βw³ that is nearest to 1 on [a, b], 0 < a < 1 < b < √3, or (3w − w³)/2. Relaxed it is κw(3m² − w²) with
/// 3m² = a² + ab + b², equal at both ends (κab(a + b)) and largest at m (2κm³); κ puts 1 in the middle.
fn cubic((a, b): (f64, f64), relaxed: bool) -> Best {
    if relaxed {
        let square = (a * a + a * b + b * b) / 3.0;
        let (peak, end) = (2.0 * square * square.sqrt(), a * b * (a + b));
        let scale = 2.0 / (peak + end);
        let error = 0.5 * scale * (peak - end) + SLACK;
        Best {
            alpha: 3.0 * square * scale,
            beta: -scale,
            image: (1.0 - error, 1.0 + error),
        }
    } else {
        let value = |w: f64| 0.5 * w * (3.0 - w * w);
        Best {
            alpha: 1.5,
            beta: -0.5,
            image: (value(a).min(value(b)) - SLACK, 1.0 + SLACK),
        }
    }
}
