#!/usr/bin/env bash
# Every benchmark.
#
#   tools/eval_all.sh WEIGHTS CONFIG [KEY VALUE ...]
#
# See tools/eval.sh for the variables that it reads.
set -euo pipefail
exec "$(dirname "$0")/eval_each.sh" eval_all whole_image_eval promptable_eval eval_bsds500 -- "$@"
