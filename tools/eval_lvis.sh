#!/usr/bin/env bash
# Average recall of whole-image masks on 5,000 photos of LVIS v1 val (UnSAM, table 1).
#
#   tools/eval_lvis.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" lvis DATASETS.TEST unsam_lvis_val \
    EVALUATION.EVALUATORS AverageRecallEvaluator -- "$@"
