#!/usr/bin/env bash
# Average recall of whole-image masks on the 5,000 photos of COCO val2017 (UnSAM, table 1).
#
#   tools/eval_coco.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" coco DATASETS.TEST unsam_coco_val \
    EVALUATION.EVALUATORS AverageRecallEvaluator -- "$@"
