//! Import of the ONNX operators that move values around: ReduceMean, Pad, Slice, Flatten, Reshape, Squeeze, Unsqueeze.

use super::onnx_import::Value;
use super::onnx_operator::Importing;
use crate::Result;
use crate::op::{AvgPool, AxisSlice, Op, Pad, Padding, Slice};
use crate::tensor::Shape;

impl Importing<'_, '_> {
    /// Axes of the ONNX tensor (batch included), not negative, sorted.
    fn axes(&self, axes: &[i64], rank: usize) -> Result<Vec<usize>> {
        let fix = |&a: &i64| {
            let from_end = if a < 0 { rank as i64 } else { 0 };
            let axis = usize::try_from(a.saturating_add(from_end)).ok();
            axis.filter(|&a| a < rank)
        };
        let axes = axes.iter().map(fix).collect::<Option<Vec<_>>>();
        let mut axes = axes.ok_or_else(|| self.invalid("an axis lies outside of the tensor"))?;
        axes.sort_unstable();
        match axes.windows(2).any(|pair| pair[0] == pair[1]) {
            true => Err(self.invalid("an axis is named twice")),
            false => Ok(axes),
        }
    }

    pub(super) fn reduce_mean(&mut self) -> Result<Value> {
        let x = self.computed(0)?;
        let axes = self.list("axes", 1)?.unwrap_or_default();
        let rank = self.shape(x).dims().len() + 1;
        let axes = self.axes(&axes, rank)?;
        if let (Shape::Image { height, width, .. }, [axis @ (2 | 3)], true) =
            (self.shape(x), &axes[..], self.integer("keepdims", 1) != 0)
        {
            // Some exporters write the mean over an image as one over its rows and one over its columns.
            let kernel = if *axis == 2 { (height, 1) } else { (1, width) };
            let pool = AvgPool {
                kernel,
                stride: kernel,
                padding: Padding::default(),
                count_include_pad: true,
            };
            return self.add(Op::AvgPool(pool), &[x]);
        }
        if rank != 4 || axes != [2, 3] {
            return Err(self.invalid(format!(
                "only the mean over spatial axes is read, axes {axes:?} were given"
            )));
        }
        if self.integer("keepdims", 1) != 0 {
            return self.add(Op::GlobalAvgPool, &[x]);
        }
        let mean = self.add_as("mean", Op::GlobalAvgPool, &[x])?;
        self.add(Op::Flatten, &[mean])
    }

    pub(super) fn pad(&mut self) -> Result<Value> {
        let x = self.computed(0)?;
        self.spatial(x)?;
        if !matches!(self.text("mode").as_str(), "" | "constant") {
            return Err(self.invalid("only padding with zeros is supported"));
        }
        let value = match self.optional_constant(2)? {
            Some(c) if self.import.opset >= 11 => c.scalar().unwrap_or(f64::NAN),
            _ => self.float("value", 0.0),
        };
        if value != 0.0 {
            return Err(self.invalid(format!(
                "only padding with zeros is supported, not with {value}"
            )));
        }
        let given = self.list("pads", 1)?;
        let given = given.ok_or_else(|| self.invalid("pads are missing"))?;
        let mut pads = [0; 8];
        if given.iter().any(|&p| p < 0) {
            return Err(self.invalid(format!(
                "pads {given:?} cut something off; only padding is read, use a Slice"
            )));
        }
        let axes = self.integers_of(3)?.unwrap_or_else(|| (0..4).collect());
        self.axes(&axes, 4)?;
        // The order of begin and end must stay with the axes as given, so they are not sorted here.
        for (i, axis) in axes.iter().enumerate() {
            let axis = self.axes(&[*axis], 4)?[0];
            let (Some(&begin), Some(&end)) = (given.get(i), given.get(i + axes.len())) else {
                return Err(self.invalid(format!("{} pads for {} axes", given.len(), axes.len())));
            };
            pads[axis] = self.length(begin)?;
            pads[axis + 4] = self.length(end)?;
        }
        if given.len() != 2 * axes.len() || pads[0] != 0 || pads[4] != 0 {
            return Err(self.invalid("pads must be two for each axis and none on the batch axis"));
        }
        let pad = Pad {
            channels: (pads[1], pads[5]),
            spatial: [pads[2], pads[6], pads[3], pads[7]].into(),
        };
        self.add(Op::Pad(pad), &[x])
    }

    pub(super) fn slice(&mut self) -> Result<Value> {
        let x = self.computed(0)?;
        let dims: Vec<usize> = std::iter::once(1).chain(self.shape(x).dims()).collect();
        let missing = || self.invalid("starts or ends are missing");
        let starts = self.list("starts", 1)?.ok_or_else(missing)?;
        let ends = self.list("ends", 2)?.ok_or_else(missing)?;
        let count = starts.len();
        let axes = self.list("axes", 3)?;
        let axes = axes.unwrap_or_else(|| (0..count as i64).collect());
        let steps = self.list("steps", 4)?.unwrap_or_else(|| vec![1; count]);
        if [ends.len(), axes.len(), steps.len()] != [count; 3] {
            return Err(self.invalid("starts, ends, axes and steps differ in length"));
        }
        self.axes(&axes, dims.len())?;
        let whole = |&end: &usize| AxisSlice {
            begin: 0,
            end,
            step: 1,
        };
        let mut selection: Vec<AxisSlice> = dims.iter().map(whole).collect();
        for i in 0..count {
            let axis = self.axes(&[axes[i]], dims.len())?[0];
            let length = dims[axis] as i64;
            let clamp =
                |v: i64| (if v < 0 { v.saturating_add(length) } else { v }).clamp(0, length);
            if steps[i] < 1 {
                return Err(self.invalid(format!(
                    "step {} is not supported; only positive steps are",
                    steps[i]
                )));
            }
            selection[axis] = AxisSlice {
                begin: self.length(clamp(starts[i]))?,
                end: self.length(clamp(ends[i]))?,
                step: usize::try_from(steps[i]).unwrap_or(usize::MAX).min(1 << 30),
            };
        }
        if let Some(axis) = selection.iter().position(|s| s.len() == 0) {
            return Err(self.invalid(format!("nothing of axis {axis} is selected")));
        }
        if selection.remove(0).len() != 1 {
            return Err(self.invalid("the batch axis can't be sliced"));
        }
        self.add(Op::Slice(Slice { axes: selection }), &[x])
    }

    pub(super) fn flatten(&mut self) -> Result<Value> {
        let axis = self.integer("axis", 1);
        let x = self.computed(0)?;
        if axis != 1 && axis != -(self.shape(x).dims().len() as i64) {
            return Err(self.invalid(format!(
                "axis {axis}; only axis 1, which keeps the batch, is read"
            )));
        }
        self.add(Op::Flatten, &[x])
    }

    pub(super) fn reshape(&mut self) -> Result<Value> {
        let x = self.computed(0)?;
        let target = self.list("shape", 1)?;
        let target = target.ok_or_else(|| self.invalid("the shape is missing"))?;
        let dims = self.shape(x).dims().into_iter().map(|d| d as i64);
        let from: Vec<i64> = std::iter::once(1).chain(dims).collect();
        let mut sizes = target.clone();
        if self.integer("allowzero", 0) == 0 {
            for (i, d) in sizes.iter_mut().enumerate().filter(|(_, d)| **d == 0) {
                *d = from.get(i).copied().unwrap_or(0);
            }
        }
        let total: i64 = from.iter().product();
        let bad = || self.invalid(format!("shape {target:?} does not fit {}", self.shape(x)));
        let mut known = sizes.iter().filter(|&&d| d != -1);
        let known = known.try_fold(1i64, |p, &d| p.checked_mul(d).filter(|&p| p > 0));
        let known = known.ok_or_else(bad)?;
        if let Some(free) = sizes.iter().position(|&d| d == -1) {
            sizes[free] = total / known;
        }
        if !matches!(sizes.len(), 2 | 4) {
            return Err(self.invalid(format!(
                "shape {target:?} has {} axes; only (batch, features) and (batch, channels, height, width) are read",
                sizes.len()
            )));
        }
        let sizes: Result<Vec<_>> = sizes.into_iter().map(|d| self.length(d)).collect();
        match sizes?[..] {
            [1, n] => self.add(Op::Reshape(Shape::Vector(n)), &[x]),
            [1, c, h, w] => self.add(Op::Reshape(Shape::image(c, h, w)), &[x]),
            _ => Err(bad()),
        }
    }

    pub(super) fn squeeze(&mut self) -> Result<Value> {
        let x = self.computed(0)?;
        let axes = self.list("axes", 1)?.unwrap_or_default();
        match (self.shape(x), &self.axes(&axes, 4)?[..]) {
            (Shape::Image { height: 1, width: 1, .. }, [2, 3]) => self.add(Op::Flatten, &[x]),
            (shape, _) => Err(self.invalid(format!("only (C, 1, 1) without its spatial axes is read, {shape} and axes {axes:?} were given"))),
        }
    }

    pub(super) fn unsqueeze(&mut self) -> Result<Value> {
        let x = self.computed(0)?;
        let axes = self.list("axes", 1)?.unwrap_or_default();
        match (self.shape(x), &self.axes(&axes, 4)?[..]) {
            (Shape::Vector(n), [2, 3]) => self.add(Op::Reshape(Shape::image(n, 1, 1)), &[x]),
            (shape, _) => Err(self.invalid(format!("only two spatial axes behind features are read, {shape} and axes {axes:?} were given"))),
        }
    }
}
