//! Ranges and densities of activations' inputs, and the substitution of polynomials on them.

use crate::activation::{Function, Unit};
use crate::batch::Batch;
use crate::config::{Order, Substitution};
use crate::error::{Error, Result};
use crate::mode::Mode;
use crate::model::Model;
use nn::Range;
use nn::calibrate::FitOptions;
use nn::histogram::Histogram;

impl Model {
    /// Runs the batches without training and keeps a histogram of each unit's inputs.
    ///
    /// # Errors
    /// What the batches bring; [`Error::Diverged`] at a value that is no number.
    pub fn calibrate<E: Into<Error>>(
        &mut self,
        batches: impl Iterator<Item = std::result::Result<impl Into<Batch>, E>>,
    ) -> Result<()> {
        self.clear_ranges();
        for unit in self.units_mut() {
            unit.histogram = Some(Box::default());
        }
        for (step, batch) in batches.enumerate() {
            let batch: Batch = batch.map_err(Into::into)?.into();
            self.run(batch.inputs(), Mode::Evaluate);
            if let Some((name, _)) = self.watched().find(|(_, seen)| seen.nan) {
                return Err(Error::Diverged {
                    what: format!("the input of {name}"),
                    epoch: 0,
                    step,
                });
            }
        }
        Ok(())
    }

    /// Forgets the histograms of a calibration.
    pub(crate) fn forget_histograms(&mut self) {
        for unit in self.units_mut() {
            unit.histogram = None;
        }
    }

    /// After [`Model::calibrate`], gives the units of these numbers polynomials fitted to what they saw; units that were polynomials
    /// from the start keep theirs.
    ///
    /// # Errors
    /// [`Error::Interval`] where a given interval was exceeded, [`Error::Network`] where a fit fails or nothing was seen.
    pub fn substitute(&mut self, units: std::ops::Range<usize>, how: &Substitution) -> Result<()> {
        let function = match how.order {
            Order::Blend { .. } => Function::Blend { ratio: 0.0 },
            _ => Function::Polynomial,
        };
        for i in units {
            let Some((name, original, histogram)) = self
                .units()
                .nth(i)
                .and_then(|u| Some((u.name.clone(), u.original?, u.histogram.clone()?)))
            else {
                continue;
            };
            if let (Some((low, high)), Some(seen)) = (how.interval, histogram.range())
                && let Some(value) = [seen.min, seen.max]
                    .into_iter()
                    .find(|v| !(low..=high).contains(v))
            {
                return Err(Error::Interval {
                    node: name,
                    value,
                    low,
                    high,
                });
            }
            let options = FitOptions {
                degree: how.degree.of(i),
                margin: how.margin,
                interval: how.interval.map(|(min, max)| Range { min, max }),
                floor: how.floor,
                rounds: 0,
            };
            let fit = nn::calibrate::fit(&name, original, &histogram, &options)?;
            let polynomial = fit.approximation.polynomial;
            let domain = outward(polynomial.interval());
            let polynomial = polynomial.on_interval((f64::from(domain.0), f64::from(domain.1)))?;
            self.set_polynomial(i, polynomial.coefficients(), domain, function);
        }
        Ok(())
    }

    /// Declares each polynomial's domain to be what it saw since the ranges were cleared, widened by `margin` times its width at each end;
    /// the polynomials' values stay.
    ///
    /// # Errors
    /// [`Error::Fit`] for coefficients that are not finite.
    pub(crate) fn redeclare_domains(&mut self, margin: f32) -> Result<()> {
        let mut changes = Vec::new();
        for (i, u) in self
            .units()
            .enumerate()
            .filter(|(_, u)| u.seen.low <= u.seen.high)
        {
            if let Some(p) = u.polynomial(&self.parameters)? {
                let by = margin * (u.seen.high - u.seen.low).max(1e-3);
                let domain = (u.seen.low - by, u.seen.high + by);
                let p = p.on_interval((f64::from(domain.0), f64::from(domain.1)))?;
                changes.push((i, p.coefficients().to_vec(), domain, u.function));
            }
        }
        for (i, coefficients, domain, function) in changes {
            self.set_polynomial(i, &coefficients, domain, function);
        }
        Ok(())
    }
}

/// The smallest interval of single-precision ends that holds this one.
fn outward((low, high): (f64, f64)) -> (f32, f32) {
    let (a, b) = (low as f32, high as f32);
    let a = if f64::from(a) > low { a.next_down() } else { a };
    let b = if f64::from(b) < high { b.next_up() } else { b };
    (a, b)
}

/// The interval that a unit's histogram shows.
pub(crate) fn seen(unit: &Unit) -> Option<(f32, f32)> {
    let range = unit.histogram.as_deref().and_then(Histogram::range)?;
    Some(outward((range.min, range.max)))
}
