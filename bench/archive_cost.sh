#!/usr/bin/env bash
# What the archive costs in time: prefill of 4,096 tokens and decoding behind them, against full attention, in turns on one machine.
# usage: bench/archive_cost.sh CGA MODEL [ROUNDS] [TOKENS]      prints medians and their ratio
set -euo pipefail
cga=$1 model=$2 rounds=${3:-3} tokens=${4:-4096}
rate() { # rate FLAGS...: tokens/s of the only test
  "$cga" bench -m "$model" -r 1 --no-warmup -o json "$@" 2>/dev/null | python3 -c 'import json, sys; print(json.load(sys.stdin)[0]["avg_ts"])'
}
median() { tr ' ' '\n' <<<"$*" | sort -g | sed -n "$((($# + 1) / 2))p"; }
archive=(--kv cga --kv-window 128 --kv-sparse-from 0 --kv-select all --kv-residents "$tokens")
for test in "prefill -p $tokens -n 0 -d 0" "decode -p 0 -n 32 -d $tokens"; do
  read -r name flags <<<"$test"
  full=() coded=()
  for _ in $(seq "$rounds"); do
    full+=("$(rate $flags --kv bf16)")
    coded+=("$(rate $flags "${archive[@]}")")
  done
  f=$(median "${full[@]}") c=$(median "${coded[@]}")
  awk -v n="$name" -v f="$f" -v c="$c" 'BEGIN { printf "%s: full attention %.1f tokens/s, archive %.1f, time x %.3f\n", n, f, c, f / c }'
done
