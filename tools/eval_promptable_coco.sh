#!/usr/bin/env bash
# Point(Max) and Point(Oracle) on the panoptic segments of COCO val2017 (UnSAM, table 5).
#
#   tools/eval_promptable_coco.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" promptable_coco DATASETS.TEST unsam_coco_panoptic_val \
    EVALUATION.EVALUATORS PointEvaluator -- "$@"
