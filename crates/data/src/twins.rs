//! Near-duplicates between two sets, such as the lossy twins of pictures that are held out.

use crate::{Dataset, Result, Shape};
use rayon::prelude::*;

/// The picture of another set that is nearest to a given one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Twin {
    /// Its number in that set.
    pub index: usize,
    /// Squared distance: the sum of squared differences of all values.
    pub distance: u64,
    /// Squared distance of the second nearest; far greater than `distance` where the first is a twin and not just alike.
    pub second: Option<u64>,
}

/// Cells of a thumbnail in each direction.
const CELLS: usize = 4;

/// Sums of 4×4 cells divided by the root of their sizes: squared distances of these are at most those of the pictures (Cauchy and
/// Schwarz), since `(Σd)²/n ≤ Σd²`.
fn thumbnail(pixels: &[u8], shape: Shape) -> Vec<f32> {
    let cell = |at: usize, most: usize| at * CELLS.min(most) / most;
    let mut sums = vec![(0u64, 0u64); CELLS * CELLS * shape.channels];
    for (y, row) in pixels
        .chunks_exact(shape.width * shape.channels)
        .enumerate()
    {
        for (x, values) in row.chunks_exact(shape.channels).enumerate() {
            let at = cell(y, shape.height) * CELLS + cell(x, shape.width);
            for (c, &v) in values.iter().enumerate() {
                let (sum, count) = &mut sums[at * shape.channels + c];
                (*sum, *count) = (*sum + u64::from(v), *count + 1);
            }
        }
    }
    sums.into_iter()
        .map(|(sum, count)| (sum as f64 / (count.max(1) as f64).sqrt()) as f32)
        .collect()
}

fn distance_of_thumbnails(a: &[f32], b: &[f32]) -> f32 {
    // eight sums at once, which the compiler would not make of one
    let mut sums = [0f32; 8];
    for (a, b) in a.chunks(8).zip(b.chunks(8)) {
        for ((s, a), b) in sums.iter_mut().zip(a).zip(b) {
            *s += (a - b) * (a - b);
        }
    }
    sums.into_iter().sum()
}

/// The squared distance, or, where that is greater than `enough`, some number that is too.
fn distance(a: &[u8], b: &[u8], enough: u64) -> u64 {
    let mut sum = 0u64;
    // 1024 squares of bytes fit 32 bits
    for (a, b) in a.chunks(1024).zip(b.chunks(1024)) {
        let part: u32 = a
            .iter()
            .zip(b)
            .map(|(&a, &b)| u32::from(a.abs_diff(b)).pow(2))
            .sum();
        sum += u64::from(part);
        if sum > enough {
            break;
        }
    }
    sum
}

/// The distance that a picture must not exceed to be first or second.
fn enough(best: Option<Twin>) -> u64 {
    best.and_then(|b| b.second).unwrap_or(u64::MAX)
}

/// Whether thumbnails at this squared distance rule a picture out. Their sums are right to 10⁻⁵ of their size and of what was
/// subtracted.
fn too_far(bound: f32, best: Option<Twin>) -> bool {
    f64::from(bound) * 0.999 - 64.0 > enough(best) as f64
}

/// Makes picture `j` first or second if it is near enough.
fn consider(best: &mut Option<Twin>, j: usize, pixels: &[u8], other: &[u8]) {
    let d = distance(pixels, other, enough(*best));
    let first = |second| Twin {
        index: j,
        distance: d,
        second,
    };
    *best = Some(match *best {
        None => first(None),
        Some(b) if (d, j) < (b.distance, b.index) => first(Some(b.distance)),
        Some(b) => Twin {
            second: Some(b.second.map_or(d, |s| s.min(d))),
            ..b
        },
    });
}

/// For each picture of `of` the nearest of the same class in `among` by squared distance, exactly; None where `among` has none of
/// that class. Pictures that are compared are in memory once more, thumbnails included, if `among` decodes at each access.
///
/// # Errors
/// [`crate::Error::Option`] when the sets differ; [`crate::Error::Damaged`] as [`Dataset::pixels`].
pub fn twins(of: &Dataset, among: &Dataset) -> Result<Vec<Option<Twin>>> {
    of.check_like(among)?;
    let shape = among.shape();
    let thumbnails = |set: &Dataset| -> Result<Vec<Vec<f32>>> {
        (0..set.len())
            .into_par_iter()
            .map(|i| Ok(thumbnail(&set.pixels(i)?, shape)))
            .collect()
    };
    let (small_of, small_among) = (thumbnails(of)?, thumbnails(among)?);
    let mut classes = vec![Vec::new(); among.classes().len()];
    for i in 0..among.len() {
        classes[among.label(i)].push(i);
    }
    (0..of.len())
        .into_par_iter()
        .map(|i| {
            let pixels = of.pixels(i)?;
            let mut candidates: Vec<(f32, usize)> = classes[of.label(i)]
                .iter()
                .map(|&j| (distance_of_thumbnails(&small_of[i], &small_among[j]), j))
                .collect();
            let nearest_first =
                |a: &(f32, usize), b: &(f32, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
            candidates.sort_unstable_by(nearest_first);
            let mut best = None;
            for (bound, j) in candidates {
                if too_far(bound, best) {
                    break;
                }
                consider(&mut best, j, &pixels, &among.pixels(j)?);
            }
            Ok(best)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn thumbnails_are_never_farther_apart_than_pictures() {
        for (n, (height, width, channels)) in
            [(32, 32, 3), (28, 28, 1), (5, 7, 3), (2, 3, 1), (1, 1, 3)]
                .into_iter()
                .enumerate()
        {
            let shape = Shape {
                height,
                width,
                channels,
            };
            let mut random = Random::of([n as u64, 0, 0, 0]);
            for spread in [2, 20, 256] {
                let a: Vec<u8> = (0..shape.len())
                    .map(|_| random.below(spread) as u8)
                    .collect();
                let b: Vec<u8> = (0..shape.len())
                    .map(|_| random.below(spread) as u8)
                    .collect();
                let exact = distance(&a, &b, u64::MAX);
                let bound = distance_of_thumbnails(&thumbnail(&a, shape), &thumbnail(&b, shape));
                assert!(
                    f64::from(bound) * 0.999 - 64.0 <= exact as f64,
                    "{bound} > {exact}"
                );
            }
        }
    }
}
