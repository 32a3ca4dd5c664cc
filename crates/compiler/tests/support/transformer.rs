//! A transformer of random weights as a polynomial network, lowered by hand: Power-Softmax of power 4, divisions and roots by programs.

use super::{Builder, Random};
use approx::iteration::{self, FIRST, Function, Program, Step};
use approx::{Activation, Polynomial};
use nn::{
    AvgPool, Boundary, Conv2d, Graph, Network, NodeId, Nonlinearity, Op, Padding, Pairing,
    Parameter, Repeat, Rotary, Shape, Tensor, Unfold,
};

/// Its shape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) hidden: usize,
    pub(crate) length: usize,
    /// 0: the answer is the last layer's.
    pub(crate) vocabulary: usize,
    /// Bits of divisions and roots.
    pub(crate) bits: f64,
    /// Degree of SiLU.
    pub(crate) degree: usize,
}

/// Where divisions and roots have their arguments, in order; found one after the other on the inputs.
pub(crate) fn transformer(seed: u64, size: Size, inputs: &[Tensor]) -> Graph {
    let mut intervals = Vec::new();
    loop {
        let mut lowering = Lowering {
            b: Network::builder(),
            random: Random(seed),
            size,
            intervals: &intervals,
            next: 0,
        };
        let built = lowering.network();
        let (node, open) = match built {
            Ok(output) => (output, false),
            Err(Open(node)) => (node, true),
        };
        let graph = lowering.b.finish(node).expect("valid");
        if !open {
            return graph;
        }
        let values = inputs
            .iter()
            .flat_map(|x| graph.evaluate(x).expect("fits").output.values().to_vec());
        let (low, high) = values.fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        intervals.push((low / 1.3, high * 1.3));
    }
}

/// A node whose range must be known.
struct Open(NodeId);

struct Lowering<'a> {
    b: Builder,
    random: Random,
    size: Size,
    intervals: &'a [(f64, f64)],
    next: usize,
}

impl Lowering<'_> {
    fn add(&mut self, name: &str, op: Op<Nonlinearity>, inputs: &[NodeId]) -> NodeId {
        self.b.add(name, op, inputs).expect("valid")
    }

    fn mix(&mut self, name: &str, from: usize, to: usize, size: f64, x: NodeId) -> NodeId {
        let weight = self
            .random
            .parameter(&[to, from, 1, 1], size * (3.0 / from as f64).sqrt());
        self.add(name, Op::Conv2d(Conv2d::new(weight)), &[x])
    }

    /// `to` channels, each a sum of the channels of its group times `factor`.
    fn sum(
        &mut self,
        name: &str,
        (from, to, groups): (usize, usize, usize),
        factor: f32,
        x: NodeId,
    ) -> NodeId {
        let shape = [to, from / groups, 1, 1];
        let weight =
            Parameter::new("sum", shape, vec![factor; to * from / groups]).expect("finite");
        let conv = Conv2d {
            groups,
            ..Conv2d::new(weight)
        };
        self.add(name, Op::Conv2d(conv), &[x])
    }

    /// factor·x + constant.
    fn multiple(&mut self, name: &str, x: NodeId, factor: f64, constant: f64) -> NodeId {
        if (factor, constant) == (1.0, 0.0) {
            return x;
        }
        let p = Polynomial::from_monomial(&[constant, factor], (-1e6, 1e6)).expect("valid");
        self.add(name, Op::Elementwise(p.into()), &[x])
    }

    fn function(&mut self, name: &str, function: Function, x: NodeId) -> Result<NodeId, Open> {
        let Some(&interval) = self.intervals.get(self.next) else {
            return Err(Open(x));
        };
        self.next += 1;
        let program = iteration::choose(function, interval, self.size.bits, 20).expect("in reach");
        Ok(self.program(name, &program, x))
    }

    fn program(&mut self, name: &str, program: &Program, x: NodeId) -> NodeId {
        let (scale, shift) = program.input();
        let v0 = self.multiple(&format!("{name}.in"), x, scale, shift);
        let mut values = vec![v0, v0];
        for (i, step) in program.steps().iter().enumerate() {
            let name = format!("{name}.{i}");
            let value = match step {
                Step::Polynomial { of, polynomial } => self.add(
                    &name,
                    Op::Elementwise(polynomial.clone().into()),
                    &[values[*of]],
                ),
                Step::Sum { terms, constant } => {
                    let first = self.multiple(
                        &format!("{name}.0"),
                        values[terms[0].1],
                        terms[0].0,
                        *constant,
                    );
                    self.summands(&name, first, &terms[1..], &values)
                }
                Step::Multiply {
                    factor,
                    left,
                    right,
                    add,
                    constant,
                } => {
                    let product = self.add(
                        &format!("{name}.x"),
                        Op::Mul,
                        &[values[*left], values[*right]],
                    );
                    let product =
                        self.multiple(&format!("{name}.c"), product, f64::from(*factor), *constant);
                    self.summands(&name, product, add, &values)
                }
            };
            values.push(value);
        }
        assert!(values.len() > FIRST);
        let last = *values.last().expect("steps");
        self.multiple(&format!("{name}.out"), last, program.output(), 0.0)
    }

    fn summands(
        &mut self,
        name: &str,
        mut sum: NodeId,
        terms: &[(f64, usize)],
        values: &[NodeId],
    ) -> NodeId {
        for (k, (c, v)) in terms.iter().enumerate() {
            let term = self.multiple(&format!("{name}.m{k}"), values[*v], *c, 0.0);
            sum = self.add(&format!("{name}.a{k}"), Op::Add, &[sum, term]);
        }
        sum
    }

    fn norm(&mut self, name: &str, x: NodeId) -> Result<NodeId, Open> {
        let width = self.size.width;
        let square = self.add(&format!("{name}.square"), Op::Mul, &[x, x]);
        let mean = self.sum(
            &format!("{name}.mean"),
            (width, 1, 1),
            1.0 / width as f32,
            square,
        );
        let root = self.function(&format!("{name}.root"), Function::InverseSquareRoot, mean)?;
        let root = self.sum(&format!("{name}.spread"), (1, width, 1), 1.0, root);
        Ok(self.add(&format!("{name}.scaled"), Op::Mul, &[x, root]))
    }

    fn attention(&mut self, name: &str, x: NodeId) -> Result<NodeId, Open> {
        let Size {
            width,
            heads,
            kv_heads,
            length,
            ..
        } = self.size;
        let head = width / heads;
        let kv = kv_heads * head;
        let rotary = Rotary {
            head,
            rotated: head,
            base: 10_000.0,
            pairing: Pairing::Adjacent,
            first: 1,
        };
        // each head of keys and values serves several of queries
        let spread: Vec<f32> = (0..width * kv)
            .map(|i| {
                let (to, from) = (i / kv, i % kv);
                let group = to / head / (heads / kv_heads);
                if from == group * head + to % head {
                    1.0
                } else {
                    0.0
                }
            })
            .collect();
        let spread = Parameter::new("spread", [width, kv, 1, 1], spread).expect("finite");
        let unfold = Unfold {
            rows: length,
            boundary: Boundary::Causal,
        };
        let q = self.mix(&format!("{name}.q"), width, width, 1.0, x);
        let q = self.add(&format!("{name}.q.turned"), Op::Rotary(rotary), &[q]);
        let q = self.add(
            &format!("{name}.q.rows"),
            Op::Repeat(Repeat { rows: length }),
            &[q],
        );
        let k = self.mix(&format!("{name}.k"), width, kv, 1.0, x);
        let k = self.add(&format!("{name}.k.turned"), Op::Rotary(rotary), &[k]);
        let k = self.add(
            &format!("{name}.k.heads"),
            Op::Conv2d(Conv2d::new(spread.clone())),
            &[k],
        );
        let k = self.add(&format!("{name}.k.rows"), Op::Unfold(unfold), &[k]);
        let v = self.mix(&format!("{name}.v"), width, kv, 1.0, x);
        let v = self.add(
            &format!("{name}.v.heads"),
            Op::Conv2d(Conv2d::new(spread)),
            &[v],
        );
        let v = self.add(&format!("{name}.v.rows"), Op::Unfold(unfold), &[v]);
        let qk = self.add(&format!("{name}.qk"), Op::Mul, &[q, k]);
        let scores = self.sum(
            &format!("{name}.scores"),
            (width, width, heads),
            1.0 / (head as f32).sqrt(),
            qk,
        );
        let square = self.add(&format!("{name}.power2"), Op::Mul, &[scores, scores]);
        let power = self.add(&format!("{name}.power4"), Op::Mul, &[square, square]);
        let pool = AvgPool {
            kernel: (length, 1),
            stride: (length, 1),
            padding: Padding::default(),
            count_include_pad: true,
        };
        let total = self.add(&format!("{name}.total"), Op::AvgPool(pool), &[power]);
        let total = self.multiple(&format!("{name}.eps"), total, 1.0, 1e-3);
        let inverse = self.function(&format!("{name}.inverse"), Function::Reciprocal, total)?;
        let weighted = self.add(&format!("{name}.weighted"), Op::Mul, &[power, v]);
        let gathered = self.add(&format!("{name}.gathered"), Op::AvgPool(pool), &[weighted]);
        Ok(self.add(&format!("{name}.heads"), Op::Mul, &[gathered, inverse]))
    }

    fn network(&mut self) -> Result<NodeId, Open> {
        let Size {
            layers,
            width,
            hidden,
            length,
            vocabulary,
            degree,
            ..
        } = self.size;
        let mut x = self
            .b
            .input("tokens", Shape::image(width, 1, length))
            .expect("valid");
        let silu = approx::remez(|x| Activation::Silu.value(x), (-4.0, 4.0), degree)
            .expect("converges")
            .polynomial;
        for layer in 0..layers {
            let name = format!("layer{layer}");
            let n = self.norm(&format!("{name}.norm1"), x)?;
            let a = self.attention(&format!("{name}.attention"), n)?;
            let a = self.mix(&format!("{name}.attention.out"), width, width, 0.4, a);
            x = self.add(&format!("{name}.add1"), Op::Add, &[x, a]);
            let n = self.norm(&format!("{name}.norm2"), x)?;
            let gate = self.mix(&format!("{name}.gate"), width, hidden, 0.8, n);
            let gate = self.add(
                &format!("{name}.silu"),
                Op::Elementwise(silu.clone().into()),
                &[gate],
            );
            let up = self.mix(&format!("{name}.up"), width, hidden, 0.8, n);
            let both = self.add(&format!("{name}.gated"), Op::Mul, &[gate, up]);
            let down = self.mix(&format!("{name}.down"), hidden, width, 0.4, both);
            x = self.add(&format!("{name}.add2"), Op::Add, &[x, down]);
        }
        if vocabulary > 0 {
            let n = self.norm("norm", x)?;
            x = self.mix("logits", width, vocabulary, 1.0, n);
        }
        Ok(x)
    }
}
