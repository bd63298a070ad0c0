#!/usr/bin/env bash
# Answers to clicks on all datasets.
#
#   tools/promptable_eval.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval_each.sh" promptable_eval eval_interactive eval_promptable_coco -- "$@"
