# Benchmarks of the real model: the three formats and their fields.
source "$(dirname "$0")/support.bash"
need_model

bench() {
  cga bench -m "$MODEL" "$@" </dev/null
  [ "$CODE" = 0 ] || fail "bench $*"
}

bench -p 16 -n 4 -d 0,128 -r 2 -o json
python3 - "$WORK/out" <<'PY' || fail "the json fields"
import json, sys
tests = json.load(open(sys.argv[1]))
assert [(t["n_prompt"], t["n_gen"], t["n_depth"]) for t in tests] == [(16, 0, 0), (0, 4, 0), (16, 0, 128), (0, 4, 128)]
for t in tests:
    for name in ("build_commit cpu_info backends model_filename model_type test_time type_k type_v").split():
        assert isinstance(t[name], str) and t[name], name
    for name in ("model_size model_n_params n_batch n_ubatch n_threads avg_ns avg_ts bytes_per_token gb_per_s "
                 "bandwidth_gb_per_s bandwidth_share load_ms peak_rss_bytes kv_bytes").split():
        assert t[name] > 0, name
    assert len(t["samples_ns"]) == len(t["samples_ts"]) == 2
    assert abs(t["avg_ts"] - sum(t["samples_ts"]) / 2) < 1e-6 * t["avg_ts"]
    assert t["stddev_ts"] >= 0 and t["stddev_ns"] >= 0
assert tests[3]["bytes_per_token"] > tests[1]["bytes_per_token"], "depth costs bytes"
assert tests[3]["kv_bytes"] == 3 * tests[1]["kv_bytes"], "132 tokens take three pages, 4 take one"
PY

bench -p 8 -n 0 -r 1 -t 1 -ub 4,8 --no-warmup -o csv
python3 - "$WORK/out" <<'PY' || fail "the csv fields"
import csv, sys
rows = list(csv.DictReader(open(sys.argv[1])))
assert [(r["n_ubatch"], r["n_threads"], r["n_prompt"]) for r in rows] == [("4", "1", "8"), ("8", "1", "8")]
PY

bench -p 8 -n 2 -r 1
grep -qE '^\| model .*\| *test \| *t/s \| *GB/s \| *share \|$' "$WORK/out" || fail "the table"
grep -qE '\| *pp8 \| *[0-9.]+ ± 0\.00 \|' "$WORK/out" || fail "the table"
grep -qE '\| *tg2 \| *[0-9.]+ ± 0\.00 \|' "$WORK/out" || fail "the table"

cga bench -m "$MODEL" -p 0 -n 0
expect_error 2 "all prompt and generation lengths are 0"
cga bench --shape llama3-8b:Q9 </dev/null
expect_error 2 "no weight type 'Q9'"
