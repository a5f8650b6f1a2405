#!/usr/bin/env bash
# Hyper-parameter sweep: one training per point of a grid, then a table by validation log loss.
#
#   scripts/sweep.sh models.gru.hidden=32,64 train.learning_rate=1e-3,2e-3 configs/telecom.toml
#   scripts/sweep.sh --out runs/windows 'features.windows=[3,6],[3,6,12]' 'models.use=["mlp"]' my.toml
#
# Each PATH=VALUES argument is an axis of the grid: VALUES are divided at commas outside brackets,
# and each becomes `--set PATH=VALUE`. The one argument without `=` is the configuration.
#
#   --out DIR      folder of the run folders; default runs/sweep-NAME after the configuration's file
#   --device NAME  passed on to `churn train`
#   --model NAME   rows of this model only in the table, e.g. gru
#   --table        train nothing, print the table of what is there
#   CHURN          the program; default target/release/churn of this project, else `churn`
#
# Runs go one after the other: a training uses the whole machine. Started again with the same
# arguments, the sweep skips finished runs (those with metrics.json), resumes the one that was cut
# off, and trains the rest; so a larger grid goes on where a smaller one ended. The settings of a
# run are chosen by validation log loss; the test split is left out of the table on purpose.
#
# Exit code: 0, 1 if a run failed, 2 for wrong arguments or a point that `churn config show`
# refuses, 130 or 143 if stopped by a signal (start again to go on).

set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    printf 'sweep: %s\n' "$*" >&2
    exit 2
}

# Divides $1 at commas outside brackets, braces and double quotes, into the array `values`.
split_values() {
    local text=$1 value='' c i depth=0 quoted=0
    values=()
    for ((i = 0; i < ${#text}; i++)); do
        c=${text:i:1}
        case $c in
            '"') quoted=$((1 - quoted)) ;;
            '[' | '{') ((quoted)) || depth=$((depth + 1)) ;;
            ']' | '}') ((quoted)) || depth=$((depth - 1)) ;;
        esac
        if [[ $c == ',' && $depth -eq 0 && $quoted -eq 0 ]]; then
            values+=("$value")
            value=''
        else
            value+=$c
        fi
    done
    values+=("$value")
}

# Every point of the grid, as "PATH=VALUE<tab>PATH=VALUE...", into the array `points`.
make_points() {
    local axis path value point grown
    points=('')
    for axis in "${axes[@]}"; do
        path=${axis%%=*}
        split_values "${axis#*=}"
        grown=()
        for point in "${points[@]}"; do
            for value in "${values[@]}"; do
                [[ -n $value ]] || die "an empty value in $axis"
                grown+=("${point:+$point$'\t'}$path=$value")
            done
        done
        points=("${grown[@]}")
    done
}

# `--set` flags of the point $1, into the array `sets`.
make_sets() {
    local parts part
    IFS=$'\t' read -r -a parts <<<"$1"
    sets=()
    for part in "${parts[@]}"; do
        sets+=(--set "$part")
    done
}

# A folder's name for the point $1.
name_of() {
    local name=${1//$'\t'/,}
    printf '%s' "${name//[^A-Za-z0-9._=+,-]/_}"
}

# Trains the point $1 into the folder $2; everything it says goes to the log beside the folder.
train() {
    local folder=$2 flags=(${device[@]+"${device[@]}"})
    make_sets "$1"
    if [[ -d $folder ]]; then
        flags+=(--resume)
    fi
    "$churn" train "$config" "${sets[@]}" --out "$folder" ${flags[@]+"${flags[@]}"} \
        >>"$folder.log" 2>&1
}

print_table() {
    python3 - "$out" "$model" <<'PY'
import json
import math
import sys
from pathlib import Path

root, only = Path(sys.argv[1]), sys.argv[2]
rows, baselines = [], []
for path in sorted(root.glob("*/metrics.json")):
    for name, model in json.loads(path.read_text())["models"].items():
        found = model["validation"]
        loss = found["log_loss"] if found["log_loss"] is not None else math.nan
        row = (loss, found["auroc"], name, path.parent.name)
        if name == "logistic":
            baselines.append(row)
        elif only in ("", name):
            rows.append(row)
if not rows:
    sys.exit(f"sweep: no finished run{' of ' + only if only else ''} in {root}")
rows.sort(key=lambda row: (math.isnan(row[0]), row[0], row[2:]))
print(f"{'log loss':>8}  {'AUROC':>6}  {'model':<8}  run (validation split)")
for loss, auroc, name, run in rows + sorted(baselines)[:1]:
    auroc = f"{auroc:6.4f}" if auroc is not None else f"{'-':>6}"
    print(f"{loss:8.5f}  {auroc}  {name:<8}  {run}")
PY
}

config='' out='' model='' device=() axes=() only_table=0
while (($#)); do
    case $1 in
        -h | --help)
            sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --out | --device | --model)
            (($# > 1)) || die "$1 needs a value"
            case $1 in
                --out) out=$2 ;;
                --device) device=(--device "$2") ;;
                --model) model=$2 ;;
            esac
            shift
            ;;
        --table) only_table=1 ;;
        -*) die "unknown option $1; see --help" ;;
        *=*) axes+=("$1") ;;
        *)
            [[ -z $config ]] || die "two configurations: $config and $1"
            config=$1
            ;;
    esac
    shift
done

command -v python3 >/dev/null || die 'python3 is needed to read metrics.json'
[[ -n $config ]] || die 'name a configuration; see --help'
[[ -f $config ]] || die "there is no file $config"
if [[ -z $out ]]; then
    out=runs/sweep-$(basename "$config" .toml)
fi
if ((only_table)); then
    print_table
    exit 0
fi
((${#axes[@]})) || die 'name at least one PATH=VALUE,VALUE; see --help'
churn=${CHURN:-$project/target/release/churn}
if [[ -z ${CHURN:-} && ! -x $churn ]]; then
    churn=churn
fi
command -v "$churn" >/dev/null || die "there is no program $churn; cargo build --release, or set CHURN"

# Before anything is trained: does the program accept every point, and has each its own folder?
make_points
names=()
for point in "${points[@]}"; do
    make_sets "$point"
    "$churn" config show "$config" "${sets[@]}" >/dev/null || exit 2
    name=$(name_of "$point")
    ((${#name} <= 200)) || die "the folder's name would be too long: $name"
    for other in ${names[@]+"${names[@]}"}; do
        [[ $other != "$name" ]] || die "two points would share the folder $name"
    done
    names+=("$name")
done

# A finished run is skipped by its name, so that the rest of its settings must still be the same.
mkdir -p "$out"
if [[ -f $out/sweep.toml ]]; then
    cmp -s "$config" "$out/sweep.toml" ||
        die "$config differs from the one that $out began with ($out/sweep.toml); choose another --out"
else
    cp "$config" "$out/sweep.toml"
fi

failed=0
for at in "${!points[@]}"; do
    name=${names[at]}
    folder=$out/$name
    printf '[%d/%d] %s: ' $((at + 1)) ${#points[@]} "$name" >&2
    if [[ -f $folder/metrics.json ]]; then
        printf 'finished before\n' >&2
        continue
    fi
    began=$SECONDS code=0
    train "${points[at]}" "$folder" || code=$?
    case $code in
        0) printf 'done in %d s\n' $((SECONDS - began)) >&2 ;;
        130 | 143)
            printf 'stopped; start again to go on\n' >&2
            exit "$code"
            ;;
        *)
            printf 'failed with %d: %s\n' "$code" "$(tail -n 1 "$folder.log")" >&2
            failed=1
            ;;
    esac
done

print_table
exit "$failed"
