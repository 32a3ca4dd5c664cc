//! Embeds the demo's network and picture where the repository holds them; an empty file where it does not (yet). Tells the program
//! the commit that it is built from, where that is known.

use std::path::Path;
use std::process::Command;

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

/// Sets POLYVEIL_COMMIT where this is a checkout of the repository and git is there; builds the same without.
fn commit() {
    let git = |arguments: &[&str]| -> Option<String> {
        let out = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        out.status.success().then(|| text.trim().to_owned())
    };
    // not that of another repository into which the sources were unpacked
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("crates/cli/") {
        return;
    }
    let Some(commit) = git(&["rev-parse", "HEAD"]).filter(|c| c.len() >= 40) else {
        return;
    };
    // written at every commit and checkout
    if let Some(log) = git(&["rev-parse", "--git-path", "logs/HEAD"])
        && Path::new(&log).exists()
    {
        println!("cargo:rerun-if-changed={log}");
        println!("cargo:rustc-env=POLYVEIL_COMMIT={commit}");
    }
}
