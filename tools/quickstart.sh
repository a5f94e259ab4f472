#!/usr/bin/env bash
# From a fresh checkout to an answer: installs what is missing, builds, fetches a small model, asks it a question.
# usage: tools/quickstart.sh [QUESTION]
# Standard output carries the answer and nothing else; everything that happens is told on standard error.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "quickstart: $*" >&2; }
case ${1:-} in
  -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
esac
extra=()
question=${*:-"What is the capital of France, and what is it famous for?"}

tools/install-packages run
say "building build/release/cga (the first time takes a few minutes)"
{
  # Tests need more packages; a build folder that has them already keeps them.
  [[ -f build/release/CMakeCache.txt ]] || extra=(-DCGA_TESTS=OFF -DCGA_BENCH=OFF)
  cmake --preset release "${extra[@]}"
  cmake --build --preset release --target cga_cli
} >&2 </dev/null
model=$(tools/fetch-model smollm2)
say "cga generate -m $model -p \"$question\" --temp 0"
exec build/release/cga generate -m "$model" -p "$question" --temp 0 </dev/null # greedy: draws lead small models astray
