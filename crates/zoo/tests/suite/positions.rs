//! Answers at some positions: the same values as the whole network's, and how much of it is left behind the choice.

use crate::assert_close;
use crate::lower::{model, tiny_llama, tiny_neox};
use nn::calibrate::FitOptions;
use nn::lower::{Adapted, Options, adapt, after_first};
use nn::{AttentionScheme, Error, PolyGraph, PowerSoftmax, Rearrange, Shape, Tensor};
use zoo::language::LanguageModel;

const LENGTH: usize = 6;

fn power() -> AttentionScheme {
    AttentionScheme::Power(PowerSoftmax::new(4, 1e-1).expect("even"))
}

/// The polynomial network of sequences whose first token is public, or not, and what it takes of one.
fn lowered(model: &LanguageModel, public: usize) -> (PolyGraph, Tensor) {
    let tokens = |s: u32| (0..LENGTH as u32).map(move |t| (s * t * t + 3 * t + 1) % 13);
    let data: Vec<Tensor> = (1..5)
        .map(|s| model.embed(&tokens(s).collect::<Vec<_>>()).expect("known"))
        .collect();
    let begin = data[0].values().iter().step_by(LENGTH).copied();
    let options = Options {
        bits: 10.0,
        activations: FitOptions {
            degree: 7,
            ..FitOptions::default()
        },
        begin: (public == 1).then(|| begin.collect()),
        ..Options::default()
    };
    let graph = model.graph(LENGTH, power()).expect("fits");
    let Adapted { graph, .. } = adapt(&graph, &data, &options).expect("adapts");
    (graph, after_first(&data[2], public).expect("longer"))
}

/// The columns of a node, as its name ends.
fn columns(graph: &PolyGraph, ends: &str) -> usize {
    let mut nodes = graph.nodes().iter().filter(|n| n.name().ends_with(ends));
    let node = nodes.next_back().unwrap_or_else(|| panic!("{ends}"));
    node.shape().columns()
}

#[test]
fn chosen_positions_have_the_whole_network_s_logits() {
    for (architecture, inner) in [(tiny_llama(), "up_proj"), (tiny_neox(), "dense_h_to_4h")] {
        let model = model(architecture);
        for public in [0, 1] {
            let (graph, x) = lowered(&model, public);
            let length = LENGTH - public;
            let all = graph.evaluate(&x).expect("fits").output;
            for positions in [vec![length - 1], vec![0], vec![1, 2, 4]] {
                let cut = graph.at_positions(&positions).expect("within");
                let own = cut.evaluate(&x).expect("fits");
                assert!(own.outside.is_empty());
                let rows = all.values().chunks(length);
                let here: Vec<f64> = rows
                    .flat_map(|row| positions.iter().map(|p| row[*p]))
                    .collect();
                assert_close(own.output.values(), &here, 1e-12);
                let few = positions.len();
                let logits = Shape::image(13, 1, few);
                assert_eq!(cut.output().shape(), logits);
                // behind the last attention few, before it all
                assert_eq!(columns(&cut, inner), few, "the last block");
                let first = format!("layers.0.mlp.{inner}");
                assert_eq!(columns(&cut, &first), length, "the first");
                let ranges = (cut.ranges(), cut.nodes().len());
                assert_eq!(ranges.0.map(<[_]>::len), Some(ranges.1));
                assert_eq!(cut.metadata(), graph.metadata());
            }
            let every: Vec<usize> = (0..length).collect();
            assert_eq!(graph.at_positions(&every).expect("all"), graph);
        }
    }
}

#[test]
fn a_norm_of_what_all_positions_need_stays_before_the_choice() {
    let (graph, _) = lowered(&model(tiny_neox()), 0);
    let cut = graph.at_positions(&[3]).expect("within");
    let norm = |name: &str| columns(&cut, name);
    // the last block's norms read the stream that its attention reads, the last norm what both branches are added to
    assert_eq!(norm("layers.1.post_attention_layernorm"), LENGTH);
    assert_eq!(norm("final_layer_norm"), 1);
}

#[test]
fn other_positions_and_networks_are_refused() {
    let (graph, _) = lowered(&model(tiny_llama()), 0);
    let refused = |positions: &[usize]| match graph.at_positions(positions) {
        Err(e @ Error::Invalid { .. }) => e.to_string(),
        other => panic!("{positions:?}: {other:?}"),
    };
    let outside = refused(&[2, 6]);
    let words = ["position 6", "0 to 5"];
    assert!(words.iter().all(|w| outside.contains(w)), "{outside}");
    for wrong in [&[][..], &[1, 1], &[2, 1]] {
        let said = refused(wrong);
        assert!(said.contains("ascending"), "{said}");
    }
    // its answer has one position already
    let cut = graph.at_positions(&[5]).expect("within");
    let said = cut
        .at_positions(&[0])
        .expect_err("none to choose")
        .to_string();
    assert!(said.contains("no answer at every position"), "{said}");
}

#[test]
fn columns_of_a_sequence_are_told_from_other_orders() {
    let from = Shape::image(3, 1, 5);
    let two = Rearrange::columns("x", from, &[1, 4]).expect("within");
    assert_eq!(two.of_columns(from), Some(vec![1, 4]));
    assert_eq!(two.of_columns(Shape::image(3, 1, 6)), None);
    assert_eq!(two.of_columns(Shape::image(2, 1, 5)), None);
    assert!(Rearrange::columns("x", from, &[5]).is_err());
    assert!(Rearrange::columns("x", Shape::image(3, 5, 1), &[0]).is_err());
    let mut turned = two.clone();
    turned.offsets[0].reverse();
    assert_eq!(turned.of_columns(from), None);
    let zeros = Rearrange {
        offsets: vec![vec![0, 5, 10], vec![0], vec![1, Rearrange::ZERO]],
        ..two
    };
    assert_eq!(zeros.of_columns(from), None);
}
