#!/usr/bin/env bash
# Builds the page into web/dist. Stable Rust brings no standard library for WebAssembly, Debian's packages build one:
#   apt-get install rustc-web cargo-web rust-web-src lld
# RUSTC, CARGO and WASM_LD name other programs; CARGO's options go behind ./build.sh.
set -euo pipefail
cd "$(dirname "$0")"
export RUSTC="${RUSTC:-/usr/bin/rustc}"
export RUSTC_BOOTSTRAP=1
export RUSTC_WRAPPER="$PWD/rustc.sh"
export RUSTFLAGS="-Clinker=${WASM_LD:-wasm-ld} -Ctarget-feature=+simd128,+bulk-memory"
"${CARGO:-/usr/bin/cargo}" build --release --locked --ignore-rust-version --target wasm32-unknown-unknown \
  -Zbuild-std=std,panic_abort "$@"
rm -rf dist
mkdir dist
cp page/* dist/
cp target/wasm32-unknown-unknown/release/polyveil_web.wasm dist/client.wasm
(cd dist && sha256sum -- *)
