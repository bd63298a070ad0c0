"""Every published checkpoint of the family: where it is, what it needs, how it scored."""

from __future__ import annotations

from dataclasses import dataclass

_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything"
_SAM2_URL = "https://dl.fbaipublicfiles.com/segment_anything_2"
_UNSAMV2_HUB = "hf://yujunwei04/UnSAMv2"
_DRIVE = "https://drive.google.com/file/d"
_UNSAM_PAPER = "arXiv 2406.20081"
_UNSAMV2_PAPER = "arXiv 2511.13714"


@dataclass(frozen=True)
class ZooEntry:
    """A published checkpoint.

    Attributes:
        name: what `from_pretrained` takes; for parts of the pseudo-mask pipeline, what it is
            called here.
        system: and what it was trained on.
        backbone: the image encoder.
        file: the published name.
        source: a URL or ``hf://owner/name/file``; "" if it has to be downloaded by hand.
        page: where people find it.
        config: the recipe that it is loaded or used with.
        key: the config key that takes the file of a part; "" for whole models.
        needs: what it needs to run.
        scores: as published, with their source; "" where there are none.
        pack: the golden data that the code is checked against, "" for none.
        sha256: of the file, "" where it is not known.
    """

    name: str
    system: str
    backbone: str
    file: str
    source: str
    page: str
    config: str
    key: str = ""
    needs: str = ""
    scores: str = ""
    pack: str = ""
    sha256: str = ""

    @property
    def command(self) -> str:
        """The command that runs it."""
        folder, _, recipe = self.config.partition("/")
        if folder == "pseudo_masks":
            preset = recipe.removesuffix(".yaml")
            return f"unsam pseudo-masks --preset {preset} --input DIR --output DIR"
        if self.key:
            return f"unsam train --config-file {self.config} {self.key} {self.file}"
        place = self.name if self.source else self.file
        return f"unsam eval --config-file {self.config} MODEL.WEIGHTS {place}"


def _unsam() -> list[ZooEntry]:
    whole = dict(backbone="ResNet-50", needs="a download by hand", pack="unsam_whole")
    promptable = dict(backbone="Swin-T", needs="a download by hand", pack="unsam_promptable")
    return [
        ZooEntry(
            name="unsam_whole_image",
            system="UnSAM whole-image, 0.4 million photos",
            file="unsam_sa1b_4perc_ckpt_200k.pth",
            source="",
            page=f"{_DRIVE}/1qUdZ2ELU_5SNTsmx3Q0wSA87u4SebiO4",
            config="unsam/whole_image_R50.yaml",
            scores=f"AR@1000 41.1 over 7 datasets ({_UNSAM_PAPER}, table 1)",
            **whole,
        ),
        ZooEntry(
            name="unsam_plus_whole_image",
            system="UnSAM+ whole-image, 0.1 million photos with human masks",
            file="unsam_plus_sa1b_1perc_ckpt_50k.pth",
            source="",
            page=f"{_DRIVE}/1sCZM5j2pQr34-scSEkgG7VmUaHJc8n4d",
            config="unsam/whole_image_plus_R50.yaml",
            scores=f"AR@1000 48.8 over 7 datasets ({_UNSAM_PAPER}, table 2)",
            **whole,
        ),
        ZooEntry(
            name="unsam_promptable",
            system="UnSAM promptable, 0.1 million photos",
            file="unsam_promptable.pth",
            source="",
            page=f"{_DRIVE}/10iPpraRoWE58mHPiv8Q1alsBekAQOxM9",
            config="unsam/promptable_SwinT.yaml",
            scores=f"COCO click IoU 40.3 best-rated, 59.5 oracle ({_UNSAM_PAPER}, table 5)",
            **promptable,
        ),
        ZooEntry(
            name="unsam_plus_promptable",
            system="UnSAM+ promptable, 0.1 million photos with human masks",
            file="unsam_plus_promptable_sa1b_1perc_ckpt_100k.pth",
            source="",
            page=f"{_DRIVE}/12Z2pOASXEEMGz5-Svn1Fe7MNX41JkhHD",
            config="unsam/promptable_plus_SwinT.yaml",
            scores=f"COCO click IoU 52.4 best-rated, 69.5 oracle ({_UNSAM_PAPER}, table 5)",
            **promptable,
        ),
    ]


def _unsamv2() -> list[ZooEntry]:
    page = "https://huggingface.co/yujunwei04/UnSAMv2"
    shared = dict(backbone="SAM 2.1 Hiera-S", page=page, needs="0.2 GB download", pack="unsamv2")
    return [
        ZooEntry(
            name="unsamv2",
            system="UnSAMv2, 6,000 photos",
            file="unsamv2.pt",
            source=f"{_UNSAMV2_HUB}/unsamv2.pt",
            config="unsamv2/sam2_hiera_small.yaml",
            scores=f"AR@1000 68.3 over 5 datasets ({_UNSAMV2_PAPER}, table 3), "
            "NoC80 2.28 with the granularity that fits best (table 2)",
            **shared,
        ),
        ZooEntry(
            name="unsamv2_plus",
            system="UnSAMv2+, 6,000 photos with human masks",
            file="unsamv2_plus.pt",
            source=f"{_UNSAMV2_HUB}/unsamv2_plus.pt",
            config="unsamv2/sam2_hiera_small_plus.yaml",
            scores=f"AR@1000 74.1 over 5 datasets ({_UNSAMV2_PAPER}, table 3), "
            "NoC80 2.07 with the granularity that fits best (table 2)",
            sha256="4067a6966b06df984828f537da0f02389ff28655a8985a1e1f4a3e1de4077195",
            **shared,
        ),
    ]


def _sam() -> list[ZooEntry]:
    sizes = (
        ("b", "01ec64", "0.4 GB download", "sam"),
        ("l", "0b3195", "1.2 GB download", ""),
        ("h", "4b8939", "2.6 GB download", ""),
    )
    scores = {
        "b": f"AR@1000 42.1 over 7 datasets ({_UNSAM_PAPER}, table 1); "
        "COCO click IoU 52.1 best-rated, 68.2 oracle (table 5)"
    }
    return [
        ZooEntry(
            name=f"sam_vit_{size}",
            system="SAM",
            backbone=f"ViT-{size.upper()}",
            file=f"sam_vit_{size}_{mark}.pth",
            source=f"{_SAM_URL}/sam_vit_{size}_{mark}.pth",
            page="https://github.com/facebookresearch/segment-anything",
            config=f"sam/sam_vit_{size}.yaml",
            needs=needs,
            scores=scores.get(size, ""),
            pack=pack,
        )
        for size, mark, needs, pack in sizes
    ]


def _sam2() -> list[ZooEntry]:
    letters = {"tiny": "T", "small": "S", "base_plus": "B+", "large": "L"}
    needs = {"tiny": "0.2", "small": "0.2", "base_plus": "0.3", "large": "0.9"}
    return [
        ZooEntry(
            name=f"{prefix}_hiera_{size}",
            system=system,
            backbone=f"Hiera-{letter}",
            file=f"{prefix}_hiera_{size}.pt",
            source=f"{_SAM2_URL}/{date}/{prefix}_hiera_{size}.pt",
            page="https://github.com/facebookresearch/sam2",
            config=f"sam2/{prefix}_hiera_{size}.yaml",
            needs=f"{needs[size]} GB download",
            pack="sam2" if (prefix, size) == ("sam2.1", "small") else "",
        )
        for prefix, system, date in (("sam2", "SAM 2", "072824"), ("sam2.1", "SAM 2.1", "092824"))
        for size, letter in letters.items()
    ]


def _parts() -> list[ZooEntry]:
    cutler = "http://dl.fbaipublicfiles.com/cutler/checkpoints"
    return [
        ZooEntry(
            name="cutler",
            system="CutLER, finds objects for pseudo masks",
            backbone="ResNet-50 FPN",
            file="cutler_cascade_final.pth",
            source=f"{cutler}/cutler_cascade_final.pth",
            page="https://github.com/facebookresearch/CutLER",
            config="pseudo_masks/unsam.yaml",
            key="PSEUDO_MASKS.DIVIDE.CUTLER.WEIGHTS",
            needs="0.3 GB download",
            scores=f"AR@1000 21.8 over 7 datasets ({_UNSAM_PAPER}, table 1)",
            pack="cutler",
        ),
        ZooEntry(
            name="dino_vitb8",
            system="DINO, features for pseudo masks",
            backbone="ViT-B/8",
            file="dino_vitbase8_pretrain.pth",
            source="https://dl.fbaipublicfiles.com/dino/dino_vitbase8_pretrain/"
            "dino_vitbase8_pretrain.pth",
            page="https://github.com/facebookresearch/dino",
            config="pseudo_masks/unsam.yaml",
            key="PSEUDO_MASKS.FEATURES.VIT.WEIGHTS",
            needs="0.3 GB download",
            pack="dino",
        ),
        ZooEntry(
            name="dino_resnet50",
            system="DINO, where UnSAM whole-image starts from",
            backbone="ResNet-50",
            file="dino_RN50_pretrain_d2_format.pkl",
            source=f"{cutler}/dino_RN50_pretrain_d2_format.pkl",
            page="https://github.com/facebookresearch/CutLER",
            config="unsam/whole_image_R50.yaml",
            key="MODEL.BACKBONE.WEIGHTS",
            needs="0.1 GB download",
        ),
    ]


ZOO: dict[str, ZooEntry] = {
    entry.name: entry for entry in (*_unsamv2(), *_unsam(), *_sam2(), *_sam(), *_parts())
}
"""The published checkpoints by name."""


def zoo_table(*, parts: bool) -> str:
    """Return the table of ``docs/model_zoo.md``.

    Args:
        parts: the checkpoints that are parts of a pipeline, or else the whole models.
    """
    head = ("name", "system", "backbone", "file", "needs", "command", "published", "golden")
    chosen = [entry for entry in ZOO.values() if bool(entry.key) == parts]
    rows = [head, ("---",) * len(head), *map(_row, chosen)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(entry: ZooEntry) -> tuple[str, ...]:
    return (
        f"`{entry.name}`",
        entry.system,
        entry.backbone,
        f"[{entry.file}]({entry.page})",
        entry.needs,
        f"`{entry.command}`",
        entry.scores or "none here",
        f"yes, `{entry.pack}`" if entry.pack else "no",
    )
