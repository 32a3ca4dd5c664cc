//! Pictures and CIFAR records.

use crate::assert_close;
use nn::Shape;
use std::io::Cursor;
use task::picture::Picture;
use task::{Error, Normalization};

fn png(width: u32, height: u32) -> Vec<u8> {
    let image = image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, 200]));
    let mut out = Cursor::new(Vec::new());
    image
        .write_to(&mut out, image::ImageFormat::Png)
        .expect("encodes");
    out.into_inner()
}

#[test]
fn pictures_are_normalised_per_channel() {
    let picture = Picture::from_bytes(&png(4, 3)).expect("decodes");
    assert_eq!(picture.size(), (4, 3));
    let t = picture
        .to_tensor(Shape::image(3, 3, 4), &Normalization::imagenet())
        .expect("fits");
    let (x, y) = (2usize, 1usize);
    let expected = [
        (2.0 / 255.0 - 0.485) / 0.229,
        (1.0 / 255.0 - 0.456) / 0.224,
        (200.0 / 255.0 - 0.406) / 0.225,
    ];
    assert_close(
        &[0, 1, 2].map(|c| t.values()[(c * 3 + y) * 4 + x]),
        &expected,
        1e-14,
    );
}

#[test]
fn another_size_is_refused_and_resizing_must_be_asked_for() {
    let picture = Picture::from_bytes(&png(64, 48)).expect("decodes");
    let shape = Shape::image(3, 32, 32);
    let e = picture
        .to_tensor(shape, &Normalization::imagenet())
        .expect_err("wrong size");
    assert!(matches!(
        e,
        Error::PictureSize {
            needed: (32, 32),
            had: (64, 48)
        }
    ));
    assert_eq!(
        e.to_string(),
        "the picture is 64×48 pixels, the network takes 32×32; scale it beforehand or ask for resizing explicitly"
    );
    assert!(
        picture
            .fit(32, 32)
            .to_tensor(shape, &Normalization::imagenet())
            .is_ok()
    );
    assert!(matches!(
        picture.to_tensor(Shape::Vector(9), &Normalization::imagenet()),
        Err(Error::NoPicture { .. })
    ));
    assert!(matches!(
        picture.to_tensor(Shape::image(2, 48, 64), &Normalization::imagenet()),
        Err(Error::NoPicture { .. })
    ));
    let grey = Normalization {
        mean: vec![0.5],
        deviation: vec![0.5],
    };
    assert!(matches!(
        picture.to_tensor(Shape::image(3, 48, 64), &grey),
        Err(Error::Count { .. })
    ));
    assert!(picture.to_tensor(Shape::image(1, 48, 64), &grey).is_ok());
}

#[test]
fn broken_and_foreign_pictures_are_refused() {
    let good = png(8, 8);
    for bad in [
        &good[..good.len() / 2],
        b"GIF89a not read",
        b"",
        &good[..10],
    ] {
        assert!(matches!(
            Picture::from_bytes(bad),
            Err(Error::Malformed { .. })
        ));
    }
}

/// A 2×1 picture of one bit per pixel with a palette of this many bytes. Found by `polyveil-fuzz`: the decoder panicked.
fn with_palette(length: usize) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    let line = b"\x78\x01\x01\x02\x00\xfd\xff\x00\x40\x00\x42\x00\x41".to_vec();
    for (kind, data) in [
        (b"IHDR", b"\0\0\0\x02\0\0\0\x01\x01\x03\0\0\0".to_vec()),
        (b"PLTE", vec![200; length]),
        (b"IDAT", line),
        (b"IEND", vec![]),
    ] {
        png.extend((data.len() as u32).to_be_bytes());
        let from = png.len();
        png.extend(kind);
        png.extend(data);
        // CRC-32, bit by bit
        let sum = png[from..].iter().fold(!0u32, |sum, &b| {
            (0..8).fold(sum ^ u32::from(b), |s, _| {
                (s >> 1) ^ (0xedb8_8320 * (s & 1))
            })
        });
        png.extend((!sum).to_be_bytes());
    }
    png
}

#[test]
fn damaged_palettes_are_refused() {
    assert_eq!(
        Picture::from_bytes(&with_palette(6)).expect("valid").size(),
        (2, 1)
    );
    for length in [1, 2, 5, 769, 771, 3000] {
        let message = Picture::from_bytes(&with_palette(length))
            .expect_err("hostile")
            .to_string();
        assert!(message.contains("palette"), "{length}: {message}");
    }
}

#[test]
fn fitting_a_long_thin_picture_takes_little_memory() {
    // scaled as a whole it would have 3.7 million × 224 pixels
    let mut line = image::RgbImage::new(16_384, 1);
    for (x, _, pixel) in line.enumerate_pixels_mut() {
        *pixel = image::Rgb(if x < 8192 { [255, 0, 0] } else { [0, 0, 255] });
    }
    let mut bytes = std::io::Cursor::new(Vec::new());
    line.write_to(&mut bytes, image::ImageFormat::Png)
        .expect("in memory");
    let fitted = Picture::from_bytes(bytes.get_ref())
        .expect("valid")
        .fit(224, 224);
    assert_eq!(fitted.size(), (224, 224));
    // its middle is where the colours meet
    let tensor = fitted
        .to_tensor(Shape::image(3, 224, 224), &Normalization::imagenet())
        .expect("fits");
    assert!(tensor.values()[0] > tensor.values()[223]);
}
