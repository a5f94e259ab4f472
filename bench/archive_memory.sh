#!/usr/bin/env bash
# Memory that a long prompt and its answer really take: resident bytes of the process, at the peak (reading the prompt) and while generating,
# above what the engine takes before, with the archive and with a bf16 cache; and what the closing line says of keys and values.
# usage: bench/archive_memory.sh CGA MODEL TEXT CONTEXT...      TEXT: at least CONTEXT tokens' worth; ARCHIVE_ONLY=1: leave bf16 out
set -euo pipefail
cga=$1 model=$2 text=$3
shift 3
work=$(mktemp -d "${TMPDIR:-/tmp}/archive_memory.XXXXXX")
trap 'rm -rf "$work"' EXIT
rss() { awk '$1 == "VmRSS:" { print $2 }' "/proc/$1/status" 2>/dev/null || true; }

measure() { # measure NAME CONTEXT FLAGS...
  local name=$1 context=$2
  shift 2
  head -c $((context * 7 / 2)) "$text" >"$work/text" # about 3.9 bytes a token: nearly fills the context
  "$cga" generate --raw -m "$model" -c "$context" -f "$work/text" -n 8 --temp 0 "$@" >/dev/null 2>"$work/err" &
  local pid=$!
  while kill -0 $pid 2>/dev/null; do
    rss $pid
    sleep 0.05
  done >"$work/samples"
  wait $pid
  # At its end the run reads 256 MiB to measure the bandwidth: the last seconds are not the context's.
  grep -E '^[0-9]+$' "$work/samples" | head -n -40 >"$work/used"
  printf '%s, %s: steady %s MB, peak %s MB; %s\n' "$context" "$name" \
    "$(tail -n 1 "$work/used" | awk '{ printf "%.1f", $1 * 1.024 / 1000 }')" \
    "$(sort -n "$work/used" | tail -n 1 | awk '{ printf "%.1f", $1 * 1.024 / 1000 }')" \
    "$(grep -o 'prompt [0-9,]* tokens\|KV [^;]*; bf16 [^;]*\|KV [^;]*' "$work/err" | tr '\n' ' ')"
}
for context in "$@"; do
  [ -n "${ARCHIVE_ONLY:-}" ] || measure bf16 "$context" --kv bf16
  measure archive "$context" --kv cga --kv-bits 1.5 --kv-window 1024 --kv-sparse-from 2048 --kv-select all --kv-residents 2048
done
