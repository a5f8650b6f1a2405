#!/usr/bin/env bash
# Kill a search with `kill -9` at random moments, start it again each time, and see that no
# finished trial is lost, none is numbered twice, and that it ends like one that was left alone.
#
#     scripts/kill_tune.sh [KILLS=20] [SEED=1]
#
# Exit code 0 if so, every kill fell into the search, and the killed lives came far with it. CHURN_BIN
# names a program other than a fresh release build; KILL_TEST_DIR a folder to keep (a temporary one if
# unset).
set -euo pipefail
cd "$(dirname "$0")/.."
kills="${1:-20}" seed="${2:-1}"

if [ -z "${CHURN_BIN:-}" ]; then
    cargo build --release --quiet --bin churn
    CHURN_BIN="$(cargo metadata --no-deps --format-version 1 |
        sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/release/churn"
fi
work="${KILL_TEST_DIR:-}"
if [ -z "$work" ]; then
    work="$(mktemp -d)"
    trap 'rm -rf "$work"' EXIT
fi

# Sized for a minute of search on two cores. A killed trial begins anew, so that each must be short
# beside a life.
space='{ "train.learning_rate" = { log = [1e-4, 3e-2] }, "models.mlp.width" = { log_int = [8, 32] },
    "models.mlp.blocks" = { int = [1, 2] }, "models.mlp.dropout" = { real = [0.0, 0.5] } }'
"$CHURN_BIN" simulate telecom --customers 400 --months 14 --seed 3 --out "$work/data" >"$work/simulate.log"
tune=("$CHURN_BIN" tune configs/telecom.toml --device cpu --trials 40
    --set data.root="$work/data" --set 'models.use=["mlp"]' --set models.mlp.members=2
    --set models.mlp.width=32 --set models.mlp.blocks=1 --set tune.space="${space//$'\n'/ }"
    --set train.epochs_max=18)
now_ms() { echo $(($(date +%s%N) / 1000000)); }
reports() { grep -c '"kind":"report".*}$' "$work/$1/journal.jsonl" 2>/dev/null || true; }
# Without the seconds, which differ.
table() { cut -d, -f1-6,8- "$work/$1/trials.csv"; }
# The whole lines of a journal: a line that was cut off is closed by the next writer.
lines() { grep '}$' "$1" || true; }

begin="$(now_ms)"
"${tune[@]}" --out "$work/whole" >"$work/whole.txt" 2>"$work/whole.log"
whole_ms=$(($(now_ms) - begin))
total="$(reports whole)"
echo "uninterrupted: $total reports in $whole_ms ms"

# Each life lasts the time to start and read the data, and a random time around an even share.
START_MS=250
RANDOM="$seed"
failed=0 missed=0
: >"$work/before"
for ((kill = 1; kill <= kills; kill++)); do
    life_ms=$((((RANDOM << 15) + RANDOM) % (2 * whole_ms / (kills + 6)) + START_MS))
    before="$(reports killed)"
    "${tune[@]}" --out "$work/killed" >"$work/kill-$kill.txt" 2>"$work/kill-$kill.log" &
    child=$!
    sleep "$((life_ms / 1000)).$(printf '%03d' $((life_ms % 1000)))"
    note=""
    kill -9 "$child" 2>/dev/null || { note=" (TOO LATE: it had ended)"; missed=$((missed + 1)); }
    wait "$child" 2>/dev/null || true
    touch "$work/killed/journal.jsonl"
    lines "$work/killed/journal.jsonl" >"$work/after"
    # What was written before is still there, in the same order, and at the beginning.
    head -n "$(wc -l <"$work/before")" "$work/after" | cmp -s - "$work/before" ||
        { note="$note LOST RECORDS"; failed=1; }
    cp "$work/after" "$work/before"
    printf 'kill %2d after %5d ms: report %3d -> %3d of %d%s\n' \
        "$kill" "$life_ms" "${before:-0}" "$(reports killed)" "$total" "$note"
done
finished="$(reports killed)"
"${tune[@]}" --out "$work/killed" >"$work/last.txt" 2>"$work/last.log"

numbers="$(sed -n 's/.*"kind":"begin","trial":\([0-9]*\),"rung":0.*"params".*/\1/p' "$work/killed/journal.jsonl")"
if [ "$(sort -n <<<"$numbers" | uniq -d | wc -l)" -gt 0 ]; then
    echo "NUMBERED TWICE"
    failed=1
fi
if [ "$(reports killed)" != "$total" ] || [ "$(table killed)" != "$(table whole)" ] ||
    ! cmp -s "$work/killed/best.toml" "$work/whole/best.toml"; then
    echo "DIFFERENT from the uninterrupted search"
    failed=1
fi
[ "$failed" = 0 ] || exit 1
echo "EQUAL: trials, losses and best.toml of the killed search are those of the uninterrupted one"
if [ "$finished" -lt $((total / 4)) ]; then
    echo "but only $finished of $total reports came from killed lives"
    exit 2
fi
if [ "$missed" -gt 0 ]; then
    echo "but $missed of the kills missed the search: try another seed"
    exit 2
fi
