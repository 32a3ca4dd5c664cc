//! The library's errors as Python's, with what helps in the package's own words.

use polyveil::{Error, Help, compiler, data, nn, runtime, task};
use pyo3::prelude::*;
use std::any::Any;

mod python {
    pyo3::import_exception!(polyveil._errors, Error);
    pyo3::import_exception!(polyveil._errors, NotEnoughMemory);
    pyo3::import_exception!(polyveil._errors, OtherKeys);
    pyo3::import_exception!(polyveil._errors, OutsideRange);
    pyo3::import_exception!(polyveil._errors, ServiceError);
    pyo3::import_exception!(polyveil._errors, WrongAnswer);
}

const POLYNOMIALS: &str =
    "polyveil.calibrate fits polynomials, polyveil.adapt trains the network for them";
const PIXELS: &str = "normalization=\"none\" (v/255), \"imagenet\", \"cifar10\", \"half\", or a dict of mean, deviation, range, channels; arrays that are normalised already are floats with normalization=\"none\"";
const ROWS: &str =
    "normalization=\"none\" (as they are), \"measured\", or a dict of mean and deviation";

/// How a step is done with this package.
fn option(help: Help) -> Option<&'static str> {
    Some(match help {
        Help::MeasureMachine => "machine=None takes the shipped cost table",
        Help::NameAttention => "power=4",
        Help::OwnAttention => "leave power out",
        Help::NameActivation => "activation=NAME",
        Help::NameNormalization => PIXELS,
        Help::NameScaling => ROWS,
        Help::NameLabels => "targets=ARRAY",
        Help::GiveText => "give a str",
        Help::NameCount => "count=N",
        Help::Calibrate => "polyveil.calibrate",
        Help::Widen => "polyveil.calibrate(..., margin=...)",
        Help::WidenOrSlots => {
            "polyveil.calibrate(..., margin=...), or polyveil.compile(..., layers=\"slots\")"
        }
        Help::MakePolynomial => POLYNOMIALS,
        Help::Overwrite => "overwrite=True",
        _ => return None,
    })
}

/// What to add behind an error's own words.
fn remedy(error: &Error) -> Option<&'static str> {
    Some(match error.cause() {
        Error::Refused { help, .. } => return help.and_then(option),
        Error::Network(e) => match e {
            nn::Error::NotPolynomial { .. } => POLYNOMIALS,
            nn::Error::Unstated { .. } => "activation=NAME, for calibrate and adapt",
            nn::Error::Maximum { .. } => {
                "polyveil.calibrate(..., pool=\"average\") takes means instead, polyveil.adapt trains the network for them"
            }
            nn::Error::Softmax(_) => {
                "polyveil.calibrate(..., power=4), of attention that is read so"
            }
            nn::Error::Outputs(_) => "network_output=NAME",
            _ => return None,
        },
        Error::Task(
            task::Error::Normalization(_)
            | task::Error::Count {
                what: "means" | "deviations",
                ..
            },
        ) => PIXELS,
        Error::Data(data::Error::Columns { unknown, .. }) if !unknown.is_empty() => {
            "without=[NAME] leaves a column out"
        }
        Error::Data(data::Error::Split { wanted: None, .. }) => {
            "split=\"train\", \"val\" or \"test\""
        }
        Error::Data(data::Error::Words { .. }) => {
            "without=[NAME], or labels=NAME where it is the class"
        }
        Error::Compiler(compiler::Error::Calibration { .. }) => "polyveil.calibrate",
        Error::Compiler(compiler::Error::Memory { .. }) => "max_memory=\"...GB\"",
        Error::Runtime(e) => match e.help()? {
            runtime::Help::Calibrate => "polyveil.calibrate on data that cover such inputs",
            runtime::Help::Compile => "polyveil.compile",
            runtime::Help::Batch => "polyveil.compile(..., batch=N)",
            runtime::Help::MakeKeys => {
                "polyveil.Client makes them, Client.evaluation_keys gives those for the server"
            }
            runtime::Help::Encrypt => "Client.encrypt",
            runtime::Help::Run => "Server.run",
            runtime::Help::Memory => {
                "max_memory=\"...GB\"; a Server whose evaluation keys are a file can leave some of them there"
            }
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether memory is short.
fn is_memory(error: &Error) -> bool {
    match error.cause() {
        Error::Runtime(e) => matches!(e, runtime::Error::Memory { .. }),
        Error::Compiler(e) => compiling_is_memory(e),
        _ => false,
    }
}

fn compiling_is_memory(error: &compiler::Error) -> bool {
    use compiler::Error::{Memory, Neither, Packing, Plan, Room};
    match error {
        Memory { .. } | Packing { .. } | Room { .. } => true,
        Plan(e) => matches!(e, runtime::Error::Memory { .. }),
        Neither {
            slots,
            coefficients,
        } => compiling_is_memory(slots) || compiling_is_memory(coefficients),
        _ => false,
    }
}

/// Whether files of different clients or plans were mixed.
fn is_mixture(error: &runtime::Error) -> bool {
    match error {
        runtime::Error::OtherKey { .. } => true,
        // so headers that do not belong together are refused
        runtime::Error::File { problem, .. } => problem.starts_with("made for another "),
        _ => false,
    }
}

/// An error of the library.
pub(crate) fn raised(error: Error) -> PyErr {
    let words = (error.to_string(), remedy(&error));
    match error.cause() {
        _ if is_memory(&error) => python::NotEnoughMemory::new_err(words),
        Error::Runtime(runtime::Error::Answer { .. }) => python::WrongAnswer::new_err(words),
        Error::Runtime(runtime::Error::Range { .. }) => python::OutsideRange::new_err(words),
        Error::Runtime(e @ runtime::Error::Input { .. })
            if e.help() == Some(runtime::Help::Calibrate) =>
        {
            python::OutsideRange::new_err(words)
        }
        Error::Runtime(e) if is_mixture(e) => python::OtherKeys::new_err(words),
        _ => python::Error::new_err(words),
    }
}

/// An error of a service, or on the way to it.
pub(crate) fn of_service(e: polyveil_serve::Error) -> PyErr {
    let code = serde_json::json!(e.code);
    let code = code.as_str().unwrap_or_default().to_string();
    python::ServiceError::new_err((e.cause, e.remedy, code))
}

/// A refusal of this module's.
pub(crate) fn refused(what: String) -> PyErr {
    raised(what.into())
}

/// A panic, which is a defect.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> PyErr {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    refused(format!(
        "a defect of Polyveil, please report it with what you did: {}",
        text.unwrap_or("it panicked without a word")
    ))
}
