# A conversation through a pipe: one answer a line, commands, and what happens when the context is full.
source "$(dirname "$0")/support.bash"
need_model

cga chat -m "$MODEL" --temp 0 -n 16 -c 512 <<'END'
What is the capital of France?
/regen
/stats
/nonsense
/etc/hosts is a file. Is that true?
/exit
never reached
END
[ "$CODE" = 0 ] && contains "$OUT" Paris || fail "the capital of France"
[ "$(grep -c Paris <<<"$OUT")" -ge 2 ] || fail "/regen answers again"
contains "$ERR" "reused" || fail "the second answer reuses what the cache holds"
contains "$ERR" "there is no /nonsense" || fail "an unknown command is said, not asked"
contains "$ERR" "context: " || fail "/stats tells how full the context is"
contains "$OUT" "cga:" && fail "messages belong on standard error"

# The conversation is remembered until it is cleared.
cga chat -m "$MODEL" --temp 0 -n 20 -c 512 <<'END'
The secret word is banana.
What is the secret word?
/clear
/system You are a pirate.
/system
What is the secret word?
END
[ "$CODE" = 0 ] || fail "the end of the input ends the chat"
[ "$(grep -c banana <<<"$OUT")" = 2 ] || fail "the word is remembered"
contains "$(tail -n 1 <<<"$OUT")" banana && fail "/clear forgets it"
contains "$ERR" "system message: You are a pirate." || fail "/system replaces the system message"

# A turn that does not fit is refused with the counts; with --drop-oldest the oldest are forgotten.
LONG=$(printf 'word %.0s' $(seq 1 60))
printf '%s\n' "$LONG" "$LONG" "$LONG" >"$WORK/script"
cga chat -m "$MODEL" --temp 0 -n 8 -c 192 <"$WORK/script"
[ "$CODE" = 7 ] || fail "a script with refused turns ends with 7"
contains "$ERR" "the context holds 192" || fail "the counts are said"
cga chat -m "$MODEL" --temp 0 -n 8 -c 192 --drop-oldest <"$WORK/script"
[ "$CODE" = 0 ] || fail "--drop-oldest takes every turn"
contains "$ERR" "forgot" || fail "forgetting is said"
