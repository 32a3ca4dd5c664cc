#!/usr/bin/env python3
"""Random chains of the operators that Polyveil reads, over operator sets 7 to 23, against onnxruntime.

  pip install numpy onnx onnxruntime
  cargo build --release -p polyveil-nn --example values
  tools/chains.py WORK --count 2000 --seed 1 --values target/release/examples/values

Says how many gave onnxruntime's values (within 1e-4 of the largest magnitude), how many were refused, with the sentences, and which were wrong: their
files stay in WORK. With --golden, the smallest of those that are right go into one file, which a test of the crate polyveil-nn reads: of each the model,
its input and onnxruntime's answer, each behind its length in four bytes, values as f32 (`--count 400 --golden crates/nn/tests/golden/chains.bin`).
"""
import argparse
import collections
import os
import subprocess

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class Chain:
    def __init__(self, rng, opset):
        self.rng, self.opset = rng, opset
        self.nodes, self.constants, self.values = [], [], []
        self.count = 0

    def pick(self, *options):
        return options[self.rng.integers(len(options))]

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def constant(self, array):
        name = self.name()
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def floats(self, *shape, scale=1.0, shift=0.0):
        return self.constant((self.rng.standard_normal(shape) * scale + shift).astype(np.float32))

    def weights(self, *shape, scale):
        """Floats, or whole numbers under DequantizeLinear."""
        if self.opset < 10 or self.pick(0, 0, 1) == 0:
            return self.floats(*shape, scale=scale)
        kind = self.pick(np.int8, np.uint8)
        ends = np.iinfo(kind)
        along = self.opset >= 13 and self.pick(0, 1)
        axis = int(self.rng.integers(len(shape))) if along else 0
        of = (shape[axis],) if along else ()
        inputs = [self.constant(self.rng.integers(ends.min, ends.max, shape, kind, endpoint=True)),
                  self.constant((self.rng.uniform(0.5, 1.5, of) * scale / 64).astype(np.float32))]
        if kind == np.uint8 or self.pick(0, 1):
            middle = (int(ends.min) + int(ends.max) + 1) // 2
            inputs.append(self.constant(self.rng.integers(middle - 9, middle + 9, of).astype(kind)))
        name = self.name()
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [name], **({"axis": axis} if along else {})))
        return name

    def ints(self, values):
        return self.constant(np.asarray(values, np.int64))

    def node(self, op, inputs, shape, outputs=None, **attributes):
        name = self.name()
        self.nodes.append(helper.make_node(op, inputs, outputs or [name], **attributes))
        self.values.append((outputs[0] if outputs else name, tuple(int(d) for d in shape)))

    def listed(self, since, name, values, inputs):
        """A list as input from an operator set on, as attribute before."""
        if self.opset >= since:
            return {}, inputs + [self.ints(values)]
        return {name: list(values)}, inputs

    # one operator on the last value; False if it does not fit
    def step(self):
        x, shape = self.values[-1]
        kind = self.pick(*KINDS)
        return getattr(self, kind)(x, shape)

    def conv(self, x, s):
        if len(s) not in (3, 4):
            return False
        n = len(s) - 2
        k = [int(self.rng.integers(1, 4)) for _ in range(n)]
        d = [self.pick(1, 1, 2) for _ in range(n)]
        st = [self.pick(1, 1, 2) for _ in range(n)]
        g = self.pick(1, 1, s[1]) if s[1] <= 16 else 1
        out = g * int(self.rng.integers(1, 4))
        pads = [int(self.rng.integers(0, 2)) for _ in range(2 * n)]
        spans = [(a - 1) * b + 1 for a, b in zip(k, d)]
        to = [(s[2 + i] + pads[i] + pads[i + n] - spans[i]) // st[i] + 1 for i in range(n)]
        if min(to) < 1 or any(s[2 + i] + pads[i] + pads[i + n] < spans[i] for i in range(n)):
            return False
        w = self.weights(out, s[1] // g, *k, scale=0.4)
        inputs = [x, w] + ([self.floats(out)] if self.pick(0, 1) else [])
        self.node("Conv", inputs, (1, out, *to), kernel_shape=k, dilations=d, strides=st, group=g, pads=pads)
        return True

    def conv_transpose(self, x, s):
        if len(s) not in (3, 4) or max(s[2:]) > 12:
            return False
        n = len(s) - 2
        k = [int(self.rng.integers(1, 4)) for _ in range(n)]
        st = [self.pick(1, 2) for _ in range(n)]
        g = self.pick(1, s[1]) if s[1] <= 8 else 1
        pads = [int(self.rng.integers(0, 2)) for _ in range(2 * n)]
        more = [int(self.rng.integers(0, st[i])) for i in range(n)]
        to = [(s[2 + i] - 1) * st[i] + k[i] - pads[i] - pads[i + n] + more[i] for i in range(n)]
        if min(to) < 1:
            return False
        each = int(self.rng.integers(1, 3))
        w = self.weights(s[1], each, *k, scale=0.4)
        inputs = [x, w] + ([self.floats(g * each)] if self.pick(0, 1) else [])
        self.node("ConvTranspose", inputs, (1, g * each, *to), kernel_shape=k, strides=st, group=g, pads=pads, output_padding=more)
        return True

    def pool(self, x, s):
        if len(s) not in (3, 4):
            return False
        n = len(s) - 2
        k = [int(self.rng.integers(1, 4)) for _ in range(n)]
        st = [self.pick(1, 2) for _ in range(n)]
        pads = [int(self.rng.integers(0, k[i % n])) for i in range(2 * n)]
        if any(s[2 + i] < k[i] for i in range(n)):
            return False
        to = [(s[2 + i] + pads[i] + pads[i + n] - k[i]) // st[i] + 1 for i in range(n)]
        op = self.pick("AveragePool", "MaxPool")
        more = {"count_include_pad": self.pick(0, 1)} if op == "AveragePool" else {}
        self.node(op, [x], (1, s[1], *to), kernel_shape=k, strides=st, pads=pads, **more)
        return True

    def global_pool(self, x, s):
        if len(s) not in (3, 4):
            return False
        self.node(self.pick("GlobalAveragePool", "GlobalMaxPool"), [x], (s[0], s[1], *[1] * (len(s) - 2)))
        return True

    def batch_norm(self, x, s):
        if len(s) not in (2, 3, 4) or s[0] != 1:
            return False
        c = s[1]
        var = self.constant(self.rng.uniform(0.5, 1.5, c).astype(np.float32))
        self.node("BatchNormalization", [x, self.floats(c, shift=1.0), self.floats(c), self.floats(c), var], s, epsilon=1e-3)
        return True

    def activation(self, x, s):
        op = self.pick("Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "Softplus", "HardSigmoid", "HardSwish", "Mish", "Gelu",
                       "Celu", "Softsign", "Abs", "Neg", "Identity", "PRelu", "Clip")
        since = {"HardSwish": 14, "Mish": 18, "Gelu": 20, "Celu": 12}
        if self.opset < since.get(op, 1):
            return False
        attributes, inputs = {}, [x]
        if op in ("LeakyRelu", "Elu", "Celu") and self.pick(0, 1):
            attributes["alpha"] = float(self.pick(0.1, 0.5, 1.0))
        if op == "HardSigmoid" and self.pick(0, 1):
            attributes = {"alpha": 1 / 6, "beta": 0.5}
        if op == "Gelu":
            attributes["approximate"] = self.pick("none", "tanh")
        if op == "PRelu":
            inputs.append(self.floats(s[1] if len(s) > 1 else 1, *[1] * max(len(s) - 2, 0)))
        if op == "Clip":
            low, high = self.pick((0.0, 6.0), (-1.0, 0.5), (0.2, None), (None, 0.3))
            if self.opset >= 11:
                ends = [v if v is None else self.constant(np.float32(v)) for v in (low, high)]
                inputs += ["" if e is None else e for e in ends]
            else:
                attributes = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
        self.node(op, inputs, s, **attributes)
        return True

    def with_constant(self, x, s):
        c = [d if self.pick(0, 1) else 1 for d in s][self.rng.integers(0, len(s)):]
        op = self.pick("Add", "Sub", "Mul", "Div", "Max", "Min")
        if op in ("Max", "Min") and self.opset < 8:
            return False
        c = self.floats(*c) if op != "Div" else self.constant(self.rng.uniform(0.5, 2, c).astype(np.float32))
        inputs = [x, c] if op == "Div" or self.pick(0, 1) else [c, x]
        self.node(op, inputs, s)
        return True

    def with_value(self, x, s):
        y, t = self.values[self.rng.integers(len(self.values))]
        try:
            to = np.broadcast_shapes(s, t)
        except ValueError:
            return False
        if np.prod(to) > 20000:
            return False
        op = self.pick("Add", "Sub", "Mul", "Max", "Min")
        if op in ("Max", "Min") and self.opset < 8:
            return False
        self.node(op, [x, y], to)
        return True

    def power(self, x, s):
        self.node("Pow", [x, self.constant(np.float32(self.pick(1.0, 2.0, 3.0)))], s)
        return True

    def concat(self, x, s):
        axis = int(self.rng.integers(len(s)))
        if axis == 0 and s[0] == 1:
            return False
        fits = [(y, t) for y, t in self.values if len(t) == len(s) and all(a == b for i, (a, b) in enumerate(zip(s, t)) if i != axis)]
        y, t = fits[self.rng.integers(len(fits))]
        parts = [(x, s), (y, t)]
        if self.pick(0, 1):
            c = list(s)
            c[axis] = 1
            parts.insert(self.rng.integers(3), (self.floats(*c), c))
        to = list(s)
        to[axis] = sum(p[1][axis] for p in parts)
        if np.prod(to) > 20000:
            return False
        self.node("Concat", [p[0] for p in parts], to, axis=self.pick(axis, axis - len(s)))
        return True

    def slice(self, x, s):
        axis = int(self.rng.integers(len(s)))
        if s[axis] < 2:
            return False
        a, b = sorted(self.rng.choice(s[axis] + 1, 2, replace=False).tolist())
        step = self.pick(1, 1, 2, -1) if self.opset >= 10 else 1
        to = list(s)
        if self.opset < 10:
            to[axis] = b - a
            self.node("Slice", [x], to, starts=[a], ends=[b], axes=[axis])
            return True
        start, end = (a, b) if step > 0 else (b - 1, a - 1 if a > 0 else -s[axis] - 1)
        to[axis] = len(range(a, b, abs(step)))
        self.node("Slice", [x, self.ints([start]), self.ints([end]), self.ints([axis]), self.ints([step])], to)
        return True

    def pad(self, x, s):
        if len(s) < 2:
            return False
        mode = self.pick("constant", "edge", "reflect", *(["wrap"] if self.opset >= 19 else []))
        pads = np.zeros((2, len(s)), int)
        for i in range(1, len(s)):
            most = min(2, s[i] - 1)
            if most > 0:
                pads[:, i] = self.rng.integers(self.pick(0, 0, -1) if s[i] > 3 else 0, most + 1, 2)
        to = [d + int(p) for d, p in zip(s, pads.sum(0))]
        attributes, inputs = self.listed(11, "pads", pads.flatten().tolist(), [x])
        if mode == "constant" and self.pick(0, 1):
            if self.opset >= 11:
                inputs.append(self.constant(np.float32(0.5)))
            else:
                attributes["value"] = 0.5
        self.node("Pad", inputs, to, mode=mode, **attributes)
        return True

    def transpose(self, x, s):
        order = [0, *(1 + self.rng.permutation(len(s) - 1)).tolist()] if s[0] == 1 else self.rng.permutation(len(s)).tolist()
        self.node("Transpose", [x], [s[i] for i in order], perm=order)
        return True

    def reshape(self, x, s):
        total = int(np.prod(s))
        parts = [total]
        for _ in range(int(self.rng.integers(0, 4))):
            i = int(self.rng.integers(len(parts)))
            divisors = [d for d in (2, 3, 4, 5) if parts[i] % d == 0]
            if divisors:
                d = self.pick(*divisors)
                parts[i:i + 1] = [parts[i] // d, d]
        to = [1, *parts]
        target = list(to)
        if self.pick(0, 1):
            target[self.rng.integers(len(target))] = -1
        self.node("Reshape", [x, self.ints(target)], to)
        return True

    def reshape_by_shape(self, x, s):
        h, i, c, t = (self.name() for _ in range(4))
        self.nodes.append(helper.make_node("Shape", [x], [h]))
        self.nodes.append(helper.make_node("Gather", [h, self.ints([0])], [i], axis=0))
        self.nodes.append(helper.make_node("Concat", [i, self.ints([-1])], [t], axis=0))
        self.node("Reshape", [x, t], (s[0], int(np.prod(s[1:]))))
        return True

    def squeeze(self, x, s):
        ones = [i for i, d in enumerate(s) if d == 1 and i > 0]
        if not ones or len(s) < 3:
            return False
        axis = self.pick(*ones)
        attributes, inputs = self.listed(13, "axes", [axis], [x])
        self.node("Squeeze", inputs, s[:axis] + s[axis + 1:], **attributes)
        return True

    def unsqueeze(self, x, s):
        if len(s) > 4:
            return False
        axis = int(self.rng.integers(1, len(s) + 1))
        attributes, inputs = self.listed(13, "axes", [axis], [x])
        self.node("Unsqueeze", inputs, (*s[:axis], 1, *s[axis:]), **attributes)
        return True

    def flatten(self, x, s):
        self.node("Flatten", [x], (s[0], int(np.prod(s[1:]))))
        return True

    def reduce(self, x, s):
        if len(s) < 2:
            return False
        axes = sorted(self.rng.choice(np.arange(1, len(s)), self.rng.integers(1, len(s)), replace=False).tolist())
        op = self.pick("ReduceMean", "ReduceSum", "ReduceL2", "ReduceMax")
        keep = self.pick(0, 1)
        since = 13 if op == "ReduceSum" else 18
        attributes, inputs = self.listed(since, "axes", axes, [x])
        to = [1 if i in axes else d for i, d in enumerate(s)] if keep else [d for i, d in enumerate(s) if i not in axes]
        self.node(op, inputs, to, keepdims=keep, **attributes)
        return True

    def matmul(self, x, s):
        if len(s) < 2:
            return False
        n = int(self.rng.integers(1, 6))
        # axes of the constant before its matrices: none, the value's, ones, or more where the value has ones
        batch = [self.pick(d, d, 1) if d > 1 else self.pick(1, 1, 2) for d in s[:-2]][self.rng.integers(0, len(s) - 1):] if self.pick(0, 1) else []
        to = np.broadcast_shapes(s[:-2], tuple(batch))
        if np.prod(to) * n * max(s[-2:]) > 20000:
            return False
        if self.pick(0, 0, 1) and len(s) > 2:
            self.node("MatMul", [self.weights(*batch, n, s[-2], scale=0.4), x], (*to, n, s[-1]))
        else:
            self.node("MatMul", [x, self.weights(*batch, s[-1], n, scale=0.4)], (*to, s[-2], n))
        return True

    def gemm(self, x, s):
        if len(s) != 2:
            return False
        n = int(self.rng.integers(1, 6))
        trans = self.pick(0, 1)
        w = self.weights(n, s[1], scale=0.4) if trans else self.weights(s[1], n, scale=0.4)
        self.node("Gemm", [x, w, self.floats(n)], (s[0], n), transB=trans, alpha=float(self.pick(1.0, 0.5)), beta=float(self.pick(1.0, 2.0)))
        return True

    def product(self, x, s):
        if len(s) < 3 or s[-1] * s[-2] * s[-2] * int(np.prod(s[:-2])) > 20000:
            return False
        t = self.name()
        order = list(range(len(s)))
        order[-1], order[-2] = order[-2], order[-1]
        self.nodes.append(helper.make_node("Transpose", [x], [t], perm=order))
        self.node("MatMul", [x, t], (*s[:-1], s[-2]))
        return True

    def attention(self, x, s):
        """As exporters write it: queries, keys and values of one sequence, scores scaled and masked or not."""
        if len(s) < 3 or s[-2] < 2 or int(np.prod(s[:-1])) * max(s[-2:]) > 5000:
            return False
        each = [x] * 3
        for i in range(3):
            if self.pick(0, 1):
                each[i] = self.name()
                self.nodes.append(helper.make_node("MatMul", [x, self.weights(s[-1], s[-1], scale=0.4)], [each[i]]))
        order = list(range(len(s)))
        order[-1], order[-2] = order[-2], order[-1]
        turned, scores, shares = (self.name() for _ in range(3))
        self.nodes.append(helper.make_node("Transpose", [each[1]], [turned], perm=order))
        self.nodes.append(helper.make_node("MatMul", [each[0], turned], [scores]))
        steps = [("Div", np.sqrt(s[-1])), ("Mul", 0.3), (None, None)]
        op, by = steps[self.rng.integers(3)]
        if op:
            scaled = self.name()
            self.nodes.append(helper.make_node(op, [scores, self.constant(np.float32(by))], [scaled]))
            scores = scaled
        mask = self.pick("causal", "full", "random", None)
        if mask:
            above = np.triu(np.full((s[-2], s[-2]), self.pick(-1e9, -np.inf), np.float32), 1)
            values = {"causal": above, "full": np.zeros((s[-2], s[-2]), np.float32), "random": self.rng.standard_normal((s[-2], s[-2])).astype(np.float32)}
            masked = self.name()
            self.nodes.append(helper.make_node("Add", [scores, self.constant(values[mask])], [masked]))
            scores = masked
        self.nodes.append(helper.make_node("Softmax", [scores], [shares], axis=self.pick(-1, len(s) - 1) if self.opset >= 11 else len(s) - 1))
        self.node("MatMul", [shares, each[2]], s)
        return True

    def group_norm(self, x, s):
        # before opset 21 it has a scale for each group, which is refused
        if self.opset < 21 or len(s) < 3:
            return False
        groups = self.pick(*(g for g in range(1, s[1] + 1) if s[1] % g == 0))
        if np.prod(s[2:]) * s[1] // groups < 2:
            return False
        self.node("GroupNormalization", [x, self.floats(s[1]), self.floats(s[1])], s, num_groups=groups, epsilon=1e-3)
        return True

    def layer_norm(self, x, s):
        axis = int(self.rng.integers(1, len(s))) if len(s) > 1 else 0
        if self.opset < 17 or np.prod(s[axis:]) < 2:
            return False
        shape = s[axis:]
        self.node("LayerNormalization", [x, self.floats(*shape), self.floats(*shape)], s, axis=axis - len(s), epsilon=1e-3)
        return True

    def instance_norm(self, x, s):
        if len(s) not in (3, 4) or np.prod(s[2:]) < 2:
            return False
        self.node("InstanceNormalization", [x, self.floats(s[1]), self.floats(s[1])], s, epsilon=1e-2)
        return True

    def softmax(self, x, s):
        axis = int(self.rng.integers(1, len(s))) if len(s) > 1 else 0
        self.node("Softmax", [x], s, axis=axis)
        return True

    def resize(self, x, s):
        if self.opset < 10 or len(s) != 4 or max(s[2:]) > 10:
            return False
        if self.opset < 13 or self.pick(0, 1):
            return self.resize_by_scales(x, s)
        mode = self.pick("nearest", "linear", "cubic")
        how = self.pick("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        sizes = [int(self.rng.integers(1, 2 * d + 1)) for d in s[2:]]
        more = {"nearest_mode": self.pick("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")} if mode == "nearest" else {}
        self.node("Resize", [x, "", "", self.ints([s[0], s[1], *sizes])], (s[0], s[1], *sizes), mode=mode,
                  coordinate_transformation_mode=how, **more)
        return True

    def resize_by_scales(self, x, s):
        if self.opset < 10 or len(s) != 4 or max(s[2:]) > 10:
            return False
        scales = np.float32([1, 1, *(self.pick(0.5, 0.6, 0.7, 1.0, 1.2, 1.3, 1.4, 2.0) for _ in range(2))])
        to = [int(np.float32(d) * k) for d, k in zip(s, scales)]
        if min(to) < 1:
            return False
        mode = self.pick("nearest", "linear")
        if self.opset == 10:
            self.node("Resize", [x, self.constant(scales)], to, mode=mode)
            return True
        how = self.pick("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
        more = {"nearest_mode": self.pick("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")} if mode == "nearest" else {}
        roi = "" if self.opset >= 13 else self.floats(0)
        self.node("Resize", [x, roi, self.constant(scales)], to, mode=mode, coordinate_transformation_mode=how, **more)
        return True

    def split(self, x, s):
        axis = int(self.rng.integers(len(s)))
        if s[axis] < 2:
            return False
        a = int(self.rng.integers(1, s[axis]))
        attributes, inputs = self.listed(13, "split", [a, s[axis] - a], [x])
        one, two = self.name(), self.name()
        to = list(s)
        to[axis] = a
        self.node("Split", inputs, to, outputs=[one, two], axis=axis, **attributes)
        if self.pick(0, 1):
            to = list(s)
            to[axis] = s[axis] - a
            self.values.append((two, tuple(to)))
        return True

    def expand(self, x, s):
        if self.opset < 8:
            return False
        to = [3 if d == 1 and i > 0 and self.pick(0, 1) else d for i, d in enumerate(s)]
        if np.prod(to) > 20000:
            return False
        self.node("Expand", [x, self.ints(to)], to)
        return True

    def gather(self, x, s):
        axis = int(self.rng.integers(1, len(s))) if len(s) > 1 else 0
        index = self.rng.integers(-s[axis], s[axis], self.pick((), (2,), (3,)))
        to = [*s[:axis], *index.shape, *s[axis + 1:]]
        if not to or (self.opset < 11 and (index < 0).any()):
            return False
        self.node("Gather", [x, self.ints(index)], to, axis=axis)
        return True

    def blocks(self, x, s):
        if len(s) != 4:
            return False
        if s[1] % 4 == 0:
            more = {"mode": self.pick("DCR", "CRD")} if self.opset >= 11 else {}
            self.node("DepthToSpace", [x], (s[0], s[1] // 4, s[2] * 2, s[3] * 2), blocksize=2, **more)
            return True
        if s[2] % 2 == 0 and s[3] % 2 == 0:
            self.node("SpaceToDepth", [x], (s[0], s[1] * 4, s[2] // 2, s[3] // 2), blocksize=2)
            return True
        return False


KINDS = [k for k, v in vars(Chain).items() if callable(v) and not k.startswith("_")
         and k not in ("pick", "name", "constant", "floats", "weights", "ints", "node", "listed", "step")]


def chain(rng):
    opset = int(rng.integers(7, 24))
    c = Chain(rng, opset)
    shape = c.pick((1, 3, 6, 6), (1, 4, 5, 7), (1, 1, 8, 8), (1, 6, 4, 4), (1, 12), (1, 3, 11), (1, 5, 8), (7,), (2, 4, 6))
    c.values.append(("x", shape))
    wanted, tries = int(rng.integers(2, 9)), 0
    while len(c.nodes) < wanted and tries < 100:
        c.step()
        tries += 1
    y, to = c.values[-1]
    graph = helper.make_graph(c.nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info(y, TensorProto.FLOAT, None)], c.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model, rng.standard_normal(shape).astype(np.float32), opset


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("work")
    p.add_argument("--count", type=int, default=2000)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--values", default="target/release/examples/values")
    p.add_argument("--golden")
    a = p.parse_args()
    os.makedirs(a.work, exist_ok=True)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    made, number, unread = [], 0, 0
    while len(made) < a.count:
        number += 1
        model, x, opset = chain(np.random.default_rng([a.seed, number]))
        base = os.path.join(a.work, f"{a.seed}.{number}")
        try:
            onnx.save(model, base + ".onnx")
            y = onnxruntime.InferenceSession(base + ".onnx", options).run(None, {"x": x})[0]
        except Exception:
            os.remove(base + ".onnx")
            unread += 1
            continue
        if not np.isfinite(y).all() or np.abs(y).max(initial=0) > 1e6:
            os.remove(base + ".onnx")
            continue
        x.astype("<f8").tofile(base + ".input.f64")
        made.append((base, y, opset))
    with open(os.path.join(a.work, "list"), "w") as f:
        for base, _, _ in made:
            f.write(f"{base}.onnx {base}.input.f64 {base}.output.f64\n")
    ran = subprocess.run([a.values, os.path.join(a.work, "list")], capture_output=True, text=True)
    lines = ran.stdout.splitlines()
    if ran.returncode != 0 or len(lines) != len(made):
        print(f"ended with {ran.returncode} at {made[len(lines)][0] if len(lines) < len(made) else '?'}: {ran.stderr[-500:]}")
    right, wrong, refused, golden = 0, [], collections.Counter(), []
    for (base, y, opset), said in zip(made, lines):
        if said != "ok":
            refused[said if len(said) < 200 else said[:200]] += 1
            continue
        z = np.fromfile(base + ".output.f64", "<f8")
        by = np.inf if z.size != y.size else np.abs(z - y.flatten()).max(initial=0) / max(np.abs(y).max(initial=0), 1e-3)
        if by <= 1e-4:
            right += 1
            with open(base + ".onnx", "rb") as f:
                model = f.read()
            golden.append((model, np.fromfile(base + ".input.f64", "<f8"), y))
            for end in (".onnx", ".input.f64", ".output.f64"):
                os.remove(base + end)
        else:
            wrong.append((base, opset, by))
    print(f"{len(made)} chains: {right} right, {len(wrong)} wrong, {sum(refused.values())} refused; onnxruntime itself refused {unread}")
    if a.golden:
        small = sorted(golden, key=lambda g: len(g[0]) + 4 * g[2].size)[:len(golden) // 2]
        with open(a.golden, "wb") as f:
            for model, x, y in small:
                for part in (model, x.astype("<f4").tobytes(), y.astype("<f4").tobytes()):
                    f.write(len(part).to_bytes(4, "little") + part)
    for w in wrong:
        print("wrong:", *w)
    for said, n in refused.most_common(30):
        print(n, said)


if __name__ == "__main__":
    main()
