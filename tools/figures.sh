#!/usr/bin/env bash
# Measures the rows of "Aims and where they stand" (docs/performance.md) on a quiet machine with AVX-512 IFMA, one after the other, and keeps
# what each command prints in OUT/ROW.json with `time -v` beside it. Rows by default: all. About an hour and a half.
#   tools/figures.sh target/release/polyveil OUT [ROW...]
# With OLD, another build of the program, it runs the networks of the README by turns instead, five times each, into OUT/beside.txt
# (CPU seconds of the user and the system, seconds, KiB at most). MODELS is a folder with r20.pvm, stories.pvm and sst2.pvm, which both builds
# can read, DATA one with test_lossless_500.bin and sst2_dev.tsv:
#   OLD=other/polyveil MODELS=models DATA=data tools/figures.sh target/release/polyveil OUT
set -euo pipefail
program=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
here=$(cd "$(dirname "$0")/.." && pwd)
shift 2

row() { # NAME ARGUMENTS...
  local name=$1
  shift
  printf '%s  %s\n' "$(date +%T)" "$name" >&2
  command time -v -o "$out/$name.time" "$program" "$@" >"$out/$name.json" 2>"$out/$name.err" || printf '%s failed\n' "$name" >&2
}

if [ -n "${OLD:-}" ]; then
  old=$(realpath "$OLD")
  models=$(realpath "$MODELS")
  data=$(realpath "$DATA")
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  turn() { # NAME ARGUMENTS...
    local name=$1 one
    shift
    for one in "$old" "$program"; do
      rm -f "$scratch/results.jsonl"
      command time -a -o "$out/beside.txt" -f "$name $([ "$one" = "$old" ] && echo old || echo new) %U %S %e %M" \
        "$one" "$@" >/dev/null 2>"$out/beside.err" || printf '%s failed\n' "$name" >&2
    done
  }
  for round in 1 2 3 4 5; do
    printf '%s  round %s\n' "$(date +%T)" "$round" >&2
    turn demo demo --no-precision
    results=(--count 1 -o "$scratch/results.jsonl")
    turn r20 evaluate --model "$models/r20.pvm" --data "$data/test_lossless_500.bin" "${results[@]}"
    turn stories evaluate --model "$models/stories.pvm" --prompts "$here/training/stories/prompts.txt" "${results[@]}"
    turn sst2 evaluate --model "$models/sst2.pvm" --sentences "$data/sst2_dev.tsv" "${results[@]}"
  done
  exit
fi

rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=(half bootstrap demo resnet18 mobilenet resnet50 resnet152 pythia70m bert bench)
one="--threads 1 --json"
for name in "${rows[@]}"; do
  case $name in
    half) row half bench --only half_bootstrap --free-levels 2,3,4,5,6,7,8,9 --log-slots 15 --bootstrap-runs 3 $one ;;
    bootstrap) row bootstrap bench --only "bootstrap 2^16" --free-levels 2 --log-slots 15 --targets 10 --bootstrap-runs 3 $one ;;
    demo) row demo demo --no-precision $one ;;
    resnet18 | resnet50) row "$name" estimate "$name" --size 224 --run $one ;;
    mobilenet) row mobilenet estimate mobilenet_v2 --size 224 --run $one ;;
    resnet152) row resnet152 estimate resnet152 --size 224 --pictures 4 --run --threads 2 --json ;;
    pythia70m) row pythia70m estimate pythia-70m --length 128 --batch 1 --run $one ;;
    bert) row bert estimate bert-base --length 128 --batch 1 --run --threads 2 --json ;;
    bench) row bench bench --json ;;
    *) printf 'no row is called %s\n' "$name" >&2 ;;
  esac
done
