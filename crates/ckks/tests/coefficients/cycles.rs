//! Whole cycles on random layouts, down from slots, through a layer and up again, in three interpreters: with a small ring and without one.

use super::{Random, parameters};
use ckks::coefficients::{Parts, slot_of};
use ckks::folded::{Convolution, Folded, Pitch};
use ckks::parameters::WEIGHT_BITS;
use ckks::{
    Arithmetic, Clear, Coefficients, Context, Descent, Error, Evaluator, HalfBootstrap, Level,
    Meter, ParametersSpec, Polynomial, SecretKey,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use std::sync::Arc;

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.signed(30, 1)[0].unsigned_abs() as usize % n
    }
    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
    fn unit(&mut self) -> f64 {
        f64::from(self.signed(30, 1)[0]) / f64::from(1 << 30)
    }
}

/// A tensor's layout as the compiler makes them: with zeros around the picture, and eight values of a ciphertext at least.
fn lay(n: usize, shape: [usize; 3], pad: [usize; 2], pitch: Pitch) -> Result<Folded, Error> {
    let f = Folded::fitting(n, shape, pad, pitch)?;
    Folded::new(n, f.spacing(), f.gap().min(n / 8), f.pitch(), shape)
}

/// For each part in slots of a ciphertext ones where a value lies.
fn masks(layout: &Folded, number: usize) -> Vec<Arc<[f32]>> {
    let ones = vec![1.0; layout.shape().iter().product()];
    let places = layout.place(&ones).expect("as many").swap_remove(number);
    let values: Vec<f32> = places.into_iter().step_by(layout.gap()).collect();
    let half = values.len() / 2;
    let part = |from: &[f32]| -> Vec<f32> { (0..half).map(|j| from[slot_of(j, half)]).collect() };
    let both = [&values[..half], &values[half..]].map(part);
    match layout.gap() {
        1 => both.map(Arc::from).into(),
        _ => vec![both.concat().into()],
    }
}

/// One turn: what is done slot by slot, and the layer that what comes of it goes through.
struct Turn {
    /// Levels below the highest that the way up ends at.
    below: usize,
    polynomial: Polynomial,
    /// Of each ciphertext.
    masks: Vec<Vec<Arc<[f32]>>>,
    from: Folded,
    to: Folded,
    /// In the ring that it is carried out in.
    layer: Convolution,
    small: bool,
    /// Not yet integers.
    weights: Vec<f64>,
    /// Times the layer's input, where its output lies alike.
    factor: Option<f64>,
    bias: Arc<[f64]>,
}

/// A reproducible random walk through layouts: up from coefficients, some slot by slot work, down again with masks, a layer.
struct Cycle {
    start: Folded,
    turns: Vec<Turn>,
}

impl Cycle {
    /// In a ring of degree n that may be seen as so many classes; magnitudes stay below 1/2.
    fn random(random: &mut Random, n: usize, classes: usize, turns: usize) -> Self {
        let start = loop {
            let shape = [20, 9, 9].map(|most| 1 + random.below(most));
            let pad = [random.below(3), random.below(3)];
            let pitch = random.pick(&[Pitch::Tight, Pitch::Power]);
            match lay(n, shape, pad, pitch) {
                Ok(layout) if layout.ciphertexts() <= 3 => break layout,
                _ => continue,
            }
        };
        let mut cycle = Self {
            start: start.clone(),
            turns: Vec::new(),
        };
        let mut from = start;
        for _ in 0..turns {
            let turn = Turn::random(random, from, classes);
            from = turn.to.clone();
            cycle.turns.push(turn);
        }
        cycle
    }
    /// Values in coefficients and in slots, in order.
    fn run<A: Arithmetic>(
        &self,
        a: &A,
        xs: Vec<Coefficients<A::Value>>,
    ) -> Result<Both<A::Value>, Error> {
        let (mut low, mut high) = (xs.clone(), Vec::new());
        let mut xs = xs;
        for turn in &self.turns {
            let mut down = Vec::new();
            for (x, masks) in xs.iter().zip(&turn.masks) {
                let parts = turn.up(a, x)?;
                high.push(parts.first.clone());
                high.extend(parts.second.clone());
                let d = Descent {
                    slots: a.info(x.value()).slots,
                    scale: a.parameters().scale(a.parameters().products()),
                    masks: masks.clone(),
                };
                down.push(a.to_coefficients(&parts, &d)?);
            }
            low.extend(down.iter().cloned());
            xs = turn.through(a, &down)?;
            low.extend(xs.iter().cloned());
        }
        Ok((low, high))
    }
}

type Both<V> = (Vec<Coefficients<V>>, Vec<V>);

impl Turn {
    fn random(random: &mut Random, from: Folded, classes: usize) -> Self {
        let polynomial: Vec<f64> = (0..=3 + random.below(5))
            .map(|k| 0.18 * random.unit() / (1.0 + k as f64))
            .collect();
        let n = from.degree();
        let masked = random.below(4);
        let masks = (0..from.ciphertexts())
            .map(|number| match masked {
                0 => Vec::new(),
                // any: what lies beside values stays, and is read by the layer
                1 => masks(&from, number)
                    .iter()
                    .map(|m| {
                        (0..m.len().min(16))
                            .map(|_| random.below(2) as f32)
                            .collect()
                    })
                    .collect(),
                _ => masks(&from, number),
            })
            .collect();
        let (to, layer, small) = loop {
            if let Some(drawn) = Self::layer(random, &from, classes) {
                break drawn;
            }
        };
        let row = layer.row();
        let most = 0.6 / row as f64;
        let weights: Vec<f64> = (0..layer.outputs() * row)
            .map(|_| most * random.unit())
            .collect();
        let alike = from == to;
        Self {
            below: random.below(2),
            polynomial: Polynomial::new(polynomial).expect("finite"),
            masks,
            small,
            weights,
            factor: alike.then(|| 0.25 * random.unit()),
            bias: (0..random.pick(&[1, 4, n / to.gap()]))
                .map(|_| 0.05 * random.unit())
                .collect(),
            from,
            to,
            layer,
        }
    }
    /// A layer from a layout to the same or another, if the drawn ones fit each other; with more than one class, by way of the small ring where its classes are
    /// whole channels.
    fn layer(
        random: &mut Random,
        from: &Folded,
        classes: usize,
    ) -> Option<(Folded, Convolution, bool)> {
        let [channels, h, w] = from.shape();
        let divisors: Vec<usize> = (1..=channels).filter(|g| channels % g == 0).collect();
        let groups = random.pick(&divisors);
        let outputs = groups * (1 + random.below(12usize.div_ceil(groups)));
        let kernel = [1 + random.below(5), 1 + random.below(5)];
        let before = kernel.map(|k| random.below(k));
        let stride = random.pick(&[1, 1, 1, 2, 3]);
        let to = match random.below(3) {
            0 => Some(from.clone()),
            1 => from.with_channels(outputs).ok(),
            _ => {
                let size = [h, w].map(|l| 1 + random.below(l.div_ceil(stride)));
                let pad = [random.below(3), random.below(3)];
                let pitch = random.pick(&[Pitch::Tight, Pitch::Power]);
                lay(from.degree(), [outputs, size[0], size[1]], pad, pitch).ok()
            }
        }?;
        let gap = to.gap().min(from.degree() / 8);
        let to = Folded::new(from.degree(), to.spacing(), gap, to.pitch(), to.shape())
            .ok()
            .filter(|to| to.ciphertexts() <= 3)?;
        let within = |t| -> Option<Convolution> {
            let [a, b] = [from, &to].map(|f| f.narrowed(t).ok());
            Convolution::new(&a?, &b?, kernel, before, stride, groups).ok()
        };
        let whole = within(1)?;
        let narrow = within(classes).filter(|_| classes > 1);
        let small = narrow.is_some();
        Some((to, narrow.unwrap_or(whole), small))
    }
    fn up<A: Arithmetic>(
        &self,
        a: &A,
        x: &Coefficients<A::Value>,
    ) -> Result<Parts<A::Value>, Error> {
        let p = a.parameters();
        let target = p.residual().index() - self.below;
        // read at the scale that the target needs: a factor within a few per mille
        let x = x.with_scale(a, p.base_scale(Level::new(target)))?;
        let parts = a.half_bootstrap(&x, &HalfBootstrap { target })?;
        parts.each(|v| a.polynomial(v, &self.polynomial))
    }
    /// The layer, a multiple of its input, a bias.
    fn through<A: Arithmetic>(
        &self,
        a: &A,
        xs: &[Coefficients<A::Value>],
    ) -> Result<Vec<Coefficients<A::Value>>, Error> {
        let (p, unit) = (a.parameters(), a.parameters().weight_unit());
        let weights: Vec<i32> = self.weights.iter().map(|w| (w * unit) as i32).collect();
        let out: Vec<_> = match a.small().filter(|_| self.small) {
            None => a.convolve(xs, &self.layer, &weights, unit)?,
            Some(small) => {
                let narrowed: Result<Vec<_>, Error> = xs.iter().map(|x| a.narrow(x)).collect();
                let out = small.convolve(&narrowed?.concat(), &self.layer, &weights, unit)?;
                let classes = self.layer.output().classes();
                let widened = out.chunks(classes).map(|c| a.widen(c).map(Some));
                widened.collect::<Result<_, _>>()?
            }
        };
        let each = out.into_iter().enumerate().map(|(k, y)| {
            let mut y = y.expect("a ciphertext with channels");
            if let Some(factor) = self.factor {
                let factor = (factor * unit) as i64;
                let x = Coefficients::of(a, a.mul_integer(xs[k].value(), factor)?)?;
                let scale = a.info(x.value()).scale * unit;
                y = y.plus(a, &x.with_scale(a, scale)?)?;
            }
            let y = Coefficients::of(a, a.rescale(y.value())?)?;
            let y = a.with_exact_scale(y.value(), p.scale(Level::new(0)))?;
            let y = Coefficients::of(a, y)?.spaced(a, self.to.gap())?;
            a.add_values(&y, &self.bias)
        });
        each.collect()
    }
}

/// Random values in the coefficients of every ciphertext of a layout.
fn values(random: &mut Random, layout: &Folded) -> Vec<Vec<f64>> {
    let count = layout.degree() / layout.gap();
    (0..layout.ciphertexts())
        .map(|_| (0..count).map(|_| 0.5 * random.unit()).collect())
        .collect()
}

/// What the meter foresees of a cycle; it knows the keys after.
fn foreseen(meter: &Meter, cycle: &Cycle) -> Both<ckks::MeterValue> {
    let start = &cycle.start;
    let xs = (0..start.ciphertexts()).map(|_| {
        let slots = start.degree() / 2 / start.gap();
        let x = meter.input(Level::new(0), slots, 0.5).expect("fits");
        Coefficients::of(meter, x).expect("level 0")
    });
    cycle.run(meter, xs.collect()).expect("meter")
}

fn encrypted(key: &SecretKey, v: &[Vec<f64>], e: &Evaluator, seed: u64) -> Vec<Coefficients> {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let each = v.iter().map(|v| {
        let x = key.encrypt_coefficients(v, Level::new(0), &mut rng);
        Coefficients::of(e, x.expect("fits").expand(e.parameters())).expect("level 0")
    });
    each.collect()
}

#[test]
fn three_interpreters_agree_on_random_cycles() {
    let (mut seen, mut most) = ([0; 6], [0.0f64; 2]);
    for seed in 0..12 {
        // every other one with a small ring, of an eighth or a quarter; weights of either precision
        let log_small = [None, Some(7), None, Some(8)][seed as usize % 4];
        let bits = WEIGHT_BITS[seed as usize / 2 % 2];
        let spec = ParametersSpec::toy_coefficients(10, 4)
            .map(|s| s.with_small_ring(log_small).with_weight_bits(bits));
        let p = parameters(spec);
        let n = p.n();
        let classes = log_small.map_or(1, |log| n >> log);
        let mut random = Random::new(300 + seed);
        let cycle = Cycle::random(&mut random, n, classes, 2);
        let v = values(&mut random, &cycle.start);
        let context = Context::new(&p);
        let meter = Meter::new(&context);
        let (low, high) = foreseen(&meter, &cycle);
        let clear = Clear::new(&context, seed);
        let xs = v
            .iter()
            .map(|v| clear.coefficients(v, Level::new(0)).expect("fits"));
        let (clear_low, clear_high) = cycle.run(&clear, xs.collect()).expect("clear");
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let key = SecretKey::generate(&p, &mut rng);
        let keys = key.evaluation_keys(&meter.keys(), &mut rng).expect("keys");
        let evaluator = Evaluator::new(&context, keys);
        let xs = encrypted(&key, &v, &evaluator, seed);
        let (had_low, had_high) = cycle.run(&evaluator, xs).expect("the meter's keys suffice");
        let mut slack = [f64::INFINITY; 2];
        let mut within = |what: usize, step: usize, worst: f64, bound: f64| {
            assert!(
                worst <= bound,
                "seed {seed}, {} {step}: 2^{:.1} of 2^{:.1}",
                ["coefficients", "slots"][what],
                worst.log2(),
                bound.log2()
            );
            slack[what] = slack[what].min((bound / worst).log2());
        };
        assert!(low.len() == had_low.len() && high.len() == had_high.len());
        for (step, ((m, c), e)) in low.iter().zip(&clear_low).zip(&had_low).enumerate() {
            let infos = [
                meter.info(m.value()),
                clear.info(c.value()),
                evaluator.info(e.value()),
            ];
            assert!(infos.iter().all(|i| *i == infos[0]), "{seed}: {infos:?}");
            let (want, had) = (clear.read(c).expect("reads"), key.decrypt_coefficients(e));
            assert_eq!(want.len(), had.len());
            let worst = want.iter().zip(had.iter()).map(|(a, b)| (a - b).abs());
            // an error in slots is that in coefficients times √N
            let bound = m.value().error_bound() / (n as f64).sqrt();
            within(0, step, worst.fold(0.0, f64::max), bound);
        }
        for (step, ((m, c), e)) in high.iter().zip(&clear_high).zip(&had_high).enumerate() {
            let infos = [meter.info(m), clear.info(c), evaluator.info(e)];
            assert!(infos.iter().all(|i| *i == infos[0]), "{seed}: {infos:?}");
            let had = key.decrypt(e).expect("degree");
            let worst = had.iter().zip(&c.values).map(|(a, b)| (a - b).norm());
            within(1, step, worst.fold(0.0, f64::max), m.error_bound());
        }
        println!(
            "seed {seed}: bits between error and bound: {:.1} in coefficients, {:.1} in slots",
            slack[0], slack[1]
        );
        most = [0, 1].map(|k| most[k].max(slack[k]));
        for turn in &cycle.turns {
            let several = turn.from.ciphertexts().max(turn.to.ciphertexts()) > 1;
            let moved = turn.from.pitch() != turn.to.pitch();
            let all = [
                turn.small,
                !turn.small,
                several,
                turn.to.gap() > 1,
                moved,
                turn.factor.is_some(),
            ];
            all.iter()
                .zip(&mut seen)
                .for_each(|(had, seen)| *seen += u32::from(*had));
        }
    }
    println!(
        "in the small ring, in the large one, several ciphertexts, few values, other rows, sums: {seen:?}"
    );
    assert!(seen.iter().all(|s| *s > 1), "{seen:?}");
    // the tail is 48 deviations, of which the largest of a thousand errors is four or five; in slots the steepest slope of a polynomial is counted everywhere
    assert!(most[0] < 7.0 && most[1] < 12.0, "{most:?}");
}

/// Work is shared out to threads by limbs and by polynomials: no bit of a result may depend on how many there are.
#[test]
fn cycles_do_not_depend_on_threads() {
    let spec = ParametersSpec::toy_coefficients(11, 4).map(|s| s.with_small_ring(Some(8)));
    let p = parameters(spec);
    let context = Context::new(&p);
    let mut random = Random::new(5);
    // the first by way of the small ring whose ciphertexts are two parts in slots
    let wanted = |c: &Cycle| c.turns[0].small && c.start.gap() == 1;
    let cycle = std::iter::repeat_with(|| Cycle::random(&mut random, p.n(), 8, 1))
        .find(wanted)
        .expect("without an end");
    let meter = Meter::new(&context);
    foreseen(&meter, &cycle);
    let mut rng = ChaCha20Rng::seed_from_u64(15);
    let key = SecretKey::generate(&p, &mut rng);
    let keys = key.evaluation_keys(&meter.keys(), &mut rng).expect("keys");
    let v = values(&mut random, &cycle.start);
    let words = |threads: usize| -> Vec<Vec<u64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.expect("threads").install(|| {
            let evaluator = Evaluator::new(&context, keys.clone());
            let xs = encrypted(&key, &v, &evaluator, 16);
            let (low, high) = cycle.run(&evaluator, xs).expect("keys");
            let all = low.iter().map(Coefficients::value).chain(&high);
            all.flat_map(|x| x.limbs().map(<[u64]>::to_vec)).collect()
        })
    };
    let one = words(1);
    assert!(one.iter().any(|limb| limb.iter().any(|&w| w != 0)));
    assert!(one == words(2) && one == words(3));
}
