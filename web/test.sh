#!/usr/bin/env bash
# Tests what build.sh made: the client in Node, the page in headless Chromium. Needs Node 20.15 or newer, npm and Chromium (apt-get install chromium).
#   ./test.sh [FOLDER_OF_PROGRAMS [FOLDER_OF_NETWORK [FOLDER_FOR_SCREENSHOTS]]]
# The programs are polyveil, polyveil-train and polyveil-serve [../target/release].
set -euo pipefail
cd "$(dirname "$0")"
[ -f dist/client.wasm ] || { echo "there is no page in web/dist: ./build.sh makes it" >&2; exit 1; }
[ -d test/node_modules/playwright-core ] || (cd test && npm install --silent --no-audit --no-fund --no-package-lock)
node test/roundtrip.mjs "$@"
node test/page.mjs "$@"
