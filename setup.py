"""Packaging: the code, and the recipes of configs/ as package data under unsam/_configs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "([^"]+)"', (HERE / "unsam/__init__.py").read_text(encoding="utf-8")
).group(1)

CONFIG_FOLDERS = [
    ".",
    *sorted(
        path.relative_to(HERE / "configs").as_posix()
        for path in (HERE / "configs").rglob("*")
        if path.is_dir()
    ),
]


def config_package(folder: str) -> str:
    """Name of the package that carries one folder of recipes in the wheel."""
    return "unsam._configs" if folder == "." else f"unsam._configs.{folder.replace('/', '.')}"


REQUIRED = [
    "torch>=2.6",
    "torchvision",
    "timm>=1.0.20",
    "segment-anything",
    "transformers>=5.0,<6",
    "pycocotools>=2.0.8",
    "faster-coco-eval>=1.7",
    "numpy>=2.0",
    "scipy>=1.13",
    "numba>=0.61",
    "opencv-python-headless>=4.10",
    "scikit-image>=0.24",
    "pillow>=10.3",
    "fvcore>=0.1.5.post20221221",
    "iopath>=0.1.10",
    "huggingface_hub>=1.0",
    "safetensors>=0.5",
    "pyyaml>=6",
    "tqdm>=4.66",
]
SCALE = ["ray[data]", "webdataset"]
EXTRAS = {
    "log": ["wandb", "tensorboard"],
    "demo": ["gradio>=6"],
    "scale": SCALE,
    "export": ["onnx", "onnxruntime", "onnxscript"],
    "dev": [
        *SCALE,
        "build",
        "hypothesis",
        "mypy",
        "pre-commit",
        "pytest>=8",
        "pytest-timeout",
        "pytest-xdist",
        "ruff",
        "setuptools>=77",
        "types-PyYAML",
        "types-tqdm",
        "wheel",
    ],
}

setup(
    name="unsam",
    version=VERSION,
    description="Unsupervised, any-granularity segment anything: photos in, a segmenter out.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["unsam", "unsam.*", "divide_and_conquer", "divide_and_conquer.*"]),
        *(config_package(folder) for folder in CONFIG_FOLDERS),
    ],
    package_dir={
        "unsam": "unsam",
        "divide_and_conquer": "divide_and_conquer",
        **{
            config_package(folder): ("configs" if folder == "." else f"configs/{folder}")
            for folder in CONFIG_FOLDERS
        },
    },
    package_data={
        "unsam": ["py.typed"],
        "unsam.visualization": ["*.css"],
        **{config_package(folder): ["*.yaml"] for folder in CONFIG_FOLDERS},
    },
    install_requires=REQUIRED,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["unsam = unsam.cli:main"]},
)
