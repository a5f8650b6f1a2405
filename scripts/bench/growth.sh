#!/usr/bin/env bash
# How time and memory grow with the number of customers: simulates a telecom of 36 months at four
# sizes, trains the hybrid for one epoch end to end (`churn train`: checks, panel, features,
# training, logistic regression, evaluation, export; no trees, which learn from a sample of fixed
# size) under one memory budget, and prints a line per size. Time per customer is processor time.
#
#   scripts/bench/growth.sh [CHURN]
#
# CHURN is the program (default target/release/churn). SIZES, MEMORY_GB, DEVICE and TMPDIR can be
# set from outside. The last line compares the largest size with the smallest, per customer; the
# script fails where the time per customer grows by more than 15 %, or the memory does.
set -euo pipefail
TIMEFORMAT='%R %U %S' # seconds, and processor seconds of the program and of the kernel

churn=${1:-target/release/churn}
sizes=${SIZES:-100000 200000 400000 800000}
memory_gb=${MEMORY_GB:-1}
device=${DEVICE:-cpu}
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/churn-growth.XXXXXX")
trap 'rm -rf "$folder"' EXIT

printf '%10s %9s %9s %9s %12s %15s\n' customers seconds 'cpu s' 'peak MB' 'cpu us/cust.' bytes/customer
lines=""
for customers in $sizes; do
    "$churn" simulate telecom --customers "$customers" --months 36 --seed 1 --out "$folder/data" > /dev/null
    if ! { time "$churn" train "$here/configs/telecom.toml" --set data.root="$folder/data" --out "$folder/run" \
        --device "$device" --set 'models.use=["hybrid"]' --set models.trees=false --set train.epochs_max=1 \
        --set train.memory_gb="$memory_gb" > "$folder/log" 2>&1; } 2> "$folder/time"; then
        cat "$folder/log" >&2
        exit 1
    fi
    peak=$(awk '/peak memory/ {print $(NF - 1)}' "$folder/log")
    line=$(awk -v n="$customers" -v mb="$peak" '{printf "%10d %9.1f %9.1f %9d %12.1f %15.0f", \
        n, $1, $2 + $3, mb, ($2 + $3) / n * 1e6, mb * 1048576 / n}' "$folder/time")
    echo "$line"
    lines+="$line"$'\n'
    rm -rf "$folder/data" "$folder/run"
done
awk 'NF {time[++n] = $5; bytes[n] = $6}
    END {
        x = time[n] / time[1]; y = bytes[n] / bytes[1]
        printf "growth time ratio %.3f memory ratio %.3f\n", x, y
        exit (x > 1.15 || y > 1.15)
    }' <<< "$lines"
