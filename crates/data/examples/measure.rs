//! How long it takes to read a set and to make an epoch of batches, and to find the twins of a second set in the first:
//! `cargo run --release -p polyveil-data --example measure -- SET [SECOND]`.

use data::{Augmentation, Dataset, Loader, LoaderOptions, Options, twins};
use std::time::Instant;

fn main() -> data::Result<()> {
    let mut paths = std::env::args_os().skip(1);
    let Some(path) = paths.next() else {
        eprintln!("give a set of pictures");
        return Ok(());
    };
    let timed =
        |what: &str, began: Instant| println!("{:8.3} s {what}", began.elapsed().as_secs_f64());

    let began = Instant::now();
    let (set, _) = Dataset::open(path.as_ref(), &Options::default())?;
    timed(
        &format!(
            "to open {} pictures {} in {} classes",
            set.len(),
            set.shape(),
            set.classes().len()
        ),
        began,
    );

    let began = Instant::now();
    let normalization = set.channel_statistics()?;
    timed(&format!("for {normalization:?}"), began);

    if let Some(second) = paths.next() {
        let (second, _) = Dataset::open(second.as_ref(), &Options::default())?;
        let began = Instant::now();
        let found = twins(&second, &set)?;
        let least = found
            .iter()
            .flatten()
            .filter_map(|t| Some((t.second? as f64 / t.distance.max(1) as f64).sqrt()))
            .fold(f64::MAX, f64::min);
        timed(
            &format!(
                "for {} twins; second nearest at least {least:.2} times as far",
                found.iter().flatten().count()
            ),
            began,
        );
    }

    let augmentation = Augmentation {
        flip: true,
        crop_padding: 4,
        cutout: 8,
        ..Augmentation::default()
    };
    let options = LoaderOptions {
        augmentation,
        normalization,
        ..LoaderOptions::default()
    };
    let loader = Loader::new(set, options)?;
    let began = Instant::now();
    let mut pictures = 0;
    for batch in loader.epoch(0, 0) {
        pictures += batch?.labels.len();
    }
    timed(
        &format!("for an epoch of {pictures} augmented pictures"),
        began,
    );
    Ok(())
}
