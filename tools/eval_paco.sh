#!/usr/bin/env bash
# Average recall of whole-image masks on 2,410 photos of PACO (UnSAM, table 1).
#
#   tools/eval_paco.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" paco DATASETS.TEST unsam_paco_val \
    EVALUATION.EVALUATORS AverageRecallEvaluator -- "$@"
