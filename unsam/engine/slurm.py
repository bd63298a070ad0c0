"""Asking Slurm to run a job again."""

from __future__ import annotations

import logging
import os
import subprocess

from unsam.errors import first_line

_ANSWER_SECONDS = 60

logger = logging.getLogger(__name__)


def requeue_job() -> None:
    """Put this Slurm job, or this task of an array, back into the queue; do nothing elsewhere.

    Slurm then ends the job, so whatever is to be kept must be on disk. A refusal is a warning: the
    checkpoint is there, and the job can be submitted by hand.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(
            ["scontrol", "requeue", job],
            check=True,
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
        )
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stderr", None) or first_line(error)
        logger.warning("Slurm job %s was not requeued (%s); submit it again", job, said.strip())
    else:
        logger.info("Slurm job %s requeued", job)
