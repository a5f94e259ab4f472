# Wrong arguments and wrong files: an exit code and one line that helps. Needs no model.
source "$(dirname "$0")/support.bash"

cga --version </dev/null
[ "$CODE" = 0 ] && contains "$OUT" "cga " || fail "--version prints the version"
for command in generate chat inspect perplexity bench; do
  cga $command --help </dev/null
  [ "$CODE" = 0 ] && contains "$OUT" "--model" && [ -z "$ERR" ] || fail "$command --help goes to standard output"
done

cga </dev/null; expect_error 2 "subcommand"
cga converse -p x </dev/null; expect_error 2 "no command 'converse'"
cga generate --no-such-flag </dev/null; expect_error 2 "--no-such-flag"
cga generate -c many -p x </dev/null; expect_error 2 "many"
cga generate -p x -f y </dev/null; expect_error 2 "--file"
cga generate -c 99999999999 -p x </dev/null; expect_error 2 "99999999999"
cga generate -s 18446744073709551616 -p x </dev/null; expect_error 2 "18446744073709551616"
cga generate -p x --kv q3 </dev/null; expect_error 2 "q3 not in {bf16,cga,f32,q4,q8}"
cga generate -p x --device abacus </dev/null; expect_error 2 "abacus"
cga generate -p x --top-p 1.5 -m "$WORK/none" </dev/null; expect_error 2 "--top-p"
CGA_MODELS=$WORK cga generate -p x </dev/null; expect_error 2 "quickstart"

cga generate -m "$WORK/none.gguf" -p x </dev/null; expect_error 6 "none.gguf"
cga inspect -m "$WORK/none.gguf" </dev/null; expect_error 6 "none.gguf"
printf 'not a model, but long enough to be one' >"$WORK/text.gguf"
cga generate -m "$WORK/text.gguf" -p x </dev/null; expect_error 3 "text.gguf"
cga generate -m "$WORK" -p x </dev/null; expect_error 6 "$WORK"

# Where the result goes is asked before the model is opened.
cga generate -m "$WORK/none.gguf" -p x -o "$WORK" </dev/null; expect_error 6 "$WORK: Is a directory"
cga generate -m "$WORK/none.gguf" -p x -o "$WORK/none/answer" </dev/null; expect_error 6 "none/answer"
