# What does not fit, what is damaged, and whoever does not listen.
source "$(dirname "$0")/support.bash"
need_model

# A prompt longer than the context is refused with both counts, never truncated.
cga generate -m "$MODEL" --raw -p "$(printf 'word %.0s' $(seq 1 1100))" -c 64 </dev/null
expect_error 2 "1,10"
contains "$ERR" "context holds 64" || fail "both counts are named"

# A full context ends the text, which is not an error, but said.
cga generate -m "$MODEL" -p "Write a long story." -c 64 -s 1 </dev/null
[ "$CODE" = 0 ] && [ -n "$OUT" ] || fail "the text up to the end of the context"
contains "$ERR" "context is full (64 tokens)" || fail "a full context is said"

# More memory than there is.
cga generate -m "$MODEL" -p x -c 60000000 </dev/null
expect_error 4 "bytes"

# A device that this machine lacks.
cga generate -m "$MODEL" -p x --device cuda:99 </dev/null
expect_error 5 "cuda:99"

# A damaged file is refused with its name; nothing is written over what was there.
head -c 50000000 "$MODEL" >"$WORK/half.gguf"
echo before >"$WORK/answer"
cga generate -m "$WORK/half.gguf" -p x -o "$WORK/answer" </dev/null
expect_error 3 "half.gguf"
[ "$(cat "$WORK/answer")" = before ] || fail "the output file was touched"

# A link is written through; a pipe is written to, not replaced.
touch "$WORK/real"
ln -s real "$WORK/link"
cga generate -m "$MODEL" -p "Say yes." --temp 0 -n 4 -c 128 -o "$WORK/link" </dev/null
[ "$CODE" = 0 ] && [ -L "$WORK/link" ] && [ -s "$WORK/real" ] || fail "-o follows a link"
mkfifo "$WORK/pipe"
cat "$WORK/pipe" >"$WORK/read" &
cga generate -m "$MODEL" -p "Say yes." --temp 0 -n 4 -c 128 -o "$WORK/pipe" </dev/null
wait $!
[ "$CODE" = 0 ] && [ -p "$WORK/pipe" ] && cmp -s "$WORK/read" "$WORK/real" || fail "-o writes to a pipe"
[ "$(ls "$WORK" | grep -c '\.tmp$')" = 0 ] || fail "a temporary file was left behind"

# Standard streams that are closed, or are folders.
"$CGA" generate -m "$MODEL" -p x -n 4 -c 128 </dev/null >&- 2>"$WORK/err"
CODE=$? OUT="" ERR=$(messages)
expect_error 6 "standard output"
cga generate -m "$MODEL" -n 4 -c 128 <"$WORK"
expect_error 6 "standard input"

# Output that cannot be written.
"$CGA" generate -m "$MODEL" -p "Write a story." -n 8 -c 128 </dev/null >/dev/full 2>"$WORK/err"
CODE=$? OUT="" ERR=$(messages)
expect_error 6 "standard output"
"$CGA" generate -m "$MODEL" -p "Write a story." -n 40 -c 128 </dev/null 2>"$WORK/err" | head -c 1 >/dev/null
CODE=${PIPESTATUS[0]} OUT="" ERR=$(messages)
[ "$CODE" = 6 ] && [ -z "$ERR" ] || fail "a reader that goes away ends the run quietly"
