#!/usr/bin/env bash
# Average recall of whole-image masks on the 1,314 low-resolution photos of EntitySeg val (UnSAM, table 1).
#
#   tools/eval_entity.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" entity DATASETS.TEST unsam_entity_val \
    EVALUATION.EVALUATORS AverageRecallEvaluator -- "$@"
