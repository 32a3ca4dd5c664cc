#!/usr/bin/env python3
"""Single operators with onnxruntime's answers, each of which a reader of ONNX gets wrong easily: a golden file of the crate polyveil-nn, of the form that
tools/chains.py says.

  pip install numpy onnx onnxruntime
  tools/operators.py crates/nn/tests/golden/operators.bin
"""
import sys

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(1)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def model(opset, shape, nodes, constants=()):
    """Nodes are (operator, inputs, attributes); each gives the next one its first input's name, `-`; constants go by their names."""
    last, made = "x", []
    for i, (operator, inputs, attributes) in enumerate(nodes):
        name = f"v{i}"
        made.append(helper.make_node(operator, [last if n == "-" else n for n in inputs], [name], **attributes))
        last = name
    graph = helper.make_graph(made, "operator", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info(last, TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(np.asarray(c), n) for n, c in dict(constants).items()])
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10 if opset > 22 else 8)
    m.producer_name = ""
    return m, floats(*shape)


def reshaped(opset, dims, nodes, constants=()):
    """On a flat input that is made of this shape first: more than one in front is a batch only there."""
    shape = {"shape": np.array(dims, np.int64)}
    return model(opset, [1, int(np.prod(dims))], [("Reshape", ["-", "shape"], {}), *nodes], {**shape, **dict(constants)})


def attentions():
    for mask in (np.ones((3, 3), bool), np.tril(np.ones((3, 3), bool)), np.triu(np.full((3, 3), -20000, np.float32), 1)):
        yield reshaped(23, (1, 2, 3, 4), [("Attention", ["-", "v0", "v0", "mask"], {})], {"mask": mask})
    # masks that are broadcast, one of which makes more scores than there were
    for shape in ((1, 3), (3, 1, 1, 1), (1, 1, 1, 1, 1)):
        nodes = [("Transpose", ["-"], {"perm": [0, 1, 3, 2]}), ("MatMul", ["v0", "-"], {}), ("Add", ["-", "mask"], {}),
                 ("Softmax", ["-"], {"axis": -1}), ("MatMul", ["-", "v0"], {})]
        yield reshaped(17, (1, 2, 3, 4), nodes, {"mask": np.zeros(shape, np.float32)})


    # as torch exports causal attention, scaled before it is masked; and values of another width, which make it no layer of attention
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    for width in (4, 5):
        nodes = [("MatMul", ["-", "w"], {}), ("Transpose", ["v0"], {"perm": [0, 1, 3, 2]}), ("MatMul", ["v0", "-"], {}), ("Div", ["-", "two"], {}),
                 ("Add", ["-", "mask"], {}), ("Softmax", ["-"], {"axis": -1}), ("MatMul", ["-", "v1"], {})]
        yield reshaped(17, (1, 2, 3, 4), nodes, {"w": floats(4, width), "two": np.float32(2), "mask": mask})


def norms():
    """Over groups of channels, and by the channels' sizes as ConvNeXt V2 does."""
    for groups, shape in ((2, [1, 6, 3, 4]), (1, [1, 4, 5]), (3, [1, 6, 2, 2])):
        nodes = [("GroupNormalization", ["-", "s", "b"], {"num_groups": groups, "epsilon": 1e-3})]
        yield model(21, shape, nodes, {"s": floats(shape[1]), "b": floats(shape[1])})
    nodes = [("ReduceL2", ["-"], {"axes": [2, 3]}), ("ReduceMean", ["-"], {"axes": [1]}), ("Add", ["-", "e"], {}), ("Div", ["v0", "-"], {}),
             ("Mul", ["x", "-"], {}), ("Mul", ["-", "s"], {}), ("Add", ["-", "b"], {}), ("Add", ["x", "-"], {})]
    yield model(17, [1, 4, 3, 3], nodes, {"e": np.float32(1e-6), "s": floats(4, 1, 1), "b": floats(4, 1, 1)})


def clips():
    """Between ends so far away that one side is none."""
    for low, high in ((0, 1e20), (-1e29, 6), (-3.4028235e38, 6), (0, 3.4028235e38), (-np.inf, 1), (0, 1e-6)):
        yield model(17, [1, 12], [("Clip", ["-", "low", "high"], {})], {"low": np.float32(low), "high": np.float32(high)})
    yield model(10, [1, 12], [("Clip", ["-"], {"min": 0.2})])


def folded():
    """Of constants alone: weights in whole numbers, scales in half precision, nothing to reduce, values that are no numbers."""
    weight = RNG.integers(-128, 128, (3, 12)).astype(np.int8)
    yield model(23, [1, 12], [("DequantizeLinear", ["w", "s"], {"axis": 0, "output_dtype": TensorProto.FLOAT16}), ("Cast", ["-"], {"to": 1}),
                              ("Gemm", ["x", "-"], {"transB": 1})], {"w": weight, "s": np.abs(floats(3)) / 50})
    for reduction in ("ReduceL2", "ReduceSumSquare"):
        yield model(18, [1, 12], [(reduction, ["c"], {"noop_with_empty_axes": 1}), ("Add", ["x", "-"], {})], {"c": floats(12)})
    nan = floats(12)
    nan[[0, 2, 7]] = np.nan
    yield model(17, [1, 12], [("Max", ["c", "d"], {}), ("IsNaN", ["-"], {}), ("Cast", ["-"], {"to": 1}), ("Add", ["x", "-"], {})],
                {"c": nan, "d": floats(12)})


def products():
    """Batches that are broadcast on either side, and operands of one axis."""
    right = [((2, 3, 4), (2, 4, 5)), ((2, 3, 4), (1, 4, 5)), ((2, 2, 3, 4), (1, 2, 4, 5)), ((4, 1, 3, 4), (1, 4, 4, 5)),
             ((1, 2, 3, 4), (3, 1, 4, 5)), ((2, 2, 3, 4), (2, 1, 4, 5)), ((2, 2, 3, 4), (2, 2, 4, 5)), ((4, 3, 4), (4, 1, 4, 5)),
             ((6, 4), (3, 4, 5)), ((4, 1, 3, 4), (4, 4, 5)), ((1, 4, 3, 4), (4, 1, 4, 5)), ((2, 3, 4), (2, 2, 4, 5)), ((2, 3, 4), (4,))]
    for dims, weight in right:
        yield reshaped(17, dims, [("MatMul", ["-", "w"], {})], {"w": floats(*weight)})
    yield reshaped(17, (2, 2, 1, 3, 4), [("MatMul", ["-", "w"], {})], {"w": floats(2, 1, 2, 4, 3)})
    left = [((2, 3, 4), (2, 5, 3)), ((2, 3, 4), (2, 1, 5, 3)), ((4, 1, 3, 4), (4, 5, 3)), ((1, 4, 3, 4), (4, 1, 5, 3)), ((2, 3, 4), (3,))]
    for dims, weight in left:
        yield reshaped(17, dims, [("MatMul", ["w", "-"], {})], {"w": floats(*weight)})
    for size, weight, order in ((12, (3, 12), "wx"), (12, (12,), "wx"), (4, (2, 5, 4), "wx"), (12, (12,), "xw"), (12, (12, 3), "xw"), (4, (2, 4, 5), "xw")):
        yield model(17, [size], [("MatMul", list(order), {})], {"w": floats(*weight)})


def reductions():
    """Of no axes."""
    for reduction in ("ReduceL2", "ReduceSumSquare"):
        attributes = {"noop_with_empty_axes": 1}
        yield model(18, [1, 12], [(reduction, ["-", "axes"], attributes)], {"axes": np.zeros(0, np.int64)})
        yield model(18, [1, 12], [(reduction, ["-"], attributes)])


def pads():
    """That cut, that are longer than the value, both at once."""
    for mode, pad in (("edge", (5, 0)), ("reflect", (-2, 1)), ("wrap", (-2, 1)), ("wrap", (-4, 0)), ("wrap", (5, 0))):
        yield model(19, [1, 4, 6, 6], [("Pad", ["-", "pads", "value"], {"mode": mode})],
                    {"pads": np.array([0, 0, pad[0], 0, 0, 0, pad[1], 0], np.int64), "value": np.float32(0.7)})
    for mode in ("reflect", "wrap", "constant"):
        yield model(19, [1, 4, 6, 6], [("Pad", ["-", "pads", "value"], {"mode": mode})],
                    {"pads": np.array([0, -1, 2, 0, 0, 0, 0, -2], np.int64), "value": np.float32(0.7)})


def resize(opset, shape, scales, old=False, **attributes):
    inputs = ["-", "scales"] if old else ["-", "", "scales"]
    return model(opset, shape, [("Resize", inputs, attributes)], {"scales": np.float32([1, 1, *scales])})


def resizes():
    """By fractions, whose places lie on edges between values; the old operator; scales that change no length, which copy, or one length only."""
    floor = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor", "mode": "nearest"}
    for scale in (0.3, 0.6, 0.7, 1.2, 1.4):
        for length in (10, 6):
            yield resize(13, [1, 1, length, 1], (scale, 1), **floor)
    # places that are in the middle between two values but for their rounding
    for nearest in ("round_prefer_ceil", "round_prefer_floor"):
        for length, scale, how in ((10, 1.2, "asymmetric"), (17, 1.3, "half_pixel"), (17, 0.3, "half_pixel")):
            yield resize(16, [1, 1, length, 1], (scale, 1), mode="nearest", nearest_mode=nearest, coordinate_transformation_mode=how)
    for mode in ("linear", "nearest"):
        for scale in (0.5, 0.6, 0.7, 1.3):
            yield resize(10, [1, 4, 6, 6], (scale, scale), old=True, mode=mode)
        for scale in (0.6, 0.7, 1.3):
            yield resize(13, [1, 4, 6, 6], (scale, scale), mode=mode)
    for how in ("align_corners", "asymmetric", "half_pixel_symmetric", "half_pixel", "pytorch_half_pixel"):
        for mode in ("cubic", "linear", "nearest"):
            yield resize(19, [1, 4, 6, 6], (1.4, 0.7), mode=mode, coordinate_transformation_mode=how)
    for mode in ("linear", "nearest", "cubic"):
        for scales in ((1, 1.2), (1.4, 1.2), (2, 1.2)):
            yield resize(18, [1, 1, 2, 4], scales, mode=mode, coordinate_transformation_mode="half_pixel")
    nodes = [("InstanceNormalization", ["-", "s", "b"], {"epsilon": 0.01}),
             ("Resize", ["-", "", "scales"], {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}),
             ("ReduceMax", ["-", "axes"], {"keepdims": 0})]
    yield model(22, [1, 6, 4, 4], nodes, {"s": floats(6), "b": floats(6), "scales": np.float32([1, 1, 1.2, 1.2]), "axes": np.array([1, 3], np.int64)})


def choices():
    """By constants, of constants and computed values, broadcast on either side; as causal and padding masks of attention are written."""
    x, m = [1, 12], np.arange(12) % 3 == 0
    minus = {"h": np.float32(-0.5), "m": m, "c": floats(12), "all": np.bool_(True), "none": np.zeros(12, bool)}
    for inputs in (["m", "x", "v0"], ["m", "c", "v0"], ["m", "v0", "c"], ["m", "h", "v0"], ["all", "v0", "x"], ["none", "v0", "x"], ["all", "c", "v0"]):
        yield model(17, x, [("Mul", ["-", "h"], {}), ("Where", inputs, {}), ("Add", ["-", "x"], {})], minus)
    wide = {"m": np.arange(6).reshape(2, 1, 3) % 2 == 0, "c": floats(2, 4, 1), "shape": np.array([1, 4, 3], np.int64), "h": np.float32(2)}
    for inputs in (["m", "c", "v0"], ["m", "v0", "c"], ["m", "v0", "v1"]):
        yield model(17, x, [("Reshape", ["-", "shape"], {}), ("Mul", ["-", "h"], {}), ("Where", inputs, {})], wide)
    scores = [("Transpose", ["-"], {"perm": [0, 1, 3, 2]}), ("MatMul", ["v0", "-"], {}), ("Div", ["-", "two"], {})]
    above, last = np.triu(np.ones((3, 3), bool), 1), np.array([False, False, True])
    for hidden, fill in ((above, -np.inf), (above, -1e9), (last, -np.inf), (last[None, :] | above, -1e4), (last[::-1], -np.inf), (above.T, -1e4)):
        for order in (["mask", "fill", "-"], ["seen", "-", "fill"]):
            nodes = [*scores, ("Where", order, {}), ("Softmax", ["-"], {"axis": -1}), ("MatMul", ["-", "v0"], {})]
            yield reshaped(17, (1, 2, 3, 4), nodes, {"mask": hidden, "seen": ~hidden, "fill": np.float32(fill), "two": np.float32(2)})
        nodes = [*scores, ("Add", ["-", "mask"], {}), ("Softmax", ["-"], {"axis": -1}), ("MatMul", ["-", "v0"], {})]
        yield reshaped(17, (1, 2, 3, 4), nodes, {"mask": np.where(hidden, np.float32(fill), np.float32(0)), "two": np.float32(2)})
    mask = np.where(last | above, np.float32(-20000), np.float32(0))
    yield reshaped(23, (1, 2, 3, 4), [("Attention", ["-", "v0", "v0", "mask"], {})], {"mask": mask})


def blocks():
    """Attention whose values are wider than its keys, or narrower, and as non-local blocks write it, turned."""
    for keys, values in ((2, 5), (5, 2)):
        weights = {"q": floats(4, keys), "k": floats(4, keys), "v": floats(4, values)}
        project = [("MatMul", ["v0", "q"], {}), ("MatMul", ["v0", "k"], {}), ("MatMul", ["v0", "v"], {}), ("Transpose", ["v2"], {"perm": [0, 2, 1]}),
                   ("MatMul", ["v1", "-"], {}), ("Softmax", ["-"], {"axis": 2})]
        yield reshaped(17, (1, 3, 4), [*project, ("MatMul", ["-", "v3"], {})], weights)
        turned = [*project, ("Transpose", ["-"], {"perm": [0, 2, 1]}), ("Transpose", ["v3"], {"perm": [0, 2, 1]}), ("MatMul", ["-", "v7"], {})]
        yield reshaped(17, (1, 3, 4), turned, weights)


def einsums():
    """Of two tensors and of more, computed and constant, with axes that are summed early, late and not at all."""
    for dims, equation, constants in (
            ((1, 4, 3), "bij->bji", ()), ((1, 4, 3), "bij->i", ()), ((1, 4, 3), "bij,jk->bik", ((3, 5),)), ((1, 4, 3), "bij,kj", ((2, 3),)),
            ((1, 4, 3), "ij,bjc->bic", ((5, 4),)), ((1, 4, 3), "bij,bik->bjk", ((1, 4, 2),)), ((2, 4, 3), "bij,bjk->bik", ((2, 3, 5),)),
            ((2, 4, 3), "bij,k->bik", ((2,),)), ((2, 4, 3), "bij,bij->b", ((2, 4, 3),)), ((1, 4, 3), "bij,jk,kl->bil", ((3, 5), (5, 2))),
            ((1, 4, 3), "jk,kl,bij->bil", ((3, 5), (5, 2))), ((1, 4, 3), "bij,eij->be", ((5, 4, 3),))):
        names = [f"w{i}" for i in range(len(constants))]
        terms = equation.split("->")[0].split(",")
        at = next(i for i, term in enumerate(terms) if len(term) == 3 and term[0] == "b")
        yield reshaped(17, dims, [("Einsum", [*names[:at], "v0", *names[at:]], {"equation": equation})],
                       {n: floats(*c) for n, c in zip(names, constants)})
    for equation in ("bij,bkj->bik", "bij,bij->bi", "bij,bik,bil->bkl", "bij,bkj,bi->bk"):
        inputs = ["v0"] * (equation.count(",") + 1)
        nodes = [] if not equation.endswith("bi->bk") else [("ReduceSum", ["v0", "axis"], {"keepdims": 0})]
        yield reshaped(17, (2, 4, 3), [*nodes, ("Einsum", inputs if not nodes else ["v0", "v0", "-"], {"equation": equation})], {"axis": np.array([2], np.int64)})
    yield model(17, [1, 8], [("Einsum", ["w", "u"], {"equation": "abc,cd->bd"}), ("Add", ["x", "-"], {})], {"w": floats(2, 1, 3), "u": floats(3, 8)})


def places():
    """Looked up by constant indices along several axes, and for each place along one."""
    x = (2, 4, 3)
    for indices, batch in (([[0, 1], [1, 3], [-1, -2]], 0), ([[[0, 1, 2]], [[1, 0, 0]]], 0), ([[1], [0], [1]], 0), ([[[3], [0]], [[1], [-1]]], 1)):
        yield reshaped(17, x, [("GatherND", ["-", "i"], {"batch_dims": batch})], {"i": np.array(indices, np.int64)})
        yield model(17, [1, 3], [("GatherND", ["c", "i"], {"batch_dims": batch}), ("ReduceSum", ["-"], {"keepdims": 0}), ("Add", ["x", "-"], {})],
                    {"i": np.array(indices, np.int64), "c": floats(*x)})
    for axis, shape in ((0, (3, 4, 2)), (1, (2, 5, 3)), (2, (1, 2, 7))):
        i = {"i": RNG.integers(-x[axis], x[axis], shape)}
        yield reshaped(17, x, [("GatherElements", ["-", "i"], {"axis": axis})], i)
        yield model(17, [1, 3], [("GatherElements", ["c", "i"], {"axis": axis}), ("ReduceSum", ["-"], {"keepdims": 0}), ("Add", ["x", "-"], {})], {"c": floats(*x), **i})
    yield model(17, [1, 8], [("NonZero", ["c"], {}), ("Transpose", ["-"], {}), ("Squeeze", ["-", "last"], {}), ("Gather", ["x", "-"], {"axis": 1})],
                {"c": np.array([1, 0, 1, 1, 0, 0, 1, 0], bool), "last": np.array([1], np.int64)})
    yield model(17, [1, 12], [("NonZero", ["c"], {}), ("Cast", ["-"], {"to": 1}), ("ReduceSum", ["-", "first"], {"keepdims": 0}), ("Add", ["x", "-"], {})],
                {"c": np.arange(24).reshape(2, 3, 4) % 2, "first": np.array([0], np.int64)})


def sums():
    """Running ones, parts of matrices and least values, of computed values and of constants."""
    for axis in (1, -1):
        for exclusive in (0, 1):
            for reverse in (0, 1):
                how = {"exclusive": exclusive, "reverse": reverse}
                yield reshaped(17, (2, 4, 3), [("CumSum", ["-", "axis"], how)], {"axis": np.int64(axis)})
                yield model(17, [1, 12], [("CumSum", ["c", "axis"], how), ("ReduceMean", ["-"], {"axes": [0, 1]}), ("Mul", ["x", "-"], {})],
                            {"c": floats(4, 6, 12), "axis": np.int64(axis)})
    for upper in (0, 1):
        for k in (-1, 0, 2):
            yield reshaped(17, (2, 3, 4), [("Trilu", ["-", "k"], {"upper": upper})], {"k": np.int64(k)})
        yield reshaped(17, (1, 3, 4), [("Trilu", ["-"], {"upper": upper})])
    for axes in ([1], [0, 2]):
        yield reshaped(17, (2, 3, 4), [("ReduceMin", ["-"], {"axes": axes, "keepdims": 0})])


def of_constants():
    """Products with batches, dense layers and softmaxes, as learned queries and weighted layers leave them."""
    for a, b in (((2, 1, 8), (8, 12)), ((3, 1, 2, 4), (2, 4, 12)), ((4,), (2, 4, 12)), ((2, 12, 4), (4,)), ((4,), (4,))):
        yield model(17, [1, 12], [("MatMul", ["a", "b"], {}), ("ReduceMean", ["-"], {"keepdims": 0}), ("Mul", ["x", "-"], {})], {"a": floats(*a), "b": floats(*b)})
        yield model(17, [1, 12], [("MatMul", ["a", "b"], {}), ("Flatten", ["-"], {"axis": 0}), ("Gather", ["-", "zero"], {"axis": 1}), ("Mul", ["x", "-"], {})],
                    {"a": floats(*a), "b": floats(*b), "zero": np.int64(0)})
    for ta in (0, 1):
        for tb in (0, 1):
            constants = {"a": floats(*((3, 2), (2, 3))[ta]), "b": floats(*((2, 12), (12, 2))[tb]), "c": floats(3, 1)}
            yield model(17, [1, 12], [("Gemm", ["a", "b", "c"], {"transA": ta, "transB": tb, "alpha": 0.5, "beta": 2.0}), ("MatMul", ["-", "t"], {}),
                                      ("Transpose", ["-"], {}), ("MatMul", ["x", "t"], {}), ("Add", ["-", "v2"], {})], {**constants, "t": floats(12, 12)[:, :1]})
    for operator in ("Softmax", "LogSoftmax"):
        for opset, axis in ((17, -1), (17, 0), (11, 1)):
            yield model(opset, [1, 12], [(operator, ["c"], {"axis": axis}), ("Mul", ["-", "d"], {}), ("ReduceSum", ["-"], {"keepdims": 0}), ("Add", ["x", "-"], {})],
                        {"c": floats(2, 3, 4), "d": floats(2, 3, 4)})


def main():
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    count = 0
    with open(sys.argv[1], "wb") as f:
        for group in (attentions, norms, clips, folded, products, reductions, pads, resizes, choices, blocks, einsums, places, sums, of_constants):
            for m, x in group():
                y = onnxruntime.InferenceSession(m.SerializeToString(), options).run(None, {"x": x})[0]
                for part in (m.SerializeToString(), x.astype("<f4").tobytes(), y.astype("<f4").tobytes()):
                    f.write(len(part).to_bytes(4, "little") + part)
                count += 1
    print(f"{count} operators")


if __name__ == "__main__":
    main()
