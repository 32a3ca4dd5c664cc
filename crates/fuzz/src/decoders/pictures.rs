//! Single pictures.

use super::{Decoder, Outcome, Probe, again, law, picture_limit};
use crate::{models, png};
use task::Normalization;
use task::picture::Picture;

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
    let (png_files, jpeg) = (models::png(), models::jpeg());
    let chunks: Vec<_> = png_files.iter().map(|f| png::parse(f)).collect();
    let jpeg_seeds = jpeg.clone();
    vec![
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
