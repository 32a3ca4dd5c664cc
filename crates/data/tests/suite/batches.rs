//! Order, augmentation, resume, threads.

use super::*;
use data::{Augmentation, Batch, Loader, LoaderOptions, Options, Order, ResizedCrop, Taken};
use task::Normalization;

fn normalization(channels: usize) -> Normalization {
    Normalization::new(vec![0.41; channels], vec![0.25; channels])
}

fn options(batch: usize, channels: usize) -> LoaderOptions {
    LoaderOptions {
        batch,
        normalization: normalization(channels),
        ..LoaderOptions::default()
    }
}

fn everything() -> Augmentation {
    Augmentation {
        flip: true,
        crop_padding: 2,
        contrast: Some((0.7, 1.5)),
        cutout: 3,
        resized_crop: Some(ResizedCrop::default()),
    }
}

fn epoch(loader: &Loader, epoch: u64, from: usize) -> Vec<Batch> {
    loader.epoch(epoch, from).map(Result::unwrap).collect()
}

fn value(v: u8) -> f32 {
    ((f64::from(v) / 255.0 - 0.41) / 0.25) as f32
}

#[test]
fn evaluation_is_in_order_and_complete() {
    let set = toy(11, shape(3, 2, 3), 5);
    let loader = Loader::new(
        set.clone(),
        LoaderOptions {
            order: Order::Sequential,
            ..options(4, 3)
        },
    )
    .unwrap();
    let batches = epoch(&loader, 3, 0);
    assert_eq!(
        batches.iter().map(|b| b.labels.len()).collect::<Vec<_>>(),
        [4, 4, 3]
    );
    let indices: Vec<usize> = batches.iter().flat_map(|b| b.indices.clone()).collect();
    assert_eq!(indices, (0..11).collect::<Vec<_>>());
    let images: Vec<f32> = batches.iter().flat_map(|b| b.images.clone()).collect();
    let expected: Vec<f32> = all_pixels(&set).into_iter().map(value).collect();
    assert_eq!(images, expected);
    assert_eq!(
        batches
            .iter()
            .flat_map(|b| b.labels.clone())
            .collect::<Vec<_>>(),
        labels(&set)
    );
}

#[test]
fn an_epoch_holds_every_picture_once_in_its_own_order() {
    let set = toy(30, shape(2, 2, 1), 3);
    let loader = Loader::new(set.clone(), options(10, 1)).unwrap();
    let order = |e| -> Vec<usize> {
        epoch(&loader, e, 0)
            .iter()
            .flat_map(|b| b.indices.clone())
            .collect()
    };
    let (first, second) = (order(0), order(1));
    assert_ne!(first, second);
    for order in [&first, &second] {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..30).collect::<Vec<_>>());
    }
    let batch = loader.batch(0, 1).unwrap();
    assert_eq!(batch.indices, first[10..20]);
    for (b, &i) in batch.indices.iter().enumerate() {
        let expected: Vec<f32> = set.pixels(i).unwrap().iter().map(|&v| value(v)).collect();
        assert_eq!(
            (batch.labels[b], &batch.images[4 * b..4 * b + 4]),
            (set.label(i), &expected[..])
        );
    }
    // what does not fill a batch is left out of this epoch
    assert_eq!(Loader::new(set, options(8, 1)).unwrap().batches(), 3);
}

#[test]
fn the_same_bytes_after_a_resume_and_on_any_number_of_threads() {
    let folder = Folder::new("threads");
    for i in 0..24 {
        let name = format!("{}/{i}.png", i % 3);
        folder.file(&name, &png(&values(9 * 8 * 3, i), 9, 8, 3));
    }
    let originals = Options {
        keep_originals: true,
        resize: Some(square(6)),
        ..Options::default()
    };
    let (set, _) = Dataset::open(&folder.0, &originals).unwrap();
    let second = toy(7, shape(6, 6, 3), 3);
    let second = Dataset::from_pixels(
        second.shape(),
        set.classes().to_vec(),
        all_pixels(&second),
        &labels(&second),
    )
    .unwrap();
    let make = |seed| {
        let options = LoaderOptions {
            seed,
            augmentation: everything(),
            prefetch: 2,
            ..options(9, 3)
        };
        Loader::mixed(set.clone(), second.clone(), 1.0 / 3.0, options).unwrap()
    };
    let whole: Vec<Vec<Batch>> = (0..3).map(|e| epoch(&make(5), e, 0)).collect();
    assert_eq!(whole[0].len(), 4);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let loader = make(5);
        // another order of asking than the epoch's
        for number in (0..4).rev() {
            let batch = pool.install(|| loader.batch(2, number).unwrap());
            assert_eq!(batch, whole[2][number]);
        }
    }
    assert_eq!(epoch(&make(5), 1, 2), whole[1][2..]);
    assert!(epoch(&make(5), 1, 4).is_empty());
    assert_ne!(epoch(&make(6), 0, 0), whole[0]);
    // the same picture is changed otherwise in another epoch
    let image = |e: usize| {
        let (b, place) = whole[e]
            .iter()
            .find_map(|b| Some((b, b.indices[..6].iter().position(|&i| i == 0)?)))
            .unwrap();
        b.images[place * 108..(place + 1) * 108].to_vec()
    };
    assert!(image(0) != image(1) || image(1) != image(2));
    // leaving early ends the thread (a thread that hangs would hang this test)
    let mut some = make(5).epoch(0, 0);
    assert!(some.next().is_some());
    drop(some);
}

#[test]
fn a_fraction_comes_from_the_second_set() {
    let (first, second) = (toy(20, shape(1, 1, 1), 2), toy(7, shape(1, 1, 1), 2));
    let loader = Loader::mixed(first, second.clone(), 0.3, options(10, 1)).unwrap();
    assert_eq!(loader.batches(), 2);
    let mut from_second = Vec::new();
    for e in 0..7 {
        let mut own = Vec::new();
        for b in epoch(&loader, e, 0) {
            assert_eq!((b.mixed, b.indices.len()), (3, 10));
            own.extend(b.indices[..7].to_vec());
            for (&i, &label) in b.indices[7..].iter().zip(&b.labels[7..]) {
                assert_eq!(label, second.label(i));
            }
            assert_eq!(b.images[7], value(second.pixels(b.indices[7]).unwrap()[0]));
            from_second.extend(b.indices[7..].to_vec());
        }
        own.sort_unstable();
        own.dedup();
        assert_eq!(own.len(), 14, "no picture twice in an epoch");
    }
    // 7 epochs of 6 are 6 whole passes
    for pass in from_second.chunks(7) {
        let mut sorted = pass.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..7).collect::<Vec<_>>());
    }
}

/// Every picture of one epoch of `set` with its number.
fn changed(set: &Dataset, augmentation: Augmentation) -> Vec<(usize, Vec<f32>)> {
    let channels = set.shape().channels;
    let loader = Loader::new(
        set.clone(),
        LoaderOptions {
            augmentation,
            ..options(set.len(), channels)
        },
    )
    .unwrap();
    let batch = loader.batch(0, 0).unwrap();
    let size = set.shape().len();
    batch
        .indices
        .iter()
        .zip(batch.images.chunks_exact(size))
        .map(|(&i, x)| (i, x.to_vec()))
        .collect()
}

#[test]
fn flips_mirror_half_of_the_pictures() {
    let set = toy(200, shape(2, 3, 3), 2);
    let flip = Augmentation {
        flip: true,
        ..Augmentation::default()
    };
    let mut mirrored = 0;
    for (i, image) in changed(&set, flip) {
        let own = set.pixels(i).unwrap();
        let plain: Vec<f32> = own.iter().map(|&v| value(v)).collect();
        let mirror: Vec<f32> = plain
            .chunks(9)
            .flat_map(|row| row.chunks(3).rev().flatten().copied().collect::<Vec<_>>())
            .collect();
        assert!(image == plain || image == mirror);
        mirrored += usize::from(image == mirror);
    }
    assert!((70..130).contains(&mirrored), "{mirrored} of 200");
}

#[test]
fn crops_shift_and_fill_with_the_mean() {
    let set = toy(300, shape(4, 4, 1), 2);
    let shifted = Augmentation {
        crop_padding: 2,
        ..Augmentation::default()
    };
    let mut seen = std::collections::BTreeSet::new();
    for (i, image) in changed(&set, shifted) {
        let own = set.pixels(i).unwrap();
        let at = |dy: i32, dx: i32| -> Vec<f32> {
            (0..16)
                .map(|p| {
                    let (y, x) = (p / 4 + dy, p % 4 + dx);
                    let inside = (0..4).contains(&y) && (0..4).contains(&x);
                    if inside {
                        value(own[(4 * y + x) as usize])
                    } else {
                        0.0
                    }
                })
                .collect()
        };
        let found = (-2..=2)
            .flat_map(|dy| (-2..=2).map(move |dx| (dy, dx)))
            .find(|&(dy, dx)| at(dy, dx) == image);
        seen.insert(found.expect("one of 25 shifts"));
    }
    assert_eq!(seen.len(), 25);
}

#[test]
fn cutout_hides_one_square() {
    let set = toy(300, shape(6, 6, 1), 2);
    for side in [1, 2, 3] {
        let cut = Augmentation {
            cutout: side,
            ..Augmentation::default()
        };
        let mut most = 0;
        for (i, image) in changed(&set, cut) {
            let own = set.pixels(i).unwrap();
            // no byte is the mean, 0.41·255, so 0 is hidden
            let hidden: Vec<usize> = (0..36).filter(|&p| image[p] == 0.0).collect();
            let (ys, xs): (Vec<_>, Vec<_>) = hidden.iter().map(|p| (p / 6, p % 6)).unzip();
            let extent = |v: &[usize]| v.iter().max().unwrap() - v.iter().min().unwrap() + 1;
            assert!(!hidden.is_empty() && extent(&ys) <= side && extent(&xs) <= side);
            most = most.max(hidden.len());
            for p in (0..36).filter(|p| !hidden.contains(p)) {
                assert_eq!(image[p], value(own[p]));
            }
        }
        assert_eq!(most, side * side);
    }
}

#[test]
fn resized_crops_use_the_original() {
    let folder = Folder::new("crops");
    // a chequered picture that is grey in the 4×4 thumbnail
    let mut pixels = vec![0u8; 64 * 64 * 3];
    for p in (0..64)
        .flat_map(|y| (0..64).map(move |x| (y, x)))
        .filter(|&(y, x)| (y / 4 + x / 4) % 2 == 0)
    {
        pixels[(64 * p.0 + p.1) * 3..][..3].fill(255);
    }
    folder.file("a/1.png", &png(&pixels, 64, 64, 3));
    let contrast = |keep_originals| {
        let options = Options {
            resize: Some(square(4)),
            keep_originals,
            ..Options::default()
        };
        let (set, _) = Dataset::open(&folder.0, &options).unwrap();
        let set = set.subset(&[0; 64]).unwrap();
        let tight = ResizedCrop {
            area: (0.01, 0.01),
            ratio: (1.0, 1.0),
        };
        let augmentation = Augmentation {
            resized_crop: Some(tight),
            ..Augmentation::default()
        };
        let loader = Loader::new(
            set,
            LoaderOptions {
                augmentation,
                ..self::options(64, 3)
            },
        )
        .unwrap();
        let images: Vec<f32> = (0..8)
            .flat_map(|e| loader.batch(e, 0).unwrap().images)
            .collect();
        images.iter().fold(f32::MIN, |m, &v| m.max(v))
            - images.iter().fold(f32::MAX, |m, &v| m.min(v))
    };
    assert!(
        contrast(true) > 3.9,
        "black and white are 4 apart: {}",
        contrast(true)
    );
    assert!(contrast(false) < 1.0, "{}", contrast(false));
}

#[test]
fn loaders_refuse_what_they_cannot_do() {
    let set = toy(10, shape(2, 2, 3), 2);
    let line = |result: data::Result<Loader>| result.expect_err("is refused").to_string();
    let new = |o| Loader::new(set.clone(), o);
    assert!(line(new(options(11, 3))).contains("batches of 11 from a set of 10"));
    assert!(line(new(options(0, 3))).contains("batches of 0"));
    assert!(line(new(options(2, 1))).contains("for 3 channels"));
    let flat = LoaderOptions {
        normalization: Normalization::new(vec![0.0; 3], vec![1.0, 0.0, 1.0]),
        ..options(2, 3)
    };
    assert!(line(new(flat)).contains("positive deviation"));
    for (area, ratio) in [
        ((0.0, 1.0), (1.0, 1.0)),
        ((0.5, 1.5), (1.0, 1.0)),
        ((0.5, 1.0), (2.0, 1.0)),
        ((f64::NAN, 1.0), (1.0, 1.0)),
    ] {
        let augmentation = Augmentation {
            resized_crop: Some(ResizedCrop { area, ratio }),
            ..Augmentation::default()
        };
        assert!(
            line(new(LoaderOptions {
                augmentation,
                ..options(2, 3)
            }))
            .contains("resized crop")
        );
    }
    for fraction in [0.0, 1.0, -1.0, f64::NAN, 0.1] {
        let mixed = Loader::mixed(set.clone(), set.clone(), fraction, options(4, 3));
        assert!(line(mixed).contains("second set"), "{fraction}");
    }
    let others = toy(10, shape(2, 2, 3), 3);
    assert!(
        line(Loader::mixed(set.clone(), others, 0.5, options(4, 3))).contains("classes differ")
    );
    let others = toy(10, shape(2, 3, 3), 2);
    assert!(
        line(Loader::mixed(set.clone(), others, 0.5, options(4, 3))).contains("2×2×3 and 2×3×3")
    );
    assert!(new(options(5, 3)).unwrap().batch(0, 2).is_err());
}

#[test]
fn an_unreadable_picture_ends_the_epoch_with_its_name() {
    let folder = Folder::new("gone");
    for i in 0..4 {
        folder.file(&format!("a/{i}.png"), &png(&values(12, i), 2, 2, 3));
    }
    let originals = Options {
        keep_originals: true,
        ..Options::default()
    };
    let (set, _) = Dataset::open(&folder.0, &originals).unwrap();
    folder.file("a/2.png", b"");
    let sequential = LoaderOptions {
        order: Order::Sequential,
        ..options(1, 3)
    };
    let results: Vec<_> = Loader::new(set, sequential).unwrap().epoch(0, 0).collect();
    assert_eq!(results.len(), 3);
    assert!(
        results[2]
            .as_ref()
            .err()
            .unwrap()
            .to_string()
            .contains("2.png")
    );
}

/// Held out are the last pictures, unless the set is sorted by class: then as many spread over it, so that each class is tried.
#[test]
fn what_is_held_out_has_the_set_s_classes() {
    let one = shape(1, 1, 1);
    let set = |labels: &[usize]| {
        let names = ["a", "b", "c"].map(String::from).to_vec();
        let pixels = (0..labels.len()).map(|i| i as u8).collect();
        Dataset::from_pixels(one, names, pixels, labels).expect("fits")
    };
    let pixels = |set: &Dataset| -> Vec<u8> {
        let one = |i| set.pixels(i).expect("there")[0];
        (0..set.len()).map(one).collect()
    };
    let mixed: Vec<usize> = (0..30).map(|i| i % 3).collect();
    let (kept, held, taken) = set(&mixed).hold_out(6).expect("fits");
    assert_eq!(taken, Taken::End);
    assert_eq!(pixels(&held), [24, 25, 26, 27, 28, 29]);
    assert_eq!(kept.len(), 24);
    let sorted: Vec<usize> = (0..30).map(|i| i / 10).collect();
    let (kept, held, taken) = set(&sorted).hold_out(6).expect("fits");
    assert_eq!(taken, Taken::Spread);
    assert_eq!(pixels(&held), [0, 5, 10, 15, 20, 25]);
    assert!(kept.len() == 24 && pixels(&kept).iter().all(|p| p % 5 != 0));
    // one picture has one class, wherever it comes from
    let (_, held, taken) = set(&sorted).hold_out(1).expect("fits");
    assert_eq!((taken, pixels(&held)), (Taken::End, vec![29]));
    for none in [0, 30] {
        set(&sorted).hold_out(none).expect_err("nothing left");
    }
}
