"""The recipe gives the values that each golden pack lists as examples."""

import json

import numpy as np
import pytest

from tests.golden_weights import recipe_state_dict


@pytest.mark.parametrize("pack", ["cutler", "dino", "unsam_whole", "unsamv2"])
def test_examples_of_the_recipe(golden_root, pack):
    if not (golden_root / pack).is_dir():
        pytest.skip(f"no pack {pack}")
    state = recipe_state_dict(golden_root / pack)
    examples = json.loads((golden_root / pack / "recipe.json").read_text())["examples"]
    for example in examples:
        values = state[example["key"]].numpy().reshape(-1)
        np.testing.assert_array_equal(values[:4], np.asarray(example["first"], np.float32)[:4])
        assert values[-1] == np.float32(example["last"])
        assert abs(values.astype(np.float64).sum() - example["sum"]) < 1e-6 * max(
            1, abs(example["sum"])
        )
