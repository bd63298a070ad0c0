#!/usr/bin/env bash
# Whole-image masks on the seven datasets of UnSAM, table 1.
#
#   tools/whole_image_eval.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval_each.sh" whole_image_eval eval_coco eval_lvis eval_ade20k eval_entity \
    eval_sa1b eval_partimagenet eval_paco -- "$@"
