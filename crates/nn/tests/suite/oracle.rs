//! Each operator against the definition in its documentation, written as plainly as possible.

use crate::{Stream, assert_close};
use approx::{Activation, Polynomial};
use polyveil_nn::{
    AvgPool, AxisSlice, BatchNorm, Conv2d, Graph, Linear, MaxPool, Nonlinearity, Op, Pad, Padding,
    Parameter, Shape, Slice, Tensor,
};

type GraphOp = Op<Nonlinearity>;

fn run(op: GraphOp, x: &Tensor) -> Tensor {
    let mut b = Graph::builder();
    let input = b.input("x", x.shape()).expect("valid");
    let y = b.add("y", op, &[input]).expect("valid");
    b.finish(y)
        .expect("valid")
        .evaluate(x)
        .expect("fits")
        .output
}

fn at(x: &Tensor, c: usize, i: isize, j: isize) -> f64 {
    let Shape::Image { height, width, .. } = x.shape() else {
        panic!("an image")
    };
    if i < 0 || j < 0 || i >= height as isize || j >= width as isize {
        return 0.0;
    }
    x.values()[(c * height + i as usize) * width + j as usize]
}

#[test]
fn convolution() {
    let mut s = Stream::new(1);
    // (C, O, G, (kh, kw), stride, padding, dilation)
    let cases = [
        (3, 4, 1, (3, 3), (1, 1), Padding::same(1), (1, 1)),
        (4, 6, 2, (3, 3), (2, 2), Padding::same(1), (1, 1)),
        (
            4,
            4,
            4,
            (5, 3),
            (1, 2),
            Padding {
                top: 3,
                bottom: 0,
                left: 1,
                right: 2,
            },
            (1, 1),
        ),
        (
            2,
            3,
            1,
            (3, 2),
            (3, 1),
            Padding {
                top: 0,
                bottom: 4,
                left: 5,
                right: 0,
            },
            (2, 3),
        ),
        (5, 7, 1, (1, 1), (2, 2), Padding::default(), (1, 1)),
        (1, 1, 1, (9, 7), (1, 1), Padding::default(), (1, 1)),
    ];
    for (channels, out, groups, (kh, kw), stride, padding, dilation) in cases {
        let x = s.tensor(Shape::image(channels, 9, 7));
        let weight = s.parameter(&[out, channels / groups, kh, kw]);
        let bias = s.parameter(&[out]);
        let conv = Conv2d {
            weight: weight.clone(),
            bias: Some(bias.clone()),
            stride,
            padding,
            dilation,
            groups,
        };
        let y = run(Op::Conv2d(conv), &x);
        let Shape::Image {
            channels: o,
            height: oh,
            width: ow,
        } = y.shape()
        else {
            panic!("an image")
        };
        assert_eq!(o, out);
        assert_eq!(
            oh,
            (9 + padding.top + padding.bottom - dilation.0 * (kh - 1) - 1) / stride.0 + 1
        );
        assert_eq!(
            ow,
            (7 + padding.left + padding.right - dilation.1 * (kw - 1) - 1) / stride.1 + 1
        );
        let per_group = channels / groups;
        let mut expected = Vec::new();
        for o in 0..out {
            for i in 0..oh {
                for j in 0..ow {
                    let mut sum = f64::from(bias.values()[o]);
                    for c in 0..per_group {
                        for u in 0..kh {
                            for v in 0..kw {
                                let w = weight.values()[((o * per_group + c) * kh + u) * kw + v];
                                let row =
                                    (i * stride.0 + u * dilation.0) as isize - padding.top as isize;
                                let column = (j * stride.1 + v * dilation.1) as isize
                                    - padding.left as isize;
                                sum += f64::from(w)
                                    * at(&x, o * groups / out * per_group + c, row, column);
                            }
                        }
                    }
                    expected.push(sum);
                }
            }
        }
        assert_close(y.values(), &expected, 1e-12);
    }
}

#[test]
fn average_pooling() {
    let mut s = Stream::new(2);
    let x = s.tensor(Shape::image(2, 7, 8));
    for (kernel, stride, padding) in [
        ((2, 2), (2, 2), Padding::default()),
        ((3, 3), (2, 1), Padding::same(1)),
        (
            (3, 2),
            (1, 3),
            Padding {
                top: 2,
                bottom: 1,
                left: 0,
                right: 1,
            },
        ),
    ] {
        for count_include_pad in [false, true] {
            let y = run(
                Op::AvgPool(AvgPool {
                    kernel,
                    stride,
                    padding,
                    count_include_pad,
                }),
                &x,
            );
            let Shape::Image {
                height: oh,
                width: ow,
                ..
            } = y.shape()
            else {
                panic!("an image")
            };
            let mut expected = Vec::new();
            for c in 0..2 {
                for i in 0..oh {
                    for j in 0..ow {
                        let (mut sum, mut count) = (0.0, 0.0);
                        for u in 0..kernel.0 {
                            for v in 0..kernel.1 {
                                let row = (i * stride.0 + u) as isize - padding.top as isize;
                                let column = (j * stride.1 + v) as isize - padding.left as isize;
                                sum += at(&x, c, row, column);
                                if count_include_pad
                                    || (0..7).contains(&row) && (0..8).contains(&column)
                                {
                                    count += 1.0;
                                }
                            }
                        }
                        expected.push(sum / count);
                    }
                }
            }
            assert_close(y.values(), &expected, 1e-13);
        }
    }
    let y = run(Op::GlobalAvgPool, &x);
    assert_eq!(y.shape(), Shape::image(2, 1, 1));
    assert_close(
        y.values(),
        &[0, 1].map(|c| x.values()[c * 56..][..56].iter().sum::<f64>() / 56.0),
        1e-13,
    );
}

/// `(kernel, stride, padding, ceil_mode, height of the output, width of the output)` on an image of 7×8.
type Windows = ((usize, usize), (usize, usize), Padding, bool, usize, usize);

const WINDOWS: [Windows; 6] = {
    let none = Padding {
        top: 0,
        bottom: 0,
        left: 0,
        right: 0,
    };
    let one = Padding {
        top: 1,
        bottom: 1,
        left: 1,
        right: 1,
    };
    [
        ((2, 2), (2, 2), none, false, 3, 4),
        ((2, 2), (2, 2), none, true, 4, 4),
        ((3, 3), (2, 2), one, false, 4, 4),
        ((3, 3), (2, 2), one, true, 4, 5),
        // the last window would begin in the padding, so there is none
        ((2, 2), (2, 3), one, true, 4, 3),
        (
            (3, 4),
            (3, 3),
            Padding {
                top: 2,
                bottom: 0,
                left: 0,
                right: 1,
            },
            true,
            3,
            3,
        ),
    ]
};

/// For each window of channel `c`: the image's values in it, and how many positions of the image and its padding it covers.
fn windowed(x: &Tensor, (kernel, stride, p, _, oh, ow): Windows) -> Vec<(Vec<f64>, usize)> {
    let mut out = Vec::new();
    for c in 0..2 {
        for i in 0..oh {
            for j in 0..ow {
                let (mut values, mut padded) = (Vec::new(), 0);
                for u in 0..kernel.0 {
                    for v in 0..kernel.1 {
                        let row = (i * stride.0 + u) as isize - p.top as isize;
                        let column = (j * stride.1 + v) as isize - p.left as isize;
                        padded += usize::from(
                            row < 7 + p.bottom as isize && column < 8 + p.right as isize,
                        );
                        if (0..7).contains(&row) && (0..8).contains(&column) {
                            values.push(at(x, c, row, column));
                        }
                    }
                }
                out.push((values, padded));
            }
        }
    }
    out
}

#[test]
fn maximum_pooling_and_the_means_over_its_windows() {
    let mut s = Stream::new(12);
    let mut x = s.tensor(Shape::image(2, 7, 8));
    // all negative: padding of zeros would show
    for v in x.values_mut() {
        *v -= 2.0;
    }
    for w in WINDOWS {
        let (kernel, stride, padding, ceil_mode, oh, ow) = w;
        let pool = MaxPool {
            kernel,
            stride,
            padding,
            ceil_mode,
        };
        let y = run(Op::MaxPool(pool), &x);
        assert_eq!(y.shape(), Shape::image(2, oh, ow), "{pool:?}");
        let windows = windowed(&x, w);
        let maxima: Vec<f64> = windows
            .iter()
            .map(|(v, _)| v.iter().copied().fold(f64::MIN, f64::max))
            .collect();
        assert_close(y.values(), &maxima, 0.0);
        for count_include_pad in [false, true] {
            let counts = match count_include_pad {
                true => polyveil_nn::op::PaddingCounts::AsZeros,
                false => polyveil_nn::op::PaddingCounts::Not,
            };
            let (zeros, mean) = pool.average((7, 8), counts);
            let mut y = x.clone();
            if let Some(zeros) = zeros {
                y = run(Op::Pad(zeros), &y);
            }
            let y = run(Op::AvgPool(mean), &y);
            assert_eq!(y.shape(), Shape::image(2, oh, ow), "{pool:?}");
            let means: Vec<f64> = windows
                .iter()
                .map(|(v, padded)| {
                    let count = if count_include_pad { *padded } else { v.len() };
                    v.iter().sum::<f64>() / count as f64
                })
                .collect();
            assert_close(y.values(), &means, 1e-13);
        }
    }
    x.values_mut()[9] = f64::NAN;
    let pool = MaxPool {
        kernel: (7, 8),
        stride: (1, 1),
        padding: Padding::default(),
        ceil_mode: false,
    };
    let y = run(Op::MaxPool(pool), &x);
    assert!(y.values()[0].is_nan() && y.values()[1] < 0.0, "{y:?}");
}

#[test]
fn dense_and_batch_norm() {
    let mut s = Stream::new(3);
    let x = s.tensor(Shape::Vector(5));
    let (weight, bias) = (s.parameter(&[3, 5]), s.parameter(&[3]));
    let y = run(
        Op::Linear(Linear {
            weight: weight.clone(),
            bias: Some(bias.clone()),
        }),
        &x,
    );
    for o in 0..3 {
        let sum: f64 = (0..5)
            .map(|i| f64::from(weight.values()[o * 5 + i]) * x.values()[i])
            .sum();
        assert_close(
            &[y.values()[o]],
            &[sum + f64::from(bias.values()[o])],
            1e-14,
        );
    }
    let x = s.tensor(Shape::image(2, 3, 2));
    let p = |v: [f32; 2]| Parameter::new("p", [2], v.to_vec()).expect("finite");
    let norm = BatchNorm {
        scale: p([2.0, -1.0]),
        bias: p([0.5, 0.25]),
        mean: p([0.1, -0.2]),
        variance: p([4.0, 0.25]),
        epsilon: 0.0,
    };
    let y = run(Op::BatchNorm(norm), &x);
    for (i, (x, y)) in x.values().iter().zip(y.values()).enumerate() {
        let expected = if i < 6 {
            (x - f64::from(0.1f32)) + 0.5
        } else {
            -(x + f64::from(0.2f32)) * 2.0 + 0.25
        };
        assert_close(&[*y], &[expected], 1e-14);
    }
}

#[test]
fn pad_slice_reshape() {
    let x = Tensor::new(Shape::image(2, 3, 4), (0..24).map(f64::from).collect()).expect("fits");
    let pad = Pad {
        channels: (1, 2),
        spatial: Padding {
            top: 1,
            bottom: 0,
            left: 2,
            right: 1,
        },
    };
    let y = run(Op::Pad(pad), &x);
    assert_eq!(y.shape(), Shape::image(5, 4, 7));
    for c in 0..5usize {
        for i in 0..4usize {
            for j in 0..7usize {
                let inside = (1..3).contains(&c) && i >= 1 && (2..6).contains(&j);
                let expected = if inside {
                    at(&x, c - 1, i as isize - 1, j as isize - 2)
                } else {
                    0.0
                };
                assert_eq!(at(&y, c, i as isize, j as isize), expected);
            }
        }
    }
    let axis = |begin, end, step| AxisSlice { begin, end, step };
    let y = run(
        Op::Slice(Slice {
            axes: vec![axis(1, 2, 1), axis(0, 3, 2), axis(1, 4, 2)],
        }),
        &x,
    );
    assert_eq!(y.shape(), Shape::image(1, 2, 2));
    assert_eq!(y.values(), &[13.0, 15.0, 21.0, 23.0]);
    assert_eq!(run(Op::Flatten, &x).shape(), Shape::Vector(24));
    let y = run(Op::Reshape(Shape::image(4, 3, 2)), &x);
    assert_eq!((y.shape(), y.values()), (Shape::image(4, 3, 2), x.values()));
    assert_eq!(run(Op::Identity, &x), x);
}

#[test]
fn sums_products_constants_and_several_consumers() {
    let mut b = Graph::builder();
    let x = b.input("x", Shape::Vector(3)).expect("valid");
    let c = Parameter::new("c", [3], vec![1.0, 2.0, 3.0]).expect("finite");
    let c = b
        .add("c", Op::Constant(Shape::Vector(3), c), &[])
        .expect("valid");
    let square = b.add("square", Op::Mul, &[x, x]).expect("valid");
    let sum = b.add("sum", Op::Add, &[square, c]).expect("valid");
    let y = b.add("y", Op::Mul, &[sum, x]).expect("valid");
    let graph = b.finish(y).expect("valid");
    let x = Tensor::new(Shape::Vector(3), vec![1.0, -2.0, 0.5]).expect("fits");
    let trace = graph.evaluate_all(&x).expect("fits");
    assert_eq!(trace.values.len(), 5);
    assert_eq!(
        graph.evaluate(&x).expect("fits").output.values(),
        &[2.0, -12.0, 1.625]
    );
    assert_eq!(
        trace.values[graph.output().id().index()].values(),
        &[2.0, -12.0, 1.625]
    );
}

#[test]
fn polynomials_are_not_guarded_but_reported() {
    let p = Polynomial::from_monomial(&[0.0, 0.0, 1.0], (-1.0, 1.0)).expect("valid");
    let mut b = Graph::builder();
    let x = b.input("x", Shape::Vector(4)).expect("valid");
    let y = b
        .add("square", Op::Elementwise(p.into()), &[x])
        .expect("valid");
    let y = b
        .add("silu", Op::Elementwise(Activation::Silu.into()), &[y])
        .expect("valid");
    let graph = b.finish(y).expect("valid");
    let x = Tensor::new(Shape::Vector(4), vec![0.5, -3.0, 1.5, 1.0]).expect("fits");
    let e = graph.evaluate(&x).expect("fits");
    assert_close(
        &[e.output.values()[1]],
        &[Activation::Silu.value(9.0)],
        1e-12,
    );
    let [o] = &e.outside[..] else {
        panic!("one node leaves its interval: {:?}", e.outside)
    };
    assert_eq!(
        (o.name.as_str(), o.value, o.count, o.interval),
        ("square", -3.0, 2, (-1.0, 1.0))
    );
    assert!(o.to_string().contains("square"));
}

/// Taps that reach beyond the picture at every place, as of wide dilations on small pictures.
#[test]
fn a_dilation_wider_than_the_picture_leaves_the_middle_tap() {
    let mut b = Graph::builder();
    let x = b.input("x", Shape::image(1, 3, 3)).expect("valid");
    let weight: Vec<f32> = (1..=9).map(|v| v as f32).collect();
    let conv = Conv2d {
        padding: Padding::same(5),
        dilation: (5, 5),
        ..Conv2d::new(Parameter::new("w", [1, 1, 3, 3], weight).expect("finite"))
    };
    let y = b.add("y", Op::Conv2d(conv), &[x]).expect("valid");
    let graph = b.finish(y).expect("valid");
    let x = Stream::new(3).tensor(Shape::image(1, 3, 3));
    let y = graph.evaluate(&x).expect("fits").output;
    let five: Vec<f64> = x.values().iter().map(|v| 5.0 * v).collect();
    assert_close(y.values(), &five, 1e-15);
}
