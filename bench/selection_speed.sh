#!/usr/bin/env bash
# Decode speed by depth: full attention with a bf16 cache, and Compact Grouped Attention with an index. Tokens are a text's, so that
# what is chosen again is as in real use. Beyond the model's trained context, give a copy whose RoPE is scaled (linear), or the index
# chooses noise and hit rates mean nothing. A line of JSON a test goes to standard output; bench/selection_speed.py draws them.
# With LLAMA_BENCH set to llama.cpp's llama-bench, its speed with f16 and q4_0 caches comes after.
# usage: bench/selection_speed.sh CGA MODEL TEXT DEPTHS SETTING...      e.g. … 2048,8192 "--kv bf16" "--kv cga --kv-window 128"
set -euo pipefail
cga=$1 model=$2 text=$3 depths=$4
shift 4
for setting in "$@"; do
  # shellcheck disable=SC2086  # a setting is several words
  "$cga" bench -m "$model" -p 0 -n 48 -r 4 --no-warmup -d "$depths" -f "$text" -o json $setting 2>/dev/null |
    python3 -c '
import json, statistics, sys
for t in json.load(sys.stdin):
    warm = t["samples_ts"][1:]  # the first run decodes everything that it chooses
    print(json.dumps({"setting": sys.argv[1], "depth": t["n_depth"], "tokens_per_s": round(statistics.median(warm), 1),
                      "units_read": t["units_read"], "units_decoded": t["units_decoded"], "resident_share": t["resident_share"],
                      "kv_bytes": t["kv_bytes"], "kv_bf16_bytes": t["kv_bf16_bytes"]}), flush=True)' "$setting"
done

for kv in ${LLAMA_BENCH:+f16 q4_0}; do
  "$LLAMA_BENCH" -m "$model" -p 0 -n 48 -r 3 -d "$depths" -fa 1 -ctk "$kv" -ctv "$kv" -o json 2>/dev/null |
    python3 -c '
import json, statistics, sys
for t in json.load(sys.stdin):
    print(json.dumps({"setting": sys.argv[1], "depth": t["n_depth"], "tokens_per_s": round(statistics.median(t["samples_ts"]), 1)}), flush=True)' \
      "llama.cpp, $kv"
done
