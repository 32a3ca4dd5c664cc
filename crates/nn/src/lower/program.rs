//! Programs as nodes.

use super::expand::Expansion;
use crate::Result;
use crate::graph::NodeId;
use approx::iteration::{INPUT, NUMERATOR, Program, Step};

/// A divisor before the affine map to a program's input: x' = scale·x + shift, what the program divides by.
pub(super) struct Divisor {
    pub(super) node: NodeId,
    pub(super) scale: f64,
    pub(super) shift: f64,
}

impl Expansion<'_> {
    /// The quotient of `numerator` by the divisor (by its root), as the program has it; `spread` brings what the program computes without a
    /// numerator to the numerator's shape.
    pub(super) fn quotient(
        &mut self,
        name: &str,
        program: &Program,
        divisor: &Divisor,
        numerator: NodeId,
        spread: impl Fn(&mut Self, &str, NodeId) -> Result<NodeId>,
    ) -> Result<NodeId> {
        let carried = program.function().has_numerator();
        let mut x = divisor.node;
        if carried {
            x = spread(self, &format!("{name}/spread"), x)?;
        }
        // The program's interval, seen from before the map, so that leaving it is reported.
        let (low, high) = program.interval();
        let interval = (
            (low - divisor.shift) / divisor.scale,
            (high - divisor.shift) / divisor.scale,
        );
        let (scale, shift) = program.input();
        let input = self.affine_on(
            &format!("{name}/input"),
            x,
            (scale * divisor.scale, scale * divisor.shift + shift),
            interval,
        )?;
        let mut values = vec![input; 2];
        values[NUMERATOR] = numerator;
        debug_assert_eq!((INPUT, NUMERATOR), (0, 1));
        for (i, step) in program.steps().iter().enumerate() {
            let value = self.step(&format!("{name}/{i}"), step, &values)?;
            values.push(value);
        }
        let last = *values.last().unwrap_or(&input);
        let last = self.affine(&format!("{name}/output"), last, (program.output(), 0.0))?;
        if carried {
            return Ok(last);
        }
        let last = spread(self, &format!("{name}/spread"), last)?;
        self.product(&format!("{name}/quotient"), last, numerator)
    }

    fn step(&mut self, name: &str, step: &Step, values: &[NodeId]) -> Result<NodeId> {
        match step {
            Step::Polynomial { of, polynomial } => {
                self.polynomial(name, values[*of], polynomial.clone())
            }
            Step::Sum { terms, constant } => {
                let Some((&(factor, v), rest)) = terms.split_first() else {
                    return Err(self.refuse(name, "a sum of no terms"));
                };
                let first = self.affine(&format!("{name}/term"), values[v], (factor, *constant))?;
                self.sum(name, first, rest, values)
            }
            Step::Multiply {
                factor,
                left,
                right,
                add,
                constant,
            } => {
                let product =
                    self.product(&format!("{name}/product"), values[*left], values[*right])?;
                let scaled = self.affine(
                    &format!("{name}/scaled"),
                    product,
                    (f64::from(*factor), *constant),
                )?;
                self.sum(name, scaled, add, values)
            }
        }
    }

    /// first + Σ c·v.
    fn sum(
        &mut self,
        name: &str,
        first: NodeId,
        terms: &[(f64, usize)],
        values: &[NodeId],
    ) -> Result<NodeId> {
        let mut sum = first;
        for (i, &(factor, v)) in terms.iter().enumerate() {
            let term = self.affine(&format!("{name}/term{i}"), values[v], (factor, 0.0))?;
            sum = self.add(&format!("{name}/sum{i}"), sum, term)?;
        }
        Ok(sum)
    }
}
