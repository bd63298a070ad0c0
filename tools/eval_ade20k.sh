#!/usr/bin/env bash
# Average recall of whole-image masks on the 2,000 photos of ADE20K val (UnSAM, table 1).
#
#   tools/eval_ade20k.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" ade20k DATASETS.TEST unsam_ade20k_val \
    EVALUATION.EVALUATORS AverageRecallEvaluator -- "$@"
