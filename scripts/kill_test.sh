#!/usr/bin/env bash
# Kill a GRU training with `kill -9` at random moments, resume it each time, and compare the
# weights with those of a training that was left alone.
#
#     scripts/kill_test.sh [KILLS=20] [SEED=1]
#
# Exit code 0 if the sha256 are equal and every kill fell into the training. CHURN_BIN names a
# program other than a fresh release build; KILL_TEST_DIR a folder to keep (a temporary one if unset).
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

# Sized for half a minute of training on two cores; a checkpoint every 5 steps.
"$CHURN_BIN" simulate telecom --customers 4000 --months 24 --seed 3 --out "$work/data" >"$work/simulate.log"
train=("$CHURN_BIN" train configs/telecom.toml --device cpu --set data.root="$work/data"
    --set 'models.use=["gru"]' --set models.trees=false --set train.epochs_max=24 --set train.patience=24
    --set train.batch_customers=128 --set train.checkpoint_steps=5)
# Steps of the newest whole checkpoint; a generation's number is twice its steps, plus one at the end.
steps() {
    local newest
    newest="$(find "$work/$1/checkpoints/gru" -maxdepth 1 -name 'generation-*' 2>/dev/null | sort | tail -1)"
    newest="${newest##*-}"
    echo $((10#${newest:-0} / 2))
}
now_ms() { echo $(($(date +%s%N) / 1000000)); }
# The best weights, out of the last checkpoint.
hash_of() {
    local last
    last="$(find "$work/$1/checkpoints/gru" -maxdepth 1 -name 'generation-*' | sort | tail -1)"
    sha256sum "$last/best.safetensors" | cut -d' ' -f1
}

begin="$(now_ms)"
"${train[@]}" --out "$work/whole" >"$work/whole.log" 2>&1
whole_ms=$(($(now_ms) - begin))
total="$(steps whole)"
echo "uninterrupted: $total steps in $whole_ms ms"

# Each life lasts the time to start and read the data, and a random time around an even share of
# the training.
START_MS=700
RANDOM="$seed"
missed=0
for ((kill = 1; kill <= kills; kill++)); do
    resume=()
    [ "$kill" -gt 1 ] && resume=(--resume)
    life_ms=$((((RANDOM << 15) + RANDOM) % (2 * whole_ms / (kills + 8)) + START_MS))
    before="$(steps killed)"
    "${train[@]}" --out "$work/killed" "${resume[@]}" >"$work/kill-$kill.log" 2>&1 &
    child=$!
    sleep "$((life_ms / 1000)).$(printf '%03d' $((life_ms % 1000)))"
    note=""
    kill -9 "$child" 2>/dev/null || { note=" (TOO LATE: it had ended)"; missed=$((missed + 1)); }
    wait "$child" 2>/dev/null || true
    printf 'kill %2d after %5d ms: step %4d -> %4d of %d%s\n' \
        "$kill" "$life_ms" "$before" "$(steps killed)" "$total" "$note"
done

before="$(steps killed)"
"${train[@]}" --out "$work/killed" --resume >"$work/last.log" 2>&1
echo "resumed from step $before to the end"
[ "$before" -gt 0 ] && [ "$before" -lt "$total" ] || missed=$((missed + 1))
expected="$(hash_of whole)" got="$(hash_of killed)"
echo "uninterrupted $expected"
echo "killed        $got"
if [ "$expected" != "$got" ]; then
    echo "DIFFERENT"
    exit 1
fi
echo "EQUAL"
if [ "$missed" -gt 0 ]; then
    echo "but $missed of the kills missed the training: try another seed"
    exit 2
fi
