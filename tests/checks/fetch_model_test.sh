#!/usr/bin/env bash
# tools/fetch-model places a sidecar of this project beside the model it belongs to. Downloads nothing: the model is there.
set -euo pipefail
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/project/{tools,models/default/recipes} "$root/cache"
cp "$(cd "$(dirname "$0")/../.." && pwd)/tools/fetch-model" "$root/project/tools"
export CGA_MODELS=$root/cache
failures=0

model() { # model NAME FILE CONTENT: a recipe whose file has been fetched before
  printf %s "$3" >"$CGA_MODELS/$2"
  printf 'title=%s\nfile=%s\nsha256=%s\npackages=(none==1)\nmember=x\n' "$1" "$2" "$(printf %s "$3" | sha256sum | cut -d' ' -f1)" \
    >"$root/project/models/default/recipes/$1"
}
fetch() { "$root/project/tools/fetch-model" "$@"; }
check() { # check NAME COMMAND...
  "${@:2}" || { echo "FAILED: $1"; failures=$((failures + 1)); }
}

model toy Toy.Q4_1.gguf weights
model bare Bare.gguf others
printf first >"$root/project/models/Toy.Q4_1.cga"
check "the path of the model, and nothing else, is printed" test "$(fetch toy)" = "$CGA_MODELS/Toy.Q4_1.gguf"
check "the sidecar is beside the model" cmp "$root/project/models/Toy.Q4_1.cga" "$CGA_MODELS/Toy.Q4_1.cga"
printf second >"$root/project/models/Toy.Q4_1.cga"
fetch toy bare >/dev/null
check "a newer sidecar replaces it" cmp "$root/project/models/Toy.Q4_1.cga" "$CGA_MODELS/Toy.Q4_1.cga"
check "nothing else is left there" test "$(cd "$CGA_MODELS" && echo *)" = "Bare.gguf Toy.Q4_1.cga Toy.Q4_1.gguf"
printf own >"$CGA_MODELS/Bare.cga"
fetch bare >/dev/null
check "a sidecar of a model that the project has none for is left alone" test "$(cat "$CGA_MODELS/Bare.cga")" = own
[[ $failures -eq 0 ]]
