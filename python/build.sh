#!/usr/bin/env bash
# Builds the wheel into python/dist, and with --sdist the source distribution beside it. Needs stable Rust, a C linker, and Python from 3.9 with venv.
set -euo pipefail
cd "$(dirname "$0")"
maturin=target/maturin/bin/maturin
if [ ! -x "$maturin" ]; then
  "${PYTHON:-python3}" -m venv target/maturin
  target/maturin/bin/pip install --quiet 'maturin>=1.9.4,<2'
fi
case "${1:-}" in
  '') ;;
  --sdist) "$maturin" sdist --out dist ;;
  *) echo "usage: ./build.sh [--sdist]" >&2; exit 2 ;;
esac
"$maturin" build --release --out dist
