//! Published sets: counts, and the lossy twins of lossless pictures.
//!
//! Needs the shared data (`POLYVEIL_SHARED_DATA`, or `../shared/data` beside the workspace); says so and passes without.

use super::*;
use data::{Options, Split, twins};

fn shared(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("POLYVEIL_SHARED_DATA").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")),
        PathBuf::from,
    );
    let path = root.join(file);
    if !path.exists() {
        eprintln!("skipped: {} is not there", path.display());
    }
    path.exists().then_some(path)
}

fn open(path: &Path, split: Option<Split>) -> Dataset {
    let options = Options {
        split,
        ..Options::default()
    };
    Dataset::open(path, &options).unwrap().0
}

#[test]
fn pneumonia() {
    let Some(path) = shared("med/pneumoniamnist.npz") else {
        return;
    };
    for (split, count) in [
        (Split::Train, 3882),
        (Split::Validation, 524),
        (Split::Test, 624),
    ] {
        let set = open(&path, Some(split));
        assert_eq!(
            (set.len(), set.shape(), set.classes().len()),
            (count, shape(28, 28, 1), 2)
        );
    }
}

#[test]
fn cifar_and_the_twins_of_what_is_held_out() {
    let (Some(jpeg), Some(lossless), Some(test)) = (
        shared("cifar10/train_jpeg.tar.gz"),
        shared("cifar10/train_lossless_4660.bin"),
        shared("cifar10/test_lossless_500.bin"),
    ) else {
        return;
    };
    let (jpeg, lossless, test) = (open(&jpeg, None), open(&lossless, None), open(&test, None));
    assert_eq!(
        (jpeg.len(), lossless.len(), test.len()),
        (50_000, 4660, 500)
    );
    let mut counts = [0; 10];
    (0..jpeg.len()).for_each(|i| counts[jpeg.label(i)] += 1);
    assert_eq!(counts, [5000; 10]);
    assert_eq!(jpeg.classes(), lossless.classes());
    let n = jpeg.channel_statistics().unwrap();
    for (c, (mean, deviation)) in [(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)]
        .into_iter()
        .enumerate()
    {
        assert!(
            (n.mean[c] - mean).abs() < 0.005 && (n.deviation[c] - deviation).abs() < 0.01,
            "{n:?}"
        );
    }
    let held = lossless.hold_out(1000).unwrap().1;
    let found: Vec<_> = twins(&held, &jpeg)
        .unwrap()
        .into_iter()
        .map(Option::unwrap)
        .collect();
    let mut indices: Vec<usize> = found.iter().map(|t| t.index).collect();
    indices.sort_unstable();
    indices.dedup();
    assert_eq!(indices.len(), 1000, "each has a twin of its own");
    // training/README.md: the second nearest is at least 1.57 times as far
    let least = found
        .iter()
        .map(|t| (t.second.unwrap() as f64 / t.distance as f64).sqrt())
        .fold(f64::MAX, f64::min);
    assert!(least > 1.5, "{least}");
    assert_eq!(jpeg.without(&indices).unwrap().len(), 49_000);
}
