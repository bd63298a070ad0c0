"""Recipes: inheritance, overrides, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from unsam.config import find_config, get_cfg, list_configs, load_config, save_config
from unsam.config.loading import flatten
from unsam.errors import ConfigError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_bases_then_recipe_then_overrides(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "SEED: 1\nOUTPUT_DIR: base\nINPUT: {IMAGE_SIZE: 96}\n")
    write(tmp_path / "sub/middle.yaml", "_BASE_: ../base.yaml\nSEED: 2\n")
    recipe = write(tmp_path / "sub/recipe.yaml", "_BASE_: middle.yaml\nOUTPUT_DIR: mine\n")
    cfg = load_config(recipe, ["INPUT.IMAGE_SIZE", "64", "DATASETS.TRAIN", "('a', 'b')"])
    assert (cfg.SEED, cfg.OUTPUT_DIR, cfg.INPUT.IMAGE_SIZE) == (2, "mine", 64)
    assert cfg.DATASETS.TRAIN == ("a", "b")
    assert cfg.is_frozen()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["DATASETS.TEST", "one"], ("one",)),
        (["OUTPUT_DIR", "123"], "123"),
        (["SEED", "7"], 7),
        (["INPUT.PIXEL_MEAN", "[1, 2, 3]"], (1.0, 2.0, 3.0)),
    ],
)
def test_overrides_take_the_type_of_their_key(words: list[str], expected: object) -> None:
    assert dict(flatten(load_config(None, words)))[words[0]] == expected


@pytest.mark.parametrize("name", list_configs())
def test_every_recipe_loads_and_is_reproduced_by_its_saved_config(
    name: str, tmp_path: Path
) -> None:
    cfg = load_config(name)
    save_config(cfg, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == cfg


def test_recipes_are_found_by_name_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("Base.yaml") == find_config("configs/Base") == find_config("Base")


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("SEEED: 1", ["unknown key SEEED", "'SEED'"]),
        ("INPUT: {IMAGE_SISE: 1}", ["unknown key INPUT.IMAGE_SISE", "'INPUT.IMAGE_SIZE'"]),
        ("SEED: many", ["SEED", "expected int", "'many'"]),
        ("SEED: 1.5", ["SEED", "expected int"]),
        ("SEED: true", ["SEED", "expected int"]),
        ("INPUT: 3", ["INPUT is a section"]),
        ("INPUT: {PIXEL_MEAN: [a, b, c]}", ["INPUT.PIXEL_MEAN", "expected numbers"]),
        ("_BASE_: nowhere.yaml", ["_BASE_: nowhere.yaml: no such file"]),
        ("_BASE_: recipe.yaml", ["circle"]),
        ("SEED: [1, 2", ["not readable as YAML"]),
        ("SEED: !!python/object/apply:os.system ['true']", ["not readable as YAML"]),
        ("- a\n- b", ["expected keys and values"]),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(
    tmp_path: Path, text: str, parts: list[str]
) -> None:
    recipe = write(tmp_path / "recipe.yaml", text)
    with pytest.raises(ConfigError) as error:
        load_config(recipe)
    message = str(error.value)
    assert "\n" not in message
    assert error.value.exit_code == 2
    for part in ["recipe.yaml", *parts]:
        assert part in message


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["SEED"], "KEY VALUE"),
        (["SED", "1"], "'SEED'"),
        (["SEED", "x"], "expected int"),
        (["INPUT", "3"], "section"),
        (["SEED.X", "3"], "SEED"),
    ],
)
def test_a_wrong_override_is_one_line(words: list[str], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        load_config(None, words)


def test_a_missing_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"Bases\.yaml: no such config file; did you mean"):
        load_config("Bases.yaml")


def test_defaults_are_fresh_copies() -> None:
    get_cfg().SEED = 5
    assert get_cfg().SEED == 1234
