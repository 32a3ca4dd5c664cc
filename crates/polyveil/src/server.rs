//! The server's side, in memory.

use crate::Result;
use runtime::VerifiedPlan;
use std::sync::Arc;

/// A server: a plan, and one client's evaluation keys. It computes on ciphertexts; there is nothing in it that could hold a secret key:
///
/// ```compile_fail,E0308
/// fn serve(plan: std::sync::Arc<polyveil::runtime::VerifiedPlan>, client: &polyveil::Client) {
///     polyveil::Server::new(plan, client.keys().secret_key());
/// }
/// ```
#[derive(Debug)]
pub struct Server(runtime::Server);

impl Server {
    /// From the bytes of [`Client::evaluation_keys`](crate::Client::evaluation_keys).
    ///
    /// # Errors
    /// Bytes that are no evaluation keys for this plan: a secret key's among them.
    pub fn new(plan: Arc<VerifiedPlan>, keys: &[u8]) -> Result<Self> {
        let name = "evaluation keys";
        let server = runtime::Server::read(plan, keys, name, &mut |_, _| {})?;
        Ok(Self(server))
    }

    /// The encrypted answer to an encrypted input ([`Client::encrypt`](crate::Client::encrypt)), on the threads of the caller's pool.
    ///
    /// # Errors
    /// Bytes that are no input of this client and plan.
    pub fn run(&self, input: &[u8]) -> Result<Vec<u8>> {
        let state = self.0.read_input(input, "input")?;
        let answer = self.0.run(state, &mut ())?;
        Ok(self.0.write_answer(&answer, Vec::new(), "answer")?)
    }
}
