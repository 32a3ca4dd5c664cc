//! The order of steps where a tensor takes many ciphertexts: depth first, so that few of them are alive at a time.
//!
//! Quantity by quantity, an unfolded sequence of one ciphertext for every channel and row would be made whole before any of it is used.

use runtime::{Register, Step};
use std::collections::BTreeMap;

/// The steps that `outputs` need, each as late as what it is needed for allows; what a step reads is made in the order of its operands.
pub(crate) fn depth_first(steps: Vec<Step>, outputs: &[Register]) -> Vec<Step> {
    let mut maker: BTreeMap<Register, usize> = BTreeMap::new();
    for (i, step) in steps.iter().enumerate() {
        for r in step.operation.writes() {
            maker.insert(r, i);
        }
    }
    let mut order = Vec::with_capacity(steps.len());
    let mut begun = vec![false; steps.len()];
    // (step, its operands, how many of them are made)
    let mut path: Vec<(usize, Vec<Register>, usize)> = Vec::new();
    for output in outputs {
        let mut wanted = Some(*output);
        loop {
            if let Some(&i) = wanted.take().and_then(|r| maker.get(&r))
                && !begun[i]
            {
                begun[i] = true;
                path.push((i, steps[i].operation.reads(), 0));
            }
            let Some((i, reads, made)) = path.last_mut() else {
                break;
            };
            match reads.get(*made) {
                Some(&r) => {
                    *made += 1;
                    wanted = Some(r);
                }
                None => {
                    order.push(*i);
                    path.pop();
                }
            }
        }
    }
    let mut steps: Vec<Option<Step>> = steps.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| steps[i].take()).collect()
}
