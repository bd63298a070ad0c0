"""The line to read."""

from __future__ import annotations

import logging

import pytest

from unsam.engine.writers import ProgressWriter


def test_line_says_how_far_how_good_and_how_long(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "unsam"):
        ProgressWriter().write(
            {
                "iteration": 20,
                "max_iter": 100,
                "loss": 1.25,
                "loss_dice": 0.75,
                "loss_focal": 0.5,
                "lr": 0.001,
                "step_seconds": 0.5,
                "data_seconds": 0.125,
                "images_per_second": 8.0,
                "eta_seconds": 3723.4,
            }
        )
        ProgressWriter().write({"iteration": 20, "eval/set/AR@10": 0.3})
    assert [record.getMessage() for record in caplog.records] == [
        "iter 20/100  loss 1.2500 (dice 0.7500  focal 0.5000)  lr 1.00e-03  0.500 s/it "
        "(data 0.125)  8.0 images/s  eta 1:02:03"
    ]
