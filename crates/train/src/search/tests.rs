use super::*;
use crate::config::{Degrees, Order, Substitution};
use crate::model::{Model, Parameterization};
use crate::sources::Sources;
use sensitivity::Bench;
use zoo::resnet::Small;

const DEGREES: [usize; 3] = [2, 4, 15];
const LEVELS: [usize; 3] = [1, 2, 4];

/// Activations in a chain: a second for each level, ten for each bootstrap, which gives six levels.
struct Chain;

impl Chain {
    fn cost(choice: &[usize]) -> (f64, usize) {
        let levels: usize = choice.iter().map(|&k| 1 + LEVELS[k]).sum();
        let bootstraps = levels.saturating_sub(1) / 6;
        (levels as f64 + 10.0 * bootstraps as f64, bootstraps)
    }
}

/// All choices for so many activations.
fn choices(n: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..3usize.pow(n as u32)).map(move |i| (0..n).map(|k| i / 3usize.pow(k as u32) % 3).collect())
}

impl Costs for Chain {
    fn cheapest(&self, prices: &[Vec<f64>], most: Option<usize>) -> Result<Option<Point>> {
        let priced = |c: &[usize]| -> f64 { c.iter().zip(prices).map(|(&k, p)| p[k]).sum() };
        let all = choices(prices.len())
            .filter(|c| most.is_none_or(|m| Self::cost(c).1 <= m) && priced(c).is_finite());
        let best = all
            .min_by(|a, b| (Self::cost(a).0 + priced(a)).total_cmp(&(Self::cost(b).0 + priced(b))));
        Ok(best.map(|choice| {
            let (cpu_seconds, bootstraps) = Self::cost(&choice);
            Point {
                choice,
                cpu_seconds,
                bootstraps,
                divergence: 0.0,
            }
        }))
    }
    fn exact(&self, choice: &[usize]) -> Result<Cost> {
        let (cpu_seconds, bootstraps) = Self::cost(choice);
        // what was foreseen is a little less than what is
        let cpu_seconds = 1.02 * cpu_seconds;
        Ok(Cost {
            seconds: 0.5 * cpu_seconds,
            cpu_seconds,
            bootstraps,
            bytes: 1_000_000_000 + 1000 * cpu_seconds as u64,
        })
    }
}

fn sensitivity() -> Sensitivity {
    let row = |scale: f64| vec![scale, 0.2 * scale, 0.001 * scale];
    Sensitivity {
        names: (0..6).map(|i| format!("act{i}")).collect(),
        degrees: DEGREES.to_vec(),
        divergence: [0.8, 0.05, 0.3, 0.02, 0.11, 0.6].map(row).to_vec(),
        polynomials: Vec::new(),
    }
}

#[test]
fn the_front_is_monotone_and_nothing_beats_its_hull() {
    let s = sensitivity();
    let all = candidates(&Chain, &s).expect("searches");
    let front = front(&all);
    assert!(front.len() >= 5, "{front:?}");
    for w in front.windows(2) {
        assert!(
            w[0].cpu_seconds < w[1].cpu_seconds && w[0].divergence > w[1].divergence,
            "{w:?}"
        );
    }
    assert_eq!(front[0].choice, [0; 6]);
    assert_eq!(front[front.len() - 1].choice, [2; 6]);
    // for every λ the best of all choices is on the front
    for lambda in [0.01, 1.0, 10.0, 30.0, 100.0, 1000.0, 1e5] {
        let value = |seconds: f64, c: &[usize]| seconds + lambda * s.sum(c);
        let best = choices(6)
            .map(|c| value(Chain::cost(&c).0, &c))
            .fold(f64::INFINITY, f64::min);
        let found = front
            .iter()
            .map(|p| value(p.cpu_seconds, &p.choice))
            .fold(f64::INFINITY, f64::min);
        assert!((found - best).abs() < 1e-9, "λ = {lambda}: {found}, {best}");
    }
    assert_eq!(
        all,
        candidates(&Chain, &s).expect("searches"),
        "the same again"
    );
    let few = thinned(&front, 4);
    assert_eq!(
        (few.len(), &few[0], &few[3]),
        (4, &front[0], &front[front.len() - 1])
    );
}

#[test]
fn budgets_are_kept_by_the_exact_cost() {
    let s = sensitivity();
    let all = candidates(&Chain, &s).expect("searches");
    let mut previous = f64::INFINITY;
    for seconds in [12.0, 16.5, 20.0, 26.0, 40.0] {
        let limits = [Budget::Seconds(seconds)];
        let (point, cost) = pick(&Chain, &s, &all, &limits).expect("fits");
        assert!(cost.seconds <= seconds && point.divergence <= previous);
        previous = point.divergence;
        // nothing in sight is both allowed and more faithful
        for other in &all {
            let cost = Chain.exact(&other.choice).expect("costs");
            assert!(
                cost.seconds > seconds || other.divergence >= point.divergence,
                "{seconds}: {other:?}"
            );
        }
    }
    for most in [1, 2, 3] {
        let limits = [Budget::Bootstraps(most)];
        let (point, cost) = pick(&Chain, &s, &all, &limits).expect("fits");
        let best = choices(6)
            .filter(|c| Chain::cost(c).1 <= most)
            .map(|c| s.sum(&c))
            .fold(f64::INFINITY, f64::min);
        assert!(
            cost.bootstraps <= most && (point.divergence - best).abs() < 1e-12,
            "{most}: {point:?}"
        );
    }
    let both = [Budget::Seconds(20.0), Budget::Bytes(1_000_030_000)];
    let (_, cost) = pick(&Chain, &s, &all, &both).expect("fits");
    assert!(cost.bytes <= 1_000_030_000 && cost.seconds <= 20.0);
}

#[test]
fn a_budget_that_no_network_keeps_offers_the_nearest() {
    let s = sensitivity();
    let all = candidates(&Chain, &s).expect("searches");
    let refused = |budget: Budget| {
        pick(&Chain, &s, &all, &[budget])
            .expect_err("too little")
            .to_string()
    };
    let message = refused(Budget::Seconds(3.0));
    // six activations and maps of one level each: 12 levels, one bootstrap, 22 CPU seconds foreseen
    assert!(
        message.contains("no network keeps 3 s: the nearest takes 11.2 s, 1 bootstrap, 1.00 GB"),
        "{message}"
    );
    assert!(
        message.contains("degrees 2 2 2 2 2 2;") && message.contains("allow 11.3s,"),
        "{message}"
    );
    assert!(!message.contains('\n'), "{message}");
    let message = refused(Budget::Bootstraps(0));
    assert!(
        message.contains("no network keeps 0 bootstraps") && message.contains("allow 1bootstraps,"),
        "{message}"
    );
    // what is offered is kept
    let (_, cost) = pick(&Chain, &s, &all, &[Budget::Seconds(11.3)]).expect("fits");
    assert!(cost.seconds <= 11.3);
}

fn toy() -> (Model, Sources) {
    let mut state = 5u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    let set = |n: usize, byte: &mut dyn FnMut() -> u8| {
        let shape = data::Shape {
            height: 8,
            width: 8,
            channels: 3,
        };
        let pixels: Vec<u8> = (0..n * 192).map(|_| byte()).collect();
        let labels: Vec<usize> = (0..n).map(|i| i % 3).collect();
        data::Dataset::from_pixels(
            shape,
            vec!["a".into(), "b".into(), "c".into()],
            pixels,
            &labels,
        )
        .expect("fits")
    };
    let sources = Sources {
        train: set(48, &mut byte),
        second: None,
        held_out: set(16, &mut byte),
        normalization: task::Normalization::imagenet(),
        skipped: Vec::new(),
        twins: 0,
        taken: data::Taken::Apart,
        mirrored: true,
    };
    let network = Small {
        width: 4,
        classes: 3,
        input: (8, 8, 3),
        activation: approx::Activation::Silu,
    };
    (
        Model::new(network.graph(3).expect("valid"), Parameterization::Plain).expect("trains"),
        sources,
    )
}

#[test]
fn sensitivities_fall_with_the_degree_and_the_network_comes_back() {
    let how = Substitution {
        degree: Degrees::One(2),
        order: Order::All,
        margin: 0.1,
        interval: None,
        floor: 0.02,
        pictures: 48,
    };
    let measured = || {
        let (mut model, sources) = toy();
        let bench = Bench::new(&mut model, &sources, &how, 32, 16).expect("calibrates");
        let before = crate::Score::of(
            &mut model,
            sources.batches(&sources.held_out, 16).expect("batches"),
        )
        .expect("scores");
        let mut steps = 0;
        let s = bench
            .measure(&mut model, &how, &[2, 4, 12], &mut |_, _| steps += 1)
            .expect("measures");
        assert_eq!(steps, 3 * s.names.len());
        let last = bench
            .whole(&mut model, &sources, &s, &vec![2; s.names.len()])
            .expect("measures");
        let first = bench
            .whole(&mut model, &sources, &s, &vec![0; s.names.len()])
            .expect("measures");
        let after = crate::Score::of(
            &mut model,
            sources.batches(&sources.held_out, 16).expect("batches"),
        )
        .expect("scores");
        assert_eq!(before, after);
        (s, first, last)
    };
    let (s, first, last) = measured();
    for row in &s.divergence {
        assert!(
            row[0] > row[1] && row[1] > row[2] && row[2] > 0.0,
            "{row:?}"
        );
    }
    assert!(first.divergence > 10.0 * last.divergence && last.divergence > 0.0);
    assert!(s.polynomials.iter().all(|p| p.len() == 3));
    assert_eq!((s, first, last), measured(), "the same again");
}

#[test]
fn a_report_says_what_was_found() {
    let s = sensitivity();
    let all = candidates(&Chain, &s).expect("searches");
    let rows: Vec<report::Row> = front(&all)
        .into_iter()
        .enumerate()
        .map(|(i, point)| report::Row {
            cost: Chain.exact(&point.choice).expect("costs"),
            whole: Whole {
                divergence: 2.0 * point.divergence,
                held_out: crate::Score {
                    errors: Vec::new(),
                    loss: 0.0,
                    right: 3,
                    answers: 4,
                    outside: 0,
                    classes: Vec::new(),
                },
            },
            point,
            chosen: i == 1,
        })
        .collect();
    let model = report::additivity(&rows);
    assert!(
        (model.rank_correlation - 1.0).abs() < 1e-12 && (model.ratio.1 - 2.0).abs() < 1e-9,
        "{model:?}"
    );
    let csv = report::csv(&rows, &s);
    assert_eq!(csv.lines().count(), rows.len() + 1);
    assert!(csv.lines().all(|l| l.split(',').count() == 12));
    assert!(report::markdown(&rows, &s).contains("2 2 2 2 2 2"));
    let svg = report::chart(&rows, "front", "polyveil-train search").expect("draws");
    assert!(svg.contains(">chosen<"));
}
