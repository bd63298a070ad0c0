#!/usr/bin/env bash
# Boundaries and regions on the 200 test photos of BSDS500, against all of their annotators.
#
#   tools/eval_bsds500.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval.sh" bsds500 DATASETS.TEST bsds500_test_all \
    EVALUATION.EVALUATORS "('BoundaryEvaluator', 'RegionEvaluator')" -- "$@"
