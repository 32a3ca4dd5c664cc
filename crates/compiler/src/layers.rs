//! Whether linear layers are carried out in slots or in coefficients: whichever is cheaper by prediction.
//!
//! Coefficients are costed from shapes alone. Slots take long to cost, since their diagonals are most of a compilation: what they take at least is
//! counted first, and where that is more time than coefficients take, or compiling them would take long, they are not looked at.

use crate::activation::Activation;
use crate::choose;
use crate::coefficients::{self, Estimate, Found};
use crate::cost::CostModel;
use crate::draft::{self, Needs};
use crate::error::Error;
use crate::linear_op::unsupported;
use crate::schedule::Refresh;
use crate::target::{Layers, Target};
use ckks::{MapSize, Parameters, ParametersSpec};
use nn::{Op, PolyGraph};
use runtime::{VerifiedPlan, size};

/// Compiles a network in the way that the target asks for, or the cheaper one.
pub(crate) fn compile(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    require_tables(graph, target)?;
    if !graph.kept().is_empty() {
        return step(graph, target);
    }
    match (target.layers, &target.parameters) {
        (Layers::Coefficients, _) => coefficients::compile(graph, target),
        (Layers::Slots, Some(set)) if has_products(set) => {
            let reason = "its levels of products are for layers in coefficients: take a set without, or let layers lie there".into();
            Err(Error::Ckks(ckks::Error::Parameters {
                name: set.name.clone(),
                reason,
            }))
        }
        (Layers::Cheapest, Some(set)) if has_products(set) => coefficients::compile(graph, target),
        (_, Some(set)) => choose::compile_under(graph, target, set.clone()),
        (Layers::Slots, None) => choose::compile(graph, target),
        (Layers::Cheapest, None) => cheapest(graph, target),
    }
}

/// Compiles a step of a sequence, one input at a time: what is kept lies in slots, large matrices of the token in coefficients.
fn step(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    let refuse = |reason: &str, remedy| {
        let node = graph.node(graph.kept()[0].after);
        Err(unsupported(node, reason.into(), remedy))
    };
    if target.batch != 1 {
        return refuse(
            "a batch has no keys and values that are kept",
            "compile for one sequence",
        );
    }
    match (target.layers, &target.parameters) {
        (Layers::Coefficients, _) => coefficients::step::compile(graph, target),
        (Layers::Cheapest, Some(set)) if has_products(set) => {
            coefficients::step::compile(graph, target)
        }
        (Layers::Slots, Some(set)) if has_products(set) => refuse(
            "levels of products are for layers in coefficients",
            "take a set without, or let layers lie there",
        ),
        (_, Some(set)) => choose::compile_under(graph, target, set.clone()),
        (Layers::Slots, None) => choose::compile(graph, target),
        (Layers::Cheapest, None) => match Count::of(graph, target)?.values >= FEW {
            true => coefficients::step::compile(graph, target),
            false => choose::compile(graph, target),
        },
    }
}

/// What compiling a network will take, from shapes and the pattern of its maps alone: seconds for the largest ones. Under the target's parameters, or where
/// they are chosen under the standard ones, which smaller rings take no more than.
///
/// # Errors
/// As [`compile`](crate::compile), but for those that are found later.
pub fn needs(graph: &PolyGraph, target: &Target) -> Result<Needs, Error> {
    require_tables(graph, target)?;
    if !graph.kept().is_empty() {
        return draft::needs(graph, target, choose::counted(graph, target));
    }
    let in_coefficients = match (target.layers, &target.parameters) {
        (Layers::Coefficients, _) => true,
        (Layers::Slots, _) => false,
        (Layers::Cheapest, Some(set)) => has_products(set),
        (Layers::Cheapest, None) if coefficients::is_transformer(graph) => {
            Count::of(graph, target)?.values >= FEW
        }
        // compiled in slots first, and seldom looked at further
        (Layers::Cheapest, None) if small(graph, target)? => false,
        (Layers::Cheapest, None) => match look(graph, target)? {
            View::Coefficients { .. } => true,
            View::Slots(_) | View::Open(_) => {
                let slots = draft::needs(graph, target, choose::counted(graph, target))?;
                return Ok(Needs {
                    bytes: slots.bytes.max(coefficients::LEAST_ROOM),
                    ..slots
                });
            }
        },
    };
    match in_coefficients {
        true => coefficients::needs(graph, target),
        false => draft::needs(graph, target, choose::counted(graph, target)),
    }
}

/// What [`compile`](crate::compile) would give: by shapes alone where layers lie in coefficients, otherwise by compiling.
///
/// # Errors
/// As [`compile`](crate::compile), but for what depends on weights.
pub fn estimate(graph: &PolyGraph, target: &Target) -> Result<Estimate, Error> {
    require_tables(graph, target)?;
    let step = !graph.kept().is_empty();
    let open = !step && target.parameters.is_none() && !coefficients::is_transformer(graph);
    match target.layers {
        Layers::Coefficients if open => return coefficients::estimate(graph, target),
        Layers::Cheapest if open && !small(graph, target)? => {
            if let View::Coefficients { found, .. } = look(graph, target)? {
                return Ok(found.estimate);
            }
        }
        _ => {}
    }
    let plan = compile(graph, target)?;
    Ok(Estimate::of(
        &plan,
        target,
        draft::needs(graph, target, choose::counted(graph, target))?,
    ))
}

/// Whether a network may do without bootstraps: then its plan in slots says most.
fn small(graph: &PolyGraph, target: &Target) -> Result<bool, Error> {
    Ok(choose::fits_levels(graph) && Count::of(graph, target)?.values < FEW)
}

/// Refuses where the ring's tables alone leave the room that there is: without them nothing can be counted.
fn require_tables(graph: &PolyGraph, target: &Target) -> Result<(), Error> {
    let tables = ckks::memory::tables(&choose::counted(graph, target));
    coefficients::within_room(graph, target, tables)
}

/// Whether a set has levels for products in coefficients.
fn has_products(set: &ParametersSpec) -> bool {
    let bootstrap = set.bootstrap.as_ref();
    bootstrap.is_some_and(|b| b.product.levels > 0)
}

/// CPU seconds, keys at their price, of a plan in slots beside which coefficients are not looked at: looking takes longer.
const QUICK: f64 = 0.1;
/// Values of diagonals that are packed in no time.
const FEW: f64 = (1u64 << 25) as f64;
/// How much cheaper slots must be by count, before finding out is worth a compilation.
const WORTH: f64 = 1.05;
/// Values of diagonals beyond which slots are not looked at where layers may lie in coefficients: packing and splitting them takes long.
const MANY: f64 = 1e9;

/// What is known before anything is compiled.
enum View {
    /// Coefficients can't be, or take more memory than they may: why.
    Slots(Error),
    /// Slots take more by count than coefficients take, or long to compile: why.
    Coefficients { found: Found, why: String },
    /// Slots are to be compiled before anybody knows.
    Open(Found),
}

fn look(graph: &PolyGraph, target: &Target) -> Result<View, Error> {
    if target
        .room
        .is_some_and(|r| r.bytes < coefficients::LEAST_ROOM)
    {
        let room = target.room.map_or(0, |r| r.bytes);
        return Ok(View::Slots(memory(graph, coefficients::LEAST_ROOM, room)));
    }
    let found = match coefficients::search(graph, target) {
        Ok(found) => found,
        // what is wrong with the network is said of slots, too
        Err(e) => return Ok(View::Slots(e)),
    };
    let estimate = &found.estimate;
    if let Some(limit) = target.max_memory.filter(|&l| estimate.least_bytes > l) {
        return Ok(View::Slots(memory(graph, estimate.least_bytes, limit)));
    }
    let count = Count::of(graph, target)?;
    let seconds = count.seconds(target)?;
    if WORTH * seconds > estimate.price() {
        let why = format!("{seconds:.0} CPU seconds at least, by count");
        return Ok(View::Coefficients { found, why });
    }
    if count.values > MANY {
        let why = format!("diagonals would hold {:.1e} numbers", count.values);
        return Ok(View::Coefficients { found, why });
    }
    Ok(View::Open(found))
}

fn memory(graph: &PolyGraph, needed: u64, had: u64) -> Error {
    Error::Memory {
        network: graph.metadata().name.clone(),
        needed,
        had,
    }
}

/// A network of tokens: both ways are compiled where its matrices are small.
fn cheapest_of_tokens(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    let low = match coefficients::compile(graph, target) {
        Ok(plan) => plan,
        Err(why) => {
            let plan = choose::compile(graph, target)?;
            return Ok(because(
                plan,
                &format!("layers not in coefficients: {why}\n"),
            ));
        }
    };
    let values = Count::of(graph, target)?.values;
    if values >= FEW {
        let line = format!("layers in coefficients: diagonals would hold {values:.1e} numbers\n");
        return Ok(because(low, &line));
    }
    let text = |plan: &VerifiedPlan| {
        let seconds: f64 = plan.predicted_steps(&target.cost).iter().sum();
        let keys = size(plan.facts().key_file_bytes);
        format!("{seconds:.1} CPU seconds, keys {keys}")
    };
    match choose::compile(graph, target) {
        Ok(plan) if choose::price(&plan, target) <= choose::price(&low, target) => {
            let line = format!("layers not in coefficients: {}\n", text(&low));
            Ok(because(plan, &line))
        }
        Ok(plan) => {
            let line = format!("layers in coefficients, not in slots: {}\n", text(&plan));
            Ok(because(low, &line))
        }
        Err(why) => Ok(because(
            low,
            &format!("layers in coefficients, not in slots: {why}\n"),
        )),
    }
}

fn cheapest(graph: &PolyGraph, target: &Target) -> Result<VerifiedPlan, Error> {
    if coefficients::is_transformer(graph) {
        return cheapest_of_tokens(graph, target);
    }
    // half bootstraps alone take so much at least
    let first = small(graph, target)?.then(|| choose::compile(graph, target));
    if let Some(Ok(plan)) = &first {
        let least = coefficients::LEAST_TRANSFORMS * target.cost.ntt * activations(graph) as f64;
        let price = choose::price(plan, target);
        if plan.facts().bootstraps == 0 && price < QUICK.max(least) {
            let line = match price < least {
                true => format!("layers not in coefficients: {least:.1} CPU seconds at least\n"),
                false => "layers not in coefficients: not looked at, since slots take less than looking\n".into(),
            };
            return Ok(because(plan.clone(), &line));
        }
    }
    let in_slots = || first.unwrap_or_else(|| choose::compile(graph, target));
    let (found, why) = match look(graph, target)? {
        View::Slots(why) => {
            let plan = match in_slots() {
                Ok(plan) => plan,
                // what neither way can do is said of both
                Err(
                    e @ (Error::Packing { .. }
                    | Error::TooLarge { .. }
                    | Error::Memory { .. }
                    | Error::Unsupported { .. }),
                ) if matches!(why, Error::Unsupported { .. }) => {
                    return Err(Error::Neither {
                        slots: e.into(),
                        coefficients: why.into(),
                    });
                }
                Err(e) => return Err(e),
            };
            let line = format!("layers not in coefficients: {why}\n");
            return Ok(because(plan, &line));
        }
        View::Coefficients { found, why } => (found, why),
        View::Open(found) => match in_slots() {
            Ok(plan) if choose::price(&plan, target) <= found.estimate.price() => {
                let line = format!("layers not in coefficients: {}\n", found.estimate.text());
                return Ok(because(plan, &line));
            }
            Ok(plan) => {
                let seconds: f64 = plan.predicted_steps(&target.cost).iter().sum();
                let keys = size(plan.facts().key_file_bytes);
                (found, format!("{seconds:.3} CPU seconds, keys {keys}"))
            }
            // what is wrong with the network itself
            Err(e @ (Error::Calibration { .. } | Error::Plan(_) | Error::Network(_))) => {
                return Err(e);
            }
            Err(e) => (found, e.to_string()),
        },
    };
    let plan = match coefficients::compile_found(graph, target, &found) {
        // weights were not looked at before
        Err(low @ Error::Integer { .. }) => {
            let Ok(plan) = choose::compile(graph, target) else {
                return Err(low);
            };
            return Ok(because(
                plan,
                &format!("layers not in coefficients: {low}\n"),
            ));
        }
        plan => plan?,
    };
    let lines = format!(
        "layers in coefficients: {}\nnot in slots: {why}\n",
        found.estimate.text()
    );
    Ok(because(plan, &lines))
}

fn activations(graph: &PolyGraph) -> usize {
    let is_one = |op: &Op<approx::Polynomial>| matches!(op, Op::Elementwise(p) if p.degree() > 1);
    graph.nodes().iter().filter(|n| is_one(n.op())).count()
}

fn because(plan: VerifiedPlan, lines: &str) -> VerifiedPlan {
    let mut why = plan.plan().description.parameters.clone();
    if !why.is_empty() && !why.ends_with('\n') {
        why.push('\n');
    }
    plan.because(why + lines)
}

/// What linear layers in slots take, by their multiplications alone: each diagonal holds as many as there are slots.
struct Count {
    /// Values of all diagonals.
    values: f64,
    /// Levels of all activations' ciphertexts, those of the maps before them included.
    levels: f64,
}

impl Count {
    fn of(graph: &PolyGraph, target: &Target) -> Result<Self, Error> {
        let slots = f64::from(1u32 << (target.set().log_n - 1));
        let dims = graph.input().shape().dims();
        // planes of the first picture's size, powers of two, hold all others
        let padded = |d: &usize| d.next_power_of_two() as f64 / *d as f64;
        let fill = match &dims[..] {
            [_, height, width] => padded(height) * padded(width),
            _ => 1.0,
        };
        let (mut products, mut levels) = (0.0, 0.0);
        for node in graph.nodes() {
            let values = node.shape().len() as f64;
            let row = match node.op() {
                Op::Conv2d(c) => c.weight.shape()[1..].iter().product(),
                Op::Linear(l) => l.weight.shape()[1],
                Op::AvgPool(p) => p.kernel.0 * p.kernel.1,
                _ => 0,
            };
            products += values * row as f64;
            if let Op::Elementwise(p) = node.op()
                && p.degree() > 1
            {
                let depth = 1 + Activation::absorbed(p, 1.0).depth()?;
                levels += depth as f64 * (values * fill / slots).floor();
            }
        }
        Ok(Self {
            values: products * fill * target.batch as f64,
            levels: levels * target.batch as f64,
        })
    }
    /// CPU seconds: every diagonal once at a middle level, without rotations, and the bootstraps for the levels.
    fn seconds(&self, target: &Target) -> Result<f64, Error> {
        let parameters = Parameters::new(ParametersSpec::standard())?;
        let slots = parameters.max_slots();
        let mut cost = CostModel::new(&parameters, target.cost, 1)?;
        cost.prepare([slots])?;
        let highest = cost.levels();
        // with a rotation, since it lives at the special primes, too
        let none = MapSize {
            babies: 1,
            ..MapSize::default()
        };
        let one = MapSize {
            diagonals: 1,
            values: slots,
            butterflies: cost.butterflies(slots),
            ..none
        };
        let level = highest.div_ceil(2);
        let each = cost.linear(&one, level) - cost.linear(&none, level);
        // two real ciphertexts share a bootstrap
        let bootstraps = 0.5 * self.levels / highest as f64;
        Ok(each * self.values / slots as f64 + bootstraps * cost.bootstrap(slots, 2, highest))
    }
}
