from __future__ import annotations

import subprocess
import sys

# Its own process: the peak of a process never falls. Not getrusage: there a process inherits the
# peak of the one that started it.
SCRIPT = """
import pathlib
import torch
from torch.nn import functional as F
from unsam.modeling import InputFrame
from unsam.modeling.mask2former import BestQueries, QueryPredictions
from unsam.modeling.pixel_decoder import PixelFeatures

def peak():
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 2**20

torch.set_num_threads(1)
torch.manual_seed(0)
coarse = torch.randn(1, 256, 8, 12)
features = PixelFeatures(F.interpolate(coarse, (256, 384), mode="bilinear"), ())
class Decoder:
    film = None
    def __call__(self, features, granularity):
        return [QueryPredictions(torch.randn(1, 2000, 2), torch.randn(1, 2000, 256))]
frame = InputFrame((1500, 2250), (1024, 1536), (1024, 1536))
before = peak()
masks = BestQueries(max_masks=40, precision="float32")(Decoder(), features, frame)
assert len(masks) == 40 and masks.size == (1500, 2250)
print(peak() - before)
"""


def test_masks_of_a_large_photo_take_little_memory():
    """The published way holds all 2,000 at the photo's size: 25 GiB."""
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert float(run.stdout) < 0.5
