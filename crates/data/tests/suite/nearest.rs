//! Twins against the definition.

use super::*;
use data::{Twin, twins};

#[test]
fn twins_are_the_nearest_of_the_same_class() {
    let size = shape(8, 9, 3);
    let among = toy(60, size, 4);
    // pictures of `among` with noise, out of order
    let chosen = [41, 3, 17, 3, 59, 20];
    let pixels: Vec<u8> = chosen
        .iter()
        .flat_map(|&i| among.pixels(i).unwrap().into_owned())
        .enumerate()
        .map(|(p, v)| v.saturating_add((p % 5) as u8))
        .collect();
    let names = among.classes().to_vec();
    let own: Vec<usize> = chosen.iter().map(|&i| among.label(i)).collect();
    let of = Dataset::from_pixels(size, names.clone(), pixels, &own).unwrap();
    let distance = |i: usize, j: usize| -> u64 {
        let (a, b) = (of.pixels(i).unwrap(), among.pixels(j).unwrap());
        a.iter()
            .zip(b.iter())
            .map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2))
            .sum()
    };
    let found = twins(&of, &among).unwrap();
    for (i, twin) in found.iter().enumerate() {
        let mut all: Vec<(u64, usize)> = (0..60)
            .filter(|&j| among.label(j) == own[i])
            .map(|j| (distance(i, j), j))
            .collect();
        all.sort_unstable();
        let expected = Twin {
            index: all[0].1,
            distance: all[0].0,
            second: Some(all[1].0),
        };
        assert_eq!((twin.unwrap(), all[0].1), (expected, chosen[i]));
    }
    // the nearest of another class does not count, nor is there one where a class is empty
    let wrong = Dataset::from_pixels(size, names, all_pixels(&of), &[(own[0] + 1) % 4; 6]).unwrap();
    assert_ne!(twins(&wrong, &among).unwrap()[0].unwrap().index, 41);
    let few = among.subset(&[41]).unwrap();
    let found = twins(&of, &few).unwrap();
    for (twin, &label) in found.iter().zip(&own) {
        assert_eq!(twin.is_some(), label == among.label(41));
        assert!(twin.is_none_or(|t| t.second.is_none()));
    }
    assert!(twins(&of, &toy(5, shape(8, 9, 1), 4)).is_err());
}
