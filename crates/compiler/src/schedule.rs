//! Levels and bootstraps: the cheapest way through the network, as a shortest path.
//!
//! Quantities are made in order. A state is the level of every quantity that is still needed; making one chooses the level at which
//! its operation runs (its operands are aligned down to it) and whether its result is bootstrapped, and to which level. Of two
//! states, one with lower levels and no smaller cost is dropped. The path is exact for any acyclic network, residual blocks
//! included, as long as no more than [`MOST_STATES`] states survive at a time.
//!
//! A quantity may be open to several ways of making it (polynomials of different degrees), each with a price in seconds: the path then
//! chooses ways, levels and bootstraps together. A limit on the number of bootstraps is one more level that only goes down.

use crate::error::Error;
use runtime::liveness::Liveness;
use std::collections::BTreeMap;

/// States kept after each quantity.
const MOST_STATES: usize = 4096;

/// What the planner must know of a quantity.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Its layer, for messages.
    pub(crate) layer: String,
    /// What it is made of.
    pub(crate) sources: Vec<usize>,
    /// How it can be made, at least one way.
    pub(crate) ways: Vec<Way>,
    /// Period of its ciphertexts.
    pub(crate) slots: usize,
    /// Number of its ciphertexts.
    pub(crate) ciphertexts: usize,
    /// What its values need.
    pub(crate) reserve: Reserve,
    /// Whether it is bootstrapped.
    pub(crate) landing: Landing,
    /// The one level at which it may be made, if it may be made at no other.
    pub(crate) at: Option<usize>,
}

/// Whether a quantity is bootstrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Landing {
    /// Where that is cheaper.
    #[default]
    Free,
    /// Never.
    Held,
    /// Always, unless it is the answer: it lies in coefficients, whatever the level of its operands, and half bootstraps bring it up.
    Up,
}

/// Levels that large values need to be left.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Reserve {
    /// By every result.
    pub(crate) always: usize,
    /// By a result that is bootstrapped: one is spent on bringing it down to 1/2.
    pub(crate) refresh: usize,
}

/// One way to make a quantity.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Levels that it takes.
    pub(crate) depth: usize,
    /// Seconds at each level of its operands.
    pub(crate) seconds: Vec<f64>,
    /// What else it counts, in seconds; an infinite price forbids it.
    pub(crate) price: f64,
}

impl Way {
    /// At no price.
    pub(crate) fn free(depth: usize, seconds: Vec<f64>) -> Self {
        Self {
            depth,
            seconds,
            price: 0.0,
        }
    }
}

impl Stage {
    /// Levels that it takes at least.
    fn depth(&self) -> usize {
        self.ways.iter().map(|w| w.depth).min().unwrap_or(0)
    }
}

/// What is decided for a quantity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Level at which its operation runs; for the input, at which it is encrypted.
    pub(crate) level: usize,
    /// Level that it is bootstrapped to, if it is.
    pub(crate) bootstrap: Option<usize>,
    /// The way it is made.
    pub(crate) way: usize,
}

/// What moving a value to another level costs.
pub(crate) trait Refresh {
    /// Seconds of bootstraps of so many real vectors of so many slots to a level, two of them together.
    fn bootstrap(&self, slots: usize, vectors: usize, target: usize) -> f64;
    /// Seconds of half bootstraps of coefficients that are so many real vectors of so many slots to a level.
    fn rise(&self, slots: usize, vectors: usize, target: usize) -> f64 {
        self.bootstrap(slots, vectors, target)
    }
    /// Seconds of an alignment down to a level.
    fn align(&self, level: usize) -> f64;
}

/// What levels and bootstraps there are.
#[derive(Clone, Copy)]
pub(crate) struct Machine<'a> {
    /// What they cost.
    pub(crate) refresh: &'a dyn Refresh,
    /// Highest level.
    pub(crate) levels: usize,
    /// Whether there is bootstrapping.
    pub(crate) bootstraps: bool,
    /// The one level that bootstraps reach, if they may reach no other: their encoded transforms are then kept once.
    pub(crate) target: Option<usize>,
    /// So many ciphertexts may be bootstrapped in all.
    pub(crate) most_bootstraps: Option<usize>,
    /// Name of the parameter set.
    pub(crate) parameters: &'a str,
}

struct Point {
    /// Of the frontier's quantities; then how many bootstraps are left, 0 where they are not limited.
    levels: Vec<usize>,
    seconds: f64,
    step: usize,
}

/// A step back along a path.
struct Step {
    previous: usize,
    decision: Decision,
}

/// Decides for every stage; the last is the answer. Gives the decisions and their cost in seconds.
pub(crate) fn schedule(
    stages: &[Stage],
    output: usize,
    machine: Machine<'_>,
) -> Result<(Vec<Decision>, f64), Error> {
    let reads = stages.iter().map(|s| s.sources.iter().copied());
    let liveness = Liveness::new(reads, [output]);
    let mut steps: Vec<Step> = Vec::new();
    let mut frontier: Vec<usize> = Vec::new();
    let mut points = vec![Point {
        levels: vec![machine.most_bootstraps.unwrap_or(0)],
        seconds: 0.0,
        step: usize::MAX,
    }];
    for (v, stage) in stages.iter().enumerate() {
        if stage.depth() > machine.levels {
            let degree = (1usize << machine.levels.min(40)) - 1;
            return Err(Error::Depth {
                layer: stage.layer.clone(),
                needed: stage.depth(),
                had: machine.levels,
                degree,
                parameters: machine.parameters.into(),
            });
        }
        let keep: Vec<bool> = {
            let stays = |&w: &usize| liveness.outlives(w, v);
            frontier.iter().map(stays).collect()
        };
        let stays = liveness.outlives(v, v);
        let mut reached: BTreeMap<Vec<usize>, (f64, usize, Decision)> = BTreeMap::new();
        for point in &points {
            let operand = |w: &usize| {
                let place = frontier.iter().position(|f| f == w);
                place.map_or(0, |i| point.levels[i])
            };
            let operands = stage.sources.iter().map(operand);
            let top = operands.min().unwrap_or(machine.levels);
            let kept = point.levels.iter().zip(&keep).filter(|(_, k)| **k);
            let kept: Vec<usize> = kept.map(|(l, _)| *l).collect();
            let left = point.levels.last().copied().unwrap_or(0);
            let ways = stage.ways.iter().enumerate();
            for (index, way) in ways.filter(|(_, w)| w.price.is_finite()) {
                let up = stage.landing == Landing::Up;
                let lowest = if up {
                    top
                } else {
                    way.depth + stage.reserve.always
                };
                for level in (lowest..=top).filter(|l| stage.at.is_none_or(|a| a == *l)) {
                    let higher = stage.sources.iter().filter(|w| operand(w) > level && !up);
                    let aligned: usize = higher.map(|&w| stages[w].ciphertexts).sum();
                    let seconds = point.seconds
                        + way.price
                        + way.seconds[level]
                        + aligned as f64 * machine.refresh.align(level);
                    let result = level - way.depth;
                    let within = machine
                        .most_bootstraps
                        .is_none_or(|_| left >= stage.ciphertexts);
                    let refresh = machine.bootstraps
                        && stage.landing != Landing::Held
                        && v != output
                        && !stage.sources.is_empty()
                        && within
                        && result >= stage.reserve.refresh;
                    let allowed = |t: &usize| machine.target.is_none_or(|only| only == *t);
                    let least = if up { 0 } else { result + 1 };
                    let targets = (least..=machine.levels)
                        .filter(|t| refresh && allowed(t))
                        .map(Some);
                    let as_it_is = (!up || v == output).then_some(None);
                    for bootstrap in as_it_is.into_iter().chain(targets) {
                        let all = |t| {
                            let refresh = machine.refresh;
                            match up {
                                true => refresh.rise(stage.slots, stage.ciphertexts, t),
                                false => refresh.bootstrap(stage.slots, stage.ciphertexts, t),
                            }
                        };
                        let more = bootstrap.map_or(0.0, all);
                        let mut levels = kept.clone();
                        if stays {
                            levels.push(bootstrap.unwrap_or(result));
                        }
                        let spent = match (bootstrap, machine.most_bootstraps) {
                            (Some(_), Some(_)) => stage.ciphertexts,
                            _ => 0,
                        };
                        levels.push(left - spent);
                        let seconds = seconds + more;
                        let none = (f64::INFINITY, 0, Decision::default());
                        let entry = reached.entry(levels).or_insert(none);
                        if seconds < entry.0 {
                            let decision = Decision {
                                level,
                                bootstrap,
                                way: index,
                            };
                            *entry = (seconds, point.step, decision);
                        }
                    }
                }
            }
        }
        frontier.push(v);
        frontier.retain(|&w| liveness.outlives(w, v));
        points = undominated(reached, &mut steps);
        if points.is_empty() {
            let had = machine.levels;
            return Err(Error::Levels {
                layer: stage.layer.clone(),
                needed: longest(stages),
                had,
                parameters: machine.parameters.into(),
            });
        }
    }
    let Some(best) = points.iter().min_by(|a, b| a.seconds.total_cmp(&b.seconds)) else {
        return Ok((Vec::new(), 0.0));
    };
    let mut decisions = vec![Decision::default(); stages.len()];
    let mut step = best.step;
    for decision in decisions.iter_mut().rev() {
        *decision = steps[step].decision;
        step = steps[step].previous;
    }
    Ok((decisions, best.seconds))
}

/// Where there are more than [`MOST_STATES`], the cheaper half of them, and of the others some of every price: the cheapest alone have few
/// levels left, and may lead nowhere.
fn undominated(
    reached: BTreeMap<Vec<usize>, (f64, usize, Decision)>,
    steps: &mut Vec<Step>,
) -> Vec<Point> {
    let mut all: Vec<_> = reached.into_iter().collect();
    all.sort_by(|a, b| a.1.0.total_cmp(&b.1.0).then_with(|| b.0.cmp(&a.0)));
    let count = all.len();
    // of what is left when half of the places are taken
    let mut every = 1;
    let mut points: Vec<Point> = Vec::new();
    for (i, (levels, (seconds, previous, decision))) in all.into_iter().enumerate() {
        if points.len() == MOST_STATES / 2 && every == 1 {
            every = (count - i).div_ceil(MOST_STATES / 2).max(1);
        }
        let spared = points.len() < MOST_STATES / 2 || i % every == 0 || i + 1 == count;
        let worse = || {
            points
                .iter()
                .any(|p| p.levels.iter().zip(&levels).all(|(a, b)| a >= b))
        };
        if spared && points.len() <= MOST_STATES && !worse() {
            steps.push(Step { previous, decision });
            points.push(Point {
                levels,
                seconds,
                step: steps.len() - 1,
            });
        }
    }
    points
}

/// Levels on the longest path.
pub(crate) fn longest(stages: &[Stage]) -> usize {
    let mut depth = vec![0; stages.len()];
    for (v, s) in stages.iter().enumerate() {
        depth[v] = s.depth() + s.sources.iter().map(|&w| depth[w]).max().unwrap_or(0);
    }
    depth.into_iter().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(depth: usize, sources: &[usize]) -> Stage {
        let seconds = (0..=10)
            .map(|l| 0.01 * f64::from(l) + if sources.is_empty() { 0.0 } else { 0.1 })
            .collect();
        Stage {
            layer: "layer".into(),
            sources: sources.to_vec(),
            ways: vec![Way::free(depth, seconds)],
            slots: 16,
            ciphertexts: 1,
            reserve: Reserve::default(),
            landing: Landing::Free,
            at: None,
        }
    }

    /// Seconds of a bootstrap to level 0, and for each level more.
    struct Bootstraps(f64, f64);

    impl Refresh for Bootstraps {
        fn bootstrap(&self, _: usize, vectors: usize, target: usize) -> f64 {
            vectors.div_ceil(2) as f64 * (self.0 + self.1 * target as f64)
        }
        fn align(&self, _: usize) -> f64 {
            1e-3
        }
    }

    fn machine(levels: usize, bootstraps: bool) -> Machine<'static> {
        Machine {
            refresh: &Bootstraps(5.0, 0.1),
            levels,
            bootstraps,
            target: None,
            most_bootstraps: None,
            parameters: "toy",
        }
    }

    /// Runs the decisions and checks every level.
    fn check(stages: &[Stage], decisions: &[Decision]) -> usize {
        let mut levels = Vec::new();
        for (s, d) in stages.iter().zip(decisions) {
            let depth = s.ways[d.way].depth;
            assert!(d.level >= depth);
            assert!(s.sources.iter().all(|&w| levels[w] >= d.level));
            levels.push(d.bootstrap.unwrap_or(d.level - depth));
        }
        decisions.iter().filter(|d| d.bootstrap.is_some()).count()
    }

    #[test]
    fn a_short_chain_is_encrypted_at_just_its_depth() {
        let stages = [
            stage(0, &[]),
            stage(1, &[0]),
            stage(4, &[1]),
            stage(1, &[2]),
        ];
        let (decisions, _) = schedule(&stages, 3, machine(10, true)).expect("fits");
        assert_eq!(check(&stages, &decisions), 0);
        assert_eq!(decisions[0].level, 6);
    }

    #[test]
    fn a_residual_block_shares_its_source_without_a_bootstrap_of_its_own() {
        // x → linear → act → [linear → act → linear(·, x) → act] × 4
        let mut stages = vec![stage(0, &[]), stage(1, &[0]), stage(4, &[1])];
        for _ in 0..4 {
            let x = stages.len() - 1;
            stages.push(stage(1, &[x]));
            stages.push(stage(4, &[x + 1]));
            stages.push(stage(1, &[x + 2, x]));
            stages.push(stage(4, &[x + 3]));
        }
        stages.push(stage(1, &[stages.len() - 1]));
        let output = stages.len() - 1;
        let (decisions, _) = schedule(&stages, output, machine(10, true)).expect("fits");
        // 5 + 8·5 + 1 = 46 levels, 10 at the start and at most 10 each: at least 4 bootstraps
        assert!(check(&stages, &decisions) <= 8);
        let (_, dear) = schedule(
            &stages,
            output,
            Machine {
                refresh: &Bootstraps(400.0, 0.0),
                ..machine(10, true)
            },
        )
        .expect("fits");
        assert!(dear > 1600.0);
    }

    #[test]
    fn bootstraps_keep_to_one_target_where_they_must() {
        let mut stages = vec![stage(0, &[])];
        for i in 0..30 {
            stages.push(stage(1, &[i]));
        }
        let free = schedule(&stages, 30, machine(10, true)).expect("fits");
        for target in [4, 10] {
            let kept = schedule(
                &stages,
                30,
                Machine {
                    target: Some(target),
                    ..machine(10, true)
                },
            )
            .expect("fits");
            check(&stages, &kept.0);
            assert!(
                kept.0
                    .iter()
                    .all(|d| d.bootstrap.is_none_or(|t| t == target))
            );
            assert!(kept.1 >= free.1);
        }
    }

    #[test]
    fn open_ways_and_a_limit_on_bootstraps_give_the_best_of_all_combinations() {
        // a residual network of four activations, each of depth 1 to 4 at falling prices
        let prices = [
            [3.0, 1.0, 0.4, 0.1],
            [9.0, 2.0, 0.3, 0.2],
            [1.0, 0.9, 0.8, 0.0],
        ];
        let open = |v: usize, sources: &[usize], at: &[f64; 4], only: Option<usize>| Stage {
            ways: (0..4)
                .map(|i| Way {
                    depth: i + 1,
                    seconds: stage(i + 1, sources).ways[0].seconds.clone(),
                    price: if only.is_none_or(|o| o == i) {
                        at[i]
                    } else {
                        f64::INFINITY
                    },
                })
                .collect(),
            ..stage(v, sources)
        };
        let network = |only: [Option<usize>; 3]| {
            vec![
                stage(0, &[]),
                stage(1, &[0]),
                open(1, &[1], &prices[0], only[0]),
                stage(1, &[2]),
                open(1, &[3], &prices[1], only[1]),
                stage(1, &[4, 2]),
                open(1, &[5], &prices[2], only[2]),
                stage(1, &[6]),
            ]
        };
        let mut previous = f64::INFINITY;
        for most in [None, Some(0), Some(1), Some(2)] {
            let machine = Machine {
                most_bootstraps: most,
                refresh: &Bootstraps(0.5, 0.01),
                ..machine(6, true)
            };
            let joint = schedule(&network([None; 3]), 7, machine);
            let mut best = f64::INFINITY;
            for i in 0..64usize {
                let only = [Some(i % 4), Some(i / 4 % 4), Some(i / 16)];
                if let Ok((_, seconds)) = schedule(&network(only), 7, machine) {
                    best = best.min(seconds);
                }
            }
            let Ok((decisions, seconds)) = joint else {
                // one level for each of seven operations but six in all
                assert_eq!((most, best), (Some(0), f64::INFINITY));
                continue;
            };
            assert!((seconds - best).abs() < 1e-9, "{most:?}: {seconds}, {best}");
            let used = check(&network([None; 3]), &decisions);
            assert!(most.is_none_or(|m| used <= m));
            if most.is_some() {
                assert!(seconds <= previous);
                previous = seconds;
            }
        }
    }

    #[test]
    fn too_deep_is_refused_with_the_layer() {
        let stages = [
            stage(0, &[]),
            stage(1, &[0]),
            stage(4, &[1]),
            stage(1, &[2]),
        ];
        let error = schedule(&stages, 3, machine(5, false)).expect_err("too deep");
        assert!(
            matches!(
                &error,
                Error::Levels {
                    needed: 6,
                    had: 5,
                    ..
                }
            ),
            "{error}"
        );
        let error = schedule(&stages, 3, machine(3, true)).expect_err("too deep");
        assert!(
            matches!(
                &error,
                Error::Depth {
                    needed: 4,
                    had: 3,
                    degree: 7,
                    ..
                }
            ),
            "{error}"
        );
    }
}
