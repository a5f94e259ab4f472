#!/usr/bin/env bash
# What keeping the past in codes costs in quality, beside block caches and the floor of arithmetic: KL divergence from full attention
# run in the same pass, change of perplexity with its paired 95 % interval, agreement of the likeliest token.
# usage: bench/archive_quality.sh CGA MODEL CONTEXT IDS.json...      environment: SETTINGS, EXTRA (flags for every run)
set -euo pipefail
cga=$1 model=$2 context=$3
shift 3
archive="--kv cga --kv-window 128 --kv-sparse-from 0 --kv-residents $context"
default="bf16:--kv_bf16 cga_2:${archive// /_}_--kv-bits_2 cga_1.5:${archive// /_}_--kv-bits_1.5 cga_1:${archive// /_}_--kv-bits_1
q8:--kv_q8 q4:--kv_q4"
echo "| cache | text | KL | perplexity | top-1 |"
echo "|---|---|---|---|---|"
for setting in ${SETTINGS:-$default}; do
  for ids in "$@"; do
    out=$("$cga" perplexity -m "$model" --ids "$ids" -c "$context" --score-from 1024 --chunks 1 --kl-full ${EXTRA:-} \
      $(tr _ ' ' <<<"${setting#*:}") 2>/dev/null)
    kl=$(sed -n 's/^Mean *KLD: *\([^ ]*\) .*/\1/p' <<<"$out")
    change=$(sed -n 's/^PPL change *: *//p' <<<"$out")
    top=$(sed -n 's/^Same top p: *\([^ ]*\) .*/\1/p' <<<"$out")
    printf '| %s | %s | %.5f | %s | %s %% |\n' "${setting%%:*}" "$(basename "$ids" .json)" "$kl" "$change" "$top"
  done
done
