#!/usr/bin/env bash
# Several evaluations of one model, one after the other; the scripts beside it call it.
#
#   tools/eval_each.sh NAME SCRIPT ... -- WEIGHTS CONFIG [KEY VALUE ...]
#
# One that fails (a dataset that is not there, say) does not keep the others from running; the exit
# code is that of the first that failed.
set -euo pipefail

name=$1
shift
scripts=()
while [[ $1 != -- ]]; do
    scripts+=("$1")
    shift
done
shift
if (($# < 2)); then
    echo "usage: tools/$name.sh WEIGHTS CONFIG [KEY VALUE ...]" >&2
    exit 2
fi
status=0
for script in "${scripts[@]}"; do
    code=0
    "$(dirname "$0")/$script.sh" "$@" || code=$?
    if ((code)); then
        echo "$name.sh: $script.sh failed with exit code $code" >&2
        status=$((status ? status : code))
    fi
    # From 128 on: a signal, which means all of them.
    if ((code >= 128)); then
        exit "$code"
    fi
done
exit "$status"
