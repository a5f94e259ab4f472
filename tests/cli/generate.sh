# One answer from the real model: what it says, where it goes, and when it ends.
source "$(dirname "$0")/support.bash"
need_model
QUESTION="What is the capital of France?"

# Greedy, it knows the answer; the text is all there is on standard output.
cga generate -m "$MODEL" -p "$QUESTION" --temp 0 -n 24 -c 256 </dev/null
[ "$CODE" = 0 ] && contains "$OUT" Paris || fail "the capital of France"
contains "$OUT" "cga:" && fail "messages belong on standard error"
contains "$OUT" "<|im_" && fail "control tokens are not text"
contains "$ERR" "tokens/s" && contains "$ERR" "GB/s" && contains "$ERR" "KV" && contains "$ERR" "logits" ||
  fail "the closing line"
ANSWER=$OUT
HASH=${ERR##*logits }

# Prompts come from files and pipes, too; the logits are the same bits with any split of the prompt.
printf '%s\n' "$QUESTION" >"$WORK/prompt"
cga generate -m "$MODEL" -f "$WORK/prompt" --temp 0 -n 24 -c 256 -b 7 </dev/null
[ "$OUT" = "$ANSWER" ] && [ "${ERR##*logits }" = "$HASH" ] || fail "-f gives what -p gives"
cga generate -m "$MODEL" --temp 0 -n 24 -c 256 -ub 5 <"$WORK/prompt"
[ "$OUT" = "$ANSWER" ] && [ "${ERR##*logits }" = "$HASH" ] || fail "a pipe gives what -p gives"

# -o and --json give the same text.
cga generate -m "$MODEL" -p "$QUESTION" --temp 0 -n 24 -c 256 -o "$WORK/answer" </dev/null
[ -z "$OUT" ] && [ "$(cat "$WORK/answer")" = "$ANSWER" ] || fail "-o writes the text to a file"
cga generate -m "$MODEL" -p "$QUESTION" --temp 0 -n 24 -c 256 --json </dev/null
python3 -c 'import json, sys; d = json.load(open(sys.argv[1])); assert d["text"] == sys.argv[2], d' \
  "$WORK/out" "$ANSWER" || fail "--json holds the text"

# A stop string ends the text before it and is not shown.
cga generate -m "$MODEL" -p "$QUESTION" --temp 0 -n 24 -c 256 --stop "is Par" --stop nothing </dev/null
[ "$CODE" = 0 ] && [ "$OUT" = "${ANSWER%%is Par*}" ] && [ "$OUT" != "$ANSWER" ] || fail "--stop"

# Same seed, same text; another seed, another text.
cga generate -m "$MODEL" -p "Tell me a story." -s 7 --temp 1.5 -n 20 -c 256 </dev/null; FIRST=$OUT
cga generate -m "$MODEL" -p "Tell me a story." -s 7 --temp 1.5 -n 20 -c 256 </dev/null
[ "$OUT" = "$FIRST" ] || fail "same seed, same text"
contains "$ERR" "seed 7" || fail "the seed is said"
cga generate -m "$MODEL" -p "Tell me a story." -s 8 --temp 1.5 -n 20 -c 256 </dev/null
[ "$OUT" != "$FIRST" ] || fail "another seed, another text"

# Without a template the text goes on as it is.
cga generate -m "$MODEL" --raw -p "One, two, three, four," --temp 0 -n 4 -c 64 </dev/null
[ "$CODE" = 0 ] && contains "$OUT" five || fail "--raw counts on"
cga generate -m "$MODEL" -p "$QUESTION" -n 0 -c 64 </dev/null
[ "$CODE" = 0 ] && [ -z "$OUT" ] || fail "-n 0 reads the prompt and says nothing"

# A system message is heard, and what looks like control tokens in a prompt is only text: it costs more tokens.
cga generate -m "$MODEL" -p "x" -n 0 -c 256 -sys "<|im_end|>" </dev/null; TYPED=$(grep -o 'prompt [0-9]*' <<<"$ERR")
cga generate -m "$MODEL" -p "x" -n 0 -c 256 -sys "a" </dev/null; PLAIN=$(grep -o 'prompt [0-9]*' <<<"$ERR")
[ "${TYPED#prompt }" -gt $((${PLAIN#prompt } + 3)) ] || fail "a typed <|im_end|> is not a control token"

# --ask reads a text once and answers each question by itself, as if it were the only one.
printf 'Anna has a red car. Ben has a blue boat.\n' >"$WORK/text"
printf 'Who has a boat?\n\nWho has a car?\n' >"$WORK/questions"
cga generate -m "$MODEL" -f "$WORK/text" --ask "$WORK/questions" --temp 0 -n 8 -c 256 --json </dev/null
[ "$CODE" = 0 ] && [ "$(wc -l <"$WORK/out")" = 2 ] || fail "--ask answers every question"
contains "$ERR" "reused" || fail "--ask reads the text once"
ASKED=$(tail -n 1 "$WORK/out")
cga generate -m "$MODEL" -p "$(cat "$WORK/text")"$'\n\nWho has a car?' --temp 0 -n 8 -c 256 --json </dev/null
python3 -c 'import json, sys; a, b = (json.loads(x) for x in sys.argv[1:]); assert a["question"] == "Who has a car?"
assert (a["text"], a["logits_hash"]) == (b["text"], b["logits_hash"]), (a, b)' "$ASKED" "$OUT" || fail "--ask and -p agree"
cga generate -m "$MODEL" -f "$WORK/text" --ask "$WORK/questions" --temp 0 -n 8 -c 256 -o "$WORK/answers" </dev/null
[ "$(grep -c '^> ' "$WORK/answers")" = 2 ] && [ -z "$OUT" ] || fail "--ask -o writes questions and answers"
: >"$WORK/nothing"
cga generate -m "$MODEL" -p x --ask "$WORK/nothing" </dev/null
[ "$CODE" = 2 ] && contains "$ERR" "no questions" || fail "--ask without questions"
