//! Single pictures.

use crate::decoder::{Decoder, Law, again, law, picture_limit};
use crate::{models, png};
use task::Normalization;
use task::picture::Picture;

fn check_picture(picture: Picture) -> Law {
    let (width, height) = picture.size();
    let holds = (1..=16_384).contains(&width) && (1..=16_384).contains(&height);
    law(holds, "a picture has a possible size")?;
    if width * height <= 1 << 12 {
        let shape = nn::Shape::image(3, height, width);
        let tensor = again(picture.to_tensor(shape, &Normalization::imagenet()))?;
        let holds = tensor.values().iter().all(|v| v.is_finite());
        law(holds, "pixels are finite")?;
    }
    Ok(())
}

pub(super) fn all() -> Vec<Decoder> {
    let png = Decoder::new("png", models::png()).apart(png::parse, png::generate);
    let jpeg = Decoder::new("jpeg", models::jpeg()).mutants(models::mutate_jpeg);
    let picture = |d: Decoder| {
        d.within(picture_limit)
            .reads(Picture::from_bytes, check_picture)
    };
    [png, jpeg].map(picture).into()
}
