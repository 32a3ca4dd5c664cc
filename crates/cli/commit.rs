/// Sets POLYVEIL_VERSION, and POLYVEIL_COMMIT where this is a checkout of the repository and git is there; builds the same without.
fn commit() {
    let commit = known_commit();
    let short = commit.as_ref().map_or("commit unknown", |c| &c[..12]);
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    println!("cargo:rustc-env=POLYVEIL_VERSION={version} ({short})");
    if let Some(commit) = commit {
        println!("cargo:rustc-env=POLYVEIL_COMMIT={commit}");
    }
}

fn known_commit() -> Option<String> {
    let git = |arguments: &[&str]| -> Option<String> {
        let out = std::process::Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(out.stdout).ok()?;
        out.status.success().then(|| text.trim().to_owned())
    };
    // not that of another repository into which the sources were unpacked
    let prefix = git(&["rev-parse", "--show-prefix"])?;
    if !["crates/cli/", "crates/cli-train/"].contains(&prefix.as_str()) {
        return None;
    }
    let commit = git(&["rev-parse", "HEAD"]).filter(|c| c.len() >= 40)?;
    // written at every commit and checkout
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if !std::path::Path::new(&log).exists() {
        return None;
    }
    println!("cargo:rerun-if-changed={log}");
    Some(commit)
}
