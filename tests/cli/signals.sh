# Ctrl-C and SIGTERM end a run with the text so far, the closing line, and the shell's exit code for it.
source "$(dirname "$0")/support.bash"
need_model
set -m  # background jobs with a process group of their own: as from a terminal, SIGINT is not ignored

for signal in INT:130 TERM:143; do
  : >"$WORK/out"  # not the last signal's: a signal must not come before there is text
  # Without a limit and with the end of the text made unlikely to come soon.
  "$CGA" generate -m "$MODEL" --raw -p "One, two, three, four, five," --temp 0 </dev/null >"$WORK/out" 2>"$WORK/err" &
  for _ in $(seq 1 300); do [ -s "$WORK/out" ] && break; sleep 0.1; done
  kill -"${signal%:*}" $!
  wait $!
  CODE=$? OUT=$(cat "$WORK/out") ERR=$(messages)
  [ "$CODE" = "${signal#*:}" ] || fail "SIG${signal%:*} ends with ${signal#*:}"
  [ -n "$OUT" ] && contains "$ERR" "tokens/s" || fail "the text so far and the closing line are kept"
done

# A chat that waits for input ends at once.
: >"$WORK/out"
mkfifo "$WORK/input"
"$CGA" chat -m "$MODEL" -c 256 -n 2 <"$WORK/input" >"$WORK/out" 2>"$WORK/err" &
exec 3>"$WORK/input"
echo "Say yes." >&3
# Only when the answer's line has ended: before, SIGINT would stop the answer, not the chat.
for _ in $(seq 1 300); do [ "$(wc -l <"$WORK/out")" -ge 1 ] && break; sleep 0.1; done
sleep 1
kill -INT $!
wait $!
CODE=$? OUT=$(cat "$WORK/out") ERR=$(messages)
[ "$CODE" = 130 ] || fail "SIGINT at the prompt ends with 130"
