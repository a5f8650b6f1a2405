#!/usr/bin/env bash
# A panel larger than the memory it is given: 2,000,000 customers x 36 months x 12 measures, 3.5 GB
# of 32-bit cells, are built from Parquet files and train the hybrid for 500 steps (no trees, which
# learn from a sample). Prints the stages and the peak of resident memory, file-mapped pages
# included, and fails above 1.5 GB.
#
#   scripts/bench/larger_than_memory.sh [CHURN]
#
# CHURN is the program (default target/release/churn). CUSTOMERS, STEPS, MEMORY_GB, LIMIT_MB,
# DEVICE and TMPDIR can be set from outside; TMPDIR needs 15 GB. DATA names a folder that
# `churn simulate telecom` filled before, which is then used and kept.
#
# Every customer has all 36 months: panel.start = "calendar" gives rows of zeros to the months
# before a customer came, so that the panel has the size it claims.
set -euo pipefail

churn=${1:-target/release/churn}
customers=${CUSTOMERS:-2000000}
steps=${STEPS:-500}
memory_gb=${MEMORY_GB:-1}
limit_mb=${LIMIT_MB:-1536}
device=${DEVICE:-cpu}
here=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(mktemp -d "${TMPDIR:-/tmp}/churn-larger.XXXXXX")
trap 'rm -rf "$folder"' EXIT

data=${DATA:-$folder/data}
if [ ! -d "$data" ]; then
    echo "simulating $customers customers"
    "$churn" simulate telecom --customers "$customers" --months 36 --seed 1 --out "$data"
fi
du -sh "$data" | awk '{print "files on disk    " $1}'
awk -v n="$customers" 'BEGIN {printf "panel            %.2f GB in 32-bit cells\n", n * 36 * 12 * 4 / 1e9}'
start=$SECONDS
if ! "$churn" train "$here/configs/telecom.toml" --set data.root="$data" --out "$folder/run" \
    --device "$device" --set panel.start=calendar --set 'models.use=["hybrid"]' --set models.trees=false \
    --set train.steps_max="$steps" --set train.memory_gb="$memory_gb" 2> >(tee "$folder/log" >&2); then
    exit 1
fi
seconds=$((SECONDS - start))
peak=$(awk '/peak memory/ {print $(NF - 1)}' "$folder/log")
if [ -z "$peak" ]; then
    echo "the program did not say its peak (Linux only)" >&2
    exit 1
fi
echo "trained $steps steps end to end in $seconds s, peak $peak MB, limit $limit_mb MB"
[ "$peak" -le "$limit_mb" ]
