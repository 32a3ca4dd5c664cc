#!/usr/bin/env bash
# Installs the built wheel (python/dist, ./build.sh makes it) into a fresh environment and tests it there. What is skipped is named with its reason.
#   PYTHON                  the interpreter [python3]
#   POLYVEIL_TEST_PACKAGES  a folder of packages that have torch and onnxscript, which are large; without it what needs torch is skipped
#   POLYVEIL_XRAY           pneumoniamnist.npz of MedMNIST, for the notebook
#   POLYVEIL_SERVE          the program polyveil-serve, for the service's client [the one in target/release]
# Arguments go to pytest.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
wheel="$(ls -t "$here"/dist/polyveil-*.whl 2>/dev/null | head -1)"
[ -n "$wheel" ] || { echo "there is no wheel in $here/dist: ./build.sh makes one" >&2; exit 1; }
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "$wheel" pytest nbclient ipykernel
if [ -n "${POLYVEIL_TEST_PACKAGES:-}" ]; then
  # behind the environment's own packages
  echo "$POLYVEIL_TEST_PACKAGES" > "$("$folder/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/test-packages.pth"
fi
echo "testing $(basename "$wheel") with $("$folder/venv/bin/python" --version)"
# elsewhere, so that the installed package is what is imported
cd "$folder"
"$folder/venv/bin/python" -m pytest -q -rs -p no:cacheprovider "$here/tests" "$@"
