from __future__ import annotations

import pytest
import torch

from unsam.config.device import resolve_device
from unsam.errors import ConfigError


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "meta"])
def test_devices_that_cannot_compute_here_are_refused(name):
    with pytest.raises(ConfigError, match=f"unknown device '{name}'"):
        resolve_device(name)


def test_the_processor_is_always_there():
    assert resolve_device("cpu") == torch.device("cpu")
