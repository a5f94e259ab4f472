# Perplexity with the real model: estimates, base files, and a model compared with itself.
source "$(dirname "$0")/support.bash"
need_model
TEXT=$WORK/text
BASE=$WORK/base

ppl() { cga perplexity -m "$MODEL" "$@" </dev/null; }

cat >"$TEXT" <<'TEXT'
The tide pools below the lighthouse fill twice a day. At low water the rocks hold small, clear basins in which
anemones open like flowers, crabs wait under ledges, and young fish hide from the gulls. A careful visitor kneels,
keeps still, and lets the pool forget that anyone is there. After a minute the shrimp come out first, nearly
transparent, testing the water with their long feelers. Then a hermit crab drags its borrowed shell across the sand,
stops, and looks around. The keeper of the lighthouse used to write down what he saw in a green notebook: the
weather, the height of the water, the number of birds. His daughter still has the notebook, and on winter evenings
she reads from it to her children, who know every page by heart and correct her when she leaves out a line.
In spring the school sends its pupils to the shore with buckets and magnifying glasses. They are told to put every
stone back as they found it, because a stone is a roof for somebody. Most of them remember. The teacher counts the
starfish with them, and the numbers go into a table that is older than the school itself. In some years there are
hundreds, in others only a dozen, and nobody has yet found out why.
TEXT


ppl -c 64 --chunks 2 -f "$TEXT" --save-base "$BASE"
[ "$CODE" = 0 ] || fail "an estimate"
FIRST=$OUT
python3 - "$WORK/out" <<'PY' || fail "the lines of an estimate"
import re, sys
running, final = open(sys.argv[1]).read().splitlines()
assert re.fullmatch(r"\[1\]\d+\.\d{4},\[2\]\d+\.\d{4},", running), running
ppl = re.fullmatch(r"Final estimate: PPL = (\d+\.\d{4}) \+/- \d+\.\d{5}", final)
assert 5 < float(ppl[1]) < 80, final
PY
contains "$ERR" "seconds per pass - ETA" && contains "$ERR" "tokens/s" || fail "what is said beside the result"

# The estimate does not depend on how the text is cut for the engine, nor on threads.
ppl -c 64 --chunks 2 -f "$TEXT" -ub 24 -t 1
[ "$CODE" = 0 ] && [ "$OUT" = "$FIRST" ] || fail "another ubatch, another estimate"

# Compared with itself, a model differs by the coding of the base file only.
ppl --kl-divergence "$BASE" -f "$TEXT"
[ "$CODE" = 0 ] || fail "a comparison"
python3 - "$WORK/out" <<'PY' || fail "a model differs from itself"
import re, sys
text = open(sys.argv[1]).read()
number = lambda label: float(re.search(re.escape(label) + r"\s*:\s*(-?[\d.]+)", text).group(1))
assert abs(number("Mean    KLD")) < 1e-7, "mean"
assert abs(number("Maximum KLD")) < 1e-6, "maximum"
assert number("Median  KLD") <= number("99.0%   KLD") <= number("Maximum KLD"), "order"
assert number("Same top p") == 100.0, "top"
assert abs(number("Mean PPL(Q)/PPL(base)") - 1) < 1e-6, "ratio"
PY

# Another cache is another model, and close.
ppl --kl-divergence "$BASE" --kv f32
python3 - "$WORK/out" <<'PY' || fail "keys and values in f32 are near those in bf16"
import re, sys
kld = float(re.search(r"Mean    KLD:\s*(\S+)", open(sys.argv[1]).read()).group(1))
assert 1e-9 < kld < 1e-2, kld
PY

# Beside full attention no file is needed: bf16 is compared with f32, everything else with bf16.
ppl -c 64 --chunks 2 -f "$TEXT" --kv f32 --save-base "$WORK/f32"
ppl --kl-divergence "$WORK/f32" --kv bf16
cp "$WORK/out" "$WORK/by-file"
ppl -c 64 --chunks 2 -f "$TEXT" --kv bf16 --kl-full
[ "$CODE" = 0 ] && contains "$ERR" "--kv bf16 beside full attention in f32" || fail "--kl-full"
python3 - "$WORK/by-file" "$WORK/out" <<'PY' || fail "--kl-full finds what the file finds"
import re, sys
by_file, beside = (open(path).read() for path in sys.argv[1:])
number = lambda text, label: float(re.search(re.escape(label) + r"\s*:\s*([-+]?[\d.]+)", text).group(1))
for label, within in (("Mean PPL(Q)", 1e-9), ("Mean PPL(base)", 1e-9), ("PPL change", 1e-9), ("Same top p", 1e-9),
                      ("Mean    KLD", 2e-7), ("99.0%   KLD", 5e-6)):  # divergences differ by the file's coding
    assert abs(number(by_file, label) - number(beside, label)) < within, label
assert 1e-7 < number(beside, "Mean    KLD") < 1e-3, "the rounding of bf16"
words = lambda text: re.sub(r"[-+]?\d+\.\d+", "", text).split()
assert words(by_file) == words(beside), "the same lines"
PY
ppl -c 64 --chunks 2 -f "$TEXT" --kv f32 --kl-full -ub 24 -t 1
[ "$CODE" = 0 ] && contains "$ERR" "--kv f32 beside full attention in bf16" || fail "--kl-full with f32"

# Token ids are fed as they are; those of the text, taken from its base file, give what the text gives. One chunk is
# enough.
ids() { # [OUT] [IDS], an expression of `tokens`: the text's
  python3 - "$BASE" "$@" <<'PY'
import hashlib, json, struct, sys
base, out, expression = sys.argv[1:]
raw = open(base, "rb").read()
name_bytes, n_tokens = struct.unpack_from("<2I", raw, 32)
tokens = list(struct.unpack_from(f"<{n_tokens}i", raw, 40 + name_bytes))
ids = eval(expression)
json.dump({"format": "cga-token-ids", "version": 1, "name": "tide pools", "tokenizer": "smollm", "source": "a test",
           "bos": False, "n_tokens": len(ids), "sha256": hashlib.sha256(struct.pack(f"<{len(ids)}i", *ids)).hexdigest(),
           "ids": ids}, open(out, "w"))
PY
}
ids "$WORK/two.json" "tokens"
ids "$WORK/one.json" "tokens[:64]"
ids "$WORK/short.json" "tokens[:63]"
ids "$WORK/foreign.json" "tokens[:100] + [49152]"
sed 's/"n_tokens": 128, "sha256": "./&0/' "$WORK/two.json" >"$WORK/damaged.json"
ppl -c 64 --chunks 2 --ids "$WORK/two.json"
[ "$CODE" = 0 ] && [ "$OUT" = "$FIRST" ] || fail "the ids of the text"
ppl -c 64 --ids "$WORK/one.json"
[ "$CODE" = 0 ] && [ "${OUT%%,*}" = "${FIRST%%,*}" ] || fail "one chunk of ids"
contains "$ERR" "1 chunk of 64 tokens, 31 scored" || fail "what is run"
ppl -c 64 --ids "$WORK/one.json" --score-from 20 --kl-full --kv bf16
[ "$CODE" = 0 ] && contains "$OUT" "PPL change" && contains "$ERR" "43 scored" || fail "ids beside full attention"
ppl --kl-divergence "$BASE" --ids "$WORK/two.json"
[ "$CODE" = 0 ] || fail "ids and a base of the same tokens"
ppl -c 128 --chunks 1 --ids "$(dirname "$0")/../vectors/ids/wiki.json"
[ "$CODE" = 0 ] && contains "$OUT" "Final estimate" || fail "the ids that are kept with the tests"

ppl -c 64 --chunks 1 --ppl-stride 16 -f "$TEXT"
[ "$CODE" = 0 ] && contains "$OUT" "Final estimate" || fail "overlapping chunks"

# Refusals: too little text (with both counts), options out of range, files that are no base or not of this text.
refused() {
  local code=$1 text=$2
  shift 2
  ppl "$@"
  [ "$CODE" = "$code" ] && [ -z "$OUT" ] && contains "$ERR" "$text" || fail "exit code $code and '$text' for: $*"
}
refused 2 "at least 4096 tokens" -c 2048 -f "$TEXT"
refused 2 "--score-from" -c 64 --score-from 63 -f "$TEXT"
refused 2 "-f" -c 64
refused 6 "missing" -c 64 -f "$WORK/missing"
refused 2 "--kl-full" -f "$TEXT" --kl-full --save-base "$WORK/none"
refused 2 "--kl-full" -f "$TEXT" --kl-full --kl-divergence "$BASE"
refused 2 "no text" -c 64 --kl-full
refused 2 "at least 64 tokens" -c 64 --ids "$WORK/short.json"
refused 2 "--ids" --ids "$WORK/one.json" -f "$TEXT"
refused 6 "missing" --ids "$WORK/missing"
refused 3 "sha256" -c 64 --ids "$WORK/damaged.json"
refused 3 "ids[100]: 49152, and the model has 49152 tokens" -c 64 --ids "$WORK/foreign.json"
refused 3 "JSON" -c 64 --ids "$TEXT"
refused 3 "tokens" --kl-divergence "$BASE" --ids "$WORK/foreign.json"
head -c 100000 "$BASE" >"$WORK/cut"
refused 3 "size" --kl-divergence "$WORK/cut"
refused 3 "no base file" --kl-divergence "$TEXT"
sed 's/lighthouse/windmill/' "$TEXT" >"$WORK/other"
refused 3 "tokens" --kl-divergence "$BASE" -f "$WORK/other"

# HellaSwag: a cache that stays exact scores as full attention does, to the last bit; one that reads its archive does
# not. The five tasks are long: some 150 tokens may stay exact even with a window of 64.
SIDECAR="$(cd "$(dirname "$0")/../.." && pwd)/models/SmolLM2-135M-Instruct.Q4_1.cga"
TASKS=$WORK/tasks
python3 - "$TEXT" "$TASKS" <<'PY'
import sys
text = " ".join(open(sys.argv[1]).read().split())
endings = ["the keeper wrote it all down in his notebook.", "a train left for the moon.",
           "every stone was put back where it had been found.", "seven is a colour of the sea, he ate."]
with open(sys.argv[2], "w") as out:
    for i in range(5):
        print(text[i * 90:i * 90 + 1100], i % 2 * 2, *endings, sep="\n", file=out)
PY
swag() { # swag SCORES FLAGS...
  local scores=$1
  shift
  ppl --hellaswag -f "$TASKS" --save-scores "$scores" "$@"
  [ "$CODE" = 0 ] && contains "$OUT" "Final accuracy: " || fail "--hellaswag $*"
}
swag "$WORK/bf16" --kv bf16
python3 - "$WORK/bf16" "$WORK/out" <<'PY' || fail "scores and accuracy agree"
import re, sys
head, *rows = [line.split("\t") for line in open(sys.argv[1]).read().splitlines()]
assert head[:3] == ["line", "gold", "chosen"] and len(rows) == 5, rows
assert sorted(int(row[0]) for row in rows) == [1, 7, 13, 19, 25], "each task once"
for row in rows:
    scores = [float(score) for score in row[3:]]
    assert len(scores) == 4 and max(scores) < 0 and int(row[2]) == scores.index(max(scores)), row
hits = sum(row[1] == row[2] for row in rows)
assert re.search(rf"Final accuracy: {20 * hits}\.00 % .*, {hits} of 5$", open(sys.argv[2]).read().strip()), hits
PY
swag "$WORK/exact" --kv cga --cga "$SIDECAR"
cmp -s "$WORK/bf16" "$WORK/exact" || fail "a cache that stays exact scores otherwise"
swag "$WORK/sparse" --kv cga --cga "$SIDECAR" --kv-window 64 --kv-sparse-from 0
cmp -s "$WORK/bf16" "$WORK/sparse" && fail "the archive was not read"
swag "$WORK/two" --kv bf16 --hellaswag-tasks 2 -t 1
[ "$(cat "$WORK/two")" = "$(head -3 "$WORK/bf16")" ] || fail "fewer tasks, other tasks"
head -5 "$TASKS" >"$WORK/five"
sed '8s/.*/4/' "$TASKS" >"$WORK/label"
sed '9s/.*//' "$TASKS" >"$WORK/empty"
refused 3 "line 5: found the end after 5 lines, expected a multiple of 6" --hellaswag -f "$WORK/five"
refused 3 "line 8: found '4', expected the label" --hellaswag -f "$WORK/label"
refused 3 "line 9: found an empty line, expected an ending" --hellaswag -f "$WORK/empty"
refused 3 "expected at most 64" --hellaswag -f "$TASKS" -c 64
refused 2 "-f" --hellaswag
refused 2 "--hellaswag" --hellaswag -f "$TASKS" --kl-full
refused 2 "--hellaswag" -f "$TASKS" --hellaswag-tasks 5
[ ! -e "$BASE.tmp" ] || fail "a temporary file was left behind"
