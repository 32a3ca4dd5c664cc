//! Embeds the demo's network and picture where the repository holds them; an empty file where it does not (yet). Tells the program
//! the commit that it is built from, where that is known.

use std::path::Path;

fn main() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let out = std::env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    println!("cargo:rerun-if-changed={}", models.display());
    for (name, embedded) in [("resnet20-poly.pvm", "model"), ("picture.png", "picture")] {
        let path = models.join(name);
        println!("cargo:rerun-if-changed={}", path.display());
        let bytes = std::fs::read(&path).unwrap_or_default();
        std::fs::write(Path::new(&out).join(embedded), bytes).expect("OUT_DIR can be written");
    }
    commit();
}

include!("commit.rs");
