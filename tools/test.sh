#!/usr/bin/env bash
# Everything that must hold before a change lands: installs what is missing, builds the release preset with its
# tests, fetches the default model, runs the checks of tools/checks, then the tests. Ends with ctest's summary.
# usage: tools/test.sh [CTEST_ARGUMENT...]      such as -R tokenizer
set -euo pipefail
cd "$(dirname "$0")/.."

tools/install-packages test
cmake --preset release -DCGA_TESTS=ON -DCGA_BENCH=ON
cmake --build --preset release
tools/fetch-model smollm2 # tests that want a larger model say that they skip where it is absent
checks=0
tools/checks/run || checks=$?
tests=0
ctest --preset release "$@" || tests=$?
[[ $checks -eq 0 ]] || echo "the checks failed; see above" >&2
exit $((checks > 0 || tests > 0))
