"""The model zoo and its page say the same, and every entry can be loaded as it says."""

from __future__ import annotations

import pytest

from unsam.checkpoint.model_zoo import ZOO, zoo_table
from unsam.config import get_cfg, load_config
from unsam.config.loading import flatten


def test_the_page_lists_exactly_the_zoo(repository):
    page = (repository / "docs" / "model_zoo.md").read_text(encoding="utf-8")
    assert zoo_table(parts=False) in page
    assert zoo_table(parts=True) in page
    listed = [line for line in page.split("## Converting")[0].splitlines() if "| `" in line[:3]]
    assert len(listed) == len(ZOO)


@pytest.mark.parametrize("entry", ZOO.values(), ids=ZOO)
def test_entries_name_what_exists(entry, golden_root):
    cfg = load_config(entry.config)
    if entry.key:
        assert entry.key in dict(flatten(get_cfg()))
    else:
        assert cfg.MODEL.META_ARCHITECTURE in ("Mask2Former", "SemanticSam", "Sam", "Sam2")
        granular = entry.name.startswith("unsamv2")
        assert granular == cfg.MODEL.GRANULARITY.ENABLED
    if entry.pack:
        assert (golden_root / entry.pack / "keys.json").is_file()
    assert entry.page.startswith("https://")
    assert entry.source == "" or entry.source.endswith(entry.file)
    assert (entry.key or (entry.name if entry.source else entry.file)) in entry.command or (
        entry.config.startswith("pseudo_masks/")
    )
