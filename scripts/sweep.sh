#!/usr/bin/env bash
# A search for settings as one would start it on a workstation in the evening: `churn tune`, then
# the best configuration trained and judged on the test split.
#
#   scripts/sweep.sh configs/telecom.toml
#   scripts/sweep.sh --trials 30 --seconds 3600 --workers 2 configs/telecom.toml
#   scripts/sweep.sh models.gru.hidden=32,64 'features.windows=[3,6],[3,6,12]' configs/telecom.toml
#   scripts/sweep.sh --join configs/telecom.toml     # in another terminal, or on another machine
#
# Each PATH=VALUES argument is a parameter to search over: VALUES are divided at commas outside
# brackets. With none the space is the configuration's [tune.space], or the default one. The one
# argument without `=` is the configuration.
#
#   --out DIR      folder of the study; default runs/sweep-NAME after the configuration's file
#   --trials N     of the whole study; default 64
#   --seconds S    end the search after so long
#   --workers W    processes on this machine; default 1
#   --device NAME  auto, gpu, cpu or ndarray
#   --join         work on the study that another sweep has begun, and train nothing afterwards
#   CHURN          the program; default target/release/churn of this project, else `churn`
#
# Started again with the same arguments it goes on: finished trials stay, one that was cut off is
# taken up. Any number of `--join` may come and go; they share the folder, by a network file system
# with locks where they run on other machines. The settings are chosen by validation log loss; the
# test split is looked at once, for the best ones.
#
# Exit code: that of `churn`, 2 for wrong arguments.

set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() {
    printf 'sweep: %s\n' "$*" >&2
    exit 2
}

# The entry of `tune.space` for the argument $1: a list of the values at its commas outside
# brackets, braces and double quotes. Words that are no TOML become texts.
parameter() {
    local path=${1%%=*} text=${1#*=} value='' list='' c i depth=0 quoted=0
    for ((i = 0; i <= ${#text}; i++)); do
        c=${text:i:1}
        case $c in
            '"') quoted=$((1 - quoted)) ;;
            '[' | '{') ((quoted)) || depth=$((depth + 1)) ;;
            ']' | '}') ((quoted)) || depth=$((depth - 1)) ;;
        esac
        if ((i == ${#text})) || [[ $c == ',' && $depth -eq 0 && $quoted -eq 0 ]]; then
            [[ -n $value ]] || die "an empty value in $1"
            [[ $value =~ ^(\[.*|\".*|true|false|[-+]?[0-9].*)$ ]] || value="\"$value\""
            list+=${list:+, }$value
            value=''
        else
            value+=$c
        fi
    done
    printf '"%s" = { choices = [%s] }' "$path" "$list"
}

config='' out='' join=0 flags=() device=() space=''
while (($#)); do
    case $1 in
        -h | --help)
            sed -n '2,/^$/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
            exit 0
            ;;
        --out | --device | --trials | --seconds | --workers)
            (($# > 1)) || die "$1 needs a value"
            case $1 in
                --out) out=$2 ;;
                --device) device=(--device "$2") ;;
                *) flags+=("$1" "$2") ;;
            esac
            shift
            ;;
        --join) join=1 ;;
        -*) die "unknown option $1; see --help" ;;
        *=*)
            one=$(parameter "$1") || exit 2
            space+=${space:+, }$one
            ;;
        *)
            [[ -z $config ]] || die "two configurations: $config and $1"
            config=$1
            ;;
    esac
    shift
done
[[ -n $config ]] || die 'name a configuration; see --help'
[[ -f $config ]] || die "there is no file $config"
if [[ -z $out ]]; then
    out=runs/sweep-$(basename "$config" .toml)
fi
churn=${CHURN:-$project/target/release/churn}
if [[ -z ${CHURN:-} && ! -x $churn ]]; then
    churn=churn
fi
command -v "$churn" >/dev/null || die "there is no program $churn; cargo build --release, or set CHURN"
if [[ -n $space ]]; then
    flags+=(--set "tune.space={ $space }")
fi

"$churn" tune "$config" --out "$out" ${device[@]+"${device[@]}"} ${flags[@]+"${flags[@]}"}
if ((join)); then
    exit 0
fi

# Trained again when the best trial is another one than it was.
if [[ -f $out/best/metrics.json ]] && cmp -s "$out/best.toml" "$out/best/trained.toml"; then
    printf 'the best configuration was trained before: %s/best\n' "$out" >&2
    exit 0
fi
if [[ ! -d $out/best ]] || ! cmp -s "$out/best.toml" "$out/best/trained.toml"; then
    rm -rf "$out/best"
    mkdir -p "$out/best"
    cp "$out/best.toml" "$out/best/trained.toml"
fi
# Resumed also at first, when there is nothing to go on with: the folder is not empty.
"$churn" train "$out/best.toml" --out "$out/best" --resume ${device[@]+"${device[@]}"}
