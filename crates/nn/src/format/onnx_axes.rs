//! Where the values of an ONNX tensor lie in something row-major: what Reshape, Transpose, Slice, Pad, Expand and their like do to it, for
//! constants and computed values alike.

use crate::op::Rearrange;
use std::rc::Rc;

/// Not a position: the value is 0.
const ZERO: u32 = Rearrange::ZERO;

/// Value `(i₁, …, iₙ)` is that at `base + o₁[i₁] + … + oₙ[iₙ]`, or 0 where one of them is [`ZERO`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axes {
    base: u32,
    offsets: Vec<Rc<[u32]>>,
}

/// The offsets of an axis whose values are `step` apart.
fn run(length: usize, step: usize) -> Rc<[u32]> {
    (0..length).map(|i| (i * step) as u32).collect()
}

impl Axes {
    /// Row-major; None for 2^31 values or more.
    pub(super) fn row_major(dims: &[usize]) -> Option<Self> {
        let total = dims.iter().try_fold(1usize, |p, &d| p.checked_mul(d))?;
        // an empty tensor may have long axes
        let longest = dims.iter().max().copied().unwrap_or(0);
        if total >= 1 << 31 || (total == 0 && longest >= 1 << 20) {
            return None;
        }
        let step = |k: usize| dims[k + 1..].iter().product::<usize>();
        let axis = |(k, &d)| match total {
            0 => run(d, 0),
            _ => run(d, step(k)),
        };
        Some(Self {
            base: 0,
            offsets: dims.iter().enumerate().map(axis).collect(),
        })
    }

    /// These axes are stored in this order, outermost first, one behind the other.
    pub(super) fn stored(dims: &[usize], order: &[usize]) -> Option<Self> {
        let sorted: Vec<usize> = order.iter().map(|&k| dims[k]).collect();
        let stored = Self::row_major(&sorted)?;
        let mut offsets = vec![Rc::from([]); dims.len()];
        for (&k, o) in order.iter().zip(stored.offsets) {
            offsets[k] = o;
        }
        Some(Self { base: 0, offsets })
    }

    pub(super) fn dims(&self) -> Vec<usize> {
        self.offsets.iter().map(|o| o.len()).collect()
    }

    pub(super) fn rank(&self) -> usize {
        self.offsets.len()
    }

    pub(super) fn count(&self) -> usize {
        self.offsets.iter().map(|o| o.len()).product()
    }

    /// Whether zeros are among the values.
    pub(super) fn zeros(&self) -> bool {
        self.offsets.iter().any(|o| o.contains(&ZERO))
    }

    /// How many numbers describe it.
    pub(super) fn size(&self) -> usize {
        self.offsets.iter().map(|o| o.len()).sum()
    }

    pub(super) fn transposed(&self, order: &[usize]) -> Self {
        Self {
            base: self.base,
            offsets: order.iter().map(|&k| Rc::clone(&self.offsets[k])).collect(),
        }
    }

    /// The axis with these of its indices, zeros for None. Indices are below its length.
    pub(super) fn chosen(&self, axis: usize, indices: &[Option<usize>]) -> Self {
        let old = &self.offsets[axis];
        let pick = |i: &Option<usize>| i.and_then(|i| old.get(i).copied()).unwrap_or(ZERO);
        self.with(axis, indices.iter().map(pick).collect())
    }

    /// The first `depth` axes, of which there are as many, as one: of these of their indices, `depth` for each. Indices are below the axes' lengths.
    pub(super) fn picked(&self, picks: &[usize], depth: usize) -> Option<Self> {
        let (first, rest) = self.offsets.split_at_checked(depth)?;
        let one = |pick: &[usize]| {
            let mut sum = 0u32;
            for (o, &i) in first.iter().zip(pick) {
                match *o.get(i)? {
                    ZERO => return Some(ZERO),
                    o => sum = sum.checked_add(o)?,
                }
            }
            Some(sum)
        };
        let all = picks.chunks(depth.max(1)).map(one);
        let mut offsets = vec![all.collect::<Option<Rc<[u32]>>>()?];
        offsets.extend(rest.iter().cloned());
        Some(Self {
            base: self.base,
            offsets,
        })
    }

    fn with(&self, axis: usize, offsets: Rc<[u32]>) -> Self {
        let mut out = self.clone();
        out.offsets[axis] = offsets;
        out
    }

    /// Axes of length 1 put in before these positions of the result, which are sorted.
    pub(super) fn unsqueezed(&self, at: &[usize]) -> Self {
        let mut out = self.clone();
        for &k in at {
            out.offsets.insert(k.min(out.offsets.len()), run(1, 0));
        }
        out
    }

    /// Without this axis, of which index `i` is taken; None where that is a zero.
    pub(super) fn without(&self, axis: usize, i: usize) -> Option<Self> {
        let mut out = self.clone();
        let gone = *out.offsets.remove(axis).get(i)?;
        out.base = out.base.checked_add(gone).filter(|_| gone != ZERO)?;
        Some(out)
    }

    /// Broadcast to these lengths, right-aligned; None where it doesn't fit.
    pub(super) fn broadcast(&self, dims: &[usize]) -> Option<Self> {
        let more = dims.len().checked_sub(self.rank())?;
        let total = dims.iter().try_fold(1usize, |p, &d| p.checked_mul(d))?;
        if total >= 1 << 31 || dims.iter().any(|&d| d >= 1 << 31) {
            return None;
        }
        let mut offsets = Vec::with_capacity(dims.len());
        for (k, &d) in dims.iter().enumerate() {
            offsets.push(match k.checked_sub(more).map(|k| &self.offsets[k]) {
                None => Rc::from(vec![0; d]),
                Some(o) if o.len() == d => Rc::clone(o),
                Some(o) if o.len() == 1 => Rc::from(vec![o[0]; d]),
                Some(_) => return None,
            });
        }
        Some(Self {
            base: self.base,
            offsets,
        })
    }

    /// Other lengths of as many values in the same order; None where no offsets along each say it, so that the values must be moved first.
    pub(super) fn reshaped(&self, dims: &[usize]) -> Option<Self> {
        let mut out = Self {
            base: self.base,
            offsets: Vec::new(),
        };
        let (mut old, mut new) = (self.offsets.iter().peekable(), dims.iter().peekable());
        while old.peek().is_some() || new.peek().is_some() {
            let (mut merged, mut split) = (vec![], vec![]);
            let (mut from, mut to) = (1usize, 1usize);
            loop {
                if let Some(o) = old.next_if(|_| from < to || merged.is_empty()) {
                    from = from.checked_mul(o.len())?;
                    merged.push(o);
                } else if let Some(&d) = new.next_if(|_| to < from || split.is_empty()) {
                    to = to.checked_mul(d)?;
                    split.push(d);
                } else {
                    break;
                }
            }
            if from != to || from == 0 {
                return None;
            }
            let all = match &merged[..] {
                [one] => Rc::clone(one),
                _ => product(&merged),
            };
            match split[..] {
                [_] => out.offsets.push(all),
                _ => out.split(&all, &split)?,
            }
        }
        Some(out)
    }

    /// Adds axes of these lengths that together are the one with these offsets.
    fn split(&mut self, all: &[u32], dims: &[usize]) -> Option<()> {
        let first = *all.first()?;
        if all.contains(&ZERO) {
            return None;
        }
        let mut inner = all.len();
        let mut parts: Vec<Rc<[u32]>> = Vec::new();
        for &d in dims {
            inner /= d.max(1);
            let part = (0..d).map(|i| all[i * inner].checked_sub(first));
            parts.push(part.collect::<Option<_>>()?);
        }
        let refs: Vec<&Rc<[u32]>> = parts.iter().collect();
        let same = product(&refs).iter().zip(all).all(|(a, b)| a + first == *b);
        self.base = self.base.checked_add(first).filter(|_| same)?;
        self.offsets.extend(parts);
        Some(())
    }

    /// The order of the axes, outermost first, in which they lie one behind the other in `count` values and fill them; those of length 1 come first.
    pub(super) fn order(&self, count: usize) -> Option<Vec<usize>> {
        let step = |k: &usize| self.offsets[*k].get(1).copied();
        let mut order: Vec<usize> = (0..self.rank()).collect();
        // a stable sort: longer steps first, single values before all
        order.sort_by_key(|k| std::cmp::Reverse(step(k).unwrap_or(ZERO)));
        let stored = Self::stored(&self.dims(), &order)?;
        (stored == *self && self.count() == count).then_some(order)
    }

    /// The same with the base among the offsets, as an operator: values one behind the other, axes in this order. None for values that can't be.
    pub(super) fn offsets(&self, order: &[usize]) -> Vec<Vec<u32>> {
        let mut out: Vec<Vec<u32>> = (order.iter())
            .map(|&k| self.offsets[k].to_vec())
            .filter(|o| o[..] != [0])
            .collect();
        if out.is_empty() {
            return vec![vec![self.base]];
        }
        for o in out[0].iter_mut().filter(|o| **o != ZERO) {
            *o = o.saturating_add(self.base).min(ZERO - 1);
        }
        out
    }

    /// These values of something row-major, in order.
    pub(super) fn gather(&self, values: &[f64]) -> Rc<[f64]> {
        if self.count() == 0 {
            return Rc::from([]);
        }
        let order: Vec<usize> = (0..self.rank()).collect();
        let mut out = Vec::with_capacity(self.count());
        let all = Rearrange {
            shape: crate::Shape::Vector(self.count()),
            offsets: self.offsets(&order),
        };
        all.each(|from| out.push(from.and_then(|i| values.get(i).copied()).unwrap_or(0.0)));
        out.into()
    }
}

/// All sums of one offset of each.
fn product(axes: &[&Rc<[u32]>]) -> Rc<[u32]> {
    let mut all = vec![0u32];
    for axis in axes {
        let sums = all.iter().flat_map(|&a| {
            axis.iter().map(move |&b| match a == ZERO || b == ZERO {
                true => ZERO,
                false => a + b,
            })
        });
        all = sums.collect();
    }
    all.into()
}
