# The default model with the sidecar of this repository: the past read from 1.5 bits a value is nearly the past. A damaged codec, a wrong
# rotation or another checkpoint's sidecar would miss these bounds by orders of magnitude.
source "$(dirname "$0")/support.bash"
need_model
SIDECAR="$(cd "$(dirname "$0")/../.." && pwd)/models/SmolLM2-135M-Instruct.Q4_1.cga"
IDS="$(cd "$(dirname "$0")/../vectors/ids" && pwd)/wiki.json"

divergence() { # divergence FLAGS...: mean KL from full attention over the second half of 1,024 tokens
  cga perplexity -m "$MODEL" --ids "$IDS" -c 1024 --chunks 1 --kl-full "$@" </dev/null
  [ "$CODE" = 0 ] || fail "perplexity $*"
  sed -n 's/^Mean *KLD: *\([^ ]*\) .*/\1/p' <<<"$OUT"
}
archive=(--kv cga --cga "$SIDECAR" --kv-window 128 --kv-sparse-from 0)
coarse=$(divergence "${archive[@]}" --kv-bits 1.5)
fine=$(divergence "${archive[@]}" --kv-bits 2 --kv-residents 0)
exact=$(divergence --kv cga --cga "$SIDECAR" --kv-window 128 --kv-sparse-from 1024)
python3 -c 'import sys; c, f, e = map(float, sys.argv[1:]); sys.exit(not (e == 0 < f < c < 0.006))' "$coarse" "$fine" "$exact" ||
  fail "KL at 1.5 bits $coarse, at 2 bits $fine, in a context that stays exact $exact"
