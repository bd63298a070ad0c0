"""PSEUDO_MASKS: every key of divide and conquer, its default and its meaning."""

from __future__ import annotations

from fvcore.common.config import CfgNode


def pseudo_mask_defaults() -> CfgNode:
    """Return a fresh copy of PSEUDO_MASKS."""
    node = CfgNode()
    # "regions": one hierarchy of pixel-accurate regions over the whole photo (ours);
    # "instances": one hierarchy of patches inside each divide mask (UnSAM, UnSAMv2).
    node.HIERARCHY = "regions"
    # "published" brings back those defects of the released pipelines that change the masks.
    node.COMPAT = "none"
    # "regions" and ncut work on the photo with its longer side reduced to this; masks come out at
    # full size.
    node.WORK_SIZE = 512
    # At most so many masks per photo, the best by score. COMPAT "published" has no such limit.
    node.MAX_MASKS = 1000
    # Masks below this share of the photo are left out; "instances": clusters alone, and none where
    # COMPAT is "published".
    node.MIN_AREA_SHARE = 0.0004
    # Of two masks with a larger IoU than this, only the one with the better score stays.
    node.NMS_IOU = 0.9
    # Least share of a mask that must lie in its parent.
    node.CONTAINMENT = 0.9
    # Add the whole photo as the root of all masks; False gives one tree for each object.
    node.WHOLE_IMAGE = True
    node.REGIONS = _regions()
    node.FEATURES = _features()
    node.EMBEDDING = CfgNode()
    # "spectral": merge by soft cuts of the region graph; "none": by the features themselves.
    node.EMBEDDING.NAME = "spectral"
    # Eigenvectors; edge strength (Lab units) and 1 - cosine at which affinity falls to 1/e.
    node.EMBEDDING.DIMS = 24
    node.EMBEDDING.EDGE_SCALE = 10.0
    node.EMBEDDING.FEATURE_SCALE = 0.15

    conquer = node.CONQUER = CfgNode()
    # Merge while the similarity is at least this; several go from high to low. "regions": every
    # merge gives a mask, -1 merges all. "instances": each gives the clusters that stand then.
    conquer.THRESHOLDS = (-1.0,)
    # "instances": smallest cluster in patches; least share of a mask inside its instance.
    conquer.MIN_PATCHES = 4
    conquer.MIN_COVERAGE = 0.9

    node.DIVIDE = _divide()
    instances = node.INSTANCES = CfgNode()
    # "all": each divide mask is an instance (UnSAM). "containment": those of at least
    # MIN_AREA_SHARE of the photo that lie in no other one; the rest are their parts (UnSAMv2).
    instances.RELATION = "all"
    instances.MIN_AREA_SHARE = 0.05
    instances.CONTAINMENT = 0.8

    node.REFINE = _refine()
    node.GRANULARITY = CfgNode()
    # "relative": to the parts of one instance (UnSAMv2); "absolute": to the photo.
    node.GRANULARITY.KIND = "relative"
    # Relative: the smallest area counts as at most this share of the whole; 1 is as published.
    node.GRANULARITY.FINE_SHARE = 0.01
    return node


def _regions() -> CfgNode:
    node = CfgNode()
    # Starting regions (Felzenszwalb and Huttenlocher): scales, fine to coarse, one hierarchy for
    # each, pooled; smoothing; smallest size in pixels.
    node.SCALES = (50.0, 150.0, 400.0)
    node.SIGMA = 0.6
    node.MIN_SIZE = 20
    return node


def _features() -> CfgNode:
    node = CfgNode()
    # A name in divide_and_conquer/features/build.py; "classical" needs no weights.
    node.NAME = "classical"
    # Soft histogram bins per Lab channel and per gradient energy; weight of texture to colour.
    node.COLOR_BINS = 16
    node.TEXTURE_BINS = 4
    node.TEXTURE_WEIGHT = 0.0
    # "instances" with pixel features: patches per side of the longer side of a crop.
    node.GRID_SIZE = 32

    vit = node.VIT = CfgNode()
    # A timm architecture: vit_{small,base}_patch{8,16}_224 (DINO), vit_*_dinov2, vit_*_dinov3.
    vit.ARCHITECTURE = "vit_base_patch8_224"
    # A file, a URL, "hf://owner/name/file", or "timm:TAG" (such as timm:dino); there is no default.
    vit.WEIGHTS = ""
    # SHA-256 of the weights file in hexadecimal; "" trusts the first download and then keeps to it.
    vit.SHA256 = ""
    # "keys" of the last block (DINO), or its normalised patch "tokens" (DINOv2, DINOv3).
    vit.OUTPUT = "keys"
    # Side in pixels to which crops are resized: "square" (both sides) or "longest" (aspect kept,
    # both sides rounded up to whole patches).
    vit.INPUT_SIZE = 256
    vit.INPUT_SHAPE = "square"
    # Crops per forward pass; "auto" precision is half on a GPU and float32 on a CPU.
    vit.BATCH_SIZE = 8
    vit.PRECISION = "auto"
    return node


def _divide() -> CfgNode:
    node = CfgNode()
    # A name in divide_and_conquer/divide/build.py; "none" leaves given masks alone.
    node.NAME = "ncut"
    # A folder, tar, TSV or COCO JSON of masks by people that join the divide masks (UnSAMv2+).
    node.GIVEN_MASKS = ""
    # ncut and maskcut: cosine above which regions or patches are linked; objects to look for.
    node.TAU = 0.15
    node.MAX_OBJECTS = 3
    # maskcut: side of the square that the ViT sees, and whether the dense CRF follows.
    node.MASKCUT = CfgNode()
    node.MASKCUT.INPUT_SIZE = 480
    node.MASKCUT.CRF = True

    cutler = node.CUTLER = CfgNode()
    # Weights and checksum, as of FEATURES.VIT.
    cutler.WEIGHTS = "http://dl.fbaipublicfiles.com/cutler/checkpoints/cutler_cascade_final.pth"
    cutler.SHA256 = ""
    # Detections need a larger score than this; at most so many per photo.
    cutler.SCORE_THRESHOLD = 0.3
    cutler.MAX_DETECTIONS = 100
    # Photos are resized so that the shorter side is this, the longer one at most that.
    cutler.SHORT_SIDE = 800
    cutler.LONG_SIDE = 1333
    return node


def _refine() -> CfgNode:
    node = CfgNode()
    # A name in divide_and_conquer/refine/build.py: none, superpixel, guided, crf, cascadepsp.
    node.NAME = "none"
    # A refined mask that shares less IoU with the original, or covers more than this share of the
    # photo, is dropped for the original.
    node.MIN_IOU = 0.5
    node.MAX_AREA_SHARE = 0.9
    # guided: radius as a share of the mask's longer side; edges below sqrt(EPSILON) are smoothed.
    node.GUIDED = CfgNode()
    node.GUIDED.RADIUS_SHARE = 0.05
    node.GUIDED.EPSILON = 1e-4
    # superpixel: scale of the regions that masks snap to (see REGIONS).
    node.SUPERPIXEL = CfgNode()
    node.SUPERPIXEL.SCALE = 20.0
    # crf: longer side in pixels of the crop that the mean field runs on; iterations.
    node.CRF = CfgNode()
    node.CRF.INPUT_SIZE = 480
    node.CRF.ITERATIONS = 10
    # cascadepsp (trained on human masks): longer side of the crop, at least and at most.
    node.CASCADEPSP = CfgNode()
    node.CASCADEPSP.WEIGHTS = ""
    node.CASCADEPSP.MIN_SIZE = 100
    node.CASCADEPSP.MAX_SIZE = 900
    return node
