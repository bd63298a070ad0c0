"""``manifest.json``: what a run has made, from what, and what it could not use."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from unsam.checkpoint.atomic import write_text_atomic
from unsam.errors import DataError

MANIFEST = "manifest.json"
FORMAT_VERSION = 1
_PART = re.compile(r"manifest-(\d{5,})-of-(\d{5,})\.json")


@dataclass(frozen=True)
class RunFacts:
    """What all photos of a run share.

    Attributes:
        image_root: the folder that photo names are relative to.
        section: PSEUDO_MASKS as YAML.
        code_version: version of the code that made the masks.
        supervised: whether masks by people, or weights trained on them, went into the masks.
        output_format: ``"json"`` or ``"webdataset"``.
    """

    image_root: str
    section: str
    code_version: int
    supervised: bool
    output_format: str

    @property
    def config(self) -> dict[str, Any]:
        """The config as plain dicts."""
        return {"PSEUDO_MASKS": _plain(CfgNode.load_cfg(self.section))}


def manifest_name(shard_index: int = 0, num_shards: int = 1) -> str:
    """Return ``manifest.json``, or the name of the part of one machine among several."""
    if num_shards == 1:
        return MANIFEST
    return f"manifest-{shard_index:05d}-of-{num_shards:05d}.json"


def build_manifest(
    facts: RunFacts, images: dict[str, dict[str, Any]], failures: dict[str, str], complete: bool
) -> dict[str, Any]:
    """Return a manifest; it does not depend on the engine or on the order of the answers.

    Args:
        facts: what all photos share.
        images: name to ``sha256``, ``masks``, ``json`` or ``shard``, and ``refinement`` if any.
        failures: name to reason, in one line.
        complete: whether the run reached every photo.
    """
    refinement: Counter[str] = Counter()
    for entry in images.values():
        refinement.update(entry.get("refinement", {}))
    return {
        "version": FORMAT_VERSION,
        "image_root": facts.image_root,
        "format": facts.output_format,
        "supervised": facts.supervised,
        "complete": complete,
        "config": facts.config,
        "code_version": facts.code_version,
        "images": dict(sorted(images.items())),
        "failures": dict(sorted(failures.items())),
        "counts": {
            "photos": len(images) + len(failures),
            "done": len(images),
            "failed": len(failures),
            "masks": sum(entry["masks"] for entry in images.values()),
        },
        "refinement": dict(sorted(refinement.items())),
    }


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest whole or not at all.

    Raises:
        StorageError: the disk is full or the folder not writable.
    """
    write_text_atomic(path, json.dumps(manifest, indent=1) + "\n")


def entries_before(path: Path, facts: RunFacts) -> dict[str, dict[str, Any]]:
    """Return the images of an earlier manifest of the same kind of run: their files are there."""
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        same = (manifest["config"], manifest["code_version"], manifest["format"]) == (
            facts.config,
            facts.code_version,
            facts.output_format,
        )
        return dict(manifest["images"]) if same else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def merge_manifests(output_dir: str | os.PathLike[str]) -> dict[str, Any]:
    """Join the manifests that the machines of one run wrote into ``manifest.json``.

    The last machine to finish does this by itself; call it where that one could not. The result
    is the manifest that one machine would have written.

    Args:
        output_dir: the folder that all of them wrote to.

    Returns:
        The manifest.

    Raises:
        DataError: a part is missing, broken or incomplete, or they were not made alike.
        StorageError: the manifest cannot be written.
    """
    folder = Path(output_dir)
    matches = [
        match for item in sorted(folder.glob("manifest-*")) if (match := _PART.fullmatch(item.name))
    ]
    if not matches:
        raise DataError(f"{folder}: no manifest of a part (manifest-00000-of-00016.json)")
    # A folder may hold the parts of an earlier division; the newest one is meant.
    newest = max(matches, key=lambda match: (folder / match[0]).stat().st_mtime_ns)
    count = int(newest[2])
    names = [manifest_name(index, count) for index in range(count)]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {count} parts are missing, first {missing[0]}"
        )
    return _join(folder, [_read_part(folder / name) for name in names], names)


def parts_are_there(folder: Path, num_shards: int) -> bool:
    """Tell whether every part of a run has written its manifest."""
    return all((folder / manifest_name(i, num_shards)).is_file() for i in range(num_shards))


def _join(folder: Path, parts: list[dict[str, Any]], names: list[str]) -> dict[str, Any]:
    shared = ("version", "image_root", "format", "supervised", "config", "code_version")
    joined = {**parts[0], "images": {}, "failures": {}, "counts": {}, "refinement": {}}
    counts: Counter[str] = Counter()
    refinement: Counter[str] = Counter()
    for part, name in zip(parts, names, strict=True):
        differing = [key for key in shared if part[key] != parts[0][key]]
        if differing:
            raise DataError(
                f"{folder / name}: another {differing[0]} than {names[0]}; "
                "make both with the same config and input"
            )
        if not part["complete"]:
            raise DataError(f"{folder / name}: its run was cut short; run this part again")
        joined["images"].update(part["images"])
        joined["failures"].update(part["failures"])
        counts.update(part["counts"])
        refinement.update(part["refinement"])
    for key in ("images", "failures"):
        joined[key] = dict(sorted(joined[key].items()))
    joined["counts"] = dict(counts)
    joined["refinement"] = dict(sorted(refinement.items()))
    write_manifest(folder / MANIFEST, joined)
    return joined


def _read_part(path: Path) -> dict[str, Any]:
    keys = {"version", "image_root", "format", "supervised", "complete", "config", "code_version"}
    keys |= {"images", "failures", "counts", "refinement"}
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
        if not keys <= part.keys():
            raise DataError(f"{path}: not the manifest of a part; run this part again")
        return part
    except (OSError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not readable ({error}); run this part again") from error


def _plain(node: Any) -> Any:
    return {key: _plain(value) for key, value in node.items()} if isinstance(node, dict) else node
