from __future__ import annotations

import math

import torch

from unsam.modeling.granularity_encoding import GranularityEncoding


def test_fourier_features_follow_the_published_formula():
    encoding = GranularityEncoding(embed_dim=256, fourier_dim=128, temperature=100.0)
    granularities = [0.1, 0.37, 1.0]
    expected = []
    for g in granularities:
        row = []
        for k in range(64):
            frequency = 100 ** (k / 64)
            row += [math.sin(frequency * g), math.cos(frequency * g)]
        expected.append(row)
    actual = encoding.fourier(torch.tensor(granularities))
    torch.testing.assert_close(actual, torch.tensor(expected), atol=2e-5, rtol=0)


def test_widths_are_the_published_ones():
    encoding = GranularityEncoding(embed_dim=256, fourier_dim=128)
    assert [tuple(layer.weight.shape) for layer in encoding.mlp.layers] == [
        (192, 128),
        (192, 192),
        (256, 192),
    ]
    assert encoding(torch.tensor([0.1, 0.5])).shape == (2, 1, 256)
    # 111,232 of the perceptron and 256 of the type: what UnSAMv2 adds for its encoding.
    assert sum(p.numel() for p in encoding.parameters()) == 111_232 + 256


def test_each_granularity_is_encoded_by_itself():
    torch.manual_seed(0)
    encoding = GranularityEncoding(embed_dim=32).eval()
    values = torch.tensor([0.1, 0.4, 1.0])
    together = encoding(values)
    alone = torch.cat([encoding(value[None]) for value in values])
    torch.testing.assert_close(together, alone)
    assert (together[0] - together[1]).abs().max() > 1e-4


def test_precision_survives_autocast():
    encoding = GranularityEncoding(embed_dim=32).eval()
    near = torch.tensor([0.500, 0.501])
    with torch.autocast("cpu", torch.bfloat16):
        features = encoding.fourier(near)
    assert features.dtype == torch.float32
    assert (features[0] - features[1]).abs().max() > 0.05
