//! Pictures become inputs: PNG and JPEG files.

use crate::error::{Error, Result};
use crate::normalization::Normalization;
use image::metadata::Orientation;
use image::{
    DynamicImage, GenericImageView, GrayImage, ImageDecoder, ImageFormat, ImageReader, Limits,
    RgbImage, imageops::FilterType,
};
use nn::format::read_limited;
use nn::{Shape, Tensor};
use std::io::Cursor;
use std::path::Path;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Picture files above this size are refused: 64 MiB.
pub const FILE_LIMIT: u64 = 64 << 20;
/// Most pixels of a side.
const SIDE: u32 = 16_384;
/// Most bytes of decoded values.
const DECODED: u64 = 512 << 20;

/// What decoding a picture takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoding {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Most bytes of memory.
    pub bytes: u64,
}

/// A decoded picture of 8-bit values.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    image: DynamicImage,
    transparent: bool,
}

impl Picture {
    /// Reads a PNG or JPEG file.
    ///
    /// # Errors
    /// `Error::Io`, [`Error::TooLarge`], [`Error::Malformed`].
    pub fn load(path: &Path) -> Result<Self> {
        Self::from_bytes(&read_limited(path, FILE_LIMIT)?)
    }

    /// Decodes PNG or JPEG bytes; at most 16384 pixels wide or high and 512 MiB decoded. The picture is turned as its EXIF data say.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything else, truncated or too large.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (mut image, orientation) = match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => jpeg(bytes)?,
            Ok(ImageFormat::Png) => png(bytes)?,
            _ => return Err(neither()),
        };
        image.apply_orientation(orientation);
        let transparent = image.color().has_alpha() && image.pixels().any(|p| p.2.0[3] < u8::MAX);
        Ok(Self { image, transparent })
    }

    /// What decoding such bytes takes, by their header.
    ///
    /// # Errors
    /// As [`Picture::from_bytes`], of what the header says.
    pub fn decoding(bytes: &[u8]) -> Result<Decoding> {
        let (width, height, decoded, more, orientation) = match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => {
                let (end, scans) = walk(bytes);
                end.ok_or_else(truncated)?;
                let mut decoder = jpeg_decoder(bytes)?;
                let (width, height) = decoder.dimensions().unwrap_or_default();
                let components = decoder.input_colorspace().map_or(3, |c| c.num_components());
                let values = (width * height) as u64;
                // coefficients of all scans are kept, of two bytes
                let more = if scans.progressive {
                    2 * values * components as u64
                } else {
                    0
                };
                let decoded = values * jpeg_space(&decoder).num_components() as u64;
                (width, height, decoded, more, jpeg_orientation(&mut decoder))
            }
            Ok(ImageFormat::Png) => {
                let mut decoder = png_decoder(bytes)?;
                let (width, height) = decoder.dimensions();
                let orientation = decoder.orientation().map_err(malformed)?;
                let size = (width as usize, height as usize);
                (size.0, size.1, decoder.total_bytes(), 0, orientation)
            }
            _ => return Err(neither()),
        };
        let turned = match orientation {
            Orientation::NoTransforms
            | Orientation::Rotate180
            | Orientation::FlipHorizontal
            | Orientation::FlipVertical => 0,
            _ => decoded,
        };
        Ok(Decoding {
            width,
            height,
            bytes: decoded + more.max(turned) + bytes.len() as u64,
        })
    }

    /// Whether some of it is transparent, which [`Picture::pixels`] ignores.
    #[must_use]
    pub fn transparent(&self) -> bool {
        self.transparent
    }

    /// Whether some of it is not grey: [`Picture::pixels`] of one channel lose that.
    #[must_use]
    pub fn coloured(&self) -> bool {
        let grey = |p: [u8; 4]| p[0] == p[1] && p[1] == p[2];
        self.image.color().has_color() && self.image.pixels().any(|p| !grey(p.2.0))
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.image.width() as usize, self.image.height() as usize)
    }

    /// The picture scaled (bicubic) so that it covers `width × height`, and its middle cut out. Only on the user's request: it
    /// changes what the network sees.
    #[must_use]
    pub fn fit(&self, width: usize, height: usize) -> Self {
        let side = |n: usize| u32::try_from(n.clamp(1, 16_384)).unwrap_or(1);
        let (width, height) = (side(width), side(height));
        let (had_width, had_height) = (self.image.width(), self.image.height());
        let scale = (f64::from(width) / f64::from(had_width))
            .max(f64::from(height) / f64::from(had_height));
        let fill =
            |image: &DynamicImage| image.resize_to_fill(width, height, FilterType::CatmullRom);
        let image = if f64::from(had_width.max(had_height)) * scale <= 16_384.0 {
            fill(&self.image)
        } else {
            // The scaled picture would be far larger than its middle, so that is cut out first, with a margin for the filter.
            let keep = |to: u32, had: u32| ((f64::from(to) / scale).ceil() as u32 + 16).min(had);
            let (w, h) = (keep(width, had_width), keep(height, had_height));
            fill(
                &self
                    .image
                    .crop_imm((had_width - w) / 2, (had_height - h) / 2, w, h),
            )
        };
        Self { image, ..*self }
    }

    /// The picture of interleaved grey (1 channel) or red, green and blue (3) values, row by row; None unless the numbers fit.
    #[must_use]
    pub fn from_pixels(
        width: usize,
        height: usize,
        channels: usize,
        pixels: Vec<u8>,
    ) -> Option<Self> {
        let (width, height) = (u32::try_from(width).ok()?, u32::try_from(height).ok()?);
        let image = match channels {
            1 => DynamicImage::ImageLuma8(GrayImage::from_raw(width, height, pixels)?),
            3 => DynamicImage::ImageRgb8(RgbImage::from_raw(width, height, pixels)?),
            _ => return None,
        };
        // such an image may be a part of a longer buffer
        let count = width as usize * height as usize * channels;
        (count > 0 && image.as_bytes().len() == count).then_some(Self {
            image,
            transparent: false,
        })
    }

    /// Interleaved values, row by row: grey for 1 channel, red, green and blue for 3; None for other counts. Transparency is
    /// ignored.
    #[must_use]
    pub fn pixels(&self, channels: usize) -> Option<Vec<u8>> {
        match channels {
            1 => Some(self.image.to_luma8().into_raw()),
            3 => Some(self.image.to_rgb8().into_raw()),
            _ => None,
        }
    }

    /// The rectangle of `from = (width, height)` pixels whose upper left corner is `at = (x, y)`, scaled to `to = (width, height)`:
    /// linear interpolation, averaging where the rectangle shrinks, as networks are usually trained. What lies outside of the
    /// picture is left out.
    #[must_use]
    pub fn region(&self, at: (usize, usize), from: (usize, usize), to: (usize, usize)) -> Self {
        let side = |n: usize| u32::try_from(n.clamp(1, 16_384)).unwrap_or(1);
        let x = side(at.0 + 1).min(self.image.width()) - 1;
        let y = side(at.1 + 1).min(self.image.height()) - 1;
        let part = self.image.crop_imm(x, y, side(from.0), side(from.1));
        let to = (side(to.0), side(to.1));
        let image = if (part.width(), part.height()) == to {
            part
        } else {
            part.resize_exact(to.0, to.1, FilterType::Triangle)
        };
        Self { image, ..*self }
    }

    /// The input of a network: `(v/255 − mean[c])/deviation[c]`, shape `(3, H, W)` or, for a grey network, `(1, H, W)`.
    /// Transparency is ignored.
    ///
    /// # Errors
    /// [`Error::NoPicture`] when the shape is no picture's, [`Error::PictureSize`] when the size differs, [`Error::Count`] when the
    /// normalisation has another number of channels.
    pub fn to_tensor(&self, shape: Shape, normalization: &Normalization) -> Result<Tensor> {
        let (channels, height, width) = shape.as_image().ok_or(Error::NoPicture(shape))?;
        if self.size() != (width, height) {
            return Err(Error::PictureSize {
                needed: (width, height),
                had: self.size(),
            });
        }
        let interleaved = self.pixels(channels).ok_or(Error::NoPicture(shape))?;
        let planar: Vec<u8> = (0..channels)
            .flat_map(|c| interleaved.iter().skip(c).step_by(channels).copied())
            .collect();
        normalize(&planar, shape, normalization)
    }
}

fn malformed(detail: impl std::fmt::Display) -> Error {
    Error::malformed("PNG or JPEG", detail.to_string())
}

fn truncated() -> Error {
    malformed("it is truncated; copy or download it again")
}

fn neither() -> Error {
    malformed("it is neither; convert it to PNG")
}

fn png_decoder(bytes: &[u8]) -> Result<impl ImageDecoder> {
    if !palettes_fit(bytes) {
        return Err(malformed("its palette is damaged"));
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE);
    limits.max_image_height = Some(SIDE);
    limits.max_alloc = Some(DECODED);
    reader.limits(limits);
    reader.into_decoder().map_err(malformed)
}

fn png(bytes: &[u8]) -> Result<(DynamicImage, Orientation)> {
    let mut decoder = png_decoder(bytes)?;
    let orientation = decoder.orientation().map_err(malformed)?;
    let image = DynamicImage::from_decoder(decoder).map_err(malformed)?;
    Ok((image, orientation))
}

/// What stands before the end of a JPEG while it is decoded: all ones, which no Huffman code is, and the same behind a restart marker.
/// Nothing of it is read where all of the picture is there. Where some is missing, though the end is not, the decoder would read zeros as
/// long as it takes, and make a picture of them.
const NO_CODE: [u8; 66] = {
    let mut bytes = [0xff; 66];
    let mut i = 1;
    while i < 32 {
        bytes[i] = 0;
        bytes[i + 34] = 0;
        i += 2;
    }
    bytes[33] = 0xd0;
    bytes
};

/// Strictly: the decoder makes up what a truncated or damaged file lacks otherwise.
fn jpeg(bytes: &[u8]) -> Result<(DynamicImage, Orientation)> {
    let (end, scans) = walk(bytes);
    let end = end.ok_or_else(truncated)?;
    if let Some(missing) = scans.missing() {
        return Err(malformed(format!(
            "{missing} of it are missing, as in a file that was cut between two of its scans; copy or download it again, or save it anew"
        )));
    }
    let bytes = &[&bytes[..end], &NO_CODE, &bytes[end..end + 2]].concat()[..];
    let mut decoder = jpeg_decoder(bytes)?;
    let to = jpeg_space(&decoder);
    decoder.set_options(decoder.options().jpeg_set_out_colorspace(to));
    let orientation = jpeg_orientation(&mut decoder);
    let pixels = decoder.decode().map_err(|e| {
        malformed(format!(
            "some of it is missing or damaged ({e}); copy or download it again"
        ))
    })?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    let (width, height) = (width as u32, height as u32);
    let image = match to == ColorSpace::Luma {
        true => GrayImage::from_raw(width, height, pixels).map(DynamicImage::ImageLuma8),
        false => RgbImage::from_raw(width, height, pixels).map(DynamicImage::ImageRgb8),
    };
    let image = image.ok_or_else(|| malformed("its size is not that of its values"))?;
    Ok((image, orientation))
}

/// A decoder that has read the header.
fn jpeg_decoder(bytes: &[u8]) -> Result<JpegDecoder<ZCursor<&[u8]>>> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(SIDE as usize)
        .set_max_height(SIDE as usize);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(malformed)?;
    let (width, height) = decoder.dimensions().unwrap_or_default();
    if (width * height * jpeg_space(&decoder).num_components()) as u64 > DECODED {
        return Err(malformed("it is too large"));
    }
    Ok(decoder)
}

/// What it is decoded to.
fn jpeg_space(decoder: &JpegDecoder<ZCursor<&[u8]>>) -> ColorSpace {
    match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => ColorSpace::Luma,
        _ => ColorSpace::RGB,
    }
}

fn jpeg_orientation(decoder: &mut JpegDecoder<ZCursor<&[u8]>>) -> Orientation {
    let orientation = decoder.exif().and_then(|e| Orientation::from_exif_chunk(e));
    orientation.unwrap_or(Orientation::NoTransforms)
}

/// What the scans of a JPEG have brought: for each component, how many of the lowest bits of each coefficient are still to come.
#[derive(Default)]
struct Scans {
    progressive: bool,
    components: Vec<(u8, [u8; 64])>,
}

impl Scans {
    /// No bit of a coefficient has come.
    const NONE: u8 = u8::MAX;

    /// A segment of the header, by its marker.
    fn read(&mut self, marker: u8, body: &[u8]) {
        match (marker, body) {
            // frames of all kinds, not tables (C4, CC) nor an extension (C8)
            (0xc0..=0xcf, [_, _, _, _, _, count, components @ ..])
                if !matches!(marker, 0xc4 | 0xc8 | 0xcc) && self.components.is_empty() =>
            {
                self.progressive = marker & 3 == 2;
                let ids = components.chunks_exact(3).take(usize::from(*count));
                self.components = ids.map(|c| (c[0], [Self::NONE; 64])).collect();
            }
            (0xda, [count, rest @ ..]) => {
                let Some((components, [first, last, bits])) =
                    rest.split_at_checked(2 * usize::from(*count))
                else {
                    return;
                };
                // all coefficients at once, whatever a sequential scan says of them
                let (band, left) = match self.progressive {
                    true => (usize::from(*first)..usize::from(*last) + 1, bits & 15),
                    false => (0..64, 0),
                };
                let named = |id: u8| components.chunks(2).any(|c| c[0] == id);
                for (_, of) in self.components.iter_mut().filter(|(id, _)| named(*id)) {
                    of.get_mut(band.clone())
                        .into_iter()
                        .flatten()
                        .for_each(|b| *b = left);
                }
            }
            _ => {}
        }
    }
    /// What no scan brought, if anything.
    fn missing(&self) -> Option<&'static str> {
        let bits = || self.components.iter().flat_map(|c| &c.1);
        if bits().any(|&b| b == Self::NONE) {
            Some("whole coefficients")
        } else if bits().any(|&b| b > 0) {
            Some("the last bits")
        } else {
            None
        }
    }
}

/// Where the end of the image stands behind its last scan, and what its scans have brought.
fn walk(jpeg: &[u8]) -> (Option<usize>, Scans) {
    let mut scans = Scans::default();
    let mut rest = jpeg.get(2..).unwrap_or_default();
    // past entropy-coded data to the next marker: FF, and neither 0, a restart nor another FF
    while let Some(at) = rest.iter().position(|&b| b == 0xff) {
        rest = &rest[at + 1..];
        match rest {
            [0xd9, ..] => return (Some(jpeg.len() - rest.len() - 1), scans),
            [0 | 0x01 | 0xd0..=0xd8, ..] => rest = &rest[1..],
            // a segment, with its length
            [marker @ 1..=0xfe, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                scans.read(*marker, rest.get(3..1 + length).unwrap_or_default());
                rest = rest.get(1 + length..).unwrap_or_default();
            }
            _ => {}
        }
    }
    (None, scans)
}

/// Whether every palette of a PNG file has whole colours and at most 256 of them: the decoder (png 0.18) takes that for granted
/// and panics where it is not so.
fn palettes_fit(png: &[u8]) -> bool {
    let mut rest = png.get(8..).unwrap_or_default();
    // a chunk: length, type, data, checksum
    while let Some((&length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(length) as usize;
        if after.starts_with(b"PLTE") && (!length.is_multiple_of(3) || length > 3 * 256) {
            return false;
        }
        rest = length
            .checked_add(8)
            .and_then(|skip| after.get(skip..))
            .unwrap_or_default();
    }
    true
}

/// Bytes in a picture's `(C, H, W)` order as a network's input: `(v/255 − mean[c])/deviation[c]`.
///
/// # Errors
/// `Error::Length` when the count doesn't fit, [`Error::Count`] when the normalisation has another number of channels.
pub fn normalize(bytes: &[u8], shape: Shape, normalization: &Normalization) -> Result<Tensor> {
    let channels = shape.dims()[0];
    normalization.check(channels)?;
    let area = (bytes.len() / channels.max(1)).max(1);
    let value = |i: usize| {
        let c = (i / area).min(channels - 1);
        // another number of bytes than the shape's is refused below
        let at = normalization.source(c) * area + (i - c * area);
        let v = f64::from(bytes[at.min(bytes.len() - 1)]);
        (v / 255.0 - normalization.mean[c]) / normalization.deviation[c]
    };
    let values = (0..bytes.len()).map(value).collect();
    Ok(Tensor::new(shape, values)?)
}
