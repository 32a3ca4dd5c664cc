//! The plan: a straight-line program over CKKS values, with everything that client and server must know.
//!
//! A plan is written by the compiler, made a [`VerifiedPlan`](crate::VerifiedPlan) by one pass of the meter, and then carried out
//! over any [`Arithmetic`](ckks::Arithmetic): ciphertexts, clear values or the meter.
//!
//! Every value is *normalised*: network value = `unit` × plan value, so that polynomials see [−1, 1] and bootstraps
//! see |x| ≤ 1/2. Units cost nothing: they are folded into linear maps.

use crate::Register;
use crate::alarm::{Alarm, Inputs};
use crate::operation::{Operation, Purpose, Work};
use crate::simulated::Simulated;
use ckks::ParametersSpec;
use serde::{Deserialize, Serialize};

/// One step: an operation and the layer that it belongs to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step<O = Operation> {
    /// Name of the layer in the network (reports group by it).
    pub layer: String,
    /// What that layer is for.
    pub purpose: Purpose,
    /// What is done.
    pub operation: O,
    /// Network value = unit × plan value, for the results.
    pub unit: f64,
    /// Of a polynomial, where the network's interval is narrower than the [−1, 1] that it is carried out on: that interval, plan units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
}

impl Step {
    /// Whether it is a function whose operand calibration promises an interval. Of what norms, scores and products square it promises a range, as of
    /// other factors.
    pub fn keeps_interval(&self) -> bool {
        match &self.operation {
            Operation::Square { constant, .. } => {
                *constant != 0.0 || self.purpose == Purpose::Activation
            }
            other => other.is_function(),
        }
    }

    /// What its time counts as.
    pub const fn work(&self) -> Work {
        self.operation.work(self.purpose)
    }
}

/// An encrypted input or output: how a tensor lies in the slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// Its name in the network.
    pub name: String,
    /// Shape (C, H, W) or (features).
    pub shape: Vec<usize>,
    /// One register per ciphertext.
    pub registers: Vec<Register>,
    /// Period of each ciphertext's slots.
    pub slots: usize,
    /// For each element of the tensor (row-major): (ciphertext, slot); in coefficients for each tensor of the batch, one after another. A section of its
    /// own in files.
    #[serde(skip)]
    pub places: Vec<(u32, u32)>,
    /// Tensors in one run, a power of two: in slots element e of tensor b lies `batch · slot + b` slots into its ciphertext.
    #[serde(default = "alone", skip_serializing_if = "is_alone")]
    pub batch: usize,
    /// Level at which it is encrypted or left.
    pub level: usize,
    /// Network value = unit × plan value.
    pub unit: f64,
}

impl Port {
    /// Whether its values lie in coefficients: the level says so. A place's slot then is the number of a value in the order of coefficients, up to
    /// twice the slots.
    pub fn in_coefficients(&self, parameters: &ParametersSpec) -> bool {
        let bootstrap = parameters.bootstrap.as_ref();
        bootstrap.is_some_and(|b| self.level <= b.product.levels)
    }
    /// Elements of one tensor; the largest number where no tensor could have so many.
    pub fn elements(&self) -> usize {
        let count = self.shape.iter().try_fold(1usize, |p, &d| p.checked_mul(d));
        count.unwrap_or(usize::MAX)
    }
    /// Slots that a place stands for: those of the batch, or one where each tensor has places of its own.
    pub(crate) fn side_by_side(&self) -> usize {
        match self.places.len() > self.elements() {
            true => 1,
            false => self.batch,
        }
    }
    pub(crate) fn inputs(&self) -> Inputs {
        Inputs {
            all: self.batch,
            side_by_side: self.side_by_side(),
        }
    }
    /// The ciphertext and the slot, or coefficient, of each element of tensor `b`.
    pub(crate) fn places_of(&self, b: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let (each, beside) = (self.elements(), self.side_by_side());
        let first = if beside < self.batch { b * each } else { 0 };
        let own = self.places.iter().skip(first).take(each);
        own.map(move |&(c, s)| (c as usize, s as usize * beside + b % beside))
    }
    /// Values of a ciphertext.
    pub(crate) fn values(&self, parameters: &ParametersSpec) -> usize {
        match self.in_coefficients(parameters) {
            true => 2 * self.slots,
            false => self.slots,
        }
    }
}

fn alone() -> usize {
    1
}
fn is_alone(batch: &usize) -> bool {
    *batch == 1
}

/// What a step of a sequence has beside its input and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// Further inputs of the client, which come after the first.
    pub more: Vec<Port>,
    /// What the server keeps from run to run, encrypted.
    pub kept: Vec<Kept>,
    /// Runs of one sequence at most.
    pub runs: usize,
}

/// A tensor that the server keeps: what a run leaves is what the next one begins with. A sequence begins with zeros.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name in the network.
    pub name: String,
    /// Registers that it comes in by.
    pub before: Vec<Register>,
    /// Registers that it is left in, as many.
    pub after: Vec<Register>,
    /// Period of each ciphertext's slots.
    pub slots: usize,
    /// Level at which it comes in and is left.
    pub level: usize,
    /// Network value = unit × plan value.
    pub unit: f64,
}

/// What a plan says of the data that it was made for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Description {
    /// Name of the network.
    pub name: String,
    /// Largest |input| (network units) that calibration saw, with its margin.
    pub input_bound: f64,
    /// Digest of the task, what the client encodes and reads ([`task_digest`](crate::wire::task_digest)): the task itself is in the client
    /// file alone.
    #[serde(default)]
    pub task: [u8; 32],
    /// Digest of the network that it was compiled from: the checksum in its file; zero where it was made by hand.
    pub model: [u8; 32],
    /// By what a client sees that a value was not like that data; none: nobody sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<Alarm>,
    /// What simulated runs say of the answer's error, by whoever compiled it; none: the bound is all that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulated: Option<Simulated>,
    /// Why it has these parameters, in lines for people; nothing where they were asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
}

/// A program as the compiler or a file has it, not checked: [`VerifiedPlan::new`](crate::VerifiedPlan::new) checks it. Read and written
/// by [`plan_file`](crate::plan_file).
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Parameter set.
    pub parameters: ParametersSpec,
    /// What the client must know.
    pub description: Description,
    /// Encrypted inputs.
    pub input: Port,
    /// Encrypted outputs.
    pub output: Port,
    /// Of a step of a sequence, what it has beside; none where each run stands for itself.
    pub sequence: Option<Sequence>,
    /// The program.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The client's inputs, the first one first.
    pub fn inputs(&self) -> impl Iterator<Item = &Port> {
        inputs(&self.input, self.sequence.as_ref())
    }
    /// What is kept from run to run.
    pub fn kept(&self) -> &[Kept] {
        self.sequence.as_ref().map_or(&[], |s| &s.kept)
    }
    /// Registers that a run begins with, and the level and slots of each group: the client's inputs, then what is kept.
    pub fn given(&self) -> impl Iterator<Item = (&[Register], usize, usize)> {
        let ports = self.inputs().map(|p| (&p.registers[..], p.level, p.slots));
        let kept = self.kept().iter();
        ports.chain(kept.map(|k| (&k.before[..], k.level, k.slots)))
    }
}

/// The inputs of a client, the first one first.
pub(crate) fn inputs<'p>(
    input: &'p Port,
    sequence: Option<&'p Sequence>,
) -> impl Iterator<Item = &'p Port> {
    std::iter::once(input).chain(sequence.into_iter().flat_map(|s| &s.more))
}
