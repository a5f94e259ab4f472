#!/usr/bin/env bash
# What keeping the past in codes costs in HellaSwag accuracy: full attention in bf16, cga at its default settings (tasks are shorter than
# what stays exact, so that it must decide as bf16 does), and cga that reads its archive from the first token that leaves a window of 64.
# Tasks are paired: of two runs it prints how many tasks only the first and only the second gets right, with McNemar's exact p, and how
# many they decide differently at all.
# usage: bench/hellaswag.sh CGA MODEL FILE         environment: TASKS (400), SIDECAR (default: beside the model)
set -euo pipefail
cga=$1 model=$2 file=$3
work=$(mktemp -d "${TMPDIR:-/tmp}/hellaswag.XXXXXX")
trap 'rm -rf "$work"' EXIT

compact=(--kv cga ${SIDECAR:+--cga "$SIDECAR"})
run() { # run NAME FLAGS...
  local name=$1
  shift
  "$cga" perplexity -m "$model" --hellaswag -f "$file" --hellaswag-tasks "${TASKS:-400}" --save-scores "$work/$name" "$@" \
    >"$work/out" 2>"$work/log" || { tail -3 "$work/log" >&2; exit 1; }
  printf '%-12s %s\n' "$name" "$(sed -n 's/^Final accuracy: //p' "$work/out")"
}
run bf16 --kv bf16
run cga "${compact[@]}"
run cga-sparse "${compact[@]}" --kv-window 64 --kv-sparse-from 0

python3 - "$work" bf16 cga cga-sparse <<'PY'
import itertools, math, sys

folder, *names = sys.argv[1:]


def read(name):
    with open(f"{folder}/{name}") as lines:
        return [line.split() for line in lines][1:]


def mcnemar(b, c):
    """Two-sided exact p of b against c of b + c fair coins."""
    n = b + c
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n)


runs = {name: read(name) for name in names}
for first, second in itertools.combinations(names, 2):
    pairs = list(zip(runs[first], runs[second], strict=True))
    assert all(a[:2] == b[:2] for a, b in pairs), "the runs are of other tasks"
    right = [(a[1] == a[2], b[1] == b[2]) for a, b in pairs]
    only_first, only_second = right.count((True, False)), right.count((False, True))
    differ = sum(a[2] != b[2] for a, b in pairs)
    same = sum(a == b for a, b in pairs)
    print(f"{first} / {second}: {differ} of {len(pairs)} tasks decided differently; only {first} right {only_first}, only {second} "
          f"right {only_second} (McNemar p = {mcnemar(only_first, only_second):.3f}); scores equal to the last bit in {same}")
PY
