//! Pictures and CIFAR records.

use crate::assert_close;
use nn::Shape;
use std::io::Cursor;
use task::picture::Picture;
use task::{Channels, Error, Normalization, Outputs, Pictures, Stated, Task};

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
    let grey = Normalization::new(vec![0.5], vec![0.5]);
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

/// Four quarters of different colours.
fn quarters(width: u32, height: u32) -> image::RgbImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb(match (x < width / 2, y < height / 2) {
            (true, true) => [250, 10, 10],
            (false, true) => [10, 250, 10],
            (true, false) => [10, 10, 250],
            (false, false) => [250, 250, 250],
        })
    })
}

fn encoded(picture: &image::DynamicImage, format: image::ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).expect("encodes");
    out.into_inner()
}

/// EXIF data that say nothing but an orientation, in this order of bytes.
fn exif(orientation: u8, big: bool) -> Vec<u8> {
    let mut tiff = if big {
        b"MM\0*\0\0\0\x08\0\x01".to_vec()
    } else {
        b"II*\0\x08\0\0\0\x01\0".to_vec()
    };
    tiff.extend(match big {
        true => [1, 0x12, 0, 3, 0, 0, 0, 1, 0, orientation, 0, 0],
        false => [0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0],
    });
    tiff.extend([0; 4]);
    tiff
}

/// A JPEG with EXIF data behind its first marker.
fn with_exif(jpeg: &[u8], tiff: &[u8]) -> Vec<u8> {
    let mut out = jpeg[..2].to_vec();
    out.extend([0xff, 0xe1]);
    out.extend((tiff.len() as u16 + 8).to_be_bytes());
    out.extend(b"Exif\0\0");
    out.extend(tiff);
    out.extend(&jpeg[2..]);
    out
}

/// Red, green, blue or white: what lies in the middle of each quarter, row by row.
fn seen(picture: &Picture) -> String {
    let (width, height) = picture.size();
    let pixels = picture.pixels(3).expect("colours");
    let at = |x: usize, y: usize| {
        let p = &pixels[3 * (y * width + x)..][..3];
        match (p[0] > 128, p[1] > 128, p[2] > 128) {
            (true, true, true) => 'W',
            (true, ..) => 'R',
            (_, true, _) => 'G',
            _ => 'B',
        }
    };
    let (x, y) = (width / 4, height / 4);
    [at(x, y), at(3 * x, y), at(x, 3 * y), at(3 * x, 3 * y)]
        .iter()
        .collect()
}

#[test]
fn pictures_are_turned_as_their_exif_data_say() {
    let jpeg = encoded(&quarters(32, 16).into(), image::ImageFormat::Jpeg);
    for (orientation, right) in [
        (1, "RGBW"),
        (2, "GRWB"),
        (3, "WBGR"),
        (4, "BWRG"),
        (5, "RBGW"),
        (6, "BRWG"),
        (7, "WGBR"),
        (8, "GWRB"),
        // none that is known
        (9, "RGBW"),
    ] {
        for big in [false, true] {
            let picture = Picture::from_bytes(&with_exif(&jpeg, &exif(orientation, big)));
            let picture = picture.expect("decodes");
            assert_eq!(seen(&picture), right, "{orientation}");
            let turned = (5..=8).contains(&orientation);
            assert_eq!(picture.size(), if turned { (16, 32) } else { (32, 16) });
        }
    }
    // damaged EXIF data turn nothing
    let cut = &exif(6, true)[..9];
    assert_eq!(
        seen(&Picture::from_bytes(&with_exif(&jpeg, cut)).expect("decodes")),
        "RGBW"
    );
}

#[test]
fn truncated_and_damaged_jpegs_are_refused() {
    let noise = image::RgbImage::from_fn(160, 160, |x, y| {
        let v = (x * 7919 + y * 104_729) ^ (x * y * 31);
        image::Rgb([v as u8, (v >> 3) as u8, (v >> 5) as u8])
    });
    let grey = image::DynamicImage::from(noise.clone()).to_luma8();
    for picture in [noise.into(), image::DynamicImage::from(grey)] {
        let jpeg = encoded(&picture, image::ImageFormat::Jpeg);
        assert!(Picture::from_bytes(&jpeg).is_ok());
        // with a thumbnail's end inside of its EXIF data
        let mut thumbnail = exif(1, true);
        thumbnail.extend([0xff, 0xd8, 0xff, 0xd9]);
        let long = with_exif(&jpeg, &thumbnail);
        assert!(Picture::from_bytes(&long).is_ok());
        for percent in [1, 10, 30, 50, 70, 90, 99] {
            for whole in [&jpeg, &long] {
                let cut = &whole[..whole.len() * percent / 100];
                let e = Picture::from_bytes(cut).expect_err("truncated").to_string();
                assert!(e.contains("truncated"), "{percent}: {e}");
            }
        }
        for cut in 1..=2 {
            assert!(Picture::from_bytes(&jpeg[..jpeg.len() - cut]).is_err());
        }
        // cut and closed again: the end is there, some of the picture is not
        for percent in (20..100).step_by(3) {
            let mut closed = jpeg[..jpeg.len() * percent / 100].to_vec();
            while closed.last() == Some(&0xff) {
                closed.pop();
            }
            closed.extend([0xff, 0xd9]);
            let e = Picture::from_bytes(&closed)
                .expect_err("cut and closed")
                .to_string();
            assert!(e.contains("missing or damaged"), "{percent}: {e}");
        }
        // bytes behind the end do not matter
        let mut more = jpeg.clone();
        more.extend(b"more");
        assert!(Picture::from_bytes(&more).is_ok());
    }
}

/// A grey progressive JPEG of 8×8 pixels of one value: its parts before the scans, and three scans: all but the last bit of the mean, the other
/// coefficients (zeros), and the last bit.
fn progressive(value: u8) -> [Vec<u8>; 4] {
    fn segment(marker: u8, body: &[u8], data: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16 + 2).to_be_bytes();
        // what a marker begins with is followed by a zero within data
        let each = |&b: &u8| if b == 0xff { vec![b, 0] } else { vec![b] };
        let data: Vec<u8> = data.iter().flat_map(each).collect();
        [&[0xff, marker][..], &length, body, &data].concat()
    }
    let mut head = vec![0xff, 0xd8];
    head.extend(segment(0xdb, &[&[0][..], &[1; 64]].concat(), &[]));
    head.extend(segment(0xc2, &[8, 0, 8, 0, 8, 1, 1, 0x11, 0], &[]));
    // sizes of means in four bits each; of the others only "nothing follows", one bit
    let sizes: Vec<u8> = (0..12).collect();
    let means = [&[0, 0, 0, 0, 12][..], &[0; 12], &sizes].concat();
    head.extend(segment(0xc4, &means, &[]));
    let others = [&[0x10, 1][..], &[0; 15], &[0]].concat();
    head.extend(segment(0xc4, &others, &[]));
    let mean = 8 * (i32::from(value) - 128) + 1;
    let high = mean >> 1;
    let size = 32 - high.unsigned_abs().leading_zeros();
    let low = if high < 0 {
        high + (1 << size) - 1
    } else {
        high
    };
    let mut bits = format!("{size:04b}{low:0width$b}", width = size as usize);
    bits.push_str(&"1".repeat(16 - bits.len()));
    let bits = u16::from_str_radix(&bits, 2).expect("16 bits");
    let [one, two] = bits.to_be_bytes();
    [
        head,
        segment(0xda, &[1, 1, 0, 0, 0, 0x01], &[one, two]),
        segment(0xda, &[1, 1, 0, 1, 63, 0], &[0x7f]),
        segment(
            0xda,
            &[1, 1, 0, 0, 0, 0x10],
            &[0x80 | (0x7f * (mean & 1) as u8)],
        ),
    ]
}

#[test]
fn a_progressive_jpeg_without_its_last_scans_is_refused() {
    for value in [10, 100, 128, 200] {
        let parts = progressive(value);
        let with = |scans: usize| {
            let bytes = [&parts[..=scans].concat()[..], &[0xff, 0xd9]].concat();
            Picture::from_bytes(&bytes)
        };
        let whole = with(3).expect("a whole picture").pixels(1).expect("grey");
        assert!(whole.iter().all(|v| v.abs_diff(value) <= 1), "{whole:?}");
        for (scans, words) in [(1, "whole coefficients"), (2, "the last bits")] {
            let e = with(scans).expect_err("cut").to_string();
            assert!(e.contains(words) && e.contains("cut between"), "{e}");
        }
    }
}

#[test]
fn transparency_is_known_and_many_kinds_of_pictures_are_right() {
    let png = |picture: image::DynamicImage| {
        Picture::from_bytes(&encoded(&picture, image::ImageFormat::Png)).expect("decodes")
    };
    let rgba = |alpha: u8| image::RgbaImage::from_pixel(4, 4, image::Rgba([200, 100, 50, alpha]));
    let mut one = rgba(255);
    one.get_pixel_mut(3, 3).0[3] = 254;
    for (picture, transparent) in [(rgba(255), false), (rgba(0), true), (one, true)] {
        let picture = png(picture.into());
        assert_eq!(picture.transparent(), transparent);
        assert_eq!(picture.fit(2, 2).transparent(), transparent);
        assert_eq!(picture.pixels(3).expect("colours")[..3], [200, 100, 50]);
    }
    let deep = image::ImageBuffer::from_pixel(4, 4, image::Rgb([0x8080u16, 0x4040, 0xffff]));
    let deep = png(image::DynamicImage::ImageRgb16(deep));
    assert_eq!(deep.pixels(3).expect("colours")[..3], [0x80, 0x40, 0xff]);
    assert!(!deep.transparent());
    let deep = image::ImageBuffer::from_pixel(4, 4, image::LumaA([0x8080u16, 0x1000]));
    assert!(png(image::DynamicImage::ImageLumaA16(deep)).transparent());
}

#[test]
fn normalisations_are_what_is_said() {
    let said = |stated: &Stated, channels| stated.normalization(channels).expect("fits");
    let numbers = |mean: &[f64], deviation: &[f64], range| Stated {
        mean: mean.to_vec(),
        deviation: deviation.to_vec(),
        range,
        ..Stated::default()
    };
    assert!(!Stated::default().is_said());
    let order = Stated {
        channels: Channels::Bgr,
        ..Stated::default()
    };
    assert!(!order.is_said(), "an order alone says nothing of numbers");
    // what a byte becomes in each channel
    let of = |n: &Normalization, byte: u8| -> Vec<f64> {
        let channels = n.mean.len();
        let bytes: Vec<u8> = (0..channels as u8).map(|c| byte + c).collect();
        let shape = Shape::image(channels, 1, 1);
        task::picture::normalize(&bytes, shape, n)
            .expect("fits")
            .into_values()
    };
    let eq = |had: Vec<f64>, right: &[f64]| assert_close(&had, right, 1e-12);
    for channels in [1, 3] {
        let each = |f: &dyn Fn(f64) -> f64| -> Vec<f64> {
            (0..channels).map(|c| f(100.0 + c as f64)).collect()
        };
        eq(
            of(&said(&Stated::named("none"), channels), 100),
            &each(&|v| v / 255.0),
        );
        eq(
            of(&said(&Stated::named("half"), channels), 100),
            &each(&|v| v / 127.5 - 1.0),
        );
        eq(
            of(&said(&numbers(&[], &[], Some((0.0, 255.0))), channels), 100),
            &each(&|v| v),
        );
        eq(
            of(&said(&numbers(&[], &[], Some((-1.0, 1.0))), channels), 100),
            &each(&|v| v / 127.5 - 1.0),
        );
        eq(
            of(
                &said(&numbers(&[127.5], &[51.0], Some((0.0, 255.0))), channels),
                100,
            ),
            &each(&|v| (v - 127.5) / 51.0),
        );
        eq(
            of(&said(&numbers(&[0.1307], &[0.3081], None), channels), 100),
            &each(&|v| (v / 255.0 - 0.1307) / 0.3081),
        );
    }
    assert_eq!(
        said(&Stated::named("imagenet"), 3),
        Normalization::imagenet()
    );
    assert_eq!(
        said(&Stated::named("cifar10"), 3).mean,
        [0.4914, 0.4822, 0.4465]
    );
    // blue, green, red: numbers in the network's order, names in their own
    let caffe = Stated {
        channels: Channels::Bgr,
        ..numbers(&[104.0, 117.0, 123.0], &[], Some((0.0, 255.0)))
    };
    eq(
        of(&said(&caffe, 3), 100),
        &[102.0 - 104.0, 101.0 - 117.0, 100.0 - 123.0],
    );
    let bgr = Stated {
        channels: Channels::Bgr,
        ..Stated::named("imagenet")
    };
    let rgb = of(&Normalization::imagenet(), 100);
    eq(of(&said(&bgr, 3), 100), &[rgb[2], rgb[1], rgb[0]]);
    for (bad, channels) in [
        (Stated::named("imagenet"), 1),
        (Stated::named("cifar10"), 4),
        (Stated::named("imagenet21k"), 3),
        (
            Stated {
                mean: vec![0.5],
                ..Stated::named("half")
            },
            3,
        ),
        (numbers(&[0.5, 0.5], &[], None), 3),
        (numbers(&[], &[0.0], None), 3),
        (numbers(&[f64::NAN], &[], None), 3),
        (numbers(&[], &[], Some((1.0, 1.0))), 3),
        (numbers(&[], &[], Some((0.0, f64::INFINITY))), 3),
        (
            Stated {
                channels: Channels::Bgr,
                ..Stated::named("none")
            },
            1,
        ),
    ] {
        assert!(bad.normalization(channels).is_err(), "{bad:?}");
    }
    for (stated, text) in [
        (Stated::named("none"), "v/255, channels red, green, blue"),
        (
            Stated::named("half"),
            "(v/255 − 0.5)/0.5, channels red, green, blue",
        ),
        (
            numbers(&[], &[], Some((0.0, 255.0))),
            "v, channels red, green, blue",
        ),
        (
            caffe,
            "v − [104.0, 117.0, 123.0], channels blue, green, red",
        ),
        (
            Stated::named("imagenet"),
            "(v/255 − [0.485, 0.456, 0.406])/[0.229, 0.224, 0.225], channels red, green, blue",
        ),
    ] {
        assert_eq!(said(&stated, 3).to_string(), text);
    }
    assert_eq!(
        said(&numbers(&[0.1307], &[0.3081], None), 1).to_string(),
        "(v/255 − 0.1307)/0.3081"
    );
}

#[test]
fn tasks_keep_their_bytes_and_the_order_of_channels() {
    let made = |channels| {
        let n = Normalization {
            channels,
            ..Normalization::imagenet()
        };
        let pictures = Pictures::new(Shape::image(3, 1, 1), n, Outputs::Classes(Vec::new()));
        Task::Pictures(pictures.expect("fits"))
    };
    let (rgb, bgr) = (
        made(Channels::Rgb).to_bytes(),
        made(Channels::Bgr).to_bytes(),
    );
    assert_eq!(bgr[..rgb.len()], rgb[..]);
    assert_eq!(bgr.len(), rgb.len() + 1);
    assert_eq!(Task::from_bytes(&rgb).expect("reads"), made(Channels::Rgb));
    assert_eq!(Task::from_bytes(&bgr).expect("reads"), made(Channels::Bgr));
    let mut other = bgr.to_vec();
    for last in [0, 2, 255] {
        *other.last_mut().expect("one") = last;
        assert!(Task::from_bytes(&other.clone().into()).is_err());
    }
    let picture = Picture::from_pixels(1, 1, 3, vec![10, 20, 30]).expect("one");
    let Task::Pictures(task) = made(Channels::Bgr) else {
        panic!("pictures")
    };
    let x = task.input(&picture).expect("fits").into_values();
    assert_close(
        &x,
        &[
            (30.0 / 255.0 - 0.485) / 0.229,
            (20.0 / 255.0 - 0.456) / 0.224,
            (10.0 / 255.0 - 0.406) / 0.225,
        ],
        1e-12,
    );
}

#[test]
fn what_decoding_takes_is_known_from_the_header() {
    let image = image::DynamicImage::ImageRgba16(image::ImageBuffer::new(40, 30));
    let whole = encoded(&image, image::ImageFormat::Png);
    let decoding = Picture::decoding(&whole).expect("a header");
    assert_eq!((decoding.width, decoding.height), (40, 30));
    assert_eq!(decoding.bytes, 40 * 30 * 8 + whole.len() as u64);
    // nothing behind the header is looked at
    let cut = Picture::decoding(&whole[..whole.len() - 20]).expect("a header");
    assert_eq!(cut.bytes, decoding.bytes - 20);
    let grey = image::DynamicImage::ImageLuma8(image::ImageBuffer::new(40, 30));
    let jpeg = encoded(&grey, image::ImageFormat::Jpeg);
    let decoding = Picture::decoding(&jpeg).expect("a header");
    assert_eq!(decoding.bytes, 40 * 30 + jpeg.len() as u64);
    for bad in [&b""[..], b"GIF89a", &whole[..12]] {
        assert!(Picture::decoding(bad).is_err());
    }
}
