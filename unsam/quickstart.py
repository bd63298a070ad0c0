"""The main job from end to end on a few photos that everybody has."""

from __future__ import annotations

from pathlib import Path

from fvcore.common.config import CfgNode

from unsam.errors import DataError

SCIKIT_IMAGE_PHOTOS = (
    "astronaut.png",
    "camera.png",
    "cell.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
"""Photos that travel inside the scikit-image package."""

BASELINES = ("Otsu", "Slic", "Felzenszwalb")


def run_quickstart(cfg: CfgNode, output: str | Path, images: str | None = None) -> Path:
    """Do `unsam.fit.chain.fit` beside classical baselines, and return the path of ``report.html``.

    Args:
        cfg: the recipe.
        output: folder for everything that is made.
        images: folder of photos; None takes those that scikit-image carries.

    Raises:
        UnsamError: see `unsam.fit.chain.fit`.
    """
    from unsam.fit.chain import fit
    from unsam.fit.photo_sets import FitInputs

    folder = images or _collect_scikit_image_photos(Path(output) / "photos")
    return fit(cfg, output, FitInputs(images=folder), baselines=BASELINES)


def _collect_scikit_image_photos(folder: Path) -> Path:
    """Copy the photos of the scikit-image package to `folder` and return it."""
    import skimage.data

    from unsam.checkpoint.atomic import atomic_writer

    source = Path(skimage.data.__file__).parent
    found = [source / name for name in SCIKIT_IMAGE_PHOTOS if (source / name).is_file()]
    if len(found) < 2:
        raise DataError("scikit-image carries no photos here; name a folder with --images DIR")
    for path in found:
        if not (folder / path.name).is_file():
            with atomic_writer(folder / path.name) as stream:
                stream.write(path.read_bytes())
    return folder
