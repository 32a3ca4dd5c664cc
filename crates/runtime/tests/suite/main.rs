//! Whole toy plans, from tensor to answer, through files; and every refusal on the way. Insecure toy rings.

mod alarm;
mod answers;
mod bounds;
mod engine;
mod files;
mod hostile;
mod mixtures;
mod plans;
mod runs;
mod sharing;
mod stored_keys;
mod support;
