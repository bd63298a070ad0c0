from __future__ import annotations

import torch
from torchvision.ops import box_iou

from divide_and_conquer.divide.cutler.backbone import STRIDES
from divide_and_conquer.divide.cutler.proposals import (
    MAX_PROPOSALS,
    NMS_IOU,
    ProposalGenerator,
    level_anchors,
)


def test_anchors_of_a_cell_share_its_corner_and_area():
    anchors = level_anchors(64.0, 8, (3, 5)).reshape(3, 5, 3, 4)
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2
    assert torch.allclose(centre[2, 4], torch.tensor([32.0, 16.0]))
    width, height = (anchors[1, 1, :, 2:] - anchors[1, 1, :, :2]).unbind(-1)
    torch.testing.assert_close(width * height, torch.full((3,), 64.0**2))
    torch.testing.assert_close(height / width, torch.tensor([0.5, 1.0, 2.0]))


def test_proposals_are_sorted_in_the_photo_and_few():
    torch.manual_seed(0)
    generator = ProposalGenerator().eval()
    size = (150, 200)
    levels = [torch.randn(2, 256, -(-160 // s), -(-224 // s)) for s in STRIDES]
    with torch.inference_mode():
        found = generator(levels, [size, (100, 224)])
        alone = generator([level[1:] for level in levels], [(100, 224)])
    for (boxes, logits), (height, width) in zip(found, [size, (100, 224)], strict=True):
        assert 0 < len(boxes) <= MAX_PROPOSALS
        assert (logits[:-1] >= logits[1:]).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= width).all()
        assert (boxes[:, 3] <= height).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
    torch.testing.assert_close(found[1], alone[0], atol=1e-3, rtol=1e-4)


def test_no_proposal_of_a_level_repeats_a_better_one():
    torch.manual_seed(0)
    levels = [torch.zeros(1, 256, 1, 1) for _ in STRIDES]
    levels[0] = torch.randn(1, 256, 40, 40)
    generator = ProposalGenerator().eval()
    with torch.inference_mode():
        (boxes, _), *_ = generator(levels, [(160, 160)])
    # The one cell of each other level lies in the corner; its boxes are clipped there.
    fine = boxes[(boxes[:, :2] > 0).all(dim=1)]
    overlap = box_iou(fine, fine).fill_diagonal_(0)
    assert len(fine) > 100
    assert overlap.max() <= NMS_IOU
