//! Units: how network values become plan values of magnitude at most 1, or 1/2 before a bootstrap.
//!
//! A quantity's plan value is scale·(network value + shift). A polynomial asks of its argument the map of its interval onto [−1, 1]
//! (or that of its square or quartic); where a bootstrap lies between, the value goes in halved and the gain restores it. All of this
//! is folded into matrices, coefficients and gains: it costs nothing.

use crate::activation::{Activation, Form};
use crate::error::Error;
use crate::normal::{Binding, Domain, Kind, Normal};
use crate::product::fill;
use crate::schedule::Decision;
use ckks::{HalfBootstrap, Parameters};

/// The units of one quantity.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Units {
    /// Plan value before a bootstrap = scale·(network value + shift).
    pub(crate) scale: f64,
    /// See `scale`; 0 unless the only consumer is a polynomial.
    pub(crate) shift: f64,
    /// Gain of its bootstrap (1 without one).
    pub(crate) gain: f64,
    /// For a polynomial, what is done to its argument.
    pub(crate) form: Option<Form>,
    /// For a polynomial, [`Activation::interval`].
    pub(crate) interval: Option<(f64, f64)>,
    /// For a product, the integer that it is multiplied by; for a linear map in coefficients, its half bootstraps' gain.
    pub(crate) times: u32,
    /// For a product, what brings it down to 1/2 before its bootstrap, by a map of one level (1: nothing needs to).
    pub(crate) normaliser: f64,
}

impl Units {
    /// Network value = unit × plan value, of a product before it is normalised.
    pub(crate) fn raw(&self) -> f64 {
        self.normaliser / self.scale
    }
    /// Network value = unit × plan value, before a bootstrap.
    pub(crate) fn before(&self) -> f64 {
        1.0 / self.scale
    }
    /// Network value = unit × plan value, as consumers see it.
    pub(crate) fn unit(&self) -> f64 {
        1.0 / (self.scale * self.gain)
    }
}

/// What a consumer asks of its operand: scale·(x + shift), of magnitude at most `amplitude`.
#[derive(Clone, Copy, Debug)]
struct Request {
    scale: f64,
    shift: f64,
    amplitude: f64,
}

/// What consumers ask of each quantity, and the activations that could be chosen freely for it.
fn requested(
    normal: &Normal,
    most: impl Fn(usize) -> f64,
) -> (Vec<Option<Request>>, Vec<Option<Activation>>) {
    let all = &normal.quantities;
    let mut requests: Vec<Option<Request>> = vec![None; all.len()];
    let mut made: Vec<Option<Activation>> = vec![None; all.len()];
    for (v, q) in all.iter().enumerate().rev() {
        match &q.kind {
            Kind::Polynomial {
                argument,
                polynomial,
                binding: Binding::Free,
            } => {
                // where its own result takes in another map, it stays general
                let activation = if q.feeds.is_some() {
                    Activation::general(polynomial, most(v))
                } else {
                    Activation::absorbed(polynomial, most(v))
                };
                requests[*argument] = Some(Request {
                    scale: activation.scale,
                    shift: activation.shift,
                    amplitude: activation.amplitude,
                });
                made[v] = Some(activation);
            }
            Kind::Product { left, right, .. } => {
                for &factor in [left, right] {
                    if all[factor].feeds == Some(v) {
                        requests[factor] = Some(Request {
                            scale: most(v) / all[factor].bound,
                            shift: 0.0,
                            amplitude: most(v),
                        });
                    }
                }
            }
            Kind::Dot {
                left,
                right,
                factor,
                ..
            } => {
                // what the sum needs to stay small is taken in by the operand that nothing else uses
                let [x, y] = [left, right].map(|&w| &all[w]);
                let unit = (q.bound / (most(v) * x.nominal_unit() * factor.abs())).max(y.bound);
                requests[*right] = Some(Request {
                    scale: 1.0 / unit,
                    shift: 0.0,
                    amplitude: y.bound / unit,
                });
            }
            _ => {}
        }
    }
    (requests, made)
}

/// Units of all quantities.
pub(crate) fn units(
    normal: &Normal,
    decisions: &[Decision],
    parameters: &Parameters,
) -> Result<Vec<Units>, Error> {
    let all = &normal.quantities;
    let halved = |v: usize| decisions[v].bootstrap.is_some();
    let most = |v: usize| if halved(v) { 0.5 } else { 1.0 };
    let (requests, mut made) = requested(normal, most);
    let mut units: Vec<Units> = Vec::with_capacity(all.len());
    for (v, q) in all.iter().enumerate() {
        let request = requests[v].unwrap_or(Request {
            scale: 1.0 / q.bound,
            shift: 0.0,
            amplitude: 1.0,
        });
        let mut times = 1;
        // into a bootstrap goes at most 1/2
        let (into, gain) =
            if let (Domain::Coefficients, Some(target)) = (q.domain, decisions[v].bootstrap) {
                let target = parameters.floor().index() + target;
                let ratio = HalfBootstrap { target }.ratio(parameters);
                times = if request.amplitude > 0.5 * ratio {
                    2
                } else {
                    1
                };
                (1.0 / (f64::from(times) * ratio), f64::from(times) * ratio)
            } else if halved(v) {
                (0.5 / request.amplitude, 2.0 * request.amplitude)
            } else {
                (1.0, 1.0)
            };
        let asked = Units {
            scale: request.scale * into,
            shift: request.shift,
            gain,
            form: None,
            interval: None,
            times,
            normaliser: 1.0,
        };
        let own_units = match &q.kind {
            Kind::Input | Kind::Linear { .. } | Kind::Moved { .. } => asked,
            Kind::Sum { kept, new } => {
                // nothing else reads what is kept
                let own = Units {
                    scale: 1.0 / units[*new].unit(),
                    shift: 0.0,
                    gain: 1.0,
                    form: None,
                    interval: None,
                    times: 1,
                    normaliser: 1.0,
                };
                units[*kept] = own.clone();
                own
            }
            Kind::Product {
                left,
                right,
                factor,
                ..
            }
            | Kind::Dot {
                left,
                right,
                factor,
                ..
            } => {
                let unit = factor * units[*left].unit() * units[*right].unit();
                let magnitude = q.bound / unit.abs();
                // never more than without bootstraps: consumers count on it
                let reach = q.reach.min(1.0);
                let (times, magnitude) = fill(magnitude, reach.min(most(v)));
                let (normaliser, into) = if halved(v) && magnitude > 0.5 * (1.0 + 1e-9) {
                    // as the map will hold it
                    #[expect(clippy::cast_possible_truncation, reason = "below 1")]
                    let factor = f64::from((0.5 / magnitude) as f32);
                    (factor, 0.5)
                } else {
                    (1.0, magnitude)
                };
                Units {
                    scale: f64::from(times) * normaliser / unit,
                    shift: 0.0,
                    gain: if halved(v) { reach / into } else { 1.0 },
                    form: None,
                    interval: None,
                    times,
                    normaliser,
                }
            }
            Kind::Polynomial {
                argument,
                polynomial,
                ..
            } => {
                let activation = match made[v].take() {
                    Some(activation) => activation,
                    None => {
                        Activation::fixed(&q.layer, polynomial, units[*argument].unit(), most(v))?
                    }
                };
                let interval = activation.interval(polynomial);
                match (activation.form, q.feeds) {
                    (Form::General { mut coefficients }, Some(_)) => {
                        // y = p/unit becomes scale·(p + shift)
                        for c in &mut coefficients {
                            *c *= activation.unit * asked.scale;
                        }
                        coefficients[0] += asked.scale * asked.shift;
                        Units {
                            form: Some(Form::General { coefficients }),
                            interval,
                            ..asked
                        }
                    }
                    (form, _) => {
                        let gain = if halved(v) {
                            1.0 / activation.fill
                        } else {
                            1.0
                        };
                        Units {
                            scale: 1.0 / activation.unit,
                            shift: 0.0,
                            gain,
                            form: Some(form),
                            interval,
                            ..asked
                        }
                    }
                }
            }
        };
        units.push(own_units);
    }
    Ok(units)
}
