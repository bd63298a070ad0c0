"""Features of patches that never learn: what ViSA guides a model by."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from unsam.checkpoint.download import fetch_weights
from unsam.checkpoint.foreign_weights import read_weights_file
from unsam.config.registry import nearest
from unsam.errors import CheckpointError, ConfigError

CLASSICAL = "classical"
_TEXTURE_SCALES = (1, 2)
# Directions of 0, 45, 90 and 135 degrees, as (x, y).
_DIRECTIONS = ((1.0, 0.0), (0.5**0.5, 0.5**0.5), (0.0, 1.0), (-(0.5**0.5), 0.5**0.5))
_XYZ_OF_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_D65 = (0.950456, 1.0, 1.088754)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FrozenFeatures(Protocol):
    """Callable: a photo to features of a grid of patches.

    It is no module: what never learns belongs neither to an optimizer nor to a checkpoint.

    Attributes:
        dim: channels.
    """

    dim: int

    def __call__(self, photo: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return float32 ``[dim, h, w]`` for uint8 ``[3, H, W]`` (RGB) and its grid (h, w)."""


def build_frozen_features(name: str, weights: str) -> FrozenFeatures:
    """Return the features of ``OBJECTIVES.VISA.FEATURES``.

    Args:
        name: "classical", or a ViT by timm's name, such as ``vit_small_patch16_dinov3``.
        weights: of the ViT: a file, a URL or hf://owner/name/file, in timm's names (for DINOv3 its
            own ``hf://timm/vit_small_patch16_dinov3.lvd1689m/model.safetensors``) or as DINO and
            DINOv2 were published.

    Raises:
        ConfigError: no such features, or a ViT without weights.
        CheckpointError: the weights cannot be got, or are another model's.
    """
    if name == CLASSICAL:
        return ColourAndTexture()
    return FrozenVit(name, weights)


class ColourAndTexture:
    """Means over each patch of weight-free statistics of its pixels, 14 channels.

    Mean and standard deviation of CIE Lab, and the energy of the lightness gradient in four
    directions at two scales, as ``log(1 + energy)``.
    """

    dim = 6 + len(_TEXTURE_SCALES) * len(_DIRECTIONS)

    def __call__(self, photo: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return float32 ``[14, h, w]``, see `FrozenFeatures`."""
        lab = rgb_to_lab(photo)
        mean = F.adaptive_avg_pool2d(lab, grid)
        deviation = lab - F.interpolate(mean[None], size=lab.shape[1:], mode="nearest")[0]
        channels = [mean, F.adaptive_avg_pool2d(deviation.square(), grid).sqrt()]
        for scale in _TEXTURE_SCALES:
            dy, dx = torch.gradient(F.avg_pool2d(lab[:1], scale)[0])
            energy = torch.stack([(x * dx + y * dy).square() for x, y in _DIRECTIONS])
            channels.append(F.adaptive_avg_pool2d(energy.log1p(), grid))
        return torch.cat(channels)


class FrozenVit:
    """Normalised patch tokens of a self-supervised ViT (DINO, DINOv2, DINOv3) through timm.

    The photo is normalised as the DINO family was trained, and resized so that both sides are
    multiples of the ViT's patch. The network follows the photos to their device.

    Args:
        name: timm's name.
        weights: see `build_frozen_features`.

    Raises:
        ConfigError: see `build_frozen_features`.
        CheckpointError: see `build_frozen_features`.
    """

    def __init__(self, name: str, weights: str) -> None:
        self._network = _load_vit(name, weights).eval().requires_grad_(False)
        self._patch = int(self._network.patch_embed.patch_size[0])
        self.dim = int(self._network.embed_dim)

    @torch.no_grad()
    def __call__(self, photo: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return float32 ``[dim, h, w]``, see `FrozenFeatures`."""
        self._network.to(photo.device)
        mean, std = (
            photo.new_tensor(v, dtype=torch.float32) for v in (_IMAGENET_MEAN, _IMAGENET_STD)
        )
        pixels = (photo / 255 - mean[:, None, None]) / std[:, None, None]
        size = [max(1, round(side / self._patch)) * self._patch for side in photo.shape[1:]]
        pixels = F.interpolate(pixels[None], size=size, mode="bilinear", antialias=True)
        (tokens,) = self._network.forward_intermediates(
            pixels, indices=1, norm=True, intermediates_only=True
        )
        return F.interpolate(tokens, size=grid, mode="bilinear")[0]


def rgb_to_lab(photo: Tensor) -> Tensor:
    """Return CIE Lab (D65) of sRGB: uint8 ``[3, H, W]`` to float32, L in [0, 100]."""
    rgb = photo.to(torch.float32) / 255
    # IEC 61966-2-1, then CIE 15.
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = torch.einsum("ij,jhw->ihw", rgb.new_tensor(_XYZ_OF_RGB), linear)
    ratio = xyz / rgb.new_tensor(_D65)[:, None, None]
    low = ratio / (3 * (6 / 29) ** 2) + 4 / 29
    x, y, z = torch.where(ratio > (6 / 29) ** 3, ratio.clamp(min=1e-6) ** (1 / 3), low)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)))


def _load_vit(name: str, weights: str) -> Any:
    # timm takes a second to import, and few runs need it.
    import timm

    key = "OBJECTIVES.VISA.FEATURES"
    if name not in timm.list_models():
        known = [CLASSICAL, *timm.list_models(["*dino*", "vit_*_patch*_224"])]
        raise ConfigError(
            f"{key}: neither 'classical' nor a ViT of timm: '{name}'; {nearest(name, known)}"
        )
    if not weights:
        raise ConfigError(
            f"OBJECTIVES.VISA.FEATURE_WEIGHTS is empty: set it to the weights of {name}, a file, a "
            f"URL or hf://owner/name/file, or {key} to 'classical'"
        )
    path = fetch_weights(weights)
    tensors = read_weights_file(path).tensors
    backbone = {key: value for key, value in tensors.items() if not key.startswith("head.")}
    try:
        # Told of no classifier, timm takes nothing but a file that fits tensor by tensor.
        return timm.create_model(
            name,
            pretrained=True,
            pretrained_cfg_overlay={"state_dict": backbone, "num_classes": 0},
            num_classes=0,
            dynamic_img_size=True,
        )
    except TypeError as error:
        raise ConfigError(f"{key}: {name} is no ViT; use vit_*_patch*_224 or *dino*") from error
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path}: not the weights of {name} ({reason}); check OBJECTIVES.VISA"
        ) from error
