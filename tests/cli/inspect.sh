# What a file holds, for people and for programs; the plan matches the arithmetic of the model's shape.
source "$(dirname "$0")/support.bash"
need_model

cga inspect -m "$MODEL" </dev/null
[ "$CODE" = 0 ] && contains "$OUT" "general.architecture = llama" && contains "$OUT" "Q4_1" || fail "the summary"
cga inspect -m "$MODEL" --tensors </dev/null
contains "$OUT" "blk.29.ffn_down.weight" || fail "--tensors lists them all"

cga inspect -m "$MODEL" --plan -c 1000 --kv bf16 --json </dev/null
[ "$CODE" = 0 ] || fail "--plan --json"
python3 - "$WORK/out" "$MODEL" <<'END' || fail "the numbers"
import json, os, sys
d = json.load(open(sys.argv[1]))
assert d["bytes"] == os.path.getsize(sys.argv[2])
assert len(d["tensors"]) == 272 and sum(t["tensors"] for t in d["types"]) == 272
assert sum(t["bytes"] for t in d["tensors"]) == sum(t["bytes"] for t in d["types"]) <= d["bytes"]
plan = d["plan"]
pages = (1000 + 63) // 64
assert plan["kv"] == plan["kv_bf16"] == pages * 64 * 30 * 2 * 3 * 64 * 2, plan  # layers, K and V, heads, width, bf16
assert plan["total"] == sum(plan[k] for k in ("weights", "kv", "transform_bytes", "scratch", "prefill_bytes"))
END
cga inspect -m "$MODEL" --plan -c 1000 --kv f32 --json </dev/null
python3 -c 'import json, sys; p = json.load(open(sys.argv[1]))["plan"]; assert p["kv"] == 2 * p["kv_bf16"]' "$WORK/out" ||
  fail "f32 takes twice as much"
for kv in q8:34 q4:18; do  # bytes of 32 values, which are 64 as bf16
  cga inspect -m "$MODEL" --plan -c 1000 --kv ${kv%:*} --json </dev/null
  python3 -c 'import json, sys; p = json.load(open(sys.argv[1]))["plan"]; assert p["kv"] * 64 == p["kv_bf16"] * int(sys.argv[2])' \
    "$WORK/out" ${kv#*:} || fail "blocks of $kv bytes"
done
