//! Tables and charts in docs, each made by one command.

use super::run::Saving;
use crate::error::{Result, named};
use crate::files::{Content, Existing, Output, name, with_suffix};
use crate::progress::{Listener, Say};
use compiler::{Pricing, Target};
use std::path::Path;
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
    let place = (output, saving.existing);
    let document = Document::open(place, (None, &[config]), tell)?;
    let (table, mut figure) = super::skips::study(config, runs, saving, tell)?;
    figure.command = command.into();
    let caption = "accuracy against latency";
    document.write(caption, command, &table, &figure.svg()?)
}

/// The files of a study: text above the mark in the document stays.
struct Document {
    /// What stands above the mark.
    head: String,
    text: Output,
    chart: Output,
    csv: Option<Output>,
}

impl Document {
    /// Opens them before the work; `columns` is how a table of numbers begins, if there is one.
    fn open(
        (output, existing): (&Path, Existing),
        (columns, inputs): (Option<&'static str>, &[&Path]),
        tell: Listener<'_>,
    ) -> Result<Self> {
        let file = |ending: &str| with_suffix(output, ending);
        let mut open =
            |ending: &str, content| Output::create(&file(ending), content, inputs, existing, tell);
        Ok(Self {
            head: above_mark(&file(".md"))?,
            text: open(".md", Content::Text(MARK))?,
            chart: open(".svg", Content::Chart)?,
            csv: columns
                .map(|columns| open(".csv", Content::Text(columns)))
                .transpose()?,
        })
    }
    fn write(self, caption: &str, command: &str, tables: &str, svg: &str) -> Result<()> {
        let (head, name) = (self.head, name(self.chart.path()));
        let text = format!("{head}{MARK}\n\n`{command}`\n\n![{caption}]({name})\n\n{tables}");
        self.text.write_bytes(text.as_bytes())?;
        self.chart.write_bytes(svg.as_bytes())
    }
    fn csv(&mut self, rows: &str) -> Result<()> {
        match self.csv.take() {
            Some(file) => file.write_bytes(rows.as_bytes()),
            None => Ok(()),
        }
    }
}

/// Degree × range of ReLU, GELU and SiLU → error, levels, predicted latency; ReLU by composite signs beside them. Costs are the target's.
///
/// # Errors
/// Parameters that do not fit; the file system's.
pub fn activations(
    place: (&Path, Existing),
    options: &Options,
    target: &Target,
    command: &str,
    tell: Listener<'_>,
) -> Result<()> {
    let mut document = Document::open(place, (Some(activations::COLUMNS), &[]), tell)?;
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
    place: (&Path, Existing),
    command: &str,
    tell: Listener<'_>,
) -> Result<()> {
    let mut document = Document::open(place, (Some(attention::COLUMNS), &[]), tell)?;
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
    document.csv(&attention::csv(&observed))?;
    let svg = attention::chart(&observed, command)?;
    document.write("entropy against distance", command, &tables, &svg)
}

/// What a document says above its mark, which stays; nothing where there is none.
fn above_mark(document: &Path) -> Result<String> {
    match std::fs::read_to_string(document) {
        Ok(old) => match old.split_once(MARK) {
            Some((head, _)) => Ok(head.to_string()),
            None => Err(format!(
                "{}: has no line `{MARK}`, and is left as it is; add the line or write to another file",
                document.display()
            )
            .into()),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(e) => Err(named(document)(e)),
    }
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
        let study = |existing| {
            let place = (output.as_path(), existing);
            activations(
                place,
                &options,
                &target,
                "study",
                &mut crate::progress::silent,
            )
        };
        study(Existing::Kin).expect("studied");
        let [md, csv, svg] = read();
        assert!(md.contains("`toy-10`") && md.contains("(study.svg)"));
        // 3 functions, 3 methods, 3 ranges, 3 degrees; a composite on 3 ranges; the head
        assert_eq!(csv.lines().count(), 81 + 3 + 1);
        assert!(svg.contains(">R = 20<"));
        study(Existing::Kin).expect("studied");
        assert_eq!(read(), [md, csv, svg]);
        // somebody else's numbers and pictures stay
        for (ending, text) in [("csv", "a,b\n1,2\n"), ("svg", "<svg width=\"8\"/>")] {
            let before = read();
            std::fs::write(output.with_extension(ending), text).expect("written");
            let message = study(Existing::Kin).expect_err("foreign").to_string();
            assert!(message.contains(&format!("study.{ending}")), "{message}");
            assert!(read().contains(&text.to_string()));
            study(Existing::Any).expect("studied");
            assert_eq!(read(), before);
        }
        std::fs::remove_dir_all(&folder).expect("removed");
    }

    #[test]
    fn the_reader_s_text_stays_and_files_without_a_mark_too() {
        let folder = std::env::temp_dir().join(format!("polyveil-study-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let document = folder.join("study.md");
        assert_eq!(above_mark(&document).expect("none yet"), "");
        std::fs::write(&document, format!("findings\n{MARK}\nold")).expect("written");
        assert_eq!(above_mark(&document).expect("marked"), "findings\n");
        std::fs::write(&document, "mine").expect("written");
        let error = above_mark(&document).expect_err("no mark");
        assert!(error.to_string().contains("left as it is"), "{error}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
