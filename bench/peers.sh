#!/usr/bin/env bash
# Speed, load time and peak memory beside llama.cpp, in turns on the same machine, so that its moods hit both alike.
# usage: bench/peers.sh CGA LLAMA_BIN_FOLDER MODEL [ROUNDS]      THREADS, PROMPT, GEN, DEPTHS in the environment
set -euo pipefail
cga=$1 llama=$2 model=$3 rounds=${4:-3}
threads=${THREADS:-2} prompt=${PROMPT:-512} gen=${GEN:-32} depths=${DEPTHS:-0,4096}
common=(-m "$model" -t "$threads" -p "$prompt" -n "$gen" -d "$depths" -r 1 -o json)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  "$llama/llama-bench" "${common[@]}" -fa 1 >"$work/llama.$round.json" 2>/dev/null
  "$cga" bench "${common[@]}" >"$work/cga.$round.json" 2>/dev/null
done
load() { # seconds to read the model and answer one token; peak resident memory, MB
  /usr/bin/env python3 - "$@" <<'PY'
import os, resource, subprocess, sys, time
start = time.time()
subprocess.run(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
print(f"{time.time() - start:.2f} s, {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000:.0f} MB")
PY
}
python3 - "$work" "$rounds" <<'PY'
import json, statistics, sys
work, rounds = sys.argv[1], int(sys.argv[2])
def read(who):
    runs = {}
    for r in range(1, rounds + 1):
        for row in json.load(open(f"{work}/{who}.{r}.json")):
            runs.setdefault((row["n_prompt"], row["n_gen"], row["n_depth"]), []).append(row)
    return runs
ours, theirs = read("cga"), read("llama")
print("| test | llama.cpp t/s | cga t/s | ratio, median (min to max) | cga GB/s | share of bandwidth |\n|---|---:|---:|---:|---:|---:|")
for key in ours:
    a, b = ([row["avg_ts"] for row in runs[key]] for runs in (ours, theirs))
    ratios = sorted(x / y for x, y in zip(a, b))
    row = ours[key][len(ours[key]) // 2]
    moved, peak = row["gb_per_s"], row["bandwidth_share"]
    name = (f"pp{key[0]}" if key[0] else f"tg{key[1]}") + (f" @ d{key[2]}" if key[2] else "")
    shown = f"{moved:.1f} | {100 * peak:.0f} %" if key[1] else "- | -"
    print(f"| {name} | {statistics.median(b):.1f} | {statistics.median(a):.1f} | "
          f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) | {shown} |")
PY
echo "load and one token, llama.cpp: $(load "$llama/llama-completion" -m "$model" -t "$threads" -c 512 -n 1 -p x -no-cnv)"
echo "load and one token, cga:       $(load "$cga" generate -m "$model" -t "$threads" -c 512 -n 1 -p x --raw)"
