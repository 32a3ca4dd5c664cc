//! A network whose polynomials are still open: degrees, levels and bootstraps chosen together, by one shortest path.
//!
//! Packing and splits do not depend on degrees, and take nearly all the time of a compilation: they are made once, and each question
//! after that takes only the path. With layers in coefficients each activation stands alone between two half bootstraps, and each takes its cheapest
//! alternative, under one set after the other. Whoever asks prices the alternatives in seconds (what a lower degree costs in accuracy, say).

use crate::coefficients::{Open, open};
use crate::cost::CostModel;
use crate::draft::Draft;
use crate::error::Error;
use crate::normal::Kind;
use crate::schedule::{self, Machine, Stage, Way};
use crate::stages::carried_out;
use crate::target::{Layers, Target};
use approx::Polynomial;
use nn::{Op, PolyGraph};

/// A network whose polynomials are open.
pub struct Outline {
    /// None where layers can't lie in slots, or may not.
    slots: Option<Slots>,
    /// By set; none where layers can't lie in coefficients, or may not.
    coefficients: Vec<Open>,
}

struct Slots {
    stages: Vec<Stage>,
    output: usize,
    cost: CostModel,
    /// The stage of each polynomial, in topological order.
    open: Vec<usize>,
}

/// The cheapest choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Index of the alternative of each polynomial.
    pub alternatives: Vec<usize>,
    /// Predicted CPU seconds of a run, without the prices.
    pub cpu_seconds: f64,
    /// Bootstraps.
    pub bootstraps: usize,
}

impl Outline {
    /// `alternatives` holds, for each polynomial of `graph` in topological order, what may stand in its place.
    ///
    /// # Errors
    /// As [`crate::compile`] until bootstraps are placed; [`Error::Unsupported`] for a polynomial of degree below 2, which is no
    /// operation of its own, or without alternatives.
    pub fn new(
        graph: &PolyGraph,
        alternatives: &[Vec<Polynomial>],
        target: &Target,
    ) -> Result<Self, Error> {
        let one = Target {
            batch: 1,
            ..target.clone()
        };
        let coefficients = match (target.layers, &target.parameters) {
            (Layers::Slots, _) | (_, Some(_)) => Vec::new(),
            // what is wrong with the network is said of slots, too
            (Layers::Cheapest, None) => open(graph, alternatives, &one).unwrap_or_default(),
            (Layers::Coefficients, None) => open(graph, alternatives, &one)?,
        };
        let slots = match target.layers {
            Layers::Coefficients => None,
            _ => match Slots::new(graph, alternatives, &one) {
                Err(_) if !coefficients.is_empty() => None,
                slots => Some(slots?),
            },
        };
        Ok(Self {
            slots,
            coefficients,
        })
    }

    /// The choice of least seconds and prices, `prices[i][k]` being that of alternative k of polynomial i; an infinite price forbids.
    /// None where no choice does with the levels and so many bootstraps.
    ///
    /// # Errors
    /// [`Error::Depth`] where one operation needs more levels than there are.
    ///
    /// # Panics
    /// Where `prices` has not the alternatives' shape.
    pub fn cheapest(
        &self,
        prices: &[Vec<f64>],
        most_bootstraps: Option<usize>,
    ) -> Result<Option<Choice>, Error> {
        let slots = match &self.slots {
            Some(slots) => slots.cheapest(prices, most_bootstraps)?,
            None => None,
        };
        let fits = |o: &&Open| most_bootstraps.is_none_or(|most| o.bootstraps <= most);
        let there = self.coefficients.iter().filter(fits);
        let all = slots
            .into_iter()
            .chain(there.filter_map(|o| o.cheapest(prices)));
        let priced = |c: &Choice| {
            let each = c.alternatives.iter().zip(prices);
            c.cpu_seconds + each.map(|(&k, p)| p[k]).sum::<f64>()
        };
        Ok(all.min_by(|a, b| priced(a).total_cmp(&priced(b))))
    }
}

impl Open {
    /// Each polynomial's cheapest alternative; none where one has none.
    fn cheapest(&self, prices: &[Vec<f64>]) -> Option<Choice> {
        let rows = self.seconds.iter().zip(prices);
        let (mut alternatives, mut cpu_seconds) = (Vec::new(), self.rest);
        for (seconds, prices) in rows {
            let each = seconds.iter().zip(prices).map(|(s, p)| s + p).enumerate();
            let (k, least) = each.min_by(|a, b| a.1.total_cmp(&b.1))?;
            if !least.is_finite() {
                return None;
            }
            alternatives.push(k);
            cpu_seconds += seconds[k];
        }
        Some(Choice {
            alternatives,
            cpu_seconds,
            bootstraps: self.bootstraps,
        })
    }
}

impl Slots {
    fn new(
        graph: &PolyGraph,
        alternatives: &[Vec<Polynomial>],
        target: &Target,
    ) -> Result<Self, Error> {
        let (draft, _, splits) = Draft::new(graph, target, target.set())?;
        let mut stages = draft.stages(&splits)?;
        let mut open = Vec::new();
        let nodes = graph.nodes().iter();
        let polynomials = nodes.filter(|n| matches!(n.op(), Op::Elementwise(_)));
        for (i, node) in polynomials.enumerate() {
            let alternatives = alternatives.get(i).map_or(&[][..], |a| &a[..]);
            let found = draft
                .normal
                .quantities
                .iter()
                .enumerate()
                .find_map(|(v, q)| {
                    let Kind::Polynomial { binding, .. } = q.kind else {
                        return None;
                    };
                    (q.layer == node.name()).then_some((v, q, binding))
                });
            let (Some((v, q, binding)), false) = (
                found,
                alternatives.is_empty() || alternatives.iter().any(|p| p.degree() < 2),
            ) else {
                return Err(Error::Unsupported {
                    layer: node.name().into(),
                    operator: "polynomial".into(),
                    reason: "no choice of degrees from 2 on".into(),
                    remedy: "give each activation degrees of at least 2 to choose from",
                });
            };
            let way = |p| {
                let (depth, operation) = carried_out(q, binding, p)?;
                let (cost, count) = (&draft.cost, draft.twins[v].count as f64);
                let one = |level| Ok(cost.operation(&operation, level)? * count);
                Ok(Way::free(depth, cost.by_level(depth, one)?))
            };
            stages[v].ways = alternatives.iter().map(way).collect::<Result<_, Error>>()?;
            open.push(v);
        }
        Ok(Self {
            stages,
            output: draft.normal.output,
            cost: draft.cost,
            open,
        })
    }

    fn cheapest(
        &self,
        prices: &[Vec<f64>],
        most_bootstraps: Option<usize>,
    ) -> Result<Option<Choice>, Error> {
        assert_eq!(prices.len(), self.open.len(), "prices of each polynomial");
        let mut stages = self.stages.clone();
        for (&v, prices) in self.open.iter().zip(prices) {
            assert_eq!(prices.len(), stages[v].ways.len(), "a price of each way");
            for (way, &price) in stages[v].ways.iter_mut().zip(prices) {
                way.price = price;
            }
        }
        let machine = Machine {
            most_bootstraps,
            ..self.cost.machine()
        };
        let (decisions, all) = match schedule::schedule(&stages, self.output, machine) {
            Err(Error::Levels { .. }) => return Ok(None),
            other => other?,
        };
        let alternatives: Vec<usize> = self.open.iter().map(|&v| decisions[v].way).collect();
        let priced: f64 = alternatives.iter().zip(prices).map(|(&k, p)| p[k]).sum();
        let bootstrapped = stages.iter().zip(&decisions);
        Ok(Some(Choice {
            cpu_seconds: all - priced,
            bootstraps: bootstrapped
                .filter(|(_, d)| d.bootstrap.is_some())
                .map(|(s, _)| s.ciphertexts)
                .sum(),
            alternatives,
        }))
    }
}
