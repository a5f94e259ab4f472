# Shared by the scripts beside it: runs the binary, keeps its two streams and its exit code, and complains with
# all three. Each script is called with the path of the binary.
set -u
CGA=$1
MODELS=${CGA_MODELS:-$HOME/.cache/cga/models}
MODEL=$MODELS/SmolLM2-135M-Instruct.Q4_1.gguf
WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

need_model() {
  [ -f "$MODEL" ] && return
  echo "skipped: $MODEL is not there; tools/quickstart.sh fetches it"
  exit 77
}

# cga ARGUMENTS: leaves $OUT, $ERR and $CODE. Standard input is the caller's.
cga() {
  "$CGA" "$@" >"$WORK/out" 2>"$WORK/err"
  CODE=$?
  OUT=$(cat "$WORK/out") ERR=$(messages)
}

# Standard error without lines of progress, which a busy machine brings up.
messages() { grep -vE '^cga: [a-z ]+: ([0-9,]+ of [0-9,]+ \()?[0-9]+ %\)?$' "$WORK/err"; }

fail() {
  printf 'FAILED: %s\n--- exit code %s\n--- standard output\n%s\n--- standard error\n%s\n' "$1" "${CODE-}" "${OUT-}" "${ERR-}"
  exit 1
}

# expect_error CODE TEXT: the last run failed with one line on standard error, and said nothing else.
expect_error() {
  [ "$CODE" = "$1" ] || fail "exit code $1 was expected"
  [ -z "$OUT" ] || fail "nothing was expected on standard output"
  [ "$(grep -c '^cga: error: ' <<<"$ERR")" = 1 ] || fail "one error line was expected"
  [ "$(wc -l <<<"$ERR")" = 1 ] || fail "one line was expected on standard error"
  case $ERR in *"$2"*) ;; *) fail "the error was expected to mention: $2" ;; esac
}

contains() { case $1 in *"$2"*) return 0 ;; *) return 1 ;; esac }
