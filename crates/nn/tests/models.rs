//! The networks that this repository has: whole, and as they were trained.

use polyveil_nn::format::artefact;

/// BLAKE3 of all tensors of a file: in the order of their names, each as its name, type, lengths and bytes.
fn weights(file: &[u8]) -> String {
    let tensors = safetensors::SafeTensors::deserialize(file).expect("safetensors");
    let mut all = tensors.tensors();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hasher = blake3::Hasher::new();
    for (name, t) in all {
        let head = format!("{name} {:?} {:?} ", t.dtype(), t.shape());
        hasher.update(head.as_bytes()).update(t.data());
    }
    hasher.finalize().to_hex().to_string()
}

/// The digests of their tensors were taken while the files were of version 7, which had no checksum.
#[test]
fn the_networks_in_this_repository_have_a_checksum_and_the_weights_they_had_without() {
    for (path, had) in [
        (
            "models/resnet20-poly.pvm",
            "8f6d2b7c4916947de07766c01bb124d57a3a60f7ab9701863c99d43441f49b2a",
        ),
        (
            "training/demo/base.pvm",
            "6cfcc85d0f5fc5c74f68208d912e78ad963f3708aac07df23e4b7782a516134d",
        ),
    ] {
        let file = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
        let file = std::fs::read(file).expect("it is here");
        assert_eq!(weights(&file), had, "{path}");
        assert!(!artefact::begins_without_checksum(&file), "{path}");
        let (graph, _) = artefact::graph_from_bytes(&file).expect("reads");
        for at in (0..file.len()).step_by(file.len() / 5) {
            let mut bad = file.clone();
            bad[at] ^= 1 << 6;
            let read = artefact::graph_from_bytes(&bad);
            assert!(read.is_err(), "{path}: byte {at}");
        }
        assert!(graph.nodes().len() > 60, "{path}");
    }
}
