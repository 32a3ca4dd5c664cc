//! The short campaign against the programs that this workspace's tests build. Ignored: it takes a minute of both cores.

use std::process::Command;

#[test]
#[ignore = "a minute on two cores: cargo test --release --workspace --test short -- --ignored"]
fn nothing_fails_in_the_short_campaign() {
    let run = Command::new(env!("CARGO_BIN_EXE_polyveil-campaign"))
        .arg("--short")
        .output()
        .expect("the campaign starts");
    let (table, words) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    assert!(run.status.success(), "{words}\n{table}");
}
