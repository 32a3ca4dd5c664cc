//! What a plan is made for.

use crate::error::Error;
use crate::layout::LEAST_PERIOD;
use ckks::{CostTable, Parameters, ParametersSpec};
use runtime::limits::Room;

/// Where linear layers are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layers {
    /// Wherever it costs least, by prediction.
    #[default]
    Cheapest,
    /// In slots: diagonals and rotations.
    Slots,
    /// In coefficients, below the bootstrap: products of polynomials ([`crate::coefficients`]).
    Coefficients,
}

impl Layers {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "cheapest" => Self::Cheapest,
            "slots" => Self::Slots,
            "coefficients" => Self::Coefficients,
            _ => return None,
        })
    }
    /// All names, for messages.
    pub const NAMES: &str = "cheapest, slots, coefficients";
}

/// Whether a plan has an alarm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Watch {
    /// Operands of polynomials, roots and divisions.
    #[default]
    Operands,
    /// Nothing: nobody sees that a value left its interval. For research.
    Nothing,
}

/// What a plan is made for.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The parameter set; none: [`compile`](crate::compile) takes the cheapest that holds the network and its precision, and says why in the
    /// plan. What is not compiled but priced or sketched is so under [`ParametersSpec::standard`] then.
    pub parameters: Option<ParametersSpec>,
    /// Where linear layers are carried out.
    pub layers: Layers,
    /// Seconds of units of work, for N = 2^16, on the machine that will run the plan.
    pub cost: CostTable,
    /// What one more rotation key may cost, in seconds of each run at N = 2^16, in smaller rings so much less: keys take memory, and are made,
    /// sent and stored once.
    pub key_seconds: f64,
    /// The most memory that the run may take, in bytes of predicted peak; where the cheapest plan takes more, a dearer one that fits.
    pub max_memory: Option<u64>,
    /// Whether the run may leave keys on disk to keep that limit (`runtime::Server::open`): such a plan then counts as one that fits,
    /// and as much dearer as reading the keys takes.
    pub keys_on_disk: bool,
    /// Inputs that one run takes side by side, a power of two: every slot of the packing of one becomes as many neighbours. Up to the ring's
    /// slots it costs bootstraps of more slots, then more ciphertexts; where each holds one channel, linear layers rotate nothing.
    pub batch: usize,
    /// Memory that compiling may take beyond what the process has already; none: as much as there is.
    pub room: Option<Room>,
    /// Values outside of polynomials (the input, residual sums, the answer) may be this many times larger than calibration saw.
    pub range_margin: f64,
    /// Whether the plan has an alarm.
    pub watch: Watch,
}

impl Target {
    /// The set that is asked for, else the one with bootstrapping.
    pub fn set(&self) -> ParametersSpec {
        (self.parameters.clone()).unwrap_or_else(ParametersSpec::standard)
    }
    /// What one more rotation key costs in a ring.
    pub(crate) fn key_price(&self, parameters: &Parameters) -> f64 {
        self.key_seconds * ckks::work::ring_share(parameters.spec().log_n)
    }
    /// Slots that one input of the batch has.
    pub(crate) fn slots_of_one(&self, parameters: &Parameters) -> Result<usize, Error> {
        let (batch, slots) = (self.batch, parameters.max_slots());
        let most = slots / LEAST_PERIOD;
        if !batch.is_power_of_two() || batch > most {
            return Err(Error::Batch { batch, most });
        }
        Ok(slots / batch)
    }
}

impl Default for Target {
    /// Parameters chosen for each network and layers where they cost least, the shipped costs, 20 ms for a key, no memory limit, keys in memory, one input at a time, any memory to compile, margin 1.25, an alarm.
    fn default() -> Self {
        Self {
            parameters: None,
            layers: Layers::default(),
            cost: CostTable::default(),
            key_seconds: 0.02,
            max_memory: None,
            keys_on_disk: false,
            batch: 1,
            room: None,
            range_margin: 1.25,
            watch: Watch::Operands,
        }
    }
}
