//! What helps against an error, in this program's commands and options.

use polyveil::{Error, Help, compiler, data, nn, runtime, task};

const POLYNOMIALS: &str =
    "`polyveil calibrate` fits polynomials, `polyveil adapt` trains the network for them";

/// How a step is done with this program.
pub(crate) fn option(help: Help) -> Option<&'static str> {
    Some(match help {
        Help::MeasureMachine => {
            "`polyveil bench --save` measures a cost table, `--machine shipped` does without"
        }
        Help::NameAttention => "--power 4",
        Help::OwnAttention => "leave --power out",
        Help::NameFirst => "--first CHAR",
        Help::NameLength => "--length L",
        Help::NameTokenizer => "--tokenizer FILE",
        Help::NameActivation => "--activation NAME",
        Help::NameNormalization => {
            "--normalization none|imagenet|cifar10|half, or --mean, --deviation, --range, --channels, with `polyveil calibrate`"
        }
        Help::NameScaling => {
            "--normalization none|measured, or --mean and --deviation, with `polyveil calibrate`"
        }
        Help::ReplaceKeys => "--replace",
        Help::NameLabels => "--value-columns LIST",
        Help::GiveText => "--text TEXT",
        Help::NameCount => "--count N",
        Help::NamePositions => "--positions WHICH",
        Help::Calibrate => "`polyveil calibrate`",
        Help::Widen => "`polyveil calibrate --margin`",
        Help::WidenOrSlots => "`polyveil calibrate --margin`, or `--layers slots`",
        Help::MakePolynomial => POLYNOMIALS,
        Help::Overwrite => "--force",
        Help::Resume => "--resume",
        Help::Anew => "without --resume",
        _ => return None,
    })
}

/// What to add behind an error's own words.
pub(crate) fn remedy(error: &Error) -> Option<&'static str> {
    Some(match error.cause() {
        Error::Refused { help, .. } => return help.and_then(option),
        Error::Network(e) => match e {
            nn::Error::Exceeded { .. } => "or let --leave-out N leave so many out",
            nn::Error::NotPolynomial { .. } => POLYNOMIALS,
            nn::Error::Unstated { .. } => {
                "--activation NAME, for `polyveil calibrate` and `polyveil adapt`"
            }
            nn::Error::Maximum { .. } => {
                "`polyveil calibrate --pool average` takes means instead, `polyveil adapt` trains the network for them"
            }
            nn::Error::Outputs(_) => "--network-output NAME",
            nn::Error::Softmax(_) => "`polyveil calibrate --power 4`, of attention that is read so",
            _ => return None,
        },
        Error::Task(task::Error::PictureSize { .. }) => "`--resize` scales it",
        Error::Task(
            task::Error::Normalization(_)
            | task::Error::Count {
                what: "means" | "deviations",
                ..
            },
        ) => "--normalization, --mean, --deviation, --range, --channels",
        Error::Task(task::Error::TooLong { .. }) => "--truncate cuts sentences",
        Error::Data(data::Error::Columns { unknown, .. }) if !unknown.is_empty() => {
            "--without NAME leaves a column out"
        }
        Error::Data(data::Error::Heading { .. }) => "--heading yes|no",
        Error::Data(data::Error::Split { wanted: None, .. }) => "--split PART",
        Error::Data(data::Error::Words { .. }) => {
            "--without NAME, or --class-column NAME where it is the class"
        }
        Error::Compiler(compiler::Error::Calibration { .. }) => "`polyveil calibrate`",
        Error::Compiler(compiler::Error::Memory { .. }) => "--max-memory SIZE",
        Error::Runtime(e) => match e.help()? {
            runtime::Help::Calibrate => "`polyveil calibrate` on data that cover such inputs",
            runtime::Help::Compile => "`polyveil compile`",
            runtime::Help::Batch => "`polyveil compile --batch`",
            runtime::Help::MakeKeys => "`polyveil keygen`",
            runtime::Help::Encrypt => "`polyveil encrypt`",
            runtime::Help::Run => "`polyveil run`",
            runtime::Help::Resume => {
                "`polyveil run --resume`, with `--checkpoint FILE` for another place, or without `--resume`"
            }
            runtime::Help::Anew => "`polyveil run` without `--resume`",
            runtime::Help::Memory => "--max-memory SIZE, `polyveil run --keys-on-disk`",
            runtime::Help::Terms => "--releases N, --security-bits S, --class-bits B",
            runtime::Help::ClassAlone => "--class-only",
            runtime::Help::Measure => "`polyveil bench --save`",
            _ => return None,
        },
        _ => return None,
    })
}
