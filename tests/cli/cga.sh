# Compact Grouped Attention on the command line: which cache a run uses and what it says of it, plans, and sidecars
# that are damaged or belong to another model.
source "$(dirname "$0")/support.bash"
VECTORS=$(cd "$(dirname "$0")/../vectors" && pwd)

mkdir "$WORK/m"
cp "$VECTORS/tiny/qwen2-mixed.gguf" "$WORK/m/tiny.gguf"
tiny() { cga "$@" -m "$WORK/m/tiny.gguf" </dev/null; }
plan() { tiny inspect --plan -c 2048 --json "$@"; }
field() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["plan"][sys.argv[2]])' "$WORK/out" "$1"; }

# Without a sidecar.
plan
[ "$CODE" = 0 ] && [ "$(field kv_bytes)" = "$(field kv_bf16_bytes)" ] || fail "no sidecar: bf16"
plan --kv cga; expect_error 2 "there is no sidecar $WORK/m/tiny.cga"
plan --kv-bits 2; expect_error 2 "there is no sidecar"

# With one beside the model it is the default, at the sidecar's settings: window 64, sparse from 128, 1.5 bits.
cp "$VECTORS/codec/qwen2-mixed.cga" "$WORK/m/tiny.cga"
plan --kv-residents 0
[ "$CODE" = 0 ] || fail "a sidecar beside the model"
python3 - "$WORK/out" <<'PY' || fail "the numbers of the plan and of the sidecar"
import json, sys
d = json.load(open(sys.argv[1]))
p, s = d["plan"], d["sidecar"]
page = 2 * 2 * 64 * 64 * 2                                # layers, K and V, tokens, width, bf16
assert p["kv_bf16_bytes"] == 32 * page
assert p["kv_exact_bytes"] == 2 * page                    # page 0 and the last 64 tokens
rate = next(r for r in s["rates"] if r["bits"] == 1.5)
assert p["kv_archive_bytes"] == 31 * 64 * rate["token_bytes"]
assert p["kv_resident_bytes"] in (0, page)                # what the dense beginning has room for anyway
assert p["kv_bytes"] == p["kv_exact_bytes"] + p["kv_archive_bytes"] + p["kv_resident_bytes"]
assert p["transform_bytes"] > 0 and p["prefill_bytes"] > 0
assert p["total"] == p["weights"] + p["kv_bytes"] + p["transform_bytes"] + p["scratch"] + p["prefill_bytes"]
assert s["defaults"] == {"kv_bits": 1.5, "kv_window": 64, "kv_sparse_from": 128}
PY
plan --kv bf16
[ "$(field kv_bytes)" = "$(field kv_bf16_bytes)" ] || fail "--kv bf16 switches it off"
tiny inspect
contains "$OUT" "bits a value" && contains "$OUT" "smaller than bf16" || fail "inspect shows the sidecar"
cga inspect -m "$VECTORS/tiny/qwen2-mixed.gguf" --cga "$VECTORS/index/adapted.cga" </dev/null
contains "$OUT" "adapters: rank 8" || fail "inspect shows adapters"
tiny bench -p 200 -n 2 -d 0,300 -r 1 -o json --kv-sparse-from 0
python3 - "$WORK/out" "$WORK/err" <<'PY' || fail "bench beyond the window"
import json, sys
t = json.load(open(sys.argv[1]))[-1]
assert t["type_k"] == "cga" and t["kv_archive_bytes"] > 0, t
assert t["kv_bytes"] == t["kv_archive_bytes"] + t["kv_exact_bytes"] + t["kv_resident_bytes"]
PY
contains "$ERR" "kv cga: 1.5 bits a value" || fail "the run says which cache it uses"

plan --kv-window 100; expect_error 2 "--kv-window: found 100, expected a multiple of 64"
plan --kv-bits 0; expect_error 2 "found '0', expected a number above 0"
plan --kv bf16 --kv-bits 2; expect_error 2 "settings of cga"

# Damage is refused by name; a sidecar of another model is passed over beside it and refused when it is named.
head -c 20000 "$VECTORS/codec/qwen2-mixed.cga" >"$WORK/m/tiny.cga"
tiny bench -p 4 -n 0 -r 1; expect_error 3 "$WORK/m/tiny.cga"
cp "$VECTORS/codec/three-layers.cga" "$WORK/m/tiny.cga"
tiny bench -p 4 -n 0 -r 1 -o csv
[ "$CODE" = 0 ] && contains "$ERR" "does not belong to the model" || fail "another model's sidecar is passed over, aloud"
tiny bench -p 4 -n 0 -r 1 --cga "$VECTORS/codec/three-layers.cga"; expect_error 3 "does not belong to"

# A named shape is planned with the sidecar that would be made for it.
cga inspect --shape llama3-8b --plan -c 131072 --kv cga --kv-bits 1.5 --kv-residents 2048 --json </dev/null
python3 - "$WORK/out" <<'PY' || fail "the plan of llama3-8b"
import json, sys
p = json.load(open(sys.argv[1]))["plan"]
assert p["kv_bf16_bytes"] == 131072 * 131072
assert 12000 < p["kv_archive_bytes"] / (131072 - 1024) < 12300       # 12,288 bytes a token
assert p["kv_bf16_bytes"] / p["kv_bytes"] > 7.1
PY
