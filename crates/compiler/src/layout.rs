//! Where a tensor's values lie in the slots of its ciphertexts: multiplexed packing [LLKN22].
//!
//! A picture's plane is `height × width` physical pixels, powers of two, fixed by the first layer. After strides of g in all, a
//! channel's pixels lie g apart and g·g channels share one plane: channel c is on plane c/g², at position c mod g² of each
//! g×g cell. Planes follow each other; the sequence is cut into ciphertexts of N/2 slots, or repeated with its period.
//!
//! An unfolded sequence (C, R, L) lies row by row, each row as the sequence (C, 1, L) itself lies: what is the same for all rows then is
//! the sequence's ciphertext, repeated with its period, and a sum over rows is a few folds.

use crate::error::Error;
use nn::Shape;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Most ciphertexts for one tensor.
pub(crate) const MOST_CIPHERTEXTS: usize = 8192;

/// Least period: bootstraps need four slots.
pub(crate) const LEAST_PERIOD: usize = 4;

/// A tensor's places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Physical rows of a plane; of an unfolded sequence, whose planes are its rows, its channels.
    pub(crate) height: usize,
    /// Physical columns of a plane.
    pub(crate) width: usize,
    /// Whether it is an unfolded sequence, row by row.
    by_row: bool,
    /// Distance of neighbouring pixels, down and across.
    pub(crate) gap: (usize, usize),
    /// Slots after which a ciphertext repeats.
    pub(crate) period: usize,
    /// Number of ciphertexts.
    pub(crate) ciphertexts: usize,
    shape: Shape,
    /// Where values lie one by one, if no rule above says it: tokens ([`crate::coefficients`]).
    table: Option<Arc<[(u32, u32)]>>,
}

impl Layout {
    /// Of values that lie where this says, (ciphertext, slot) of each; slots have `width` columns and `height` rows for walks.
    pub(crate) fn table(
        shape: Shape,
        table: Vec<(u32, u32)>,
        (width, height): (usize, usize),
        (period, ciphertexts): (usize, usize),
    ) -> Self {
        Self {
            height,
            width,
            by_row: false,
            gap: (1, 1),
            period,
            ciphertexts,
            shape,
            table: Some(table.into()),
        }
    }

    /// The layout of a tensor without history: gap 1, sizes padded to powers of two.
    pub(crate) fn fresh(shape: Shape, max_slots: usize) -> Self {
        let (height, width) = match shape {
            Shape::Image { height, width, .. } => {
                (height.next_power_of_two(), width.next_power_of_two())
            }
            _ => (1, shape.len().next_power_of_two()),
        };
        Self::sized(shape, (height, width), (1, 1), max_slots)
    }

    /// The layout of a linear map's result: in the planes of `source` where it was thinned out by `stride`, so that kernels stay
    /// short rotations; fresh where it does not fit there.
    pub(crate) fn after(
        shape: Shape,
        source: &Layout,
        stride: (usize, usize),
        max_slots: usize,
    ) -> Self {
        let from = source.shape.as_image();
        if let (Some((_, height, width)), Some((_, rows, length))) = (shape.as_image(), from)
            && source.by_row
        {
            if height == rows && width == length {
                return Self::unfolded(shape, max_slots);
            }
            if height == 1 && width == length {
                // as the sequence lies that was unfolded
                return Self::sized(shape, (1, source.width), (1, 1), max_slots);
            }
            return Self::fresh(shape, max_slots);
        }
        if let (Some((_, height, width)), Some(_)) = (shape.as_image(), from) {
            let floor = |s: usize| 1usize << s.max(1).ilog2();
            for s in [stride, (floor(stride.0), floor(stride.1))] {
                // a gap beyond the plane means that one pixel is left
                let gap = (
                    (source.gap.0 * s.0).min(source.height),
                    (source.gap.1 * s.1).min(source.width),
                );
                let fits = height * gap.0 <= source.height && width * gap.1 <= source.width;
                if fits && gap.0.is_power_of_two() && gap.1.is_power_of_two() {
                    return Self::sized(shape, (source.height, source.width), gap, max_slots);
                }
            }
        }
        Self::fresh(shape, max_slots)
    }

    /// Of an unfolded sequence.
    pub(crate) fn unfolded(shape: Shape, max_slots: usize) -> Self {
        let Some((channels, height, width)) = shape.as_image() else {
            return Self::fresh(shape, max_slots);
        };
        let width = width.next_power_of_two();
        let channels = Self::channels_of_a_row(channels, width, max_slots);
        let (period, ciphertexts) = spread(height * channels * width, max_slots);
        Self {
            height: channels,
            width,
            by_row: true,
            gap: (1, 1),
            period,
            ciphertexts,
            shape,
            table: None,
        }
    }

    /// Channels that a row of an unfolded sequence takes: a power of two where a ciphertext holds rows, whole ciphertexts where a row takes
    /// several, as the sequence itself does.
    fn channels_of_a_row(channels: usize, width: usize, max_slots: usize) -> usize {
        let whole = (max_slots / width).max(1);
        if channels > whole {
            channels.next_multiple_of(whole)
        } else {
            channels.next_power_of_two()
        }
    }

    /// The same with other numbers of channels and tokens, in a ring of so many slots: `full` gives the number of channels in place of one,
    /// `tokens` those in place of these. As many ciphertexts as it takes.
    pub(crate) fn resized(
        &self,
        full: impl Fn(usize) -> Option<usize>,
        (from, to): (usize, usize),
        max_slots: usize,
    ) -> Option<Self> {
        let token = |n: usize| match n {
            _ if n == from => to,
            _ if n == from.next_power_of_two() => to.next_power_of_two(),
            other => other,
        };
        let width = token(self.width);
        let (shape, height, planes) = match self.shape.as_image() {
            Some((channels, height, columns)) => {
                let channels = full(channels)?;
                let rows = token(height);
                let shape = Shape::image(channels, rows, token(columns));
                if self.by_row {
                    let plane = Self::channels_of_a_row(channels, width, max_slots);
                    (shape, plane, rows)
                } else {
                    (shape, self.height, channels)
                }
            }
            None => {
                let channels = full(self.shape.len())?;
                return Some(Self {
                    width: channels.next_power_of_two(),
                    shape: Shape::Vector(channels),
                    period: channels.next_power_of_two().clamp(LEAST_PERIOD, max_slots),
                    ciphertexts: channels.div_ceil(max_slots),
                    ..self.clone()
                });
            }
        };
        let (period, ciphertexts) = spread(planes * height * width, max_slots);
        Some(Self {
            height,
            width,
            period,
            ciphertexts,
            shape,
            ..self.clone()
        })
    }

    /// How much it holds, to compare: values, or where they are listed one by one, slots.
    pub(crate) fn extent(&self) -> usize {
        match self.table {
            Some(_) => self.period * self.ciphertexts,
            None => self.shape.len(),
        }
    }

    /// Whether places are listed one by one.
    pub(crate) fn is_table(&self) -> bool {
        self.table.is_some()
    }

    /// Its tensor's shape.
    pub(crate) fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether it is a sequence whose columns are neighbours.
    pub(crate) fn by_column(&self) -> bool {
        !self.by_row
            && self.table.is_none()
            && self.gap == (1, 1)
            && matches!(self.shape, Shape::Image { height: 1, .. })
    }

    /// Whether it is an unfolded sequence, row by row.
    pub(crate) fn by_row(&self) -> bool {
        self.by_row
    }

    fn sized(
        shape: Shape,
        (height, width): (usize, usize),
        gap: (usize, usize),
        max_slots: usize,
    ) -> Self {
        let planes = match shape {
            Shape::Image { channels, .. } => channels.div_ceil(gap.0 * gap.1),
            _ => 1,
        };
        let (period, ciphertexts) = spread(planes * height * width, max_slots);
        Self {
            height,
            width,
            by_row: false,
            gap,
            period,
            ciphertexts,
            shape,
            table: None,
        }
    }

    /// Itself, if it is not too large for a layer's value.
    pub(crate) fn checked(self, layer: &str, max_slots: usize) -> Result<Self, Error> {
        if self.ciphertexts <= MOST_CIPHERTEXTS {
            return Ok(self);
        }
        Err(Error::TooLarge {
            layer: layer.into(),
            values: self.shape.len(),
            needed: self.ciphertexts,
            slots: max_slots,
            most: MOST_CIPHERTEXTS,
        })
    }

    /// (ciphertext, slot) of every value, row-major.
    pub(crate) fn places(&self) -> Vec<(u32, u32)> {
        if let Some(table) = &self.table {
            return table.to_vec();
        }
        let cut = |address: usize| (narrow(address / self.period), narrow(address % self.period));
        match self.shape.as_image() {
            Some((channels, height, width)) if self.by_row => {
                let mut places = Vec::with_capacity(self.shape.len());
                for c in 0..channels {
                    for y in 0..height {
                        let row = (y * self.height + c) * self.width;
                        places.extend((row..row + width).map(cut));
                    }
                }
                places
            }
            Some((channels, height, width)) => {
                let cell = self.gap.0 * self.gap.1;
                let mut places = Vec::with_capacity(self.shape.len());
                for c in 0..channels {
                    let (plane, sub) = (c / cell, c % cell);
                    for y in 0..height {
                        let row = y * self.gap.0 + sub / self.gap.1;
                        for x in 0..width {
                            places.push(cut((plane * self.height + row) * self.width
                                + x * self.gap.1
                                + sub % self.gap.1));
                        }
                    }
                }
                places
            }
            None => (0..self.shape.len()).map(cut).collect(),
        }
    }
}

/// (period, ciphertexts) of so many values.
fn spread(total: usize, max_slots: usize) -> (usize, usize) {
    if total <= max_slots {
        (total.next_power_of_two().max(LEAST_PERIOD), 1)
    } else {
        (max_slots, total.div_ceil(max_slots))
    }
}

/// What a stand-in's sizes stand for.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    /// Full number of channels by the stand-in's.
    pub channels: BTreeMap<usize, usize>,
    /// Tokens of the stand-in and of the network.
    pub tokens: (usize, usize),
    /// By how much channels are narrowed: those of the stand-in's heads and of the network's.
    pub narrowed: (usize, usize),
}

/// Slots of one input, in the stand-in and in the network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rings {
    pub(crate) small: usize,
    pub(crate) full: usize,
}

impl Scale {
    /// A ring for the stand-in in which it takes as many ciphertexts as the network does, where that can be.
    pub(crate) fn rings(&self, full: usize) -> Rings {
        let tokens = self.tokens.0.next_power_of_two();
        let channels = (full / self.tokens.1.next_power_of_two()).max(1);
        let channels = (channels * self.narrowed.0 / self.narrowed.1).max(1);
        Rings {
            small: tokens * (1 << channels.ilog2()),
            full,
        }
    }

    /// The layout of the network's tensor in place of the stand-in's.
    pub(crate) fn layout(&self, small: &Layout, max_slots: usize) -> Result<Layout, Error> {
        let full = |channels: usize| self.channels.get(&channels).copied();
        small
            .resized(full, self.tokens, max_slots)
            .ok_or_else(|| Error::Unsupported {
                layer: format!("a tensor of shape {}", small.shape()),
                operator: "shape".into(),
                reason: "the stand-in has a size that stands for none".into(),
                remedy: "narrow the network differently",
            })
    }
}

/// Tensors have at most 2^28 values.
pub(crate) fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn places_are_distinct_and_within_the_period() {
        for (shape, stride) in [
            (Shape::image(16, 8, 8), (1, 1)),
            (Shape::image(7, 4, 4), (2, 2)),
            (Shape::image(33, 2, 2), (4, 4)),
            (Shape::image(64, 1, 1), (8, 8)),
        ] {
            let source = Layout::fresh(Shape::image(3, 8, 7), 512);
            let layout = Layout::after(shape, &source, stride, 512);
            assert_eq!((layout.height, layout.width), (8, 8));
            let places = layout.places();
            assert_eq!(places.len(), shape.len());
            assert_eq!(places.iter().collect::<BTreeSet<_>>().len(), shape.len());
            assert!(
                places.iter().all(
                    |&(c, s)| (c as usize) < layout.ciphertexts && (s as usize) < layout.period
                )
            );
        }
    }

    #[test]
    fn unfolded_sequences_lie_row_by_row_as_the_sequence_lies() {
        for (channels, rows, length) in [(8, 4, 4), (5, 3, 6), (64, 32, 31)] {
            let sequence = Layout::fresh(Shape::image(channels, 1, length), 512 * 16);
            let shape = Shape::image(channels, rows, length);
            let unfolded = Layout::unfolded(shape, 512 * 16);
            let (one, all) = (sequence.places(), unfolded.places());
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), shape.len());
            for (r, place) in all.iter().enumerate() {
                let (c, t) = (r / (rows * length), r % length);
                let slot = one[c * length + t].1;
                assert_eq!(place.1 % narrow(sequence.period), slot);
            }
            // a sum over rows lies as the sequence does, more channels as more of the same rows
            let sum = Layout::after(Shape::image(channels, 1, length), &unfolded, (1, 1), 8192);
            assert_eq!(sum, sequence);
            let same = Layout::after(shape, &unfolded, (1, 1), 8192);
            assert_eq!(same, unfolded);
        }
    }

    #[test]
    fn what_does_not_fit_is_laid_out_afresh() {
        let source = Layout::fresh(Shape::image(3, 8, 8), 512);
        let wider = Layout::after(Shape::image(3, 10, 10), &source, (1, 1), 1024);
        assert_eq!((wider.height, wider.gap, wider.period), (16, (1, 1), 1024));
        let error = Layout::fresh(Shape::image(4096, 64, 64), 512)
            .checked("conv9", 512)
            .expect_err("too large");
        assert!(error.to_string().contains("conv9"), "{error}");
    }
}
