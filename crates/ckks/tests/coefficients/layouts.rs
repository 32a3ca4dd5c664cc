//! Where values lie, and what folded layers mean.

use super::{Layer, Random, layers};
use ckks::Error;
use ckks::folded::{Convolution, Folded, Pitch};

#[test]
fn folded_layers_are_convolutions() {
    let mut random = Random::new(1);
    for layer in layers() {
        for (n, t) in [(512, 1), (2048, 1), (2048, 2)] {
            let folded = layer.folded(n, t);
            let count = layer.channels * layer.size[0] * layer.size[1];
            let x: Vec<i128> = random
                .signed(20, count)
                .into_iter()
                .map(i128::from)
                .collect();
            let w = random.signed(16, layer.outputs * layer.row());
            let inputs = folded.input().place(&x).expect("placed");
            let out = folded.evaluate(&inputs, &w).expect("evaluates");
            let have = folded.output().read(&out).expect("read");
            assert_eq!(
                have,
                layer.plain(&x, &w),
                "{layer:?} in degree {n}, {t} classes"
            );
        }
    }
}

/// Padding columns are zero where columns are leaves of their own, and values where they come with the rows.
#[test]
fn what_lies_beside_the_picture_is_part_of_the_meaning() {
    let mut random = Random::new(2);
    let x: Vec<i128> = random.signed(8, 36).into_iter().map(i128::from).collect();
    let garbage = |layer: Layer| {
        let folded = layer.folded(512, 1);
        let w = vec![1; layer.row()];
        let inputs = folded.input().place(&x).expect("placed");
        let out = folded.evaluate(&inputs, &w).expect("evaluates");
        let mut rest = out.clone();
        let [_, h, width] = folded.output().shape();
        for y in 0..h {
            for x in 0..width {
                let (k, at) = folded.output().at(0, y, x);
                rest[k][at] = 0;
            }
        }
        rest.iter().flatten().filter(|&&v| v != 0).count()
    };
    assert!(garbage(Layer::new(1, 1, [6, 6], [3, 3])) > 10);
    assert_eq!(garbage(Layer::new(1, 1, [6, 6], [3, 3]).stride(3)), 0);
}

#[test]
fn values_come_back_from_where_they_lie() {
    for (shape, t) in [
        ([3, 5, 4], 1),
        ([9, 6, 6], 4),
        ([1, 1, 1], 8),
        ([40, 2, 3], 2),
    ] {
        let layout = Folded::fitting(1024, shape, [1, 1], Pitch::Tight).expect("fits");
        let layout = layout.narrowed(t).expect("narrowed");
        let values: Vec<i32> = (1..=shape.iter().product::<usize>() as i32).collect();
        let placed = layout.place(&values).expect("placed");
        assert_eq!(placed.len(), layout.ciphertexts());
        assert_eq!(
            placed.iter().flatten().filter(|&&v| v != 0).count(),
            values.len()
        );
        assert_eq!(layout.read(&placed).expect("read"), values);
    }
    // pictures of 224-pixel networks, 3×3 kernels: 0.77 of all coefficients
    for (side, places) in [(112, 16384), (56, 4096), (28, 1024), (14, 256), (7, 64)] {
        for pitch in [Pitch::Tight, Pitch::Power] {
            let l = Folded::fitting(1 << 16, [64, side, side], [1, 1], pitch).expect("fits");
            assert_eq!(l.degree() / l.spacing(), places, "{side} {pitch:?}");
        }
    }
}

#[test]
fn layers_that_would_read_what_is_not_zero_are_refused() {
    let refused = |e: Result<Convolution, Error>| matches!(e, Err(Error::Conformance { .. }));
    let tight = Folded::new(512, 8, 1, 6, [8, 6, 6]).expect("fits");
    let roomy = Folded::new(512, 8, 1, 7, [8, 6, 6]).expect("fits");
    let layer = |l: &Folded, before, groups| Convolution::new(l, l, [3, 3], before, 1, groups);
    assert!(layer(&roomy, [1, 1], 1).is_ok());
    assert!(
        refused(layer(&tight, [1, 1], 1)),
        "no column between the rows"
    );
    assert!(
        refused(layer(&roomy, [3, 1], 1)),
        "an output above its kernel"
    );
    assert!(refused(layer(&roomy, [1, 1], 3)), "groups");
    let full = Folded::new(512, 8, 1, 8, [8, 8, 7]).expect("fits");
    assert!(refused(layer(&full, [1, 1], 1)), "no row between the ends");
    let other = Folded::fitting(256, [8, 3, 3], [1, 1], Pitch::Tight).expect("fits");
    assert!(refused(Convolution::new(
        &roomy,
        &other,
        [3, 3],
        [1, 1],
        1,
        1
    )));
    assert!(Folded::new(512, 8, 3, 7, [8, 6, 6]).is_err());
    assert!(Folded::new(512, 8, 1, 7, [8, 10, 6]).is_err());
    assert!(Folded::fitting(512, [8, 30, 30], [1, 1], Pitch::Tight).is_err());
    assert!(roomy.narrowed(16).is_err());
    assert!(roomy.place(&[1, 2, 3]).is_err());
    // rows that end too early
    let x = vec![vec![0i128; 512]];
    let one = layer(&roomy, [1, 1], 1).expect("a layer");
    assert!(one.evaluate(&x, &vec![1; 100]).is_err());
}
