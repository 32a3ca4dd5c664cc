//! What a bench measured as the Markdown of docs/performance.md, beside other libraries.

use crate::bench::Row;
use crate::error::{Result, named};
use crate::files;
use crate::markdown::{Table, or_none};
use cost::workload::median;
use std::path::Path;

/// The best of the other libraries at an operation.
///
/// Process CPU time on one thread, medians, on another 2-core machine with AVX-512 IFMA and AMX, November 2026 (operations ±15 %,
/// bootstraps while it was quiet): N = 2^16, 27 ciphertext limbs (q0 60 bits, 26 × 45), dnum 3, dense ternary secret; log QP 1650
/// (OpenFHE 1.5.1 with HEXL 1.2.6), 1770 (Lattigo 6.2.0). Bootstraps by OpenFHE with HEXL, log QP 1715, dnum 4, a secret with
/// sparse encapsulation, which leaves nine levels and counts as 128 bits by its own table. tfhe-ntt 0.7.1 is as fast as HEXL.
struct Peer {
    row: &'static str,
    /// Slots of a bootstrap.
    slots: Option<usize>,
    cpu_ms: f64,
    library: &'static str,
    /// What this engine aims at, in references.
    target: Option<f64>,
    bootstrap: Option<PeerBootstrap>,
}

struct PeerBootstrap {
    levels: usize,
    worst_bits: f64,
    mean_bits: f64,
    peak_gb: f64,
}

const OPENFHE: &str = "OpenFHE + HEXL";
const LATTIGO: &str = "Lattigo";

const fn peer(row: &'static str, cpu_ms: f64, library: &'static str, target: f64) -> Peer {
    Peer {
        row,
        slots: None,
        cpu_ms,
        library,
        target: Some(target),
        bootstrap: None,
    }
}

const PEERS: [Peer; 11] = [
    peer("ntt 2^16", 0.16, "OpenFHE + HEXL, tfhe-ntt", 1.1),
    peer("add 2^16", 4.8, LATTIGO, 50.0),
    peer("mul_plain 2^16", 11.8, OPENFHE, 70.0),
    peer("rescale 2^16", 20.4, OPENFHE, 80.0),
    peer("rotate 2^16", 243.0, OPENFHE, 600.0),
    peer("rotate_hoisted_8 2^16", 1090.0, OPENFHE, 2800.0),
    peer("mul_relin_rescale 2^16", 269.0, OPENFHE, 850.0),
    peer("linear_64 2^16", 3756.0, LATTIGO, 7000.0),
    peer("chebyshev_31 2^16", 3185.0, OPENFHE, 9000.0),
    Peer {
        slots: Some(1 << 15),
        bootstrap: Some(PeerBootstrap {
            levels: 9,
            worst_bits: 7.7,
            mean_bits: 13.7,
            peak_gb: 17.8,
        }),
        ..peer("bootstrap 2^16", 20_700.0, OPENFHE, 45_000.0)
    },
    Peer {
        slots: Some(1 << 14),
        target: None,
        bootstrap: Some(PeerBootstrap {
            levels: 9,
            worst_bits: 8.9,
            mean_bits: 14.4,
            peak_gb: 18.7,
        }),
        ..peer("bootstrap 2^16", 16_000.0, OPENFHE, 0.0)
    },
];

impl Row {
    /// Whether they differ in nothing but threads.
    fn same(&self, other: &Row) -> bool {
        let what = |r: &Row| (r.name.clone(), r.slots, r.levels_left, r.free_levels);
        what(self) == what(other)
    }
    /// A library that did the same: a bootstrap must leave at least as many levels here.
    fn peer(&self) -> Option<&'static Peer> {
        PEERS.iter().find(|p| {
            p.row == self.name
                && p.slots == self.slots
                && p.bootstrap
                    .as_ref()
                    .is_none_or(|b| self.levels_left >= Some(b.levels))
        })
    }
}

/// More than any bench writes.
const LIMIT: u64 = 1 << 20;

/// Reads the rows of [`Row::json`](crate::bench::Row::json) in a JSON array, and writes them as tables.
///
/// # Errors
/// A file that has something else.
pub fn markdown(file: &Path) -> Result<String> {
    let refuse =
        |reason: &str| named(file)(format!("these are not the rows of a bench ({reason})"));
    let bytes = files::read(file, LIMIT)?;
    let rows: Vec<Row> = serde_json::from_slice(&bytes).map_err(|e| refuse(&e.to_string()))?;
    tables(&rows).ok_or_else(|| refuse("there are none"))
}

/// None for no rows.
fn tables(rows: &[Row]) -> Option<String> {
    let first = rows.first()?;
    let most = rows.iter().map(|r| r.threads).max()?;
    let mut out = String::new();
    let reference_ms = median(rows.iter().map(|r| r.reference_ms));
    let commit = first.commit.as_ref();
    out += &format!(
        "{}, {} kernels{}. CPU time of the process, medians of at least {} runs; wall time on {}. A reference is a fixed loop of multiply-adds, \
         run before and after each run: {reference_ms:.3} ms of CPU time here. \
         Other libraries: CPU time on one thread of another 2-core machine with AVX-512 IFMA and AMX.\n",
        cell(&first.processor),
        cell(&first.backend),
        commit.map_or_else(String::new, |c| format!(", commit {}", cell(c))),
        rows.iter().map(|r| r.runs).min()?,
        plural(most),
    );
    let one: Vec<&Row> = rows.iter().filter(|r| r.threads == 1).collect();
    let many = |row: &Row| rows.iter().find(|r| r.threads == most && r.same(row));
    let (bootstraps, operations): (Vec<&Row>, Vec<&Row>) =
        one.into_iter().partition(|r| r.slots.is_some());
    if !operations.is_empty() {
        let table = operation_table(&operations, most, &many);
        out += &format!("{}\n{table}\n", parameters(&operations));
    }
    if !bootstraps.is_empty() {
        out += "Bits are those of the worst and of the mean error of all inputs; memory is the largest of the process so far, with the keys of all rows.\n\n";
    }
    // a table for each set of parameters
    let set = |r: &&Row| (r.name.clone(), r.free_levels);
    for rows in bootstraps.chunk_by(|a, b| set(a) == set(b)) {
        let table = bootstrap_table(rows, most, &many)?;
        out += &format!("{}{table}\n", parameters(rows));
    }
    Some(out)
}

type Many<'a> = dyn Fn(&Row) -> Option<&'a Row> + 'a;

fn operation_table(rows: &[&Row], most: usize, many: &Many<'_>) -> Table {
    let speed = match most {
        1 => "GB/s".into(),
        _ => format!("GB/s, 1 and {}", plural(most)),
    };
    let (mut table, wall) = (Table::default(), format!("wall ms, {}", plural(most)));
    for row in rows {
        let (many, peer) = (many(row), row.peer());
        let of = |r: &Row| r.gb_per_s.map(|g| format!("{g:.1}"));
        let speeds = match (of(row), many.filter(|_| most > 1).and_then(of)) {
            (Some(one), Some(all)) => format!("{one}, {all}"),
            (one, _) => or_none(one),
        };
        let best = peer.map(|p| format!("{}, {}", digits(p.cpu_ms), p.library));
        let ratio = peer.map(|p| format!("{:.1}", p.cpu_ms / row.cpu_ms));
        let name = match row.bytes {
            Some(b) if row.n.is_none() => format!("{} of {:.0} MB", row.name, b as f64 / 1e6),
            _ => row.name.clone(),
        };
        table.row([
            ("operation", cell(&name)),
            ("CPU ms, 1 thread", digits(row.cpu_ms)),
            ("references", digits(row.references)),
            ("target", or_none(peer.and_then(|p| p.target))),
            (&wall, or_none(many.map(|m| digits(m.wall_ms)))),
            (&speed, speeds),
            ("best other library, CPU ms", or_none(best)),
            ("its time ÷ ours", or_none(ratio)),
        ]);
    }
    table
}

fn bootstrap_table(rows: &[&Row], most: usize, many: &Many<'_>) -> Option<Table> {
    let (mut table, wall) = (Table::default(), format!("wall s, {}", plural(most)));
    // "half_bootstrap 2^16" as "half bootstrap"
    let name = rows.first()?.name.split(' ').next().unwrap_or_default();
    let what = format!("{}, slots", cell(&name.replace('_', " ")));
    for row in rows {
        let (many, peer) = (many(row), row.peer());
        let (slots, levels) = (row.slots?, row.levels_left.or(row.free_levels));
        let each = |ms: f64, levels: usize| {
            format!("{:.1}", ms * 1e3 / (slots as f64) / levels.max(1) as f64)
        };
        let bits = row.worst_bits.zip(row.mean_bits);
        let bits = bits.map(|(w, m)| format!("{w:.1}, {m:.1}"));
        let memory = row.peak_bytes.map(|b| format!("{:.1}", b as f64 / 1e9));
        let other = peer.and_then(|p| Some((p, p.bootstrap.as_ref()?)));
        let other = other.map(|(p, b)| {
            format!(
                "{} s, {} levels, {} µs per slot and level, {}, {} bits, {} GB: {}",
                digits(p.cpu_ms / 1e3),
                b.levels,
                each(p.cpu_ms, b.levels),
                b.worst_bits,
                b.mean_bits,
                b.peak_gb,
                p.library
            )
        });
        let slots = match slots.is_power_of_two() {
            true => format!("2^{}", slots.ilog2()),
            false => slots.to_string(),
        };
        let per_slot = levels.map(|l| each(row.cpu_ms, l));
        let ratio = peer.map(|p| format!("{:.1}", p.cpu_ms / row.cpu_ms));
        table.row([
            (&what[..], slots),
            ("levels left", or_none(levels)),
            ("CPU s, 1 thread", digits(row.cpu_ms / 1e3)),
            ("references", digits(row.references)),
            ("target", or_none(peer.and_then(|p| p.target))),
            (&wall, or_none(many.map(|m| digits(m.wall_ms / 1e3)))),
            ("CPU µs per slot and level", or_none(per_slot)),
            ("worst, mean bits", or_none(bits)),
            ("memory GB", or_none(memory)),
            ("best other library", or_none(other)),
            ("its time ÷ ours", or_none(ratio)),
        ]);
    }
    Some(table)
}

/// The parameter set of the first row that has one, as a paragraph.
fn parameters(rows: &[&Row]) -> String {
    let mut sets = rows.iter().filter_map(|r| r.n.zip(r.parameters.as_ref()));
    let set = sets.next().map(|(n, p)| {
        format!(
            "{}: N = {n}, {} ciphertext limbs, dnum {}, log QP {:.0}, dense ternary secret.\n",
            cell(&p.name),
            p.limbs,
            p.dnum,
            p.log_qp
        )
    });
    format!("\n{}", set.unwrap_or_default())
}

fn plural(threads: usize) -> String {
    format!("{threads} thread{}", if threads == 1 { "" } else { "s" })
}

/// Three significant digits, more before the point.
fn digits(x: f64) -> String {
    let after = match x.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{x:.after$}")
}

/// Text from the file, which must not end a cell or a line, nor reach the terminal as a control.
fn cell(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .flat_map(|c| {
            let escape = matches!(c, '|' | '\\' | '`' | '<').then_some('\\');
            escape.into_iter().chain([c])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn row(name: &str, threads: usize, more: &Value) -> Row {
        let mut row = json!({
            "name": name, "threads": threads, "cpu_ms": 60.75, "wall_ms": 31.5, "runs": 7, "references": 567.4,
            "reference_ms": 0.107, "backend": "ifma", "processor": "a | processor"
        });
        let fields = row.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        serde_json::from_value(row).expect("a row")
    }

    #[test]
    fn rows_stand_beside_their_peers() {
        let p = json!({ "n": 65536, "parameters": { "name": "levelled-16", "log_qp": 1680.2, "dnum": 3, "limbs": 27 } });
        let bootstrap = |slots: u64, levels: u64| json!({ "slots": slots, "levels_left": levels, "worst_bits": 18.54, "mean_bits": 20.0, "peak_bytes": 6_100_000_000u64 });
        let text = tables(&[
            row(
                "stream",
                1,
                &json!({ "bytes": 1_000_000_000, "gb_per_s": 12.34 }),
            ),
            row(
                "stream",
                2,
                &json!({ "bytes": 1_000_000_000, "gb_per_s": 15.0 }),
            ),
            row("rotate 2^16", 1, &p),
            row("rotate 2^16", 2, &p),
            row("rotate 2^11", 1, &p),
            row("bootstrap 2^16", 1, &bootstrap(1 << 15, 10)),
            row("bootstrap 2^16", 1, &bootstrap(1 << 15, 4)),
            row("bootstrap 2^16", 2, &bootstrap(1 << 15, 4)),
        ])
        .expect("rows");
        for line in [
            "| stream of 1000 MB | 60.8 | 567 | – | 31.5 | 12.3, 15.0 | – | – |",
            "| rotate 2^16 | 60.8 | 567 | 600 | 31.5 | – | 243, OpenFHE + HEXL | 4.0 |",
            "| rotate 2^11 | 60.8 | 567 | – | – | – | – | – |",
            "| 2^15 | 10 | 0.061 | 567 | 45000 | – | 0.2 | 18.5, 20.0 | 6.1 | 20.7 s, 9 levels, 70.2 µs per slot and level, 7.7, 13.7 bits, 17.8 GB: OpenFHE + HEXL | 340.7 |",
            // five levels fewer than the other library's: no match
            "| 2^15 | 4 | 0.061 | 567 | – | 0.032 | 0.5 | 18.5, 20.0 | 6.1 | – | – |",
            "levelled-16: N = 65536, 27 ciphertext limbs, dnum 3, log QP 1680, dense ternary secret.",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(text.starts_with("a \\| processor, ifma kernels. CPU time"));
        // every line of a table has as many cells as its head
        let mut width = 0;
        for line in text.lines() {
            let bars = line.matches('|').count() - line.matches("\\|").count();
            match (line.starts_with('|'), width) {
                (true, 0) => width = bars,
                (true, _) => assert_eq!(bars, width, "{line}"),
                (false, _) => width = 0,
            }
        }
        assert!(tables(&[]).is_none());
    }
}
