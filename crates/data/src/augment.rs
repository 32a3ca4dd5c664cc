//! Random changes of training pictures.

use crate::error::Error;
use crate::random::Random;
use crate::{Dataset, Result, Shape};
use serde::{Deserialize, Serialize};
use task::Normalization;

/// What is done at random to every picture; by default nothing.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Augmentation {
    /// Mirror every other picture.
    pub flip: bool,
    /// Shift by up to so many pixels in both directions; what comes in from outside has the mean colour (0 after normalisation).
    pub crop_padding: usize,
    /// Give a square with sides of so many pixels the mean colour; its centre is anywhere in the picture, so the borders cut off
    /// parts of it.
    pub cutout: usize,
    /// Cut out a random part and scale it to the set's size, before all else.
    pub resized_crop: Option<ResizedCrop>,
    /// Multiply every byte's distance from the picture's mean byte by a random factor from this range; what leaves 0 to 255 is cut off.
    /// Factors above 1 show a network in training the extreme pictures that would leave its intervals later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<(f64, f64)>,
}

/// Random parts of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResizedCrop {
    /// Least and greatest part of the picture's area.
    pub area: (f64, f64),
    /// Least and greatest width/height; the logarithm is uniform.
    pub ratio: (f64, f64),
}

impl Default for ResizedCrop {
    /// ImageNet's custom: 8 to 100 % of the area, sides 3:4 to 4:3.
    fn default() -> Self {
        Self {
            area: (0.08, 1.0),
            ratio: (0.75, 4.0 / 3.0),
        }
    }
}

impl ResizedCrop {
    /// Corner `(x, y)` and size `(width, height)` of a part of a picture of `(width, height)` pixels.
    pub(crate) fn rectangle(
        &self,
        (width, height): (usize, usize),
        random: &mut Random,
    ) -> ((usize, usize), (usize, usize)) {
        let logs = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..10 {
            let area = random.between(self.area) * (width * height) as f64;
            let ratio = random.between(logs).exp();
            let w = (area * ratio).sqrt().round() as usize;
            let h = (area / ratio).sqrt().round() as usize;
            if (1..=width).contains(&w) && (1..=height).contains(&h) {
                let at = (random.below(width - w + 1), random.below(height - h + 1));
                return (at, (w, h));
            }
        }
        // long and narrow: the middle, as square as allowed
        let w = ((height as f64 * self.ratio.1) as usize).clamp(1, width);
        let h = ((width as f64 / self.ratio.0) as usize).clamp(1, height);
        (((width - w) / 2, (height - h) / 2), (w, h))
    }
}

impl Augmentation {
    /// Refuses parts of pictures that are none, and contrasts that are no factors.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn check(&self) -> Result<()> {
        let ordered = |(low, high): (f64, f64)| low > 0.0 && low <= high && high.is_finite();
        if let Some(contrast) = self.contrast.filter(|&c| !ordered(c)) {
            return Err(Error::option(format!(
                "contrast {contrast:?}: give two positive factors, the smaller first"
            )));
        }
        let Some(ResizedCrop { area, ratio }) = self.resized_crop else {
            return Ok(());
        };
        if ordered(area) && area.1 <= 1.0 && ordered(ratio) {
            return Ok(());
        }
        Err(Error::option(format!(
            "resized crop: area {area:?} and ratio {ratio:?}; give positive numbers, the smaller first, areas up to 1"
        )))
    }
}

/// For each channel of the network, which of a picture's it is, and `(v/255 − mean[c])/deviation[c]` of every byte.
#[derive(Debug)]
pub(crate) struct Table(Vec<(usize, [f32; 256])>);

impl Table {
    pub(crate) fn of(normalization: &Normalization, channels: usize) -> Result<Self> {
        let Normalization {
            mean, deviation, ..
        } = normalization;
        let ordered = normalization.channels == task::Channels::Rgb || channels == 3;
        let fits = ordered
            && mean.len() == channels
            && deviation.len() == channels
            && mean.iter().all(|m| m.is_finite())
            && deviation.iter().all(|&d| d.is_finite() && d > 0.0);
        if !fits {
            return Err(Error::option(format!(
                "normalisation: means {mean:?} and deviations {deviation:?} for {channels} channels; give one finite mean and one positive deviation for each"
            )));
        }
        let value = |c: usize, v: usize| ((v as f64 / 255.0 - mean[c]) / deviation[c]) as f32;
        Ok(Self(
            (0..channels)
                .map(|c| {
                    (
                        normalization.source(c),
                        std::array::from_fn(|v| value(c, v)),
                    )
                })
                .collect(),
        ))
    }
}

/// Writes picture `i`, changed and normalised, `(H, W, C)`.
pub(crate) fn write(
    out: &mut [f32],
    set: &Dataset,
    i: usize,
    table: &Table,
    how: &Augmentation,
    mut random: Random,
) -> Result<()> {
    let Shape {
        height,
        width,
        channels,
    } = set.shape();
    let mirrored = how.flip && random.below(2) == 1;
    let padding = how.crop_padding;
    let (down, right) = (random.below(2 * padding + 1), random.below(2 * padding + 1));
    let centre = (random.below(height), random.below(width));
    let pixels = match &how.resized_crop {
        Some(crop) => set
            .region(i, |size| crop.rectangle(size, &mut random))?
            .into(),
        None => set.pixels(i)?,
    };
    let changed = how
        .contrast
        .map(|range| contrast(&pixels, random.between(range)));
    let byte = |v: u8| usize::from(changed.as_ref().map_or(v, |to| to[usize::from(v)]));
    // the output's (y, x) shows the picture's (y + down − padding, x + right − padding)
    let source = |at: usize, shift: usize, most: usize| {
        (at + shift).checked_sub(padding).filter(|&at| at < most)
    };
    let hidden = |at: usize, centre: usize| {
        let begin = (centre + how.cutout / 2 + 1).saturating_sub(how.cutout);
        how.cutout > 0 && (begin..=centre + how.cutout / 2).contains(&at)
    };
    for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
        for (x, values) in row.chunks_exact_mut(channels).enumerate() {
            let from = source(y, down, height)
                .zip(source(x, right, width))
                .filter(|_| !(hidden(y, centre.0) && hidden(x, centre.1)));
            let Some((sy, sx)) = from else {
                values.fill(0.0);
                continue;
            };
            let sx = if mirrored { width - 1 - sx } else { sx };
            let at = (sy * width + sx) * channels;
            for (c, value) in values.iter_mut().enumerate() {
                let (from, values) = &table.0[c];
                *value = values[byte(pixels[at + from])];
            }
        }
    }
    Ok(())
}

/// What becomes of every byte of a picture whose contrast is multiplied.
fn contrast(pixels: &[u8], factor: f64) -> [u8; 256] {
    let sum: u64 = pixels.iter().map(|&v| u64::from(v)).sum();
    let mean = sum as f64 / pixels.len().max(1) as f64;
    // the conversion rounds to the nearest byte and cuts off
    std::array::from_fn(|v| (mean + factor * (v as f64 - mean)).round() as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contrast_spreads_bytes_about_their_mean() {
        let pixels = [100, 100, 120, 80, 200, 0];
        assert_eq!(contrast(&pixels, 1.0), std::array::from_fn(|v| v as u8));
        let wide = contrast(&pixels, 2.0);
        assert_eq!(
            (wide[100], wide[120], wide[80], wide[200], wide[0]),
            (100, 140, 60, 255, 0)
        );
    }

    #[test]
    fn rectangles_lie_in_the_picture_and_keep_to_area_and_ratio() {
        let crop = ResizedCrop::default();
        for (n, size) in [
            (0, (64, 48)),
            (1, (48, 64)),
            (2, (1, 1)),
            (3, (500, 3)),
            (4, (3, 500)),
        ] {
            for i in 0..500 {
                let ((x, y), (w, h)) = crop.rectangle(size, &mut Random::of([n, i, 0, 0]));
                assert!(w > 0 && h > 0 && x + w <= size.0 && y + h <= size.1);
                if n < 2 {
                    let area = (w * h) as f64 / (size.0 * size.1) as f64;
                    let ratio = w as f64 / h as f64;
                    // half a pixel of rounding each
                    assert!((0.06..=1.0).contains(&area), "{area}");
                    assert!((0.69..=1.45).contains(&ratio), "{ratio}");
                }
            }
        }
    }
}
