//! Changes to a network's architecture before it is trained: what encryption can't compute, or only at a high price, goes.
//!
//! Every other node keeps its name, its weights and its place. A global mean ([`nn::Op::GlobalAvgPool`]) stays global: for the one
//! size of input that a [`Graph`] is made for it is the same as the mean over a window of fixed size (IBM's toolbox writes
//! `AvgPool2d(7, 1)`), so there is nothing to replace.

use crate::{Error, Result};
use nn::{BatchNorm, Graph, NodeId, Op, Shape};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use zoo::resnet::EPSILON;

/// Where batch normalisations are inserted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Where {
    /// Behind every convolution.
    AfterEveryConvolution,
    /// Before every convolution but the first.
    #[serde(alias = "before-every-convolution-but-the-first")]
    BeforeLaterConvolutions,
    /// Behind the nodes of these names.
    After(Vec<String>),
}

impl std::str::FromStr for Where {
    type Err = std::convert::Infallible;

    /// From `after`, `before`, or names separated by commas.
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match text {
            "after" => Self::AfterEveryConvolution,
            "before" => Self::BeforeLaterConvolutions,
            names => Self::After(names.split(',').map(|n| n.trim().into()).collect()),
        })
    }
}

/// Batch normalisations that do nothing yet (scale 1, bias 0, mean 0, variance 1 − ε), named `NODE.norm` after the convolution or node
/// that they belong to. Where there is one already, nothing is inserted.
///
/// # Errors
/// [`Error::Setting`] for a name that the network doesn't have.
pub(crate) fn insert_batch_norms(graph: &Graph, place: &Where) -> Result<Graph> {
    if let Where::After(names) = place {
        for name in names {
            graph.find(name).ok_or_else(|| {
                Error::setting(
                    "batch_norm",
                    name.clone(),
                    "the network has no node of this name; give names as its file has them",
                )
            })?;
        }
    }
    let consumers = graph.consumers();
    let norm = |id: NodeId| matches!(graph.node(id).op(), Op::BatchNorm(_));
    let first = graph
        .nodes()
        .iter()
        .find(|n| matches!(n.op(), Op::Conv2d(_)))
        .map(nn::Node::id);
    let normed = |id: NodeId| {
        !consumers[id.index()].is_empty() && consumers[id.index()].iter().all(|&c| norm(c))
    };
    rebuild(graph, |b, node, inputs| {
        let convolution = matches!(node.op(), Op::Conv2d(_));
        let before = *place == Where::BeforeLaterConvolutions
            && convolution
            && first != Some(node.id())
            && node.inputs().iter().all(|&i| !norm(i));
        let after = match place {
            Where::AfterEveryConvolution => convolution,
            Where::BeforeLaterConvolutions => false,
            Where::After(names) => names.iter().any(|n| n == node.name()),
        } && !norm(node.id())
            && !normed(node.id());
        let name = format!("{}.norm", node.name());
        let mut inputs = inputs.to_vec();
        if before {
            let op = identity(&name, b.shape(inputs[0]))?;
            inputs[0] = b.add(name.as_str(), op, &inputs[..1])?;
        }
        let x = b.add(node.name(), node.op().clone(), &inputs)?;
        if after {
            return Ok(b.add(name.as_str(), identity(&name, b.shape(x))?, &[x])?);
        }
        Ok(x)
    })
}

/// A batch normalisation that is the identity to the rounding of f32.
fn identity(name: &str, shape: Shape) -> Result<Op<nn::Nonlinearity>> {
    let channels = shape.dims()[0];
    let norm = BatchNorm::identity(name, channels, 1.0 - EPSILON as f32, EPSILON)?;
    Ok(Op::BatchNorm(norm))
}

type Builder = nn::NetworkBuilder<nn::Nonlinearity>;

/// The network made anew, node by node: `f` adds what stands for a node and says whose output its consumers take.
fn rebuild(
    graph: &Graph,
    mut f: impl FnMut(&mut Builder, &nn::Node<nn::Nonlinearity>, &[NodeId]) -> Result<NodeId>,
) -> Result<Graph> {
    let mut b = Graph::builder();
    let mut now: HashMap<NodeId, NodeId> = HashMap::new();
    for node in graph.nodes() {
        let inputs: Vec<NodeId> = node.inputs().iter().map(|i| now[i]).collect();
        let id = f(&mut b, node, &inputs)?;
        now.insert(node.id(), id);
    }
    Ok(b.finish(now[&graph.output().id()])?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::Activation;
    use nn::{MaxPool, Padding, Parameter, Tensor};
    use zoo::resnet::{ResNet, Skip};

    fn input(shape: Shape) -> Tensor {
        let values = (0..shape.len()).map(|i| ((i * 7919 % 101) as f64 - 50.0) / 40.0);
        Tensor::new(shape, values.collect()).expect("fits")
    }

    fn small_resnet() -> Graph {
        let net = ResNet {
            depth: 8,
            width: 4,
            classes: 5,
            input: (12, 12, 3),
            activation: Activation::Silu,
            skip: Skip::Standard,
        };
        net.graph(3).expect("builds")
    }

    /// Convolution, maximum in two ways, ReLU, maximum again.
    fn with_maxima() -> Graph {
        let mut b = Graph::builder();
        let x = b.input("x", Shape::image(2, 9, 9)).expect("valid");
        let weights: Vec<f32> = (0..54).map(|i| (i as f32 * 0.7).sin()).collect();
        let weight = Parameter::new("w", [3, 2, 3, 3], weights).expect("finite");
        let pool = |columns: usize, stride: usize, padding: usize, ceil_mode| MaxPool {
            kernel: (3, columns),
            stride: (stride, stride),
            padding: Padding::same(padding),
            ceil_mode,
        };
        let c = b
            .add("c", Op::Conv2d(nn::Conv2d::new(weight)), &[x])
            .expect("valid");
        let p = b
            .add("p", Op::MaxPool(pool(2, 1, 1, false)), &[c])
            .expect("valid");
        let r = b
            .add("r", Op::Elementwise(Activation::Relu.into()), &[p])
            .expect("valid");
        let q = b
            .add("q", Op::MaxPool(pool(3, 2, 1, true)), &[r])
            .expect("valid");
        let s = b
            .add("s", Op::MaxPool(pool(2, 2, 0, true)), &[q])
            .expect("valid");
        b.finish(s).expect("valid")
    }

    #[test]
    fn maxima_become_means_over_the_same_windows() {
        let before = with_maxima();
        let after = before.with_average_pools().expect("replaces");
        let names: Vec<&str> = after.nodes().iter().map(nn::Node::name).collect();
        assert_eq!(names, ["x", "c", "p", "r", "q.pad", "q", "s"]);
        for node in before.nodes() {
            let now = after.find(node.name()).expect("kept");
            assert_eq!(now.shape(), node.shape(), "{}", node.name());
            if matches!(node.op(), Op::MaxPool(_)) {
                assert!(matches!(now.op(), Op::AvgPool(_)));
            } else {
                assert_eq!(now.op(), node.op());
            }
        }
        after.refuse_maxima().expect("none left");
        let x = input(Shape::image(2, 9, 9));
        let (old, new) = (
            before.evaluate_all(&x).expect("fits"),
            after.evaluate_all(&x).expect("fits"),
        );
        assert_eq!(old.values[..2], new.values[..2]);
        // the first window of p: two rows and one column lie in the picture, and its padding counts
        let (c, p) = (new.values[1].values(), new.values[2].values());
        assert!((p[0] - (c[0] + c[7]) / 6.0).abs() < 1e-12);
        // of the last window of s, two rows and one column lie in the picture; what lies beyond counts as nothing
        assert_eq!(new.values[5].shape(), Shape::image(3, 4, 5));
        assert_eq!(new.values[6].shape(), Shape::image(3, 2, 3));
        let (q, last) = (new.values[5].values(), new.values[6].values()[5]);
        assert!((last - (q[14] + q[19]) / 2.0).abs() < 1e-12);
    }

    #[test]
    fn nothing_to_replace_changes_nothing() {
        let graph = small_resnet();
        assert_eq!(graph.with_average_pools().expect("replaces"), graph);
        // every convolution has one behind it already
        assert_eq!(
            insert_batch_norms(&graph, &Where::AfterEveryConvolution).expect("inserts"),
            graph
        );
    }

    #[test]
    fn inserted_norms_do_nothing_yet_and_are_inserted_once() {
        let maxima = with_maxima();
        let resnet = small_resnet();
        let after = |names: &[&str]| Where::After(names.iter().map(|n| (*n).into()).collect());
        let blocks = [
            "layer1.0.conv1",
            "layer1.0.conv2",
            "layer2.0.conv1",
            "layer2.0.conv2",
            "layer3.0.conv1",
            "layer3.0.conv2",
        ];
        let cases = [
            (&maxima, Where::AfterEveryConvolution, &["c"][..]),
            (&maxima, after(&["p", "s"]), &["p", "s"]),
            (&maxima, Where::BeforeLaterConvolutions, &[]),
            (&resnet, Where::BeforeLaterConvolutions, &blocks),
        ];
        for (graph, place, at) in cases {
            let inserted: Vec<String> = at.iter().map(|n| format!("{n}.norm")).collect();
            let new = insert_batch_norms(graph, &place).expect("inserts");
            let names: Vec<&str> = new.nodes().iter().map(nn::Node::name).collect();
            let kept: Vec<&str> = names
                .iter()
                .copied()
                .filter(|n| !inserted.iter().any(|i| i == n))
                .collect();
            assert_eq!(
                kept,
                graph.nodes().iter().map(nn::Node::name).collect::<Vec<_>>(),
                "{place:?}"
            );
            assert_eq!(
                names.len(),
                kept.len() + inserted.len(),
                "{place:?}: {names:?}"
            );
            assert_eq!(
                insert_batch_norms(&new, &place).expect("inserts"),
                new,
                "{place:?} twice"
            );
            let x = input(graph.input().shape());
            let (a, b) = (
                graph.evaluate(&x).expect("fits").output,
                new.evaluate(&x).expect("fits").output,
            );
            let size = a.values().iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (a, b) in a.values().iter().zip(b.values()) {
                assert!((a - b).abs() <= 1e-6 * size, "{place:?}: {a} and {b}");
            }
        }
        let e = insert_batch_norms(&maxima, &after(&["nowhere"])).expect_err("refused");
        assert!(e.to_string().contains("nowhere"), "{e}");
    }
}
