#!/usr/bin/env bash
# Average recall of whole-image masks on 1,000 held-out photos of SA-1B (UnSAM, table 1).
#
#   tools/eval_sa1b.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" sa1b DATASETS.TEST unsam_sa1b_val \
    EVALUATION.EVALUATORS AverageRecallEvaluator -- "$@"
