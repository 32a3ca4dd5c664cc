//! `estimate`: tables and JSON of shapes, and what it refuses.

mod support;

use support::{Folder, done, no_usage, refused};

const CONFIG: &str = r#"{
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 32
}"#;

#[test]
fn a_published_shape_has_tables_with_what_p2_published() {
    let (table, notes) = done(
        "estimate pythia-70m --length 128 --batch 1 --machine shipped --max-memory 64GB",
        &[],
    );
    for words in [
        "| pythia-70m | 70 | 128 | 1 |",
        "| pythia-70m, P2, A100 seconds | 128 | 1 | 28 | 17 | 19 |",
        "The largest of these that fits this machine: pythia-70m",
        "blocks recomputed",
    ] {
        assert!(table.contains(words), "{words} is not in\n{table}");
    }
    assert!(notes.contains("sketched in"), "{notes}");
}

#[test]
fn a_vision_transformer_has_the_tokens_of_its_pictures() {
    let folder = Folder::new("estimate-vision");
    let config = r#"{"model_type": "vit", "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8, "num_labels": 10}"#;
    let config = folder.file("config.json", config.as_bytes());
    let (text, _) = done(
        &format!("estimate {config} --length 32 --length 64 --batch 1 --json --machine shipped"),
        &[],
    );
    let rows: Vec<serde_json::Value> = (text.lines())
        .map(|l| serde_json::from_str(l).expect("JSON"))
        .collect();
    assert_eq!(rows.len(), 1, "{text}");
    assert_eq!(
        (&rows[0]["tokens"], &rows[0]["batch"]),
        (&17.into(), &1.into())
    );
    assert!(rows[0]["bootstraps"].as_f64().expect("a number") >= 3.0);
}

#[test]
fn a_configuration_gives_json_for_both_modes_and_the_same_twice() {
    let folder = Folder::new("estimate-json");
    let config = folder.file("config.json", CONFIG.as_bytes());
    let arguments = format!("estimate {config} --length 32 --json --machine shipped");
    let (first, _) = done(&arguments, &[]);
    let (second, _) = done(&arguments, &[]);
    let rows = |text: &str| -> Vec<serde_json::Value> {
        text.lines()
            .map(|l| {
                let mut row: serde_json::Value = serde_json::from_str(l).expect("JSON");
                row["sketched_in_seconds"] = 0.into();
                row
            })
            .collect()
    };
    let (first, second) = (rows(&first), rows(&second));
    assert_eq!(first, second);
    assert_eq!(first.len(), 2);
    assert_eq!(
        (&first[0]["batch"], &first[1]["batch"]),
        (&1.into(), &1024.into())
    );
    for row in &first {
        let number = |name: &str| row[name].as_f64().expect(name);
        assert!(number("bootstraps") >= 3.0);
        assert!(number("predicted_cpu_seconds") > 5.0);
        assert!(number("predicted_peak_bytes") > number("key_bytes"));
        let purposes = row["cpu_seconds_by_purpose"].as_object().expect("purposes");
        let sum: f64 = purposes.values().filter_map(|v| v.as_f64()).sum();
        assert!((sum / number("predicted_cpu_seconds") - 1.0).abs() < 1e-9);
    }
    // more inputs side by side are cheaper each
    let each = |i: usize| {
        first[i]["predicted_cpu_seconds"].as_f64().expect("seconds")
            / first[i]["batch"].as_f64().expect("inputs")
    };
    assert!(each(1) < 0.2 * each(0));
}

/// Logits of the last position alone are estimated at full size by shapes alone, and what names no position is refused.
#[test]
fn logits_of_few_positions_are_estimated() {
    let folder = Folder::new("estimate-positions");
    let config = folder.file("config.json", CONFIG.as_bytes());
    let of = |positions: &str| -> serde_json::Value {
        let arguments = "--length 32 --batch 1 --json --machine shipped";
        let (text, _) = done(
            &format!("estimate {config} {arguments} --positions {positions}"),
            &[],
        );
        serde_json::from_str(&text).expect("one row")
    };
    let (all, few, last) = (of("all"), of("3,17,30"), of("last"));
    assert!(all["positions"].is_null(), "{all}");
    assert_eq!([&few["positions"], &last["positions"]], [3, 1]);
    let seconds = |row: &serde_json::Value| row["predicted_cpu_seconds"].as_f64();
    // the logits of all fill one ciphertext here, and a matrix of one position has as many diagonals
    assert!(
        seconds(&last)
            .zip(seconds(&all))
            .is_some_and(|(few, all)| few < 1.02 * all),
        "{last}{all}"
    );
    assert_eq!(last["answer_ciphertexts"], 1, "{last}");
    let table = format!("estimate {config} --length 32 --batch 1 --machine shipped");
    let (text, _) = done(&format!("{table} --positions last"), &[]);
    assert!(text.contains("| 32, logits of 1 |"), "{text}");
    let outside = ["position 32", "0 to 31"];
    refused(&format!("{table} --positions 3,32"), &[], &outside);
    refused(
        "estimate vit-b-32 --positions last",
        &[],
        &["takes pictures", "only a language model's answer"],
    );
}

/// Names by which releases are compared.
const NAMES: [&str; 14] = [
    "cpu_seconds",
    "seconds",
    "threads",
    "reference_ms",
    "predicted_cpu_seconds",
    "peak_bytes",
    "compile_seconds",
    "compile_peak_bytes",
    "key_bytes",
    "max_abs_error",
    "stated_error",
    "largest_logit",
    "bootstraps",
    "security_bits",
];

#[test]
fn pictures_have_the_names_that_releases_are_compared_by() {
    let (text, _) = done("estimate resnet18 --size 64 --machine shipped --json", &[]);
    let row: serde_json::Value = serde_json::from_str(&text).expect("one object");
    for name in NAMES {
        assert!(row.get(name).is_some(), "{name} is not in {row}");
    }
    assert!(row["predicted_cpu_seconds"].as_f64() > Some(5.0) && row["cpu_seconds"].is_null());
    assert_eq!(row["security_bits"], 128);
}

#[test]
#[ignore = "full size: minutes and 4 GB"]
fn a_run_that_was_killed_goes_on_in_its_folder() {
    let folder = Folder::new("estimate-keep");
    let config = folder.file("config.json", CONFIG.as_bytes());
    let kept = folder.path("kept");
    let arguments =
        format!("estimate {config} --length 32 --run --keep {kept} --json --machine shipped");
    let mut first = support::command(&arguments, &[])
        .spawn()
        .expect("it starts");
    let find = |name: &str| {
        let own = std::fs::read_dir(&kept).ok()?.next()?.ok()?.path();
        Some(own.join(name)).filter(|path| path.exists())
    };
    while find("times.json").is_none() {
        assert!(first.try_wait().expect("known").is_none(), "it ended");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    first.kill().expect("killed");
    first.wait().expect("ended");
    let key = std::fs::read(find("keys/client.key").expect("made")).expect("read");
    let (text, notes) = done(&arguments, &[]);
    assert!(notes.contains("going on at step"), "{notes}");
    assert_eq!(
        std::fs::read(find("keys/client.key").expect("there")).expect("read"),
        key
    );
    let row: serde_json::Value = serde_json::from_str(&text).expect("one object, of one input");
    for name in NAMES {
        assert!(row[name].is_number(), "{name} is not in {row}");
    }
    let number = |name: &str| row[name].as_f64().expect(name);
    assert!(number("max_abs_error") <= number("stated_error"), "{row}");
    // every step's time is there, that of the killed process too
    let each = row["work"].as_array().expect("by what steps do").iter();
    let sum: f64 = each
        .map(|w| w["cpu_seconds"].as_f64().expect("measured"))
        .sum();
    assert!((sum / number("cpu_seconds") - 1.0).abs() < 1e-9, "{row}");
    assert!(
        number("cpu_seconds") > 0.7 * number("predicted_cpu_seconds"),
        "{row}"
    );
    for of in ["purposes", "primitives"] {
        assert!(
            row[of].as_array().is_some_and(|list| list.len() > 3),
            "{row}"
        );
    }
}

#[test]
fn refusals() {
    no_usage("estimate pythia-70m --keep x", &["--run"]);
    let folder = Folder::new("estimate-refusals");
    refused(
        "estimate gpt-5",
        &[],
        &["gpt-5", "no published model", "pythia-70m"],
    );
    refused(
        "estimate pythia-70m --length 1",
        &[],
        &["must be 2 to 32768"],
    );
    refused("estimate resnet18", &[], &["resnet18", "--size"]);
    // what does not suit a published shape was passed over
    for (option, what) in [
        ("--activation nonsense", "SiLU"),
        ("--network-output y", "one output"),
        ("--batch 1 --batch 4", "at a time"),
        ("--length 9", "no length"),
        ("--power 6", "no attention"),
        ("--bits 40", "no attention"),
        ("--degree 0", "degree 2"),
        ("--pictures 0", "at least one picture"),
    ] {
        let command = format!("estimate resnet18 --size 32 --machine shipped {option}");
        refused(&command, &[], &["resnet18", what]);
    }
    // of several networks those that can be estimated are
    let several = "estimate gpt-5 resnet18 --size 32 --machine shipped";
    let out = support::command(several, &[]).output().expect("it starts");
    let (text, notes) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert_eq!(out.status.code(), Some(1), "{notes}");
    assert!(text.contains("resnet18, 3×32×32"), "{text}");
    assert!(notes.contains("gpt-5: "), "{notes}");
    assert!(
        notes.contains("1 of 2 networks can't be estimated"),
        "{notes}"
    );
    refused("estimate pythia-70m --batch 3", &[], &["3", "power of two"]);
    refused("estimate pythia-70m --power 3", &[], &["3", "even"]);
    let other = folder.file("other.json", CONFIG.replace("llama", "mamba").as_bytes());
    refused(&format!("estimate {other}"), &[], &["other.json", "mamba"]);
    let missing = folder.file(
        "missing.json",
        CONFIG.replace("hidden_size", "size").as_bytes(),
    );
    refused(
        &format!("estimate {missing}"),
        &[],
        &["hidden_size is missing"],
    );
}
