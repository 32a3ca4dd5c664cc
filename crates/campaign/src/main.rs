//! Campaigns against the program `polyveil`: kills, races, full disks, short memory, damaged and mixed-up files, odd pictures and words.
//!
//! ```text
//! cargo build --release -p polyveil-cli -p polyveil-train-cli -p polyveil-campaign
//! target/release/polyveil-campaign [--short] [--group NAME]… [--case N] [--seed S] [--json]
//! ```
//! Every group makes its tries itself, on toy plans with random weights, and has its own expectation for each: an exit code alone is none.
//! What a try does depends on the seed, its group and its number only (but for when the system schedules what runs at once).
//! See docs/faults.md.

mod attempt;
#[macro_use]
mod case;
mod fault;
mod foreign;
mod groups;
mod lab;
mod make;

use attempt::Try;
use case::{Case, Group};
use clap::Parser;
use fault::{Fault, Kind};
use lab::Lab;
use polyveil_fuzz::random::Random;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Drives the program `polyveil` through everything that can go wrong; see docs/faults.md.
#[derive(Parser)]
struct Options {
    /// The program; without it that beside this one
    #[arg(long, value_name = "FILE")]
    polyveil: Option<PathBuf>,
    /// Only this group (may be repeated); all without it
    #[arg(long = "group", value_name = "NAME")]
    groups: Vec<String>,
    /// Only this try of the group
    #[arg(long, value_name = "N")]
    case: Option<usize>,
    /// A few tries of each group that suits: at most three minutes
    #[arg(long)]
    short: bool,
    /// Other tries
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tries at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// One JSON object on stdout instead of the table
    #[arg(long)]
    json: bool,
    /// Keep the folders of tries that failed
    #[arg(long)]
    keep: bool,
    /// The groups
    #[arg(long)]
    list: bool,
    /// Every failure, not the first of each group only
    #[arg(long)]
    verbose: bool,
    /// No group begins after so many minutes; those left out are named, and the campaign counts as failed
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

/// A try that failed, as it can be made again.
struct Failure {
    case: usize,
    name: String,
    fault: Fault,
    said: Vec<String>,
}

/// What came out of one group.
struct Row {
    group: &'static str,
    tried: usize,
    skipped: usize,
    flips: usize,
    failures: Vec<Failure>,
    seconds: f64,
}

impl Row {
    fn count(&self, kind: Kind) -> usize {
        (self.failures.iter())
            .filter(|f| f.fault.kind == kind)
            .count()
    }
    fn failed(&self) -> usize {
        self.failures.len() - self.count(Kind::Skipped)
    }
}

fn attempt(lab: &Lab, group: &Group, number: usize, case: &Case, keep: bool) -> Option<Failure> {
    let folder = lab
        .root
        .join("tries")
        .join(format!("{}-{number}", group.name));
    let random = Random::new(lab.seed, group.name, number as u64);
    let (fault, said) = match Try::new(lab, folder.clone(), random) {
        Err(fault) => (Err(fault), Vec::new()),
        Ok(mut t) => {
            // a fault of the campaign is one failed try, not its end
            let done = catch_unwind(AssertUnwindSafe(|| (case.work)(&mut t)));
            let done = done.unwrap_or_else(|_| Err(Fault::other("the campaign itself: panic")));
            let done = done.and_then(|()| t.kept());
            (done, t.said)
        }
    };
    if !(keep && fault.is_err()) {
        let _ = std::process::Command::new("chmod")
            .args(["-R", "u+rwX"])
            .arg(&folder)
            .stderr(std::process::Stdio::null())
            .status();
        let _ = std::fs::remove_dir_all(&folder);
    }
    let fault = fault.err()?;
    Some(Failure {
        case: number,
        name: case.name.clone(),
        fault,
        said,
    })
}

/// Evenly spaced numbers of `count`, at most `few`.
fn chosen(count: usize, few: usize) -> Vec<usize> {
    match few >= count {
        true => (0..count).collect(),
        false => (0..few).map(|i| i * count / few).collect(),
    }
}

fn run(lab: &Lab, group: &Group, o: &Options, left: &str) -> Row {
    let began = Instant::now();
    let cases = (group.cases)(lab);
    let numbers = match (o.case, o.short) {
        (Some(case), _) => vec![case],
        (None, true) => chosen(cases.len(), group.short),
        (None, false) => (0..cases.len()).collect(),
    };
    let stamp = lab.stamp();
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let said = Mutex::new(Instant::now());
    let jobs = if group.alone { 1 } else { o.jobs };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&number) = numbers.get(at) else {
                        return;
                    };
                    let Some(case) = cases.get(number) else {
                        return;
                    };
                    let failed = attempt(lab, group, number, case, o.keep);
                    let mut all = failures.lock().expect("no panic holds it");
                    all.extend(failed);
                    let mut said = said.lock().expect("no panic holds it");
                    if said.elapsed() > Duration::from_secs(5) {
                        *said = Instant::now();
                        let (name, count) = (group.name, numbers.len());
                        let rate = (at + 1) as f64 / began.elapsed().as_secs_f64();
                        let rest = (count - at - 1) as f64 / rate;
                        let failed = all.len();
                        eprintln!(
                            "{name}: {} of {count}, {failed} failed, {rest:.0} s left{left}",
                            at + 1
                        );
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("no panic holds it");
    failures.sort_by_key(|f| f.case);
    if lab.stamp() != stamp {
        let changed: Vec<String> = (lab.stamp().iter())
            .filter(|s| !stamp.contains(s))
            .chain(
                stamp
                    .iter()
                    .filter(|s| !lab.stamp().iter().any(|n| n.0 == s.0)),
            )
            .map(|s| s.0.display().to_string())
            .collect();
        failures.push(Failure {
            case: usize::MAX,
            name: "files of others".into(),
            fault: Fault::new(Kind::Lost, format!("changed: {}", changed.join(", "))),
            said: Vec::new(),
        });
    }
    let skipped = failures
        .iter()
        .filter(|f| f.fault.kind == Kind::Skipped)
        .count();
    let flips = numbers
        .iter()
        .filter(|n| cases.get(**n).is_some_and(|c| c.flip))
        .count();
    Row {
        group: group.name,
        tried: numbers.len() - skipped,
        skipped,
        flips,
        failures,
        seconds: began.elapsed().as_secs_f64(),
    }
}

/// How a failure is made again.
fn again(row: &Row, f: &Failure, o: &Options) -> String {
    let seed = match o.seed {
        1 => String::new(),
        s => format!(" --seed {s}"),
    };
    format!(
        "polyveil-campaign --group {} --case {}{seed} --keep",
        row.group, f.case
    )
}

fn table(rows: &[Row], o: &Options) -> String {
    let mut text = String::from(
        "| group | tried | passed | silent wrong | panic | abort | lost file | hang | other | unseen | skipped | s |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut sum = [0usize; 10];
    for row in rows {
        let kinds = Kind::ALL.map(|k| row.count(k));
        let numbers: Vec<usize> = [row.tried, row.tried - row.failed().min(row.tried)]
            .into_iter()
            .chain(kinds)
            .collect();
        for (s, n) in sum.iter_mut().zip(&numbers) {
            *s += n;
        }
        let cells: Vec<String> = numbers.iter().map(usize::to_string).collect();
        text += &format!(
            "| {} | {} | {:.0} |\n",
            row.group,
            cells.join(" | "),
            row.seconds
        );
    }
    let cells: Vec<String> = sum.iter().map(usize::to_string).collect();
    let seconds: f64 = rows.iter().map(|r| r.seconds).sum();
    let flips: usize = rows.iter().map(|r| r.flips).sum();
    text += &format!("| **all** | {} | {seconds:.0} |\n\n", cells.join(" | "));
    text += &format!("{flips} of the tries are bit flips.\n\n");
    for row in rows {
        let mut known: BTreeMap<(Kind, String), usize> = BTreeMap::new();
        for f in &row.failures {
            // of failures that sound alike the first
            let short: String = f.fault.text.chars().take(24).collect();
            let seen = known.entry((f.fault.kind, short)).or_default();
            *seen += 1;
            if !o.verbose && (*seen > 1 || known.len() > 6) {
                continue;
            }
            text += &format!(
                "{}, {} ({}): {}: {}\n",
                row.group,
                f.case,
                f.name,
                f.fault.kind.name(),
                f.fault.text
            );
            if f.fault.kind != Kind::Skipped {
                text += &format!("    {}\n", again(row, f, o));
                for line in f.said.iter().rev().take(3).rev() {
                    text += &format!("    $ {line}\n");
                }
            }
        }
    }
    text
}

fn json(rows: &[Row], o: &Options) -> serde_json::Value {
    let rows: Vec<_> = (rows.iter())
        .map(|row| {
            let failures: Vec<_> = (row.failures.iter())
                .map(|f| {
                    serde_json::json!({
                        "case": f.case, "name": f.name, "kind": f.fault.kind.name(), "text": f.fault.text,
                        "commands": f.said, "again": again(row, f, o),
                    })
                })
                .collect();
            serde_json::json!({
                "group": row.group, "tried": row.tried, "passed": row.tried - row.failed().min(row.tried),
                "skipped": row.skipped, "flips": row.flips, "seconds": row.seconds, "failures": failures,
            })
        })
        .collect();
    serde_json::json!({ "seed": o.seed, "groups": rows })
}

/// Whether nothing failed.
fn campaign(o: &Options) -> Result<bool, String> {
    let all = groups::all();
    if o.list {
        for g in &all {
            println!("{:22} {}", g.name, g.what);
        }
        return Ok(true);
    }
    if let Some(unknown) = o.groups.iter().find(|n| all.iter().all(|g| g.name != **n)) {
        return Err(format!("--group {unknown} is unknown; --list lists them"));
    }
    let wanted: Vec<&Group> = (all.iter())
        .filter(|g| o.groups.is_empty() || o.groups.iter().any(|n| n == g.name))
        .filter(|g| !o.short || g.short > 0)
        .collect();
    let here = std::env::current_exe().map_err(|e| e.to_string())?;
    let polyveil = (o.polyveil.clone()).unwrap_or_else(|| here.with_file_name("polyveil"));
    let polyveil = polyveil.canonicalize().map_err(|e| {
        let path = polyveil.display();
        format!("{path}: {e}; build it (`cargo build --release -p polyveil-cli -p polyveil-train-cli`), or name it: --polyveil FILE")
    })?;
    let root = std::env::temp_dir().join(format!("polyveil-campaign-{}", std::process::id()));
    let began = Instant::now();
    let lab = Lab::new(polyveil, root.clone(), o.seed, &|line| eprintln!("{line}"));
    let lab = lab.map_err(|f| format!("the laboratory: {}", f.text))?;
    eprintln!(
        "laboratory made in {:.1} s: {}",
        began.elapsed().as_secs_f64(),
        root.display()
    );
    let (mut rows, mut left_out) = (Vec::new(), Vec::new());
    for (i, group) in wanted.iter().enumerate() {
        if began.elapsed() >= Duration::from_secs(60 * o.minutes) {
            left_out.push(group.name);
            continue;
        }
        let row = run(
            &lab,
            group,
            o,
            &format!(" in this group, then {} more", wanted.len() - i - 1),
        );
        eprintln!(
            "{}: {} tried, {} failed, {} skipped, {:.1} s",
            row.group,
            row.tried,
            row.failed(),
            row.skipped,
            row.seconds
        );
        rows.push(row);
    }
    match o.json {
        true => println!("{:#}", json(&rows, o)),
        false => println!("{}", table(&rows, o)),
    }
    if !o.keep {
        let _ = std::fs::remove_dir_all(&root);
    }
    if !left_out.is_empty() {
        eprintln!(
            "not tried, since {} minutes were over (--minutes): {}",
            o.minutes,
            left_out.join(", ")
        );
    }
    Ok(left_out.is_empty() && rows.iter().all(|r| r.failed() == 0))
}

fn main() {
    match campaign(&Options::parse()) {
        Ok(true) => {}
        Ok(false) => std::process::exit(1),
        Err(e) => {
            eprintln!("{e}");
            std::process::exit(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_spread_and_names_are_unique() {
        assert_eq!(chosen(10, 3), [0, 3, 6]);
        assert_eq!(chosen(2, 3), [0, 1]);
        let all = groups::all();
        let names: std::collections::BTreeSet<_> = all.iter().map(|g| g.name).collect();
        assert_eq!(names.len(), all.len());
    }
}
