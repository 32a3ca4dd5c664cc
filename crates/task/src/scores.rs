//! Scores of alternatives: classes or tokens.

/// Indices of the largest values, largest first, of equals the first one first.
#[must_use]
pub fn top(values: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order.truncate(count);
    order
}

/// Index of the largest value, the first of equals; 0 where there is none.
#[must_use]
pub fn argmax(values: &[f64]) -> usize {
    (1..values.len()).fold(0, |best, i| {
        match values[i].total_cmp(&values[best]).is_gt() {
            true => i,
            false => best,
        }
    })
}

/// How far the largest value leads; infinite without a second one.
#[must_use]
pub fn margin(values: &[f64]) -> f64 {
    match top(values, 2)[..] {
        [first, second] => values[first] - values[second],
        _ => f64::INFINITY,
    }
}

/// The natural logarithm of one alternative's probability; −∞ where there is no such value.
#[must_use]
pub fn log_probability(values: &[f64], index: usize) -> f64 {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = values.iter().map(|v| (v - largest).exp()).sum();
    values
        .get(index)
        .map_or(f64::NEG_INFINITY, |v| v - largest - sum.ln())
}

/// The probabilities of all alternatives.
#[must_use]
pub fn softmax(values: &[f64]) -> Vec<f64> {
    let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = values.iter().map(|v| (v - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| p / sum).collect()
}

/// Column `at` of rows of this width; None beyond the last.
pub(crate) fn column(rows: &[f64], width: usize, at: usize) -> Option<Vec<f64>> {
    (at < width).then(|| rows.iter().skip(at).step_by(width).copied().collect())
}

/// Which of an answer's columns holds a position of `count`: the answer holds these, or all.
pub(crate) fn held(chosen: Option<&[usize]>, count: usize, position: usize) -> Option<usize> {
    match chosen {
        Some(chosen) => chosen.binary_search(&position).ok(),
        None => (position < count).then_some(position),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equals_is_the_best() {
        let values = [1.0, 3.0, 3.0, -1.0];
        assert_eq!(top(&values, 3), [1, 2, 0]);
        assert_eq!(argmax(&values), 1);
        assert_eq!(argmax(&[]), 0);
        assert_eq!(margin(&values), 0.0);
        assert_eq!(margin(&values[..1]), f64::INFINITY);
    }

    #[test]
    fn probabilities_are_those_of_a_softmax() {
        let values = [0.0, 3f64.ln()];
        assert!((log_probability(&values, 1) - 0.75f64.ln()).abs() < 1e-12);
        assert_eq!(log_probability(&[], 0), f64::NEG_INFINITY);
        assert!((softmax(&values)[0] - 0.25).abs() < 1e-12);
    }
}
