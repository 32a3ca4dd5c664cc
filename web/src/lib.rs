//! The client in a browser: `runtime`'s client half and `task`, behind a boundary of plain calls (`page/client.js` is its other side).
//!
//! A call is made of arguments, which are bytes, and gives a JSON text and bytes. Whoever calls asks [`room`] for each argument in turn, fills it,
//! and calls an operation by its number; then [`text`] and [`bytes`] say where the results lie until the next call. Randomness is an argument: 32
//! bytes of the browser's generator. Arguments and results are wiped, since some are secret.

mod client;

use client::{Client, Told};
use serde_json::json;
use std::cell::RefCell;
use zeroize::Zeroizing;

/// Longest argument: a picture's file, a client file with its vocabulary.
const LONGEST: usize = 256 << 20;

#[derive(Default)]
struct Page {
    client: Option<Client>,
    arguments: Vec<Zeroizing<Vec<u8>>>,
    text: Zeroizing<Vec<u8>>,
    bytes: Zeroizing<Vec<u8>>,
}

thread_local! {
    static PAGE: RefCell<Page> = RefCell::default();
}

fn page<T>(act: impl FnOnce(&mut Page) -> T) -> T {
    PAGE.with_borrow_mut(act)
}

/// Where the next argument of so many bytes is to be written; 0 where it is too long.
#[unsafe(no_mangle)]
pub extern "C" fn room(length: usize) -> usize {
    if length > LONGEST {
        return 0;
    }
    page(|page| {
        let mut argument = Zeroizing::new(vec![0u8; length]);
        let at = argument.as_mut_ptr() as usize;
        page.arguments.push(argument);
        at
    })
}

/// Carries out an operation on the arguments. 0: done; 1: refused, and the text says why.
#[unsafe(no_mangle)]
pub extern "C" fn call(operation: u32) -> u32 {
    page(|page| {
        let arguments = std::mem::take(&mut page.arguments);
        (page.text, page.bytes) = Default::default();
        let done = client::carry_out(operation, &mut page.client, &arguments);
        let (status, text, bytes) = match done {
            Ok(Told { text, bytes }) => (0, text, bytes),
            Err(refusal) => (
                1,
                json!({ "cause": refusal.to_string() }),
                Zeroizing::default(),
            ),
        };
        (page.text, page.bytes) = (Zeroizing::new(text.to_string().into_bytes()), bytes);
        status
    })
}

/// Where the text of the last call lies.
#[unsafe(no_mangle)]
pub extern "C" fn text() -> usize {
    page(|page| page.text.as_ptr() as usize)
}

/// Its bytes.
#[unsafe(no_mangle)]
pub extern "C" fn text_length() -> usize {
    page(|page| page.text.len())
}

/// Where the bytes of the last call lie.
#[unsafe(no_mangle)]
pub extern "C" fn bytes() -> usize {
    page(|page| page.bytes.as_ptr() as usize)
}

/// How many there are.
#[unsafe(no_mangle)]
pub extern "C" fn bytes_length() -> usize {
    page(|page| page.bytes.len())
}
