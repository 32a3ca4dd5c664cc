//! How much the outputs change when one activation becomes a polynomial, and when all do.

use crate::activation::Function;
use crate::batch::Batch;
use crate::config::{Degrees, Order, Substitution};
use crate::error::{Error, Result};
use crate::loss::divergence;
use crate::mode::Mode;
use crate::model::Model;
use crate::score::Score;
use crate::sources::{Source, Sources};
use approx::Polynomial;

/// For each activation and each degree, what it changes alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Sensitivity {
    /// The activations' names, in topological order.
    pub names: Vec<String>,
    /// Degrees to choose from, increasing.
    pub degrees: Vec<usize>,
    /// For each activation and degree, KL(original ∥ this activation substituted) of the class probabilities, mean over the pictures.
    pub divergence: Vec<Vec<f64>>,
    /// What was substituted.
    pub polynomials: Vec<Vec<Polynomial>>,
}

impl Sensitivity {
    /// The additive model: the sum over the activations.
    #[must_use]
    pub fn sum(&self, choice: &[usize]) -> f64 {
        self.divergence
            .iter()
            .zip(choice)
            .map(|(row, &k)| row[k])
            .sum()
    }

    /// The degrees of a choice.
    #[must_use]
    pub fn degrees_of(&self, choice: &[usize]) -> Vec<usize> {
        choice.iter().map(|&k| self.degrees[k]).collect()
    }

    /// The same, as text.
    pub(crate) fn degrees_text(&self, choice: &[usize]) -> String {
        let degrees = self.degrees_of(choice);
        let degrees: Vec<String> = degrees.iter().map(usize::to_string).collect();
        degrees.join(" ")
    }
}

/// A whole network, every activation substituted, before any training.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Its divergence, on the pictures of the sensitivities.
    pub divergence: f64,
    /// On held-out pictures.
    pub held_out: Score,
}

/// Pictures with the original network's outputs on them.
#[derive(Debug)]
pub struct Bench {
    batches: Vec<Batch>,
    outputs: Vec<f32>,
    classes: usize,
    batch: usize,
}

impl Bench {
    /// Of so many calibration pictures; calibrates the model on `how.pictures`.
    ///
    /// # Errors
    /// [`Error::Setting`] for a network that holds polynomials already or has no activations; what the data bring.
    pub fn new(
        model: &mut Model,
        sources: &Sources,
        how: &Substitution,
        pictures: usize,
        batch: usize,
    ) -> Result<Self> {
        sources.fit(model)?;
        let refuse = |value: String| {
            Error::setting(
                "model",
                value,
                "a search starts from a trained network whose activations are all functions",
            )
        };
        if let Some(u) = model.units().find(|u| u.original.is_none()) {
            return Err(refuse(format!("activation {} is a polynomial", u.name)));
        }
        if model.units().next().is_none() {
            return Err(refuse("a network without activations".into()));
        }
        model.calibrate(sources.to_calibrate(batch, how.pictures)?)?;
        let batches = sources.to_calibrate(batch, pictures)?;
        let mut bench = Self {
            batches: batches.collect::<Result<_>>()?,
            outputs: Vec::new(),
            classes: model.outputs(),
            batch,
        };
        bench.outputs = bench.run(model);
        Ok(bench)
    }

    fn run(&self, model: &mut Model) -> Vec<f32> {
        let mut outputs = Vec::new();
        for batch in &self.batches {
            outputs.extend_from_slice(model.run(batch.inputs(), Mode::Evaluate));
        }
        outputs
    }

    /// Measures each activation at each degree; `report` is told how many of how many are done.
    ///
    /// # Errors
    /// Those of the fits.
    pub fn measure(
        &self,
        model: &mut Model,
        how: &Substitution,
        degrees: &[usize],
        report: &mut dyn FnMut(usize, usize),
    ) -> Result<Sensitivity> {
        let names: Vec<String> = model.units().map(|u| u.name.clone()).collect();
        let mut s = Sensitivity {
            degrees: degrees.to_vec(),
            divergence: Vec::new(),
            polynomials: Vec::new(),
            names,
        };
        let all = s.names.len() * degrees.len();
        for i in 0..s.names.len() {
            let (mut row, mut fits) = (Vec::new(), Vec::new());
            for &degree in degrees {
                let how = Substitution {
                    degree: Degrees::One(degree),
                    order: Order::All,
                    ..how.clone()
                };
                model.substitute(i..i + 1, &how)?;
                row.push(divergence(&self.outputs, &self.run(model), self.classes));
                let unit = model
                    .units()
                    .nth(i)
                    .map(|u| u.polynomial(&model.parameters));
                fits.extend(unit.transpose()?.flatten());
                report(i * degrees.len() + row.len(), all);
            }
            restore(model);
            s.divergence.push(row);
            s.polynomials.push(fits);
        }
        model.clear_ranges();
        Ok(s)
    }

    /// Substitutes a whole choice and measures it.
    ///
    /// # Errors
    /// What the data bring.
    pub fn whole(
        &self,
        model: &mut Model,
        sources: &Sources,
        s: &Sensitivity,
        choice: &[usize],
    ) -> Result<Whole> {
        for (i, &k) in choice.iter().enumerate() {
            let p = &s.polynomials[i][k];
            let (low, high) = p.interval();
            model.set_polynomial(
                i,
                p.coefficients(),
                (low as f32, high as f32),
                Function::Polynomial,
            );
        }
        let divergence = divergence(&self.outputs, &self.run(model), self.classes);
        let held_out = Score::of(model, sources.held_out(self.batch)?)?;
        restore(model);
        Ok(Whole {
            divergence,
            held_out,
        })
    }
}

/// Back to the original functions.
fn restore(model: &mut Model) {
    for u in model.units_mut() {
        u.function = Function::Original;
    }
}
