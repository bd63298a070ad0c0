from __future__ import annotations

import pytest
import timm
import torch
from skimage.color import rgb2lab

from tests.modeling.objectives.photos import photo
from unsam.errors import CheckpointError, ConfigError
from unsam.modeling.objectives.frozen_features import (
    ColourAndTexture,
    FrozenVit,
    build_frozen_features,
    rgb_to_lab,
)

VIT = "vit_tiny_patch16_224"


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> str:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save(timm.create_model(VIT).state_dict(), file)
    return str(file)


def test_lab_is_that_of_scikit_image() -> None:
    image = torch.randint(0, 256, (3, 8, 9), generator=torch.Generator().manual_seed(0))
    image[:, 0, :3] = torch.tensor([[0, 255, 5]] * 3)
    image = image.to(torch.uint8)
    expected = torch.from_numpy(rgb2lab(image.permute(1, 2, 0).numpy())).permute(2, 0, 1)
    torch.testing.assert_close(rgb_to_lab(image), expected.float(), rtol=0, atol=0.02)


def test_an_even_patch_has_its_colour_and_no_texture() -> None:
    image = torch.zeros(3, 16, 32, dtype=torch.uint8)
    image[0, :, 16:] = 200
    features = ColourAndTexture()(image, (2, 4))
    assert features.shape == (ColourAndTexture.dim, 2, 4)
    torch.testing.assert_close(features[:3, :, 3], rgb_to_lab(image)[:, :2, -1])
    assert features[3:, :, [0, 3]].abs().max() < 0.001


def test_the_direction_of_a_texture_shows() -> None:
    stripes = torch.zeros(3, 32, 32, dtype=torch.uint8)
    stripes[:, :, ::4] = stripes[:, :, 1::4] = 255
    upright = ColourAndTexture()(stripes, (2, 2))[6:10].mean((1, 2))
    lying = ColourAndTexture()(stripes.transpose(1, 2), (2, 2))[6:10].mean((1, 2))
    assert upright[0] > 5
    assert upright[2] == 0
    torch.testing.assert_close(lying[2], upright[0])


def test_a_vit_gives_the_tokens_of_its_last_block_and_is_no_module(weights) -> None:
    features = FrozenVit(VIT, weights)
    image = photo(0, size=(64, 96))["image"]
    found = features(image, (4, 6))
    network = timm.create_model(VIT, dynamic_img_size=True).eval()
    network.load_state_dict(torch.load(weights))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[..., None, None]
    with torch.no_grad():
        tokens = network.forward_features(((image / 255 - mean) / std)[None])[0, 1:]
    torch.testing.assert_close(found, tokens.T.reshape(192, 4, 6), rtol=1e-4, atol=1e-5)
    assert not found.requires_grad
    assert not isinstance(features, torch.nn.Module)


def test_a_vit_takes_photos_and_grids_of_any_size(weights) -> None:
    features = build_frozen_features(VIT, weights)
    assert features(photo(0, size=(50, 70))["image"], (12, 17)).shape == (features.dim, 12, 17)


def test_names_and_weights_that_do_not_fit_are_one_line_errors(weights, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"neither 'classical' nor.*vit_small_patch16_dinov3"):
        build_frozen_features("vit_smal_patch16_dinov3", weights)
    with pytest.raises(ConfigError, match="FEATURE_WEIGHTS is empty"):
        build_frozen_features(VIT, "")
    with pytest.raises(ConfigError, match="resnet18 is no ViT"):
        build_frozen_features("resnet18", weights)
    with pytest.raises(CheckpointError, match="not the weights of vit_small"):
        build_frozen_features("vit_small_patch16_224", weights)
    partial = torch.load(weights)
    partial.pop("norm.weight")
    torch.save(partial, tmp_path / "partial.pth")
    with pytest.raises(CheckpointError, match=r"partial\.pth: not the weights.*norm\.weight"):
        build_frozen_features(VIT, str(tmp_path / "partial.pth"))
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"broken\.pth"):
        build_frozen_features(VIT, str(broken))
