//! `polyveil-train study`: tables and charts in docs, each made by one command.

use crate::Result;
use clap::Subcommand;
use compiler::{Pricing, Target};
use std::path::{Path, PathBuf};
use train::language::{AnyConfig, Passages};
use train::study::activations::{self, Candidate, Cost, Options};
use train::study::attention;
use zoo::language::LanguageModel;

/// What is studied.
#[derive(Debug, Subcommand)]
pub enum Study {
    /// Degree × range of ReLU, GELU and SiLU → error, levels, predicted latency; ReLU by composite signs beside them.
    Activations {
        /// Writes FILE.md, FILE.csv and FILE.svg; text above the line that marks the tables in FILE.md stays.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// The same network with its skip connections as they are, removed, or replaced: accuracy, bootstraps, predicted latency.
    Skips {
        /// How each is trained: TOML; its network must be a `resnet`.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// The runs' folder, one inside for each variant.
        #[arg(long, value_name = "FOLDER")]
        runs: PathBuf,
        #[command(flatten)]
        saving: super::run::Saving,
        /// Writes FILE.md and FILE.svg; text above the line that marks the table in FILE.md stays.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Where language models' attention looks: distance and entropy of every head, networks side by side.
    Attention {
        /// Networks: NAME=FOLDER, the folder of a run on text. Windows are those held out in the first run's data.
        #[arg(required = true, value_name = "NAME=FOLDER")]
        networks: Vec<String>,
        /// So many windows, evenly spread.
        #[arg(long, default_value_t = 200, value_name = "N")]
        windows: usize,
        /// Writes FILE.md, FILE.csv and FILE.svg; text above the line that marks the table in FILE.md stays.
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
}

/// What is written below this line of a document is the command's, what is above its reader's.
const MARK: &str = "<!-- below: written by the command, do not edit -->";

/// Ranges that the chart shows.
const CHARTED: [f64; 3] = [5.0, 10.0, 20.0];

impl Study {
    pub fn run(&self) -> Result<()> {
        match self {
            // costs are those that ship with the program, so that the document depends on no machine
            Self::Activations { output } => {
                activations(output, &Options::default(), &Target::default())
            }
            Self::Attention {
                networks,
                windows,
                output,
            } => attention(networks, *windows, output),
            Self::Skips {
                config,
                runs,
                saving,
                output,
            } => {
                let (table, mut figure) = super::skips::study(config, runs, saving)?;
                let command = format!(
                    "polyveil-train study skips --config {} --runs {} --may-explode {} -o {}",
                    config.display(),
                    runs.display(),
                    saving.may_explode,
                    output.display()
                );
                figure.command.clone_from(&command);
                let document = output.with_extension("md");
                let chart = output.with_extension("svg");
                let name = chart.file_name().unwrap_or(chart.as_os_str()).display();
                let text = format!("`{command}`\n\n![accuracy against latency]({name})\n\n{table}");
                write(&document, &below_mark(&document, &text)?)?;
                write(&chart, &figure.svg()?)
            }
        }
    }
}

fn activations(output: &Path, options: &Options, target: &Target) -> Result<()> {
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
    let command = format!("polyveil-train study activations -o {}", output.display());
    let file = |extension: &str| {
        let mut name = output.as_os_str().to_owned();
        name.push(".");
        name.push(extension);
        PathBuf::from(name)
    };
    let chart = file("svg");
    let chart_name = chart.file_name().unwrap_or(chart.as_os_str()).display();
    let tables = format!(
        "`{command}`\n\n![error against latency]({chart_name})\n\nParameters `{}`, the shipped cost table; a ciphertext of {} slots. \
         **levels**: the activation's. **bootstraps**: for each layer of a deep chain of linear map (one level) and activation, one \
         ciphertext wide. **seconds**: predicted CPU seconds of activation and bootstraps for one ciphertext; the linear map's work is \
         not counted. **max**: largest error on [−R, R] of the minimax polynomial. **rms**: root mean square error, of the polynomial \
         fitted as calibration fits it, under a normal density of deviation R/3.5.\n{}",
        target.parameters.name,
        1usize << (target.parameters.log_n - 1),
        activations::markdown(&rows)
    );
    let document = file("md");
    write(&document, &below_mark(&document, &tables)?)?;
    write(&file("csv"), &activations::csv(&rows))?;
    write(&chart, &activations::chart(&rows, &CHARTED, &command)?)
}

fn attention(networks: &[String], windows: usize, output: &Path) -> Result<()> {
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
        let language =
            LanguageModel::load(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        eprintln!("{name}: {windows} windows");
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
    let command = format!(
        "polyveil-train study attention {} --windows {windows} -o {}",
        networks
            .iter()
            .map(|n| if n.contains(' ') {
                format!("\"{n}\"")
            } else {
                n.clone()
            })
            .collect::<Vec<_>>()
            .join(" "),
        output.display()
    );
    let chart = output.with_extension("svg");
    let name = chart.file_name().unwrap_or(chart.as_os_str()).display();
    let text = format!(
        "`{command}`\n\n![entropy against distance]({name})\n\nHeld-out windows of {length} tokens. {}",
        attention::markdown(&observed, length)
    );
    let document = output.with_extension("md");
    write(&document, &below_mark(&document, &text)?)?;
    write(&output.with_extension("csv"), &attention::csv(&observed))?;
    write(&chart, &attention::chart(&observed, &command)?)
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
        Err(e) => return Err(format!("{}: {e}", document.display()).into()),
    };
    Ok(format!("{head}{MARK}\n\n{tables}"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()).into())
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
            parameters: ckks::ParametersSpec::toy(10),
            ..Target::default()
        };
        let read = || {
            ["md", "csv", "svg"]
                .map(|e| std::fs::read_to_string(output.with_extension(e)).expect("written"))
        };
        activations(&output, &options, &target).expect("studied");
        let [md, csv, svg] = read();
        assert!(md.contains("`toy-10`") && md.contains("(study.svg)"));
        // 3 functions, 3 methods, 3 ranges, 3 degrees; a composite on 3 ranges; the head
        assert_eq!(csv.lines().count(), 81 + 3 + 1);
        assert!(svg.contains(">R = 20<"));
        activations(&output, &options, &target).expect("studied");
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
