//! Import of the ONNX operators that move values and compute nothing, for constants and computed values alike; Concat, Split and Resize.

use super::onnx_axes::Axes;
use super::onnx_constant::MOST_AXES;
use super::onnx_import::{Imported, Stop, Value, View};
use super::onnx_operator::{Importing, below};
use super::onnx_place::shape_of;
use crate::graph::NodeId;
use crate::op::{Op, Pad, Padding};
use crate::tensor::{Parameter, Shape};

/// Most axes of a tensor on its way between two operators.
const MOST: usize = 12;

impl Importing<'_, '_> {
    fn too_many<T>(&self, dims: &[usize]) -> Imported<T> {
        self.refuse(format!(
            "a tensor of shape {dims:?} has too many values or axes"
        ))
    }

    /// Input 0 with its axes changed.
    pub(super) fn moved(
        &mut self,
        value: Value,
        change: impl Fn(&Axes) -> Option<Axes>,
    ) -> Imported {
        match value {
            Value::Constant(c) => {
                let Some(axes) = Axes::row_major(&c.dims).and_then(|a| change(&a)) else {
                    return self.too_many(&c.dims);
                };
                if axes.rank() > MOST_AXES {
                    return self.too_many(&axes.dims());
                }
                self.import.charge(axes.count())?;
                Ok(Value::Constant(c.moved(&axes)))
            }
            Value::Node(view) => {
                let changed = match change(&view.axes) {
                    Some(axes) => view.with(axes),
                    None => {
                        let compact = self.compact(&view)?;
                        let Some(axes) = change(&compact.axes) else {
                            return self.too_many(&view.axes.dims());
                        };
                        compact.with(axes)
                    }
                };
                self.checked(&changed.axes)?;
                Ok(Value::Node(changed))
            }
            Value::Refused(why) => Err(Stop::Earlier(why)),
        }
    }

    fn checked(&self, axes: &Axes) -> Imported<()> {
        self.import.charge(axes.size())?;
        let dims = axes.dims();
        if dims.len() > MOST || shape_of(&dims).checked_len().is_none() {
            return self.refuse(format!("a tensor of shape {dims:?} is empty or too large"));
        }
        Ok(())
    }

    pub(super) fn dims_of(&self, value: &Value) -> Vec<usize> {
        match value {
            Value::Constant(c) => c.dims.clone(),
            Value::Node(v) => v.axes.dims(),
            Value::Refused(_) => Vec::new(),
        }
    }

    pub(super) fn movement(&mut self) -> Imported {
        let x = self.operand(0)?;
        let dims = self.dims_of(&x);
        let rank = dims.len();
        match self.node.op_type.as_str() {
            "Reshape" => {
                let to = self.reshape_to(&dims)?;
                self.reshaped(x, to)
            }
            "Flatten" => {
                let axis = self.integer("axis", 1);
                let axis = match axis == rank as i64 {
                    true => rank,
                    false => self.axis(axis, rank)?,
                };
                let count = |d: &[usize]| d.iter().product();
                let to = vec![count(&dims[..axis]), count(&dims[axis..])];
                self.reshaped(x, to)
            }
            "Squeeze" => {
                let axes = match self.list("axes", 1)? {
                    Some(axes) => self.axes(&axes, rank)?,
                    None => (0..rank).filter(|&k| dims[k] == 1).collect(),
                };
                if axes.iter().any(|&k| dims[k] != 1) {
                    return self
                        .refuse(format!("axes {axes:?} of {dims:?} are not all of length 1"));
                }
                let kept = (0..rank).filter(|k| !axes.contains(k)).map(|k| dims[k]);
                self.reshaped(x, kept.collect())
            }
            "Unsqueeze" => {
                let axes = self.list("axes", 1)?.unwrap_or_default();
                if axes.len() + rank > MOST {
                    return self
                        .refuse(format!("{} more axes than {rank} are too many", axes.len()));
                }
                let axes = self.axes(&axes, rank + axes.len())?;
                self.moved(x, |a| Some(a.unsqueezed(&axes)))
            }
            "Transpose" => {
                let order: Vec<usize> = match self.integers("perm") {
                    None => (0..rank).rev().collect(),
                    Some(perm) => {
                        let order = perm.iter().map(|&p| self.axis(p, rank));
                        order.collect::<crate::Result<_>>()?
                    }
                };
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if !sorted.iter().copied().eq(0..rank) {
                    return self.refuse(format!(
                        "perm {order:?} does not name each of {rank} axes once"
                    ));
                }
                self.moved(x, |a| Some(a.transposed(&order)))
            }
            "Slice" => self.slice(x, &dims),
            "Gather" => self.gather(x, &dims),
            "GatherND" => self.gather_places(x, &dims),
            "GatherElements" => self.gather_elements(x, &dims),
            "Expand" => {
                let shape = self.lengths(&self.integers_of(1)?.unwrap_or_default())?;
                let Some(to) = broadcast_dims(&dims, &shape) else {
                    return self.refuse(format!("{dims:?} can't be expanded to {shape:?}"));
                };
                self.bounded(&to)?;
                self.import.charge(to.iter().sum())?;
                self.moved(x, |a| a.broadcast(&to))
            }
            "Tile" => {
                let times = self.integers_of(1)?.unwrap_or_default();
                if times.len() != rank {
                    return self.refuse("it needs one number of repeats for each axis");
                }
                let mut lists = Vec::new();
                for (&t, &d) in times.iter().zip(&dims) {
                    let t = self.length(t)?;
                    let count = self.bounded(&[t, d])?;
                    self.import.charge(count)?;
                    lists.push((0..t * d).map(|i| Some(i % d)).collect::<Vec<_>>());
                }
                self.along_all(x, &lists)
            }
            "Pad" => self.pad(x, &dims),
            "DepthToSpace" | "SpaceToDepth" => self.blocks(x, &dims),
            "Cast" => {
                if let Value::Node(_) = x {
                    self.cast_computed()?;
                }
                Ok(x)
            }
            "Dropout" => {
                let training = self.optional_constant(2)?;
                if training.is_some_and(|t| t.scalar() != Some(0.0)) {
                    return Err(self
                        .unsupported("it is in training mode; export in eval mode")
                        .into());
                }
                Ok(x)
            }
            _ => Ok(x),
        }
    }

    /// Refuses lengths of too many values before anything is made of them.
    pub(super) fn bounded(&self, dims: &[usize]) -> Imported<usize> {
        let count = dims.iter().try_fold(1usize, |p, &d| p.checked_mul(d));
        match count.filter(|&c| c <= crate::shape::MAX_VALUES) {
            Some(count) => Ok(count),
            None => self.too_many(dims),
        }
    }

    fn reshape_to(&self, from: &[usize]) -> Imported<Vec<usize>> {
        let target = self.list("shape", 1)?;
        let target = target.ok_or_else(|| self.invalid("the shape is missing"))?;
        let bad = || {
            Stop::New(self.invalid(format!(
                "shape {target:?} does not fit {from:?}: the numbers of values differ"
            )))
        };
        let mut sizes = target.clone();
        if self.integer("allowzero", 0) == 0 {
            for (i, d) in sizes.iter_mut().enumerate().filter(|(_, d)| **d == 0) {
                *d = from.get(i).map_or(0, |&d| d as i64);
            }
        }
        let total: usize = from.iter().product();
        if let Some(free) = sizes.iter().position(|&d| d == -1) {
            let mut known = sizes.iter().filter(|&&d| d != -1);
            let known = known.try_fold(1i64, |p, &d| p.checked_mul(d).filter(|&p| p > 0));
            sizes[free] = total as i64 / known.ok_or_else(bad)?;
        }
        let sizes = sizes.into_iter().map(|d| usize::try_from(d).ok());
        let sizes: Vec<usize> = sizes.collect::<Option<_>>().ok_or_else(bad)?;
        let count = sizes.iter().try_fold(1usize, |p, &d| p.checked_mul(d));
        match count == Some(total) {
            true => Ok(sizes),
            false => Err(bad()),
        }
    }

    /// With other lengths of as many values.
    pub(super) fn reshaped(&mut self, x: Value, to: Vec<usize>) -> Imported {
        match x {
            Value::Constant(c) if to.len() <= MOST_AXES => Ok(Value::Constant(c.with_dims(to))),
            x => {
                let sum = to.iter().fold(0usize, |s, &d| s.saturating_add(d));
                self.import.charge(sum)?;
                self.moved(x, |a| a.reshaped(&to))
            }
        }
    }

    /// A computed tensor with other lengths of as many values.
    pub(super) fn view_as(&mut self, x: &View, to: Vec<usize>) -> Imported<View> {
        match self.reshaped(Value::Node(x.clone()), to)? {
            Value::Node(view) => Ok(view),
            _ => self.refuse("it is no computed value"),
        }
    }

    /// Chosen indices along every axis.
    fn along_all(&mut self, x: Value, lists: &[Vec<Option<usize>>]) -> Imported {
        let dims: Vec<usize> = lists.iter().map(Vec::len).collect();
        self.bounded(&dims)?;
        self.moved(x, |a| {
            let chosen = lists.iter().enumerate();
            Some(chosen.fold(a.clone(), |a, (k, list)| a.chosen(k, list)))
        })
    }

    fn slice(&mut self, x: Value, dims: &[usize]) -> Imported {
        let missing = || Stop::New(self.invalid("starts or ends are missing"));
        let starts = self.list("starts", 1)?.ok_or_else(missing)?;
        let ends = self.list("ends", 2)?.ok_or_else(missing)?;
        let count = starts.len();
        let axes = self.list("axes", 3)?;
        let axes = axes.unwrap_or_else(|| (0..count as i64).collect());
        let steps = self.integers_of(4)?.unwrap_or_else(|| vec![1; count]);
        if [ends.len(), axes.len(), steps.len()] != [count; 3] {
            return self.refuse("starts, ends, axes and steps differ in length");
        }
        self.axes(&axes, dims.len())?;
        let mut lists = everything(dims);
        for i in 0..count {
            let axis = self.axis(axes[i], dims.len())?;
            let length = dims[axis] as i64;
            let from_end = |v: i64| if v < 0 { v.saturating_add(length) } else { v };
            let step = steps[i];
            let indices: Vec<i64> = match step {
                1.. => {
                    let (begin, end) = (
                        from_end(starts[i]).clamp(0, length),
                        from_end(ends[i]).clamp(0, length),
                    );
                    (begin..end)
                        .step_by(usize::try_from(step).unwrap_or(usize::MAX))
                        .collect()
                }
                0 => return self.refuse("a step is 0"),
                _ => {
                    let begin = from_end(starts[i]).clamp(-1, length - 1);
                    let end = from_end(ends[i]).clamp(-1, length - 1);
                    let by = step.unsigned_abs().try_into().unwrap_or(usize::MAX);
                    (end + 1..=begin).rev().step_by(by).collect()
                }
            };
            if indices.is_empty() && matches!(x, Value::Node(_)) {
                return self.refuse(format!("nothing of axis {axis} is selected"));
            }
            lists[axis] = indices
                .into_iter()
                .map(|i| usize::try_from(i).ok())
                .collect();
        }
        self.along_all(x, &lists)
    }

    /// The lengths and values of the constant indices that are looked up.
    fn indices(&self) -> Imported<(Vec<usize>, Vec<i64>)> {
        let Value::Constant(indices) = self.operand(1)? else {
            return self.refuse(
                "it looks up computed indices, as an embedding does tokens; a client embeds its tokens itself: export the model with embedded tokens as its input (inputs_embeds)",
            );
        };
        let whole = indices.integers();
        let whole = whole.ok_or_else(|| self.invalid("input 1 must hold integers"))?;
        Ok((indices.dims, whole))
    }

    /// What lies at these places along the first axes, `depth` indices for each; in place of these axes come those of the list.
    fn at_places(
        &mut self,
        x: Value,
        dims: &[usize],
        (picks, depth): (Vec<usize>, usize),
        lead: &[usize],
    ) -> Imported {
        let to = [lead, &dims[depth..]].concat();
        self.bounded(&to)?;
        let picked = self.moved(x, |a| a.picked(&picks, depth))?;
        self.reshaped(picked, to)
    }

    /// GatherND: the last axis of the indices names places, behind the axes that are a batch in both.
    fn gather_places(&mut self, x: Value, dims: &[usize]) -> Imported {
        let (shape, list) = self.indices()?;
        let batch = self.length(self.integer("batch_dims", 0))?;
        let unfit = |at: &Self| {
            at.refuse(format!(
                "indices of {shape:?}, of which {batch} axes are a batch, don't fit {dims:?}"
            ))
        };
        let Some((&own, lead)) = shape.split_last().filter(|(own, lead)| {
            **own > 0
                && batch <= lead.len()
                && batch.saturating_add(**own) <= dims.len()
                && lead[..batch] == dims[..batch]
        }) else {
            return unfit(self);
        };
        let depth = batch + own;
        let places = list.len() / own;
        self.import.charge(self.bounded(&[places, depth])?)?;
        // of no places the other lengths may be anything
        let count = |d: &[usize]| d.iter().fold(1usize, |p, &d| p.saturating_mul(d));
        let each = count(&lead[batch..]).max(1);
        let mut picks = Vec::with_capacity(places * depth);
        for (place, index) in list.chunks(own).enumerate() {
            // which of the batch it is, the last of its axes running fastest
            let mut step = count(&dims[..batch]);
            for &d in &dims[..batch] {
                step /= d;
                picks.push(place / each / step % d);
            }
            for (&i, &d) in index.iter().zip(&dims[batch..]) {
                let Some(i) = below(i, d) else {
                    return self.refuse(format!("index {i} lies outside of {dims:?}"));
                };
                picks.push(i);
            }
        }
        self.at_places(x, dims, (picks, depth), lead)
    }

    /// GatherElements: an index along one axis for each place along all.
    fn gather_elements(&mut self, x: Value, dims: &[usize]) -> Imported {
        let (shape, list) = self.indices()?;
        let rank = dims.len();
        let axis = self.axis(self.integer("axis", 0), rank)?;
        let fits = shape.len() == rank && (0..rank).all(|k| k == axis || shape[k] <= dims[k]);
        if !fits {
            return self.refuse(format!("indices of {shape:?} don't fit {dims:?}"));
        }
        self.import.charge(self.bounded(&[list.len(), rank])?)?;
        let mut picks = Vec::with_capacity(list.len() * rank);
        for (place, &index) in list.iter().enumerate() {
            let mut step = list.len();
            for k in 0..rank {
                step /= shape[k];
                let i = match k == axis {
                    false => Some(place / step % shape[k]),
                    true => below(index, dims[k]),
                };
                let Some(i) = i else {
                    return self.refuse(format!("index {index} lies outside of {dims:?}"));
                };
                picks.push(i);
            }
        }
        self.at_places(x, dims, (picks, rank), &shape)
    }

    fn gather(&mut self, x: Value, dims: &[usize]) -> Imported {
        let (shape, whole) = self.indices()?;
        let axis = self.axis(self.integer("axis", 0), dims.len())?;
        let list = whole.iter().map(|&i| below(i, dims[axis]));
        let list: Option<Vec<usize>> = list.collect();
        let list = list.ok_or_else(|| {
            self.invalid(format!("an index lies outside of axis {axis} of {dims:?}"))
        })?;
        let list: Vec<Option<usize>> = list.into_iter().map(Some).collect();
        let mut to = dims.to_vec();
        to[axis] = list.len();
        self.bounded(&to)?;
        to.splice(axis..=axis, shape.iter().copied());
        if let (Value::Node(_), [Some(i)], 0) = (&x, &list[..], shape.len()) {
            return self.moved(x, |a| a.without(axis, *i));
        }
        let chosen = self.moved(x, |a| Some(a.chosen(axis, &list)))?;
        match shape.len() {
            1 => Ok(chosen),
            _ => self.reshaped(chosen, to),
        }
    }

    fn pad(&mut self, x: Value, dims: &[usize]) -> Imported {
        let rank = dims.len();
        let mode = self.text("mode");
        let value = match self.optional_constant(2)? {
            Some(c) if self.import.opset >= 11 => c.scalar().unwrap_or(f64::NAN),
            _ => self.float("value", 0.0),
        };
        let given = self.list("pads", 1)?;
        let given = given.ok_or_else(|| self.invalid("pads are missing"))?;
        let axes = self
            .integers_of(3)?
            .unwrap_or_else(|| (0..rank as i64).collect());
        self.axes(&axes, rank)?;
        if given.len() != 2 * axes.len() {
            return self.refuse(format!("{} pads for {} axes", given.len(), axes.len()));
        }
        let mut lists = everything(dims);
        // the order of begin and end stays with the axes as given
        for (i, &axis) in axes.iter().enumerate() {
            let axis = self.axis(axis, rank)?;
            let (begin, end) = (given[i], given[i + axes.len()]);
            let most = self.length(begin.saturating_abs())?;
            let most = most.max(self.length(end.saturating_abs())?);
            self.import.charge(most.saturating_mul(2))?;
            // what negative pads take away goes first: the others continue what is left
            let first = (-begin).max(0);
            let length = dims[axis] as i64 - first - (-end).max(0);
            if length < 1 {
                return self.refuse(format!("nothing of axis {axis} is left"));
            }
            let (begin, end, last) = (begin.max(0), end.max(0), length - 1);
            if mode == "reflect" && length < dims[axis] as i64 && begin.max(end) > last {
                return self.refuse(format!(
                    "its negative pads leave {length} of axis {axis}, too few to reflect {}",
                    begin.max(end)
                ));
            }
            let mut list = Vec::new();
            for t in -begin..length + end {
                let inside = (0..length).contains(&t);
                let from = match mode.as_str() {
                    _ if inside => Some(t),
                    "" | "constant" => None,
                    "edge" => Some(t.clamp(0, last)),
                    "wrap" => Some(t.rem_euclid(length.max(1))),
                    "reflect" if last > 0 => {
                        let t = t.rem_euclid(2 * last);
                        Some(if t > last { 2 * last - t } else { t })
                    }
                    other => return self.refuse(format!("mode {other} of {dims:?} is not read")),
                };
                list.push(from.and_then(|t| usize::try_from(first + t).ok()));
            }
            lists[axis] = list;
        }
        let zeros = lists.iter().flatten().any(Option::is_none);
        match x {
            Value::Node(view) if zeros && value != 0.0 => {
                if !value.is_finite() {
                    return self.refuse(format!(
                        "it pads with {value}, which is no number to compute with; pad with zeros"
                    ));
                }
                // zeros around what is so much less
                let less = self.affine(&view, 1.0, -value)?;
                match self.along_all(Value::Node(less), &lists)? {
                    Value::Node(padded) => Ok(Value::Node(self.affine(&padded, 1.0, value)?)),
                    other => Ok(other),
                }
            }
            Value::Constant(_) if zeros && value != 0.0 => {
                self.refuse("it pads a constant with other values than zeros")
            }
            x => self.along_all(x, &lists),
        }
    }

    fn blocks(&mut self, x: Value, dims: &[usize]) -> Imported {
        let b = self.length(self.integer("blocksize", 0))?;
        let &[n, c, h, w] = dims else {
            return self.refuse(format!(
                "needs a picture (1, channels, height, width), {dims:?} was given"
            ));
        };
        if b == 0 || b > 1 << 12 {
            return self.refuse(format!("blocksize {b} can't be"));
        }
        let (split, order, to) = match (self.node.op_type.as_str(), self.text("mode").as_str()) {
            ("DepthToSpace", mode) if c % (b * b) == 0 => {
                let of = c / (b * b);
                let to = vec![n, of, h * b, w * b];
                match mode {
                    "CRD" => (vec![n, of, b, b, h, w], [0, 1, 4, 2, 5, 3], to),
                    _ => (vec![n, b, b, of, h, w], [0, 3, 4, 1, 5, 2], to),
                }
            }
            ("SpaceToDepth", _) if h % b == 0 && w % b == 0 => {
                let to = vec![n, c * b * b, h / b, w / b];
                (vec![n, c, h / b, b, w / b, b], [0, 3, 5, 1, 2, 4], to)
            }
            _ => return self.refuse(format!("blocks of {b} don't fit {dims:?}")),
        };
        let x = self.reshaped(x, split)?;
        let x = self.moved(x, |a| Some(a.transposed(&order)))?;
        self.reshaped(x, to)
    }

    pub(super) fn split(&mut self) -> Imported<Vec<Value>> {
        let x = self.operand(0)?;
        let dims = self.dims_of(&x);
        let axis = self.axis(self.integer("axis", 0), dims.len())?;
        let count = self.node.output.len();
        let sizes: Vec<usize> = match self.list("split", 1)? {
            Some(sizes) => self.lengths(&sizes)?,
            None => {
                let each = dims[axis].div_ceil(count.max(1));
                (0..count)
                    .map(|i| dims[axis].saturating_sub(i * each).min(each))
                    .collect()
            }
        };
        if sizes.len() != count
            || sizes.iter().try_fold(0usize, |s, &n| s.checked_add(n)) != Some(dims[axis])
        {
            return self.refuse(format!(
                "parts of {sizes:?} don't make up axis {axis} of {dims:?}"
            ));
        }
        let mut begin = 0;
        let mut parts = Vec::new();
        for size in sizes {
            let list: Vec<_> = (begin..begin + size).map(Some).collect();
            parts.push(self.moved(x.clone(), |a| Some(a.chosen(axis, &list)))?);
            begin += size;
        }
        Ok(parts)
    }

    /// Tensors one behind the other along an axis: each with zeros around, summed.
    pub(super) fn concat(&mut self) -> Imported<View> {
        let parts = (0..self.node.input.len()).map(|i| self.operand(i));
        let parts: Vec<Value> = parts.collect::<Imported<_>>()?;
        let all: Vec<Vec<usize>> = parts.iter().map(|p| self.dims_of(p)).collect();
        let Some(first) = parts.iter().find_map(|p| match p {
            Value::Node(view) => Some(view.clone()),
            _ => None,
        }) else {
            return self.refuse("it has no computed input");
        };
        let mut dims = first.axes.dims();
        let axis = self.axis(self.integer("axis", 0), dims.len())?;
        let alike = |d: &Vec<usize>| {
            d.len() == dims.len() && (0..d.len()).all(|k| k == axis || d[k] == dims[k])
        };
        if let Some(other) = all.iter().find(|d| !alike(d)) {
            return self.refuse(format!(
                "{other:?} and {dims:?} differ along another axis than {axis}"
            ));
        }
        let total = all
            .iter()
            .map(|d| d[axis])
            .fold(0usize, usize::saturating_add);
        dims[axis] = self.length(i64::try_from(total).unwrap_or(i64::MAX))?;
        self.bounded(&dims)?;
        let laid = self.laid(&first)?;
        let order = laid.order;
        let place = order.iter().position(|&k| k == axis).unwrap_or(0);
        let count = |axes: &[usize]| axes.iter().map(|&k| dims[k]).product::<usize>();
        let (outer, inner) = (count(&order[..place]), count(&order[place + 1..]));
        // the axis among channels, rows and columns
        type Laid = fn(usize, (usize, usize, usize)) -> Shape;
        let (shape, along): (Laid, usize) = match self.shape(laid.node).as_image() {
            Some((_, h, w)) if outer == 1 && inner == h * w => {
                (|n, (_, h, w)| Shape::image(n, h, w), 0)
            }
            Some((c, h, _)) if outer == c * h && inner == 1 && h > 1 => {
                (|n, (c, h, _)| Shape::image(c, h, n), 2)
            }
            _ if outer == 1 => (|n, (_, _, i)| Shape::image(n, 1, i), 0),
            _ if inner == 1 => (|n, (o, _, _)| Shape::image(o, 1, n), 2),
            _ => (|n, (o, _, i)| Shape::image(o, n, i), 1),
        };
        let sizes = match (self.shape(laid.node).as_image(), along) {
            (Some((_, h, w)), 0) if inner == h * w => (1, h, w),
            (Some((c, h, _)), 2) if outer == c * h && h > 1 => (c, h, 1),
            _ => (outer, 1, inner),
        };
        let (mut sum, mut before): (Option<NodeId>, usize) = (None, 0);
        let mut constant: Option<Vec<f32>> = None;
        for (part, own) in parts.iter().zip(&all) {
            let n = own[axis];
            let after = total - before - n;
            match part {
                Value::Node(view) => {
                    let x = self.placed(view, &order, shape(n, sizes))?;
                    let mut sides = [(0, 0); 3];
                    sides[along] = (before, after);
                    let [channels, rows, columns] = sides;
                    let pad = Pad {
                        channels,
                        spatial: Padding {
                            top: rows.0,
                            bottom: rows.1,
                            left: columns.0,
                            right: columns.1,
                        },
                    };
                    let y = match pad == Pad::default() {
                        true => x,
                        false => self.add_as("part", Op::Pad(pad), &[x])?,
                    };
                    sum = Some(match sum {
                        None => y,
                        Some(s) => self.add_as("sum", Op::Add, &[s, y])?,
                    });
                }
                Value::Constant(c) => {
                    let all = constant.get_or_insert_with(Vec::new);
                    if all.is_empty() {
                        self.import.charge(count(&order))?;
                        all.resize(count(&order), 0.0);
                    }
                    let Some(axes) = Axes::row_major(&c.dims) else {
                        return self.too_many(&c.dims);
                    };
                    let values = axes.transposed(&order).gather(&c.values);
                    for (o, block) in values.chunks((n * inner).max(1)).enumerate() {
                        let at = (o * total + before) * inner;
                        for (to, v) in all[at..].iter_mut().zip(block) {
                            *to = *v as f32;
                        }
                    }
                }
                Value::Refused(why) => return Err(Stop::Earlier(*why)),
            }
            before += n;
        }
        let mut sum = match sum {
            Some(sum) => sum,
            None => return self.refuse("it has no computed input"),
        };
        if let Some(values) = constant {
            let shape = shape(total, sizes);
            let p = Parameter::new(&self.name, shape.dims(), values)?;
            let c = self.add_as("constant", Op::Constant(shape, p), &[])?;
            sum = self.add_as("sum", Op::Add, &[sum, c])?;
        }
        self.stored(sum, &dims, &order)
    }

    pub(super) fn resize(&mut self) -> Imported<View> {
        let x = self.computed(0)?;
        let dims = x.axes.dims();
        let rank = dims.len();
        let upsample = self.node.op_type == "Upsample" || self.import.opset < 11;
        let (at_scales, at_sizes) = if upsample { (1, usize::MAX) } else { (2, 3) };
        let scales = match self.attribute("scales") {
            Some(a) => Some(a.floats.clone()),
            None => self
                .optional_constant(at_scales)?
                .map(|c| c.values.iter().map(|&v| v as f32).collect::<Vec<_>>()),
        };
        let scales = scales.filter(|s| !s.is_empty());
        let sizes = self.integers_of(at_sizes)?.filter(|s| !s.is_empty());
        let axes: Vec<usize> = match self.integers("axes") {
            Some(axes) => axes
                .iter()
                .map(|&a| self.axis(a, rank))
                .collect::<crate::Result<_>>()?,
            None => (0..rank).collect(),
        };
        if self.integer("antialias", 0) != 0 {
            return self.refuse("antialias is not read; export without it");
        }
        if !matches!(
            self.text("keep_aspect_ratio_policy").as_str(),
            "" | "stretch"
        ) {
            return self.refuse("keep_aspect_ratio_policy is not read; give fixed sizes");
        }
        let mut sampled = Vec::with_capacity(axes.len());
        for (i, &axis) in axes.iter().enumerate() {
            let from = dims[axis];
            sampled.push(match (&scales, &sizes) {
                (_, Some(sizes)) if sizes.len() == axes.len() => {
                    let to = self.length(sizes[i])?;
                    (to, to as f32 / from as f32)
                }
                (Some(scales), None) if scales.len() == axes.len() => {
                    // in f32, as exporters and ONNX Runtime do: 10 × 0.7 is 7 there
                    let to = (from as f32 * scales[i]).floor();
                    if !(to >= 1.0 && to <= (1 << 20) as f32) {
                        return self.refuse(format!("scale {} of {from} can't be", scales[i]));
                    }
                    (to as usize, scales[i])
                }
                _ => return self.refuse("it needs either scales or sizes, one for each axis"),
            });
        }
        // where no length changes ONNX Runtime copies, whatever the scales: 4 × 1.2 is 4, and the operator's text would sample at 0, 0.83, 1.67, 2.5
        if axes.iter().zip(&sampled).all(|(&a, s)| dims[a] == s.0) {
            return Ok(x);
        }
        let mut y = x;
        for (&axis, &(to, scale)) in axes.iter().zip(&sampled) {
            let from = dims[axis];
            if to == from && scale == 1.0 {
                continue;
            }
            self.bounded(&[to, from])?;
            self.import.charge(to)?;
            let sampled = Sampled::new(self, upsample, (from, to), scale)?;
            y = match sampled {
                Sampled::Places(list) => {
                    match self.moved(Value::Node(y), |a| Some(a.chosen(axis, &list)))? {
                        Value::Node(view) => view,
                        _ => return self.refuse("it is no computed value"),
                    }
                }
                Sampled::Weights(weights) => {
                    self.import.charge(weights.len())?;
                    let weight = Parameter::new(&self.name, [to, from], weights)?;
                    self.mapped_along(&y, axis, weight)?
                }
            };
        }
        Ok(y)
    }
}

/// What a Resize makes along one axis. Places are computed in f32, as they are where such a network was trained and exported: a place on the edge
/// between two values is on the same side here.
enum Sampled {
    /// Copies of these.
    Places(Vec<Option<usize>>),
    /// A matrix (to, from).
    Weights(Vec<f32>),
}

impl Sampled {
    fn new(
        at: &Importing<'_, '_>,
        old: bool,
        (from, to): (usize, usize),
        scale: f32,
    ) -> Imported<Self> {
        let coordinates = match at.text("coordinate_transformation_mode") {
            mode if mode.is_empty() && old => "asymmetric".into(),
            mode => mode,
        };
        let rounding = match at.text("nearest_mode") {
            // the old operators round by themselves
            mode if mode.is_empty() && old && scale < 1.0 => "ceil".into(),
            mode if mode.is_empty() && old => "floor".into(),
            mode => mode,
        };
        let (length, all) = (from as f32, to as f32);
        let place = |i: usize| -> Imported<f32> {
            let i = i as f32;
            Ok(match coordinates.as_str() {
                "" | "half_pixel" => (i + 0.5) / scale - 0.5,
                "pytorch_half_pixel" if to > 1 => (i + 0.5) / scale - 0.5,
                "pytorch_half_pixel" => 0.0,
                "align_corners" if to > 1 => i * (length - 1.0) / (all - 1.0),
                "align_corners" => 0.0,
                "asymmetric" => i / scale,
                "half_pixel_symmetric" => {
                    let adjusted = all / (scale * length);
                    let offset = length / 2.0 * (1.0 - adjusted);
                    offset + (i + 0.5) / scale - 0.5
                }
                other => {
                    return at.refuse(format!(
                        "coordinate_transformation_mode {other} is not read"
                    ));
                }
            })
        };
        let last = from as i64 - 1;
        match at.text("mode").as_str() {
            "" | "nearest" => {
                let round: fn(f32) -> f32 = match rounding.as_str() {
                    "" | "round_prefer_floor" => |x| match halfway(x) {
                        true => x.floor(),
                        false => x.round(),
                    },
                    "round_prefer_ceil" => |x| match halfway(x) {
                        true => x.ceil(),
                        false => x.round(),
                    },
                    "floor" => f32::floor,
                    "ceil" => f32::ceil,
                    other => return at.refuse(format!("nearest_mode {other} is not read")),
                };
                let index = |i| Ok(Some((round(place(i)?) as i64).clamp(0, last) as usize));
                Ok(Self::Places((0..to).map(index).collect::<Imported<_>>()?))
            }
            mode @ ("linear" | "cubic") => {
                let a = at.float("cubic_coeff_a", -0.75);
                if at.integer("exclude_outside", 0) != 0 {
                    return at.refuse("exclude_outside is not read");
                }
                let mut weights = vec![0.0f32; to * from];
                for i in 0..to {
                    let mut x = place(i)?;
                    if mode == "linear" {
                        x = x.clamp(0.0, length - 1.0);
                    }
                    let (floor, t) = (x.floor() as i64, f64::from(x - x.floor()));
                    let cubic = |d: f64| match d {
                        d if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
                        d if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
                        _ => 0.0,
                    };
                    let terms: Vec<(i64, f64)> = match mode {
                        "linear" => vec![(floor, 1.0 - t), (floor + 1, t)],
                        _ => (-1..=2)
                            .map(|k| (floor + k, cubic((k as f64 - t).abs())))
                            .collect(),
                    };
                    for (k, w) in terms {
                        weights[i * from + k.clamp(0, last) as usize] += w as f32;
                    }
                }
                Ok(Self::Weights(weights))
            }
            other => at.refuse(format!("mode {other} is not read")),
        }
    }
}

/// Whether a place is the middle between two values, for which ONNX Runtime (1.32) takes what is within 1e-6 of it: 9 / 1.2 is 7.4999995 in f32.
fn halfway(x: f32) -> bool {
    (x - x.floor() - 0.5).abs() < 1e-6
}

/// All indices along every axis.
fn everything(dims: &[usize]) -> Vec<Vec<Option<usize>>> {
    let all = dims.iter().map(|&d| (0..d).map(Some).collect());
    all.collect()
}

/// The lengths that two tensors have when each is broadcast to the other.
pub(super) fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |d: &[usize], k: usize| (k + d.len()).checked_sub(rank).map_or(1, |k| d[k]);
    (0..rank)
        .map(|k| match (at(a, k), at(b, k)) {
            (x, y) if x == y || y == 1 => Some(x),
            (1, y) => Some(y),
            _ => None,
        })
        .collect()
}
