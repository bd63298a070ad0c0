"""The house rules that a program can check: who imports whom, sizes, names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path
    for folder in ("unsam", "divide_and_conquer", "tools", "demo", "datasets")
    for path in (REPOSITORY / folder).rglob("*.py")
)

# Each part may import itself, the parts of its set, unsam.errors and unsam.__version__.
GROUND = {
    "unsam.config",
    "unsam.structures",
    "unsam.checkpoint",
    "unsam.annotations",
    "unsam.regions",
}
LIBRARY = GROUND | {"unsam.data", "unsam.modeling", "unsam.solver"}
MAY_IMPORT = {
    "unsam.errors": set(),
    "unsam.config": {"unsam.checkpoint"},
    "unsam.structures": {"unsam.checkpoint"},
    "unsam.checkpoint": {"unsam.config"},
    "unsam.regions": {"unsam.structures"},
    # Files of masks; the others do not know of them.
    "unsam.annotations": GROUND,
    "unsam.data": GROUND,
    "unsam.modeling": GROUND,
    "unsam.solver": GROUND,
    "unsam.engine": LIBRARY | {"unsam.evaluation", "unsam.inference", "unsam.visualization"},
    "unsam.evaluation": LIBRARY,
    "unsam.inference": LIBRARY,
    "unsam.visualization": GROUND,
    "divide_and_conquer": GROUND,
}
EXTRAS = {"wandb", "tensorboard", "gradio", "ray", "webdataset", "onnx", "onnxruntime", "pytest"}


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield (module, whether at the top level) of every import that runs."""
    tree = ast.parse(path.read_text())
    typing_only = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    top = set(tree.body)
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node in top


def part_of(module: str) -> str:
    return module.split(".")[0] if module.startswith("divide") else ".".join(module.split(".")[:2])


def name_of(path: Path) -> str:
    relative = path.relative_to(REPOSITORY).with_suffix("")
    return ".".join(relative.parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(name_of(path))
    if part not in MAY_IMPORT:
        return
    for module, _ in imports(path):
        if module.split(".")[0] in ("unsam", "divide_and_conquer"):
            target = part_of(module)
            allowed = MAY_IMPORT[part] | {part, "unsam.errors"}
            is_version = module == "unsam" and "__version__" in path.read_text()
            assert target in allowed or is_version, f"{path.name} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 440
    assert path.stem not in ("utils", "helpers", "misc", "common")
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 80, f"{path.name}: {node.name}"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_extra_is_imported_at_the_top(path: Path) -> None:
    for module, at_top in imports(path):
        assert not (at_top and module.split(".")[0] in EXTRAS), f"{path.name} imports {module}"


def test_every_package_is_mirrored_by_tests() -> None:
    missing = []
    for path in SOURCES:
        parts = path.relative_to(REPOSITORY).parts
        if parts[0] in ("tools", "demo") or path.name == "__init__.py" or "ast" in parts:
            continue
        inner = parts[1:] if parts[0] == "unsam" else parts
        if not (REPOSITORY / "tests" / Path(*inner[:-1])).is_dir():
            missing.append(path)
    assert not missing
