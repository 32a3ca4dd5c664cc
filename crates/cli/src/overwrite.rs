//! What outputs may take the place of; both programs have this option.

use clap::Args;
use polyveil::files::Existing;

/// What outputs may take the place of.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct OverwriteArgs {
    /// Replace outputs also where files of another kind are there; never a secret key, a record of shared answers or an input.
    #[arg(long)]
    force: bool,
}

impl OverwriteArgs {
    pub(crate) fn existing(self) -> Existing {
        match self.force {
            true => Existing::Any,
            false => Existing::Kin,
        }
    }
}
