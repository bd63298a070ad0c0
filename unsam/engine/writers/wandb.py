"""A run of Weights & Biases."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from unsam.checkpoint.atomic import write_text_atomic
from unsam.engine.writers.writer import MetricsWriter

MODES = ("online", "offline", "disabled")
RUN_ID_FILE = "wandb_run_id.txt"


class WandbWriter(MetricsWriter):
    """Logs to Weights & Biases; needs the package ``wandb``.

    The id of its run is kept in the folder, so that a resumed training goes on with the same run.
    Of steps that are made anew it keeps what it was told first. Offline, every start leaves a
    folder of its own with that id; ``wandb sync --append`` joins them.

    Args:
        folder: of the run, where its files and the id go.
        iteration: where the training starts; from 0 on it is a new run.
        mode: one of `MODES`.
        project: under which it is listed.
        name: under which it is listed there; "" leaves it to wandb.
        config: what the run was started with, to be shown beside it.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        iteration: int = 0,
        *,
        mode: str = "offline",
        project: str = "unsam",
        name: str = "",
        config: dict[str, Any] | None = None,
    ) -> None:
        import wandb

        id_file = Path(folder) / RUN_ID_FILE
        if iteration == 0 or not id_file.is_file():
            write_text_atomic(id_file, uuid.uuid4().hex[:12] + "\n")
        self._run = wandb.init(
            dir=os.fspath(folder),
            mode=mode,
            project=project,
            name=name or None,
            id=id_file.read_text(encoding="utf-8").strip(),
            resume="allow",
            config=config,
        )

    def write(self, record: dict[str, Any]) -> None:
        """Log the record at its iteration."""
        values = {key: value for key, value in record.items() if key != "iteration"}
        self._run.log(values, step=record["iteration"])

    def close(self) -> None:
        """Send what is left and finish the run."""
        self._run.finish()
