#!/usr/bin/env bash
# Clicks (NoC, 1-IoU) on all objects and parts of the seven datasets of UnSAMv2, tables 1 and 2.
#
#   tools/eval_interactive.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# DATASETS.TEST names fewer of them. See tools/eval.sh for the variables that it reads.
set -euo pipefail
datasets="('unsam_grabcut_val', 'unsam_berkeley_val', 'unsam_davis_val', 'unsam_sbd_val', \
'unsam_sa1b_interactive_val', 'unsam_pascalpart_val', 'unsam_partimagenet_seg_val')"
exec "$(dirname "$0")/eval.sh" interactive DATASETS.TEST "$datasets" \
    EVALUATION.EVALUATORS InteractiveEvaluator \
    EVALUATION.INTERACTIVE.MAX_OBJECTS 0 EVALUATION.INTERACTIVE.MIN_AREA 1 -- "$@"
