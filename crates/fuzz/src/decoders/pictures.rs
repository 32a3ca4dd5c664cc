//! Single pictures.

use super::{Decoder, Outcome, Probe, again, law, picture_limit, text_limit};
use crate::{bytes, models, png};
use task::Normalization;
use task::picture::{Picture, cifar_records};

fn check_picture(probe: &mut Probe<'_>) -> Outcome {
    let Ok(picture) = probe.count(Picture::from_bytes) else {
        return Ok(false);
    };
    let (width, height) = picture.size();
    law(
        (1..=16_384).contains(&width) && (1..=16_384).contains(&height),
        "a picture has a possible size",
    )?;
    if width * height <= 1 << 12 {
        let tensor = again(picture.to_tensor(
            nn::Shape::image(3, height, width),
            &Normalization::imagenet(),
        ))?;
        law(
            tensor.values().iter().all(|v| v.is_finite()),
            "pixels are finite",
        )?;
    }
    Ok(true)
}

pub(super) fn all() -> Vec<Decoder> {
    let cifar = models::cifar();
    let (png_files, jpeg) = (models::png(), models::jpeg());
    let chunks: Vec<_> = png_files.iter().map(|f| png::parse(f)).collect();
    let (cifar_seeds, jpeg_seeds) = (cifar.clone(), jpeg.clone());
    vec![
        Decoder {
            name: "cifar",
            seeds: cifar,
            limit: text_limit,
            generate: Box::new(move |r| {
                let mut out = r.pick(&cifar_seeds).clone();
                let at = 3073 * r.below(out.len() / 3073);
                if r.one_in(2) {
                    out[at] = r.below(16) as u8;
                } else {
                    (0..r.few()).for_each(|_| bytes::mutate(r, &mut out));
                }
                out
            }),
            decode: Box::new(|probe| {
                let Ok(records) = probe.count(cifar_records) else {
                    return Ok(false);
                };
                let back: Vec<u8> = records
                    .iter()
                    .flat_map(|r| std::iter::once(r.label).chain(r.pixels.iter().copied()))
                    .collect();
                law(back == probe.bytes, "records hold the file's bytes")?;
                law(records.iter().all(|r| r.label < 10), "labels are digits")?;
                again(records[0].to_tensor(&Normalization::imagenet()))?;
                Ok(true)
            }),
        },
        Decoder {
            name: "png",
            seeds: png_files,
            limit: picture_limit,
            generate: Box::new(move |r| png::generate(r, &chunks)),
            decode: Box::new(check_picture),
        },
        Decoder {
            name: "jpeg",
            seeds: jpeg,
            limit: picture_limit,
            generate: Box::new(move |r| models::mutate_jpeg(r, &jpeg_seeds)),
            decode: Box::new(check_picture),
        },
    ]
}
