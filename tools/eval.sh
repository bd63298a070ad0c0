#!/usr/bin/env bash
# One evaluation of one benchmark; the scripts beside it call it with their keys.
#
#   tools/eval.sh NAME [KEY VALUE ...] -- WEIGHTS CONFIG [KEY VALUE ...]
#
# WEIGHTS: a file, a URL or a name of the model zoo; - for a config that needs none (a baseline).
# NPROC: number of processes, one per GPU, started by torchrun; unset: one process without it.
# EVAL_OUTPUT: results go to the folder NAME below it (output/eval); what is there already of the
# same weights and config is not measured again, so a run that was stopped goes on.
set -euo pipefail

name=$1
shift
keys=()
while [[ $1 != -- ]]; do
    keys+=("$1")
    shift
done
shift
if (($# < 2)); then
    echo "usage: tools/eval_$name.sh WEIGHTS CONFIG [KEY VALUE ...]" >&2
    exit 2
fi
weights=$1
config=$2
shift 2
if [[ $weights != - ]]; then
    keys+=(MODEL.WEIGHTS "$weights")
fi
launcher=("${PYTHON:-python}")
if [[ -n ${NPROC:-} ]]; then
    launcher+=(-m torch.distributed.run --standalone --nproc_per_node="$NPROC")
fi
exec "${launcher[@]}" "$(dirname "$0")/../train_net.py" --eval-only --config-file "$config" \
    OUTPUT_DIR "${EVAL_OUTPUT:-output/eval}/$name" "${keys[@]}" "$@"
