//! Degrees of polynomials and places of bootstraps, chosen together under a budget.
//!
//! Each activation's sensitivity to each degree is measured alone ([`sensitivity`]); the search takes their sum as a network's. A network
//! that costs the least `seconds + λ · sensitivity` is found exactly by whoever knows costs ([`Costs::cheapest`]: one shortest path over
//! levels, degrees and bootstraps), so there is no walk that could miss a choice that pays only together with another's bootstrap.
//!
//! [`candidates`] finds every λ at which that network changes (the convex hull of the front), fills the gaps between neighbours with
//! what lies between them, and adds the most faithful network of each number of bootstraps. [`pick`] takes the most faithful that keeps
//! a budget by its exact cost. [`report`] draws the front.
//!
//! Knows nothing of ciphertexts and plans. Uses calibration and held-out pictures only.

pub mod report;
pub mod sensitivity;

use crate::error::{Error, Result};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

pub use sensitivity::{Sensitivity, Whole};

/// What networks cost.
pub trait Costs: Sync {
    /// The network of least CPU seconds and prices, `prices[i][k]` being that of activation i's degree k (infinite: forbidden); None
    /// where none does with so many bootstraps.
    ///
    /// # Errors
    /// What the costs' owner brings.
    fn cheapest(
        &self,
        prices: &[Vec<f64>],
        most_bootstraps: Option<usize>,
    ) -> Result<Option<Point>>;
    /// What a network with these degrees (by index) costs, for certain.
    ///
    /// # Errors
    /// What the costs' owner brings.
    fn exact(&self, choice: &[usize]) -> Result<Cost>;
}

/// The cost of one run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// Wall seconds.
    pub seconds: f64,
    /// CPU seconds.
    pub cpu_seconds: f64,
    /// Bootstraps.
    pub bootstraps: usize,
    /// Largest resident size, bytes.
    pub bytes: u64,
}

/// A network of the search.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// Index of each activation's degree.
    pub choice: Vec<usize>,
    /// Foreseen CPU seconds.
    pub cpu_seconds: f64,
    /// Bootstraps.
    pub bootstraps: usize,
    /// Sum of the activations' sensitivities.
    pub divergence: f64,
}

/// A limit of what a run may take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Budget {
    /// Wall seconds.
    Seconds(f64),
    /// Bootstraps.
    Bootstraps(usize),
    /// Memory at the peak.
    Bytes(u64),
}

impl Budget {
    /// By how much the cost exceeds it, as a factor; 0 where it keeps it.
    fn excess(self, cost: &Cost) -> f64 {
        let (had, most) = match self {
            Self::Seconds(s) => (cost.seconds, s),
            Self::Bootstraps(n) => (cost.bootstraps as f64, n as f64),
            Self::Bytes(n) => (cost.bytes as f64, n as f64),
        };
        match had <= most {
            true => 0.0,
            false => had / most.max(1e-9),
        }
    }

    /// One of this kind, as it is written, that this cost keeps.
    fn enough(self, cost: &Cost) -> String {
        let (seconds, bytes) = (10.0 * cost.seconds, cost.bytes as f64 / 1e7);
        match self {
            Self::Seconds(_) => format!("{:.1}s", seconds.ceil() / 10.0),
            Self::Bootstraps(_) => format!("{}bootstraps", cost.bootstraps),
            Self::Bytes(_) => format!("{:.2}GB", bytes.ceil() / 100.0),
        }
    }
}

/// What a Lagrange multiplier is where seconds alone count (sensitivity breaks ties), and where sensitivity alone does.
const CHEAPEST: f64 = 1e-6;
const SUREST: f64 = 1e9;
/// Choices between two neighbours of the hull are all tried up to so many differing activations, one after the other beyond.
const ALL_BETWEEN: usize = 4;

struct Search<'a> {
    costs: &'a dyn Costs,
    sensitivity: &'a Sensitivity,
}

impl Search<'_> {
    fn solve(&self, lambda: f64, most_bootstraps: Option<usize>) -> Result<Option<Point>> {
        let rows = self.sensitivity.divergence.iter();
        let prices: Vec<Vec<f64>> = rows
            .map(|r| r.iter().map(|d| lambda * d).collect())
            .collect();
        self.asked(&prices, most_bootstraps)
    }

    fn asked(&self, prices: &[Vec<f64>], most_bootstraps: Option<usize>) -> Result<Option<Point>> {
        let found = self.costs.cheapest(prices, most_bootstraps)?;
        Ok(found.map(|p| Point {
            divergence: self.sensitivity.sum(&p.choice),
            ..p
        }))
    }

    /// The network with just these degrees.
    fn fixed(&self, choice: &[usize]) -> Result<Option<Point>> {
        let rows = self.sensitivity.divergence.iter().zip(choice);
        let prices: Vec<Vec<f64>> = rows
            .map(|(r, &c)| {
                (0..r.len())
                    .map(|k| if k == c { 0.0 } else { f64::INFINITY })
                    .collect()
            })
            .collect();
        self.asked(&prices, None)
    }

    /// All vertices of the hull strictly between two.
    fn hull(&self, cheap: &Point, sure: &Point) -> Result<Vec<Point>> {
        let lambda = (sure.cpu_seconds - cheap.cpu_seconds) / (cheap.divergence - sure.divergence);
        if !(lambda.is_finite() && lambda > 0.0) {
            return Ok(Vec::new());
        }
        let value = |p: &Point| p.cpu_seconds + lambda * p.divergence;
        let Some(found) = self.solve(lambda, None)? else {
            return Ok(Vec::new());
        };
        if value(&found) >= value(cheap) * (1.0 - 1e-9)
            || found.choice == cheap.choice
            || found.choice == sure.choice
        {
            return Ok(Vec::new());
        }
        let (left, right) = rayon::join(|| self.hull(cheap, &found), || self.hull(&found, sure));
        Ok(left?.into_iter().chain([found]).chain(right?).collect())
    }

    /// Choices that take some activations' degrees from one network and the others' from another.
    fn between(&self, a: &Point, b: &Point) -> Vec<Vec<usize>> {
        let differing: Vec<usize> = (0..a.choice.len())
            .filter(|&i| a.choice[i] != b.choice[i])
            .collect();
        let mixed = |take: &dyn Fn(usize) -> bool| {
            let mut choice = a.choice.clone();
            for (k, &i) in differing.iter().enumerate() {
                if take(k) {
                    choice[i] = b.choice[i];
                }
            }
            choice
        };
        let n = differing.len();
        match n {
            0 | 1 => Vec::new(),
            _ if n <= ALL_BETWEEN => (1..(1usize << n) - 1)
                .map(|set| mixed(&|k| set >> k & 1 == 1))
                .collect(),
            _ => {
                // the most sensitive first
                let gain = |&i: &usize| {
                    let row = &self.sensitivity.divergence[i];
                    row[a.choice[i]] - row[b.choice[i]]
                };
                let mut order: Vec<usize> = (0..n).collect();
                order.sort_by(|&x, &y| gain(&differing[y]).total_cmp(&gain(&differing[x])));
                (1..n)
                    .map(|most| mixed(&|k| order[..most].contains(&k)))
                    .collect()
            }
        }
    }
}

/// Networks to choose from, by rising seconds; the first is the fastest there is.
///
/// # Errors
/// What the costs' owner brings; [`Error::Setting`] where the activations can't be carried out at all.
pub fn candidates(costs: &dyn Costs, sensitivity: &Sensitivity) -> Result<Vec<Point>> {
    let search = Search { costs, sensitivity };
    let none = || {
        Error::setting(
            "degrees",
            format!("{:?}", sensitivity.degrees),
            "no network of these degrees can be carried out: offer lower ones",
        )
    };
    let cheap = search.solve(CHEAPEST, None)?.ok_or_else(none)?;
    let sure = search.solve(SUREST, None)?.ok_or_else(none)?;
    let mut hull = vec![cheap.clone()];
    hull.extend(search.hull(&cheap, &sure)?);
    hull.push(sure.clone());
    let between: BTreeSet<Vec<usize>> = hull
        .windows(2)
        .flat_map(|w| search.between(&w[0], &w[1]))
        .collect();
    let between: Vec<Vec<usize>> = between.into_iter().collect();
    let filled: Vec<Option<Point>> = between
        .par_iter()
        .map(|c| search.fixed(c))
        .collect::<Result<_>>()?;
    let limited: Vec<Option<Point>> = (0..sure.bootstraps)
        .into_par_iter()
        .map(|most| search.solve(SUREST, Some(most)))
        .collect::<Result<_>>()?;
    let mut all: BTreeMap<Vec<usize>, Point> = BTreeMap::new();
    for p in hull.into_iter().chain(filled.into_iter().flatten()) {
        all.entry(p.choice.clone()).or_insert(p);
    }
    // the same degrees may stand here with fewer bootstraps than the fastest way with them, which is what is compiled
    for p in limited.into_iter().flatten() {
        if let Some(p) = search.fixed(&p.choice)? {
            all.entry(p.choice.clone()).or_insert(p);
        }
    }
    let mut all: Vec<Point> = all.into_values().collect();
    all.sort_by(|a, b| {
        a.cpu_seconds
            .total_cmp(&b.cpu_seconds)
            .then(a.divergence.total_cmp(&b.divergence))
    });
    Ok(all)
}

/// Those of which no other is both as fast and as faithful: seconds rise and divergences fall.
#[must_use]
pub fn front(candidates: &[Point]) -> Vec<Point> {
    let mut front: Vec<Point> = Vec::new();
    for p in candidates {
        if front
            .last()
            .is_none_or(|last| p.divergence < last.divergence)
        {
            front.push(p.clone());
        }
    }
    front
}

/// At most so many points of a front, ends included, where divergence and seconds change most.
#[must_use]
pub fn thinned(front: &[Point], most: usize) -> Vec<Point> {
    let mut kept = front.to_vec();
    let step = |a: &Point, b: &Point| {
        let ratio = |x: f64, y: f64| (x.max(1e-12) / y.max(1e-12)).ln().abs();
        ratio(a.divergence, b.divergence) + ratio(a.cpu_seconds, b.cpu_seconds)
    };
    while kept.len() > most.max(2) {
        let least = (1..kept.len() - 1).min_by(|&i, &j| {
            step(&kept[i - 1], &kept[i + 1]).total_cmp(&step(&kept[j - 1], &kept[j + 1]))
        });
        match least {
            Some(i) => kept.remove(i),
            None => break,
        };
    }
    kept
}

/// The most faithful candidate that keeps all budgets by its exact cost.
///
/// # Errors
/// [`Error::Budget`] with the nearest where none does; what the costs' owner brings.
pub fn pick(
    costs: &dyn Costs,
    sensitivity: &Sensitivity,
    candidates: &[Point],
    budgets: &[Budget],
) -> Result<(Point, Cost)> {
    let excess = |cost: &Cost| budgets.iter().fold(0.0, |m: f64, b| m.max(b.excess(cost)));
    let mut order: Vec<&Point> = candidates.iter().collect();
    order.sort_by(|a, b| {
        a.divergence
            .total_cmp(&b.divergence)
            .then(a.cpu_seconds.total_cmp(&b.cpu_seconds))
    });
    // wall seconds for one foreseen CPU second, from the last exact cost; a little is left for what it does not foresee
    let mut rate: Option<f64> = None;
    for p in order {
        let hopeless = |budget: &Budget| match *budget {
            Budget::Seconds(s) => rate.is_some_and(|rate| 0.97 * rate * p.cpu_seconds > s),
            Budget::Bootstraps(n) => p.bootstraps > n,
            Budget::Bytes(_) => false,
        };
        if budgets.iter().any(hopeless) {
            continue;
        }
        let cost = costs.exact(&p.choice)?;
        rate = Some(cost.seconds / p.cpu_seconds);
        if excess(&cost) == 0.0 {
            return Ok((p.clone(), cost));
        }
    }
    // the fastest, and the one of the fewest bootstraps
    let fewest = candidates.iter().min_by_key(|p| p.bootstraps);
    let ends = candidates.first().into_iter().chain(fewest);
    let ends = ends.map(|p| Ok((p, costs.exact(&p.choice)?)));
    let ends: Vec<(&Point, Cost)> = ends.collect::<Result<_>>()?;
    let nearest = (ends.iter()).min_by(|a, b| excess(&a.1).total_cmp(&excess(&b.1)));
    let Some((p, cost)) = nearest else {
        let remedy = "there is nothing to choose from";
        return Err(Error::setting("degrees", "", remedy));
    };
    let written = |each: &dyn Fn(&Budget) -> String, between| {
        let all: Vec<String> = budgets.iter().map(each).collect();
        all.join(between)
    };
    Err(Error::Budget {
        budget: written(&|b| b.to_string(), ", "),
        nearest: cost.to_string(),
        degrees: sensitivity.degrees_text(&p.choice),
        enough: written(&|b| b.enough(cost), " and "),
    })
}

fn bootstraps(n: usize) -> String {
    format!("{n} bootstrap{}", if n == 1 { "" } else { "s" })
}

impl std::fmt::Display for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Seconds(s) => write!(f, "{s} s"),
            Self::Bootstraps(n) => f.write_str(&bootstraps(n)),
            Self::Bytes(n) => write!(f, "{:.2} GB", n as f64 / 1e9),
        }
    }
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.1} s, {}, {:.2} GB",
            self.seconds,
            bootstraps(self.bootstraps),
            self.bytes as f64 / 1e9
        )
    }
}

#[cfg(test)]
mod tests;
