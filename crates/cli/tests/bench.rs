//! `bench` measures every row with every field, and its table is made of nothing else.

use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_polyveil"))
        .arg("bench")
        .args(arguments)
        .output()
        .expect("it starts")
}

fn file(name: &str, text: &[u8]) -> PathBuf {
    let path = std::env::temp_dir().join(format!("polyveil-bench-{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("a file");
    path
}

const ROWS: [&str; 9] = [
    "ntt",
    "add",
    "mul_plain",
    "rescale",
    "rotate",
    "rotate_hoisted_8",
    "mul_relin_rescale",
    "linear_64",
    "chebyshev_31",
];

#[test]
fn every_row_has_every_field_and_becomes_a_table() {
    let quick = [
        "--quick",
        "--json",
        "--threads",
        "2",
        "--runs",
        "1",
        "--bootstrap-runs",
        "1",
    ];
    let out = bench(&quick);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let rows: Vec<Value> = serde_json::from_slice(&out.stdout).expect("an array");
    let of = |name: &str| -> Vec<&Value> { rows.iter().filter(|r| r["name"] == name).collect() };
    let positive = |row: &Value, field: &str| {
        assert!(
            row[field].as_f64().is_some_and(|x| x > 0.0),
            "{field}: {row}"
        );
    };
    let threads = |rows: &[&Value]| -> Vec<u64> {
        let mut all: Vec<u64> = rows.iter().filter_map(|r| r["threads"].as_u64()).collect();
        all.sort_unstable();
        all
    };
    for row in &rows {
        for field in [
            "cpu_ms",
            "wall_ms",
            "references",
            "reference_ms",
            "runs",
            "threads",
        ] {
            positive(row, field);
        }
        for field in ["backend", "processor"] {
            assert!(row[field].as_str().is_some_and(|s| !s.is_empty()), "{row}");
        }
        assert!(
            row.get("commit")
                .is_none_or(|c| c.as_str().is_some_and(|c| c.len() >= 40))
        );
    }
    assert_eq!(threads(&of("reference")), [1]);
    let ratio = of("reference")[0]["references"].as_f64().expect("a number");
    assert!(
        (0.2..5.0).contains(&ratio),
        "the reference is {ratio} of itself"
    );
    for row in of("stream").iter().chain(&of("add 2^11")) {
        positive(row, "bytes");
        positive(row, "gb_per_s");
    }
    assert_eq!(threads(&of("stream")), [1, 2]);
    for name in ROWS {
        let rows = of(&format!("{name} 2^11"));
        let all: &[u64] = if name == "ntt" { &[1] } else { &[1, 2] };
        assert_eq!(threads(&rows), all, "{name}");
        for row in rows {
            assert_eq!(row["parameters"]["limbs"], 27);
            assert_eq!(row["parameters"]["dnum"], 3);
            assert_eq!(row["parameters"]["name"], "toy-levelled-11");
            positive(&row["parameters"], "log_qp");
            assert_eq!(row["limbs"], if name == "ntt" { 1 } else { 27 });
        }
    }
    // three slot counts and two targets on each number of threads
    let bootstraps = of("bootstrap 2^11");
    assert_eq!(threads(&bootstraps), [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    for row in bootstraps {
        for field in ["slots", "level_bits"] {
            positive(row, field);
        }
        assert!(row["peak_bytes"].is_u64());
        assert!(row["levels_left"] == 10 || row["levels_left"] == 4);
        assert_eq!(row["parameters"]["name"], "toy-11");
        if row["threads"] == 1 {
            assert!(row["worst_bits"].as_f64() > Some(15.0), "{row}");
            assert!(row["mean_bits"].as_f64() > row["worst_bits"].as_f64());
            assert_eq!(row["classes"].as_object().map(|c| c.len()), Some(5));
        }
    }

    // two slot counts for each of three sets on each number of threads
    let half = of("half_bootstrap 2^11");
    assert_eq!(threads(&half), [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
    for row in half {
        assert!([2, 4, 9].iter().any(|k| row["free_levels"] == *k), "{row}");
        positive(row, "slots");
        if row["threads"] == 1 {
            assert!(row["worst_bits"].as_f64() > Some(20.0), "{row}");
            assert!(row["rms_bits"].as_f64() > row["worst_bits"].as_f64());
            assert!(row["mean_bits"].as_f64() > row["rms_bits"].as_f64());
        }
    }

    let path = file("rows.json", &out.stdout);
    let table = bench(&["--table", path.to_str().expect("a path")]);
    let _ = std::fs::remove_file(&path);
    let table = String::from_utf8(table.stdout).expect("text");
    for name in ROWS {
        assert!(table.contains(&format!("\n| {name} 2^11 | ")), "{table}");
    }
    // to ten levels and to four, and half ones for three sets
    assert_eq!(table.matches("\n| 2^10 | ").count(), 5, "{table}");
    assert!(table.contains("\n| half bootstrap, slots | "), "{table}");
}

#[test]
fn what_is_no_bench_is_refused_in_one_line() {
    let refused = |arguments: &[&str], words: &str| {
        let out = bench(arguments);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{text}");
        assert!(out.stdout.is_empty());
        let last = text.trim_end().lines().last().unwrap_or_default();
        assert!(
            last.starts_with("error: ") && last.contains(words),
            "{text}"
        );
        text.trim_end().lines().count()
    };
    let large = vec![b' '; (1 << 20) + 1];
    for (i, content) in [
        &b"{}"[..],
        b"[]",
        b"[{\"name\": \"rotate 2^16\"}]",
        b"\xff\x00",
        b"",
        &large,
    ]
    .iter()
    .enumerate()
    {
        let path = file(&format!("refused-{i}.json"), content);
        let name = path.to_str().expect("a path");
        assert_eq!(
            refused(&["--table", name], "polyveil bench --json > FILE"),
            1
        );
        let _ = std::fs::remove_file(&path);
    }
    refused(&["--table", "absent.json"], "absent.json");
    let toy = ["--quick", "--only", "bootstrap"];
    refused(&[&toy[..], &["--log-slots", "11"]].concat(), "at most 10");
    refused(&[&toy[..], &["--targets", "11"]].concat(), "level 1 to 10");
}
