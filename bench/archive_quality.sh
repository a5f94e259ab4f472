#!/usr/bin/env bash
# What keeping the past in codes costs in quality, beside block caches and the floor of arithmetic: KL divergence from full attention
# with a bf16 cache, change of perplexity with its paired 95 % interval, agreement of the likeliest token. Full attention is run once a
# text and kept in a temporary file (2 bytes a token and vocabulary entry). `f32` is full attention with an f32 cache: what rounding a
# cache to bf16 does.
# usage: bench/archive_quality.sh CGA MODEL CONTEXT IDS.json...         environment: SETTINGS (names, see flags), WINDOW, BITS (of what is chosen from)
set -euo pipefail
cga=$1 model=$2 context=$3
shift 3
work=$(mktemp -d "${TMPDIR:-/tmp}/archive_quality.XXXXXX")
trap 'rm -rf "$work"' EXIT

compact="--kv cga --kv-window ${WINDOW:-128} --kv-sparse-from 0 --kv-residents $context"
flags() { # flags SETTING: cga_R (all of the archive is read), index_BUDGET, oracle_BUDGET, index_BUDGET_rREFRESH, or a type of cache
  case $1 in
    cga_*) echo "$compact --kv-bits ${1#cga_} --kv-select all" ;;
    index_*_r* | oracle_*_r*) echo "$(flags "${1%_r*}") --kv-refresh ${1##*_r}" ;;
    index_* | oracle_*) echo "$compact --kv-bits ${BITS:-1.5} --kv-select ${1%_*} --kv-budget ${1##*_}" ;;
    *) echo "--kv $1" ;;
  esac
}
run() { "$cga" perplexity -m "$model" -c "$context" "$@" 2>>"$work/log" || { tail -3 "$work/log" >&2; exit 1; }; }

echo "| text | cache | KL | perplexity | top-1 |"
echo "|---|---|---|---|---|"
for ids in "$@"; do
  run --ids "$ids" --score-from 1024 --chunks 1 --kv bf16 --save-base "$work/base" >/dev/null
  for setting in ${SETTINGS:-cga_2 cga_1.5 cga_1 q8 q4 f32}; do
    out=$(run --kl-divergence "$work/base" $(flags "$setting"))
    kl=$(sed -n 's/^Mean *KLD: *\([^ ]*\) .*/\1/p' <<<"$out")
    change=$(sed -n 's/^PPL change *: *//p' <<<"$out")
    top=$(sed -n 's/^Same top p: *\([^ ]*\) .*/\1/p' <<<"$out")
    printf '| %s | %s | %.5f | %s | %s %% |\n' "$(basename "$ids" .json)" "$setting" "$kl" "$change" "$top"
  done
done
