from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.modeling.backbone.golden_stages import load_published, stage_errors
from unsam.checkpoint.layouts.swin_names import published_swin_name
from unsam.modeling.backbone import SwinTransformer
from unsam.modeling.backbone.swin import join_windows, shifted_window_mask, split_windows


@pytest.mark.parametrize("pack", ["unsam_promptable"])
def test_golden(golden_root: Path, pack: str) -> None:
    backbone = SwinTransformer(size="tiny")
    load_published(backbone, golden_root / pack, "model.backbone.", published_swin_name)
    errors = stage_errors(backbone, golden_root / pack, shorter_side=320)
    assert max(errors.values()) < 1e-5, errors


def test_windows_split_and_join_again() -> None:
    x = torch.randn(2, 6, 9, 4)
    windows = split_windows(x, 3)
    assert windows.shape == (2, 6, 9, 4)
    assert torch.equal(windows[1, 5], x[1, 3:, 6:].reshape(9, 4))
    assert torch.equal(join_windows(windows, 3, (6, 9)), x)


@pytest.mark.parametrize(("h", "w", "window"), [(6, 9, 3), (7, 10, 4), (8, 8, 8), (3, 13, 7)])
def test_shifted_windows_hold_neighbours_of_the_photo_only(h: int, w: int, window: int) -> None:
    padded = (h + -h % window, w + -w % window)
    rows, columns = torch.meshgrid(*(torch.arange(side) for side in padded), indexing="ij")
    places = torch.stack([rows, columns], dim=-1)[None]
    shifted = torch.roll(places, (-(window // 2), -(window // 2)), (1, 2))
    cells = split_windows(shifted, window)[0]
    distances = (cells[:, :, None] - cells[:, None]).abs()
    mask = shifted_window_mask(h, w, window, device=torch.device("cpu"))
    # With a single window, cells of both ends can lie nearer than a window; they are apart too.
    assert not mask[:, 0][distances.amax(-1) >= window].any()
    if min(padded) > window:
        assert mask[:, 0][distances.amax(-1) < window].all()
    assert mask[:, 0].diagonal(dim1=1, dim2=2).all()


def test_cells_at_opposite_edges_stay_apart(small_sizes: None) -> None:
    torch.manual_seed(0)
    # The first stage alone: two blocks with windows of 3 cells see 6 cells at most.
    stage = SwinTransformer().stages[0].eval()
    x = torch.randn(1, 12, 12, 16)
    changed = x.clone()
    changed[:, 9:, 9:] += 1
    with torch.inference_mode():
        difference = (stage(x) - stage(changed)).abs().amax(-1)[0]
    assert difference[9:, 9:].min() > 0
    assert difference[:6, :6].max() == 0
    assert difference[0].max() == 0
    assert difference[:, 0].max() == 0


def test_drop_path_leaves_inference_alone_and_training_not(small_sizes: None) -> None:
    torch.manual_seed(0)
    backbone = SwinTransformer(drop_path=0.9)
    plain = SwinTransformer()
    plain.load_state_dict(backbone.state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = plain(pixels)["res5"]
        assert torch.equal(backbone.eval()(pixels)["res5"], expected)
        assert not torch.equal(backbone.train()(pixels)["res5"], expected)
