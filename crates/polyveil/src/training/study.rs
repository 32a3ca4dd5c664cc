//! Tables and charts in docs, each made by one command.

use super::run::Saving;
use crate::error::{Result, named};
use crate::files::{name, with_suffix, write_bytes};
use crate::progress::{Listener, Say};
use compiler::{Pricing, Target};
use std::path::{Path, PathBuf};
use train::AnyConfig;
use train::language::Passages;
use train::study::activations::{self, Candidate, Cost, Options};
use train::study::attention;
use zoo::language::LanguageModel;

/// What is written below this line of a document is the command's, what is above its reader's.
const MARK: &str = "<!-- below: written by the command, do not edit -->";

/// Ranges that the chart shows.
const CHARTED: [f64; 3] = [5.0, 10.0, 20.0];

/// The same network with its skip connections as they are, removed, or replaced: accuracy, bootstraps, predicted latency; trained in a folder
/// for each variant. Writes the document, with `command` in it, and the chart beside it.
///
/// # Errors
/// Configurations of another network; those of training.
pub fn skips(
    (config, runs): (&Path, &Path),
    saving: &Saving,
    output: &Path,
    command: &str,
    tell: Listener<'_>,
) -> Result<()> {
    let (table, mut figure) = super::skips::study(config, runs, saving, tell)?;
    figure.command = command.into();
    let caption = "accuracy against latency";
    Document::new(output).write(caption, command, &table, &figure.svg()?)
}

/// The files of a study: text above the mark in the document stays.
struct Document {
    text: PathBuf,
    chart: PathBuf,
    csv: PathBuf,
}

impl Document {
    fn new(output: &Path) -> Self {
        let file = |ending: &str| with_suffix(output, ending);
        Self {
            text: file(".md"),
            chart: file(".svg"),
            csv: file(".csv"),
        }
    }
    fn write(&self, caption: &str, command: &str, tables: &str, svg: &str) -> Result<()> {
        let name = name(&self.chart);
        let text = format!("`{command}`\n\n![{caption}]({name})\n\n{tables}");
        write_bytes(&self.text, below_mark(&self.text, &text)?.as_bytes())?;
        write_bytes(&self.chart, svg.as_bytes())
    }
    fn csv(&self, rows: &str) -> Result<()> {
        write_bytes(&self.csv, rows.as_bytes())
    }
}

/// Degree × range of ReLU, GELU and SiLU → error, levels, predicted latency; ReLU by composite signs beside them. Costs are the target's.
///
/// # Errors
/// Parameters that do not fit; the file system's.
pub fn activations(output: &Path, options: &Options, target: &Target, command: &str) -> Result<()> {
    let pricing = Pricing::new(target)?;
    let cost = |candidate: Candidate<'_>| {
        let price = match candidate {
            Candidate::Polynomial(p) => pricing.polynomial(p)?,
            Candidate::Composite(c) => pricing.composite(c)?,
        };
        Ok(Cost {
            levels: price.levels,
            bootstraps: price.bootstraps,
            seconds: price.seconds(),
        })
    };
    let rows = activations::activations(options, &cost)?;
    let tables = format!(
        "Parameters `{}`, the shipped cost table; a ciphertext of {} slots. \
         **levels**: the activation's. **bootstraps**: for each layer of a deep chain of linear map (one level) and activation, one \
         ciphertext wide. **seconds**: predicted CPU seconds of activation and bootstraps for one ciphertext; the linear map's work is \
         not counted. **max**: largest error on [−R, R] of the minimax polynomial. **rms**: root mean square error, of the polynomial \
         fitted as calibration fits it, under a normal density of deviation R/3.5.\n{}",
        target.set().name,
        1usize << (target.set().log_n - 1),
        activations::markdown(&rows)
    );
    let document = Document::new(output);
    document.csv(&activations::csv(&rows))?;
    let svg = activations::chart(&rows, &CHARTED, command)?;
    document.write("error against latency", command, &tables, &svg)
}

/// Where language models' attention looks: distance and entropy of every head, networks side by side, each NAME=FOLDER of a run on text; on
/// windows that are held out in the first run's data.
///
/// # Errors
/// Folders of other runs; the file system's.
pub fn attention(
    networks: &[String],
    windows: usize,
    output: &Path,
    command: &str,
    tell: Listener<'_>,
) -> Result<()> {
    let mut observed = Vec::new();
    let mut passages: Option<Passages> = None;
    for network in networks {
        let (name, folder) = network
            .rsplit_once('=')
            .ok_or_else(|| format!("{network}: a network is NAME=FOLDER"))?;
        let folder = Path::new(folder);
        let run = folder.join("run.toml");
        let AnyConfig::Text(run) = AnyConfig::load(&run)? else {
            return Err(format!("{}: no run on text", run.display()).into());
        };
        let held_out = match passages.take() {
            Some(p) => p,
            None => Passages::open(&run.data)?,
        };
        let language = LanguageModel::load(folder).map_err(named(folder))?;
        tell.note(format_args!("{name}: {windows} windows"));
        observed.push(attention::observe(
            name,
            &language,
            run.network.attention(),
            &held_out.held_out,
            windows,
        )?);
        passages = Some(held_out);
    }
    let length = passages.map_or(0, |p| p.held_out.length());
    let tables = format!(
        "Held-out windows of {length} tokens. {}",
        attention::markdown(&observed, length)
    );
    let document = Document::new(output);
    document.csv(&attention::csv(&observed))?;
    let svg = attention::chart(&observed, command)?;
    document.write("entropy against distance", command, &tables, &svg)
}

/// The document with everything below its mark replaced; a new one where there is none.
fn below_mark(document: &Path, tables: &str) -> Result<String> {
    let head = match std::fs::read_to_string(document) {
        Ok(old) => match old.split_once(MARK) {
            Some((head, _)) => head.to_string(),
            None => {
                return Err(format!(
                    "{}: has no line `{MARK}`, and is left as it is; add the line or write to another file",
                    document.display()
                )
                .into());
            }
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(named(document)(e)),
    };
    Ok(format!("{head}{MARK}\n\n{tables}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_writes_table_data_and_chart_and_repeats_itself() {
        let folder = std::env::temp_dir().join(format!("polyveil-tables-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let output = folder.join("study");
        let options = Options {
            degrees: vec![2, 4, 8],
            ranges: CHARTED.to_vec(),
            alphas: vec![9],
            ..Options::default()
        };
        let target = Target {
            parameters: Some(ckks::ParametersSpec::toy(10)),
            ..Target::default()
        };
        let read = || {
            ["md", "csv", "svg"]
                .map(|e| std::fs::read_to_string(output.with_extension(e)).expect("written"))
        };
        activations(&output, &options, &target, "study").expect("studied");
        let [md, csv, svg] = read();
        assert!(md.contains("`toy-10`") && md.contains("(study.svg)"));
        // 3 functions, 3 methods, 3 ranges, 3 degrees; a composite on 3 ranges; the head
        assert_eq!(csv.lines().count(), 81 + 3 + 1);
        assert!(svg.contains(">R = 20<"));
        activations(&output, &options, &target, "study").expect("studied");
        assert_eq!(read(), [md, csv, svg]);
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn the_reader_s_text_stays_and_files_without_a_mark_too() {
        let folder = std::env::temp_dir().join(format!("polyveil-study-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let document = folder.join("study.md");
        assert_eq!(
            below_mark(&document, "new").expect("none yet"),
            format!("{MARK}\n\nnew")
        );
        std::fs::write(&document, format!("findings\n{MARK}\nold")).expect("written");
        assert_eq!(
            below_mark(&document, "new").expect("marked"),
            format!("findings\n{MARK}\n\nnew")
        );
        std::fs::write(&document, "mine").expect("written");
        let error = below_mark(&document, "new").expect_err("no mark");
        assert!(error.to_string().contains("left as it is"), "{error}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
