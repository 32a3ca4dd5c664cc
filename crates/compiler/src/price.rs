//! What an activation costs in a deep network: its own work and its part of the bootstraps.
//!
//! Measured on the plan itself: the scheduler is given long chains of layers, each a linear map of one level, whose work is not
//! counted, and the activation on one full ciphertext. What 60 more layers cost, divided by 60, is the price.

use crate::activation::Activation;
use crate::cost::CostModel;
use crate::error::Error;
use crate::schedule::{self, Refresh, Stage, Way};
use crate::target::Target;
use approx::{Composite, Polynomial};
use ckks::Parameters;
use runtime::Operation;

/// Layers of the short chain: what the first and last layers do otherwise is over.
const FEW: usize = 20;
/// Layers of the long chain: the difference holds whole cycles of 1 to 6 layers a bootstrap.
const MANY: usize = 80;

/// What one activation of one full ciphertext costs, in a chain of many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// Levels that the activation takes, without the linear map's.
    pub levels: usize,
    /// Bootstraps for each layer: the activation and the one level of its linear map.
    pub bootstraps: f64,
    /// CPU seconds of these bootstraps. Where a layer has two ciphertexts, they share their bootstraps and each costs half.
    pub bootstrapping: f64,
    /// CPU seconds of the activation's own operations.
    pub work: f64,
}

impl Price {
    /// All CPU seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.bootstrapping + self.work
    }
}

/// Prices activations for a target.
pub struct Pricing {
    cost: CostModel,
    slots: usize,
}

/// An operation within an activation.
struct Part {
    operation: Operation,
    depth: usize,
    /// Its operand is the former part's result; a product takes the activation's argument too.
    product: bool,
}

impl Pricing {
    /// For the target's parameters and costs.
    ///
    /// # Errors
    /// [`Error::Ckks`] for inconsistent parameters.
    pub fn new(target: &Target) -> Result<Self, Error> {
        let parameters = Parameters::new(target.set())?;
        let slots = parameters.max_slots();
        let mut cost = CostModel::new(&parameters, target.cost, 1)?;
        cost.prepare([slots])?;
        Ok(Self { cost, slots })
    }

    /// Of a polynomial, in the cheapest form that the compiler has for it.
    ///
    /// # Errors
    /// [`Error::Depth`], [`Error::Levels`] when the parameters have too few levels.
    pub fn polynomial(&self, p: &Polynomial) -> Result<Price, Error> {
        let activation = Activation::absorbed(p, 1.0);
        let depth = activation.depth()?;
        let operation = activation.form.operation(0, 1)?;
        self.price(&[Part {
            operation,
            depth,
            product: false,
        }])
    }

    /// Of ReLU by a composite sign: its polynomials, bootstraps between them where levels run out, and the product.
    ///
    /// # Errors
    /// As [`Pricing::polynomial`].
    pub fn composite(&self, c: &Composite) -> Result<Price, Error> {
        let mut parts = Vec::with_capacity(c.polynomials().len() + 1);
        for p in c.polynomials() {
            let polynomial = ckks::Polynomial::new(p.coefficients().to_vec())?;
            parts.push(Part {
                depth: polynomial.depth(),
                operation: Operation::Polynomial {
                    input: 0,
                    output: 1,
                    polynomial,
                },
                product: false,
            });
        }
        parts.push(Part {
            operation: Operation::Multiply {
                left: 0,
                right: 1,
                more: Vec::new(),
                output: 2,
                factor: 1,
                add: Vec::new(),
                constant: 0.0,
                bound: 1.0,
            },
            depth: 1,
            product: true,
        });
        self.price(&parts)
    }

    fn price(&self, parts: &[Part]) -> Result<Price, Error> {
        let levels = self.cost.levels();
        let stage = |depth: usize, sources: Vec<usize>, seconds: Vec<f64>| Stage {
            layer: "the activation".into(),
            sources,
            ways: vec![Way::free(depth, seconds)],
            slots: self.slots,
            ciphertexts: 1,
            reserve: schedule::Reserve::default(),
            landing: schedule::Landing::Free,
            at: None,
        };
        let of = |part: &Part| {
            let seconds = |level| self.cost.operation(&part.operation, level);
            self.cost.by_level(part.depth, seconds)
        };
        let seconds: Vec<Vec<f64>> = parts.iter().map(of).collect::<Result<_, _>>()?;
        // (all seconds, bootstraps, their seconds)
        let chain = |layers: usize| -> Result<(f64, f64, f64), Error> {
            let mut stages = vec![stage(0, vec![], vec![0.0; levels + 1])];
            for _ in 0..layers {
                let argument = stages.len();
                stages.push(stage(1, vec![argument - 1], vec![0.0; levels + 1]));
                for (part, seconds) in parts.iter().zip(&seconds) {
                    let mut sources = vec![stages.len() - 1];
                    if part.product {
                        sources.push(argument);
                    }
                    stages.push(stage(part.depth, sources, seconds.clone()));
                }
            }
            let last = stages.len() - 1;
            let (decisions, all) = schedule::schedule(&stages, last, self.cost.machine())?;
            let targets = || decisions.iter().filter_map(|d| d.bootstrap);
            let bootstrapping = targets()
                .map(|t| self.cost.bootstrap(self.slots, 1, t))
                .sum();
            Ok((all, targets().count() as f64, bootstrapping))
        };
        let (few, many) = (chain(FEW)?, chain(MANY)?);
        let each = |few: f64, many: f64| (many - few) / (MANY - FEW) as f64;
        let bootstrapping = each(few.2, many.2);
        Ok(Price {
            levels: parts.iter().map(|p| p.depth).sum(),
            bootstraps: each(few.1, many.1),
            bootstrapping,
            work: each(few.0, many.0) - bootstrapping,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ckks::ParametersSpec;

    fn pricing() -> Pricing {
        Pricing::new(&Target {
            parameters: Some(ParametersSpec::toy(10)),
            ..Target::default()
        })
        .expect("valid")
    }

    fn relu(degree: usize) -> Polynomial {
        approx::remez(|x| x.max(0.0), (-5.0, 5.0), degree)
            .expect("converges")
            .polynomial
    }

    #[test]
    fn bootstraps_follow_from_levels() {
        let pricing = pricing();
        // with its linear map a square takes 2 of 10 levels, a quartic 3, degree 8 (in T_2) 5, degree 30 6
        for (degree, levels, bootstraps) in [
            (2, 1, 1.0 / 5.0),
            (4, 2, 1.0 / 3.0),
            (8, 4, 0.5),
            (30, 5, 1.0),
        ] {
            let p = pricing.polynomial(&relu(degree)).expect("fits");
            assert_eq!(p.levels, levels, "degree {degree}");
            assert!(
                (p.bootstraps - bootstraps).abs() < 1e-9,
                "degree {degree}: {p:?}"
            );
            // each bootstrap costs one to some level
            let (low, high) = (
                pricing.cost.bootstrap(512, 1, 1),
                pricing.cost.bootstrap(512, 1, 10),
            );
            let each = p.bootstrapping / p.bootstraps;
            assert!(
                low <= each && each <= high * (1.0 + 1e-9),
                "degree {degree}: {p:?}"
            );
            assert!(p.work > 0.0);
        }
    }

    #[test]
    fn a_composite_pays_for_all_its_levels() {
        let pricing = pricing();
        let c = Composite::relu(5.0, &[15, 15, 27]).expect("converges");
        let price = pricing.composite(&c).expect("fits");
        assert_eq!(price.levels, 4 + 4 + 5 + 1);
        // 15 levels with the linear map, 10 a bootstrap: no fewer than 1.5, and pieces of 4, 4, 5, 1 do not fill them
        assert!((1.5..=2.0).contains(&price.bootstraps), "{price:?}");
        let low = pricing.polynomial(&relu(4)).expect("fits");
        assert!(price.seconds() > 3.0 * low.seconds());
    }

    #[test]
    fn too_deep_is_refused() {
        let levelled = Pricing::new(&Target {
            parameters: Some(ParametersSpec::toy_levelled(10, 8)),
            ..Target::default()
        })
        .expect("valid");
        assert!(matches!(
            levelled.polynomial(&relu(4)),
            Err(Error::Levels { .. })
        ));
        assert!(matches!(
            levelled.polynomial(&Polynomial::new(vec![1.0; 600], (-1.0, 1.0)).expect("valid")),
            Err(Error::Depth { .. })
        ));
    }
}
