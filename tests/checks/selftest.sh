#!/usr/bin/env bash
# Each check of tools/checks must find a planted violation, and must not complain without one.
set -euo pipefail
checks=$(cd "$(dirname "$0")/../.." && pwd)/tools/checks
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

plant() { # plant PATH CONTENT...: a tracked file of the little project
  mkdir -p "$tree/$(dirname "$1")"
  printf '%s\n' "${@:2}" >"$tree/$1"
  git -C "$tree" add -f "$1"
}
fresh() { # a project without violations
  rm -rf "$tree"
  mkdir -p "$tree"
  git -C "$tree" init -q
  plant include/cga/error.h '#include <string>'
  plant src/base/half.h '#include "cga/error.h"'
  plant src/quant/q.h '#include "base/half.h"'
  plant src/tokenizer/bpe.cpp '#include <pcre2.h>'
  plant src/model/forward.h '#include "quant/q.h"'
  plant src/backend/factory.cpp '#include "kernels/cpu/backend.h"'
  plant kernels/cpu/backend.h '#include "kernels/ops.h"'
  plant kernels/ops.h 'struct P {' '  const float* x = nullptr;  // [n_tokens, dim], f32' '};'
  plant models/llama/family.cpp '#include "model/forward.h"'
  plant tools/cga/main.cpp '#include <CLI/CLI.hpp>' '#include "cga/error.h"'
}
passes() { # passes NAME CHECK [ARG...]
  "$checks/${@:2:1}" "${@:3}" >/dev/null 2>&1 || { echo "FAILED: $1: $2 complains"; failures=$((failures + 1)); }
}
fails() { # fails NAME WORDS CHECK [ARG...]: the check must fail, and its output must contain WORDS
  local output
  if output=$("$checks/$3" "${@:4}" 2>&1) || [[ $output != *"$2"* ]]; then
    echo "FAILED: $1: $3 said '$output'"
    failures=$((failures + 1))
  fi
}

fresh
passes "a clean tree" include-direction --root "$tree"
passes "a clean tree" op-contract --root "$tree"
passes "a clean tree" tree --root "$tree"

include() { # include FILE LINE WORDS: adding the line to the file is refused
  fresh
  plant "$1" "$2"
  fails "$1 with $2" "$3" include-direction --root "$tree"
}
include src/base/half.h '#include "quant/q.h"' 'src/base may not include src/quant'
include src/tokenizer/x.h '#include "quant/q.h"' 'src/tokenizer may not include src/quant'
include src/quant/q.h '#  include "model/forward.h"' 'src/quant may not include src/model'
include src/model/forward.h '#include "kernels/cpu/backend.h"' 'src/model may not include kernels/cpu'
include src/backend/other.cpp '#include "kernels/cpu/backend.h"' 'src/backend may not include kernels/cpu'
include src/model/forward.h '#include "../../models/llama/family.cpp"' 'src/model may not include models/llama'
include kernels/cuda/x.cu '#include "kernels/cpu/backend.h"' 'kernels/cuda may not include kernels/cpu'
include tools/cga/main.cpp '#include "model/forward.h"' 'tools/cga may not include src/model'
include src/model/x.cpp '#include <spdlog/spdlog.h>' 'is for tools/cga only'
include src/model/x.cpp '#include "no/such.h"' 'is no file of this project'
include src/newcomer/x.cpp '#include "base/half.h"' 'is not in the table'

fresh
plant kernels/ops.h 'struct P {' '  const float* x = nullptr;  // the input' '};'
fails "a pointer without a shape" "x lacks its shape" op-contract --root "$tree"
fresh
plant kernels/cuda/attend/params.h 'struct P {' '  float* out;' '};'
fails "a params header without a shape" "out lacks its shape" op-contract --root "$tree"

fresh
plant src/base/long.cpp $(seq 401)
fails "a long file" "401 lines" tree --root "$tree"
plant tools/checks/long-files.txt 'src/base/long.cpp  a table'
passes "a long file with a reason" tree --root "$tree"
plant tools/checks/long-files.txt 'src/base/long.cpp'
fails "a long file without one" "no reason" tree --root "$tree"
fresh
plant tools/checks/long-files.txt 'src/base/half.h  was long once'
fails "a stale reason" "not long any more" tree --root "$tree"
fresh
head -c 1500001 /dev/zero >"$tree/big.bin"
git -C "$tree" add big.bin
fails "a large file" "1500001 bytes" tree --root "$tree"
fresh
plant models/SmolLM2-135M-Instruct.Q4_1.cga ''
truncate -s 40000000 "$tree/models/SmolLM2-135M-Instruct.Q4_1.cga"
passes "the default model's sidecar" tree --root "$tree"
truncate -s 40000001 "$tree/models/SmolLM2-135M-Instruct.Q4_1.cga"
fails "a sidecar over its limit" "40000001 bytes" tree --root "$tree"
fresh
plant README.md "see /home/""somebody/cga"
fails "a path of one machine" "a path of one machine" tree --root "$tree"

fresh
cp "$checks/../../.clang-format" "$tree"
for name in $(cd "$tree" && git ls-files '*.cpp' '*.h'); do plant "$name" 'int x;'; done
passes "formatted files" format --root "$tree"
plant src/base/half.h 'int   x ;'
fails "a file not formatted" "src/base/half.h: " format --root "$tree"

compile() { # compile BODY: a library whose one function has this body
  fresh
  printf '%s\n' '#include <cstdio>' '#include <cstdlib>' '#include <fstream>' '#include <iostream>' \
    '#include <sstream>' '#include <string>' "void f(std::string& s) { $1 }" >"$tree/x.cpp"
  (cd "$tree" && "${CXX:-g++}" -std=c++20 -O0 -c x.cpp && ar rc libcga_x.a x.o)
}
compile 'std::ostringstream text; text << 1.5; s += text.str(); throw s;'
passes "strings and exceptions" banned-symbols "$tree"
compile 'std::printf("%s", s.c_str()); std::puts("a"); std::fprintf(stderr, "%s", s.c_str()); std::cout << s;
  std::cerr << s; std::ofstream("x") << s; s = std::getenv("HOME"); std::system(s.c_str()); s[0] = char(std::rand());
  if (s.empty()) std::exit(1); std::abort();'
for symbol in printf puts stderr std::cout std::cerr std::basic_ofstream getenv system rand exit abort; do
  fails "a library that uses $symbol" "libcga_x.a(x.o): $symbol" banned-symbols "$tree"
done

[[ $failures -eq 0 ]] && echo "every planted violation was found"
exit $((failures > 0))
