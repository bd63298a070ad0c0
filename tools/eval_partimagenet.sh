#!/usr/bin/env bash
# Average recall of whole-image masks on the 2,956 photos of PartImageNet (UnSAM, table 1).
#
#   tools/eval_partimagenet.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" partimagenet DATASETS.TEST unsam_partimagenet_val \
    EVALUATION.EVALUATORS AverageRecallEvaluator -- "$@"
