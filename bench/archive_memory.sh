#!/usr/bin/env bash
# Memory that a long prompt and its answer really take: resident bytes of the process, at the peak (reading the prompt) and while generating,
# above what the engine takes before, with the archive and with a bf16 cache; and what the closing line says of keys and values.
# usage: bench/archive_memory.sh CGA MODEL TEXT CONTEXT...      TEXT: at least CONTEXT tokens' worth
set -euo pipefail
cga=$1 model=$2 text=$3
shift 3
work=$(mktemp -d "${TMPDIR:-/tmp}/archive_memory.XXXXXX")
trap 'rm -rf "$work"' EXIT
kib() { awk -v f="$1" '$1 == f ":" { print $2 }' "/proc/$2/status" 2>/dev/null || true; }

measure() { # measure NAME CONTEXT FLAGS...
  local name=$1 context=$2 rss=0 steady=0 peak=0
  shift 2
  head -c $((context * 7 / 2)) "$text" >"$work/text" # about 3.9 bytes a token: nearly fills the context
  "$cga" generate --raw -m "$model" -c "$context" -f "$work/text" -n 8 --temp 0 "$@" >/dev/null 2>"$work/err" &
  local pid=$!
  while [ -d /proc/$pid ] && kill -0 $pid 2>/dev/null; do
    rss=$(kib VmRSS $pid) peak=$(kib VmHWM $pid)
    [ -z "$rss" ] || { steady=$rss; high=${peak:-$high}; }
    sleep 0.05
  done
  wait $pid
  printf '%s, %s: steady %.1f MB, peak %.1f MB; %s\n' "$context" "$name" "$(bc -l <<<"$steady * 1.024 / 1000")" \
    "$(bc -l <<<"$high * 1.024 / 1000")" "$(grep -o 'prompt [0-9,]* tokens\|KV [^;]*; bf16 [^;]*\|KV [^;]*' "$work/err" | tr '\n' ' ')"
}
for context in "$@"; do
  measure bf16 "$context" --kv bf16
  measure archive "$context" --kv cga --kv-bits 1.5 --kv-window 1024 --kv-sparse-from 2048 --kv-residents 2048
done
