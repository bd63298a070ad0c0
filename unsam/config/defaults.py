"""Every configuration key, its default and its meaning.

A recipe in ``configs/`` names only what it changes. Sizes are in pixels, times in seconds,
granularities in [0.1, 1] (0.1 the finest part, 1 the whole).
"""

from __future__ import annotations

from fvcore.common.config import CfgNode

from unsam.config.evaluation_defaults import evaluation_defaults, expectation_defaults
from unsam.config.pseudo_mask_defaults import pseudo_mask_defaults
from unsam.config.training_defaults import (
    checkpoint_defaults,
    logging_defaults,
    objective_defaults,
    solver_defaults,
    task_sampler_defaults,
)


def get_cfg() -> CfgNode:
    """Return a fresh copy of the default configuration, keys in upper case."""
    cfg = CfgNode()
    cfg.VERSION = 1
    cfg.SEED = 1234
    # Where a run writes its checkpoints, metrics, config and results.
    cfg.OUTPUT_DIR = "output"
    # "auto" (CUDA when there is one), "cpu", "cuda" or "cuda:1".
    cfg.DEVICE = "auto"
    cfg.PSEUDO_MASKS = pseudo_mask_defaults()
    cfg.DATASETS = _datasets()
    cfg.DATALOADER = _dataloader()
    cfg.INPUT = _input()
    cfg.MODEL = _model()
    cfg.CRITERION = _criterion()
    cfg.OBJECTIVES = objective_defaults()
    cfg.TASKS = task_sampler_defaults()
    cfg.SOLVER = solver_defaults()
    cfg.LOGGING = logging_defaults()
    cfg.CHECKPOINT = checkpoint_defaults()
    cfg.INFERENCE = _inference()
    cfg.EVALUATION = evaluation_defaults()
    cfg.TEST = expectation_defaults()
    return cfg


def _datasets() -> CfgNode:
    node = CfgNode()
    # Each entry: a registered name, or a path: a folder of pseudo masks (JSON or shards), of
    # SA-1B's photos and JSON files, of tars, WebDataset shards or TSV files; one tar or TSV; COCO.
    node.TRAIN = ()
    node.TEST = ()
    # How often each of TRAIN is drawn, relative to the others; empty draws every photo alike.
    node.WEIGHTS = ()
    # Photos of a COCO-style JSON file or a moved pseudo-mask folder; "" takes what the file says.
    node.IMAGE_ROOT = ""
    return node


def _dataloader() -> CfgNode:
    node = CfgNode()
    # Processes per rank that make samples; 0 makes them in the training process. Results are equal.
    node.NUM_WORKERS = 2
    # Masks of a photo that a sample carries, drawn anew each time; the others are not decoded.
    node.MAX_MASKS = 64
    # Draw them evenly over bands of granularity (True), or evenly over masks, most of them fine.
    node.BALANCE_GRANULARITY = False
    # Masks with fewer pixels in the sample are dropped.
    node.MIN_MASK_AREA = 16
    return node


def _input() -> CfgNode:
    node = CfgNode()
    # The longer side is resized to this before the model sees the photo; batches pad to a square.
    node.IMAGE_SIZE = 256
    # Mask2Former and SemanticSam instead resize the shorter side to the first of these, unless the
    # longer one would be over the second.
    node.SHORTER_SIDE = 1024
    node.MAX_LONGER_SIDE = 2048
    # RGB mean and standard deviation on the 0 to 255 scale (ImageNet).
    node.PIXEL_MEAN = (123.675, 116.28, 103.53)
    node.PIXEL_STD = (58.395, 57.12, 57.375)
    # Training, instead of keeping the shape of the photo: "keep" it; "stretch" to a square of
    # IMAGE_SIZE (UnSAMv2); or "fixed" (UnSAM, Mask2Former): resize by a random factor from
    # JITTER_SCALE (large-scale jitter), then crop or pad to a square of SQUARE_SIZE (0: of
    # IMAGE_SIZE).
    node.SHAPE = "keep"
    node.SQUARE_SIZE = 0
    node.JITTER_SCALE = (1.0, 1.0)
    # Training: side of the random crop as a share of the photo's; (1.0, 1.0) never crops.
    node.CROP_SCALE = (0.6, 1.0)
    # Training: chance of mirroring left and right.
    node.FLIP_PROBABILITY = 0.5
    # Training: brightness, contrast and saturation change by up to these shares; 0 for none.
    node.COLOUR_JITTER = (0.3, 0.3, 0.3)
    # Training: rotation and shear by up to so many degrees, and the chance of turning grey.
    node.ROTATION = 0.0
    node.SHEAR = 0.0
    node.GREY_PROBABILITY = 0.0
    # Training: the second view that some objectives compare with: side of its crop as a share of
    # the photo's, degrees of rotation and shear, chance of mirroring, strength of the change of
    # colour, and the largest standard deviation of its blur in pixels, 0 for none.
    view = node.SECOND_VIEW = CfgNode()
    view.CROP_SCALE = (0.6, 1.0)
    view.ROTATION = 10.0
    view.SHEAR = 5.0
    view.FLIP_PROBABILITY = 0.5
    view.COLOUR_JITTER = 0.3
    view.BLUR = 1.5
    # Training: chance of pasting masks of another photo over a photo (CutLER), and how large they
    # become, as a share of their size.
    node.COPY_PASTE_PROBABILITY = 0.0
    node.COPY_PASTE_SCALE = (0.3, 1.0)
    return node


def _model() -> CfgNode:
    node = CfgNode()
    # GranularSam (ours, small); Sam and Sam2, with or without granularity; Mask2Former (whole
    # photos, no prompts); SemanticSam (six masks per click).
    node.META_ARCHITECTURE = "GranularSam"
    # A checkpoint to start from; "" is a random initialisation.
    node.WEIGHTS = ""
    # Channels of the image embedding and of all prompt tokens.
    node.EMBED_DIM = 128

    encoder = node.IMAGE_ENCODER = CfgNode()
    encoder.NAME = "ConvTransformerEncoder"
    # Channels at stride 2; then channels and residual blocks at strides 4, 8 and 16.
    encoder.STEM_DIM = 32
    encoder.STAGE_DIMS = (48, 96, 160)
    encoder.STAGE_DEPTHS = (1, 2, 2)
    # Transformer blocks over all cells at stride 16.
    encoder.NUM_ATTENTION_BLOCKS = 3
    encoder.NUM_HEADS = 5

    prompt = node.PROMPT_ENCODER = CfgNode()
    # Hidden channels of the network that reads an earlier mask.
    prompt.MASK_DIM = 16
    # Add the image features under a click to its token (SAM does not).
    prompt.POINT_FEATURES = True
    # Paint clicks and boxes on the image embedding and on the mask features (SAM does not).
    prompt.CLICK_MAPS = True
    # ... as Gaussians of these standard deviations, in pixels of the model's input.
    prompt.CLICK_WIDTHS = (4.0, 12.0, 36.0, 108.0)
    # Maps of how much each cell looks like the clicked ones, for either label, and the channels
    # that each compares; 0 maps for none (SAM has none).
    prompt.SIMILARITY_HEADS = 4
    prompt.SIMILARITY_DIM = 16
    # Sines and cosines of the granularity, and the ratio of their extreme frequencies.
    prompt.FOURIER_DIM = 128
    prompt.TEMPERATURE = 100.0

    decoder = node.MASK_DECODER = CfgNode()
    # Blocks of the two-way transformer, heads and hidden width in each.
    decoder.DEPTH = 2
    decoder.NUM_HEADS = 4
    decoder.MLP_DIM = 256
    # Channels at half and at a quarter of the embedding's stride.
    decoder.UPSCALE_DIMS = (64, 32)

    _add_query_models(node)
    _add_sam_models(node)

    contours = node.CONTOURS = CfgNode()
    # Of GranularSam: learn the contours of the pseudo masks, and segment whole photos by the
    # regions that they enclose instead of by a grid of clicks. Channels at strides 1, 2, 4, 8.
    contours.ENABLED = False
    contours.DIMS = (12, 24, 48, 64)
    # Longer side to which larger photos are shrunk before they are segmented as a whole; contours
    # are a mean over these scales of that.
    contours.IMAGE_SIZE = 512
    contours.SCALES = (0.5, 1.0, 1.5)
    # Starting regions: [smoothing in pixels, depth] of each watershed. Edge strength of a sure
    # contour; unlikeness of colours at which affinity falls to 1/e.
    contours.BASINS = ((0.7, 0.01), (1.0, 0.04), (1.5, 0.1))
    contours.GAIN = 6.0
    contours.FEATURE_SCALE = 0.15
    # An answer to a click takes the outline of the region that agrees with it best, if their soft
    # IoU is at least this; 0 never.
    contours.SNAP_IOU = 0.5

    clicks = node.CLICKS = CfgNode()
    # Decoder runs per mask and iteration: the first prompt, then correction clicks.
    clicks.ROUNDS = 3
    # The most masks of a photo that an iteration trains on.
    clicks.MASKS_PER_IMAGE = 16
    # "uniform" over the masks of a photo, or "balanced" over nine intervals of granularity.
    clicks.MASK_SAMPLING = "uniform"
    # Chance that the first click is at the mask's centre rather than anywhere in it.
    clicks.CENTRE_PROBABILITY = 0.3
    # Chance that the first prompt is the mask's box, up to a tenth of its size off.
    clicks.BOX_PROBABILITY = 0.1
    return node


def _add_query_models(node: CfgNode) -> None:
    """Add the keys of Mask2Former and SemanticSam to ``MODEL``."""
    backbone = node.BACKBONE = CfgNode()
    # Of Mask2Former and SemanticSam: ResNet50, SwinTransformer, SamVit.
    backbone.NAME = "ResNet50"
    # SwinTransformer: "tiny" or "large"; SamVit: "base", "large" or "huge".
    backbone.SIZE = "tiny"
    # Weights of the backbone alone to start from: a file, a URL or hf://owner/name/file; "" for
    # a random initialisation.
    backbone.WEIGHTS = ""
    # Chance that a residual block of SwinTransformer is skipped in training.
    backbone.DROP_PATH = 0.3

    pixel = node.PIXEL_DECODER = CfgNode()
    # Channels of its maps and of the mask features.
    pixel.DIM = 256
    pixel.MASK_DIM = 256
    # Scales that attend to each other: 3 (strides 8, 16, 32) or 4 (64 too).
    pixel.NUM_LEVELS = 3
    # Layers of deformable attention; heads, points per head and scale, hidden width in each.
    pixel.NUM_LAYERS = 6
    pixel.NUM_HEADS = 8
    pixel.NUM_POINTS = 4
    pixel.FFN_DIM = 1024

    query = node.QUERY_DECODER = CfgNode()
    # Of Mask2Former: learned queries, each at most one mask of a photo; layers, heads, width.
    query.NUM_QUERIES = 2000
    query.NUM_LAYERS = 9
    query.NUM_HEADS = 8
    query.FFN_DIM = 2048
    # Ask the queries for a granularity: "none" (published) or "film".
    query.GRANULARITY = "none"

    prompted = node.PROMPTED_DECODER = CfgNode()
    # Of SemanticSam: masks per prompt; layers, heads, points per head and scale, hidden width.
    prompted.NUM_TOKENS = 6
    prompted.NUM_LAYERS = 9
    prompted.NUM_HEADS = 8
    prompted.NUM_POINTS = 4
    prompted.FFN_DIM = 2048
    # Width and height of the box that stands for a click, as a share of the photo's.
    prompted.CLICK_SIZE = 0.005
    # Row of the prompt kind embedding for clicks in use and in training. The published model was
    # trained with 1 and is used with 0.
    prompted.CLICK_KIND = 0
    prompted.TRAINING_CLICK_KIND = 1
    # Prompts of a photo in an iteration of training.
    prompted.MAX_PROMPTS = 60


def _add_sam_models(node: CfgNode) -> None:
    """Add the keys of Sam and Sam2, and of their granularity, to ``MODEL``."""
    sam = node.SAM = CfgNode()
    # Image encoder of Sam: "base", "large" or "huge".
    sam.SIZE = "base"
    # Attention of the image encoder by torch's fused kernels; False computes it as
    # segment-anything does, to the last bit, with more time and memory.
    sam.FUSED_ATTENTION = True

    sam2 = node.SAM2 = CfgNode()
    # Image encoder of Sam2: "tiny", "small", "base_plus" or "large"; "2" or "2.1".
    sam2.SIZE = "small"
    sam2.VERSION = "2.1"

    granularity = node.GRANULARITY = CfgNode()
    # Teach Sam or Sam2 granularity as UnSAMv2 does: a prompt token, a mask token with its own
    # hypernetwork, and low-rank updates of the decoder's attention.
    granularity.ENABLED = False
    granularity.FOURIER_DIM = 128
    granularity.TEMPERATURE = 100.0
    # Of the updates; 0 is for weights that have them merged.
    granularity.LORA_RANK = 8
    granularity.LORA_ALPHA = 16.0
    granularity.LORA_DROPOUT = 0.1
    # Predict the IoU of the granularity mask by a head of its own. False reads the head of SAM's
    # single mask, as the published weights need.
    granularity.QUALITY_HEAD = False
    # Train the whole model; False trains what granularity adds and nothing else (UnSAMv2).
    granularity.TRAIN_BASE = False


def _criterion() -> CfgNode:
    node = CfgNode()
    node.QUERIES = _query_criterion()
    # Factors on losses over the training: [name of the loss, kind, start, end], such as
    # [loss_quality, linear, 0.0, 0.3]; kinds and shares as of OBJECTIVES.
    node.SCHEDULES = ()
    # Weights of the losses; each is a mean over masks and over the rounds of clicks.
    node.FOCAL_WEIGHT = 1.0
    node.DICE_WEIGHT = 1.0
    node.QUALITY_WEIGHT = 1.0
    # Of the contours, where MODEL.CONTOURS is on.
    node.CONTOUR_WEIGHT = 1.0
    # Whether there is anything to segment: cross entropy of the object score, for models that give
    # one (Sam2).
    node.OBJECT_WEIGHT = 0.0
    # Divide each mask's focal loss by the sum of its pixels' focal factors, not by their number.
    # From a random start it learns many times faster. To fine-tune a trained model as SAM 2 and
    # UnSAMv2 do: False, with FOCAL_WEIGHT 20 and FOCAL_ALPHA 0.25.
    node.FOCAL_NORMALIZED = True
    # Focal loss: weight of the foreground (below 0: none), exponent (0: cross entropy).
    node.FOCAL_ALPHA = -1.0
    node.FOCAL_GAMMA = 2.0
    # Error of the predicted IoU: "l1" or "mse".
    node.QUALITY_LOSS = "l1"
    return node


def _query_criterion() -> CfgNode:
    """Return the losses and matching costs of Mask2Former and SemanticSam."""
    node = CfgNode()
    # Weights of the losses, and of the same terms in the matching; SemanticSam has no class.
    node.CLASS_WEIGHT = 2.0
    node.MASK_WEIGHT = 5.0
    node.DICE_WEIGHT = 5.0
    node.BOX_WEIGHT = 5.0
    node.GIOU_WEIGHT = 2.0
    node.QUALITY_WEIGHT = 1.0
    # Weight of queries without a mask in the class loss.
    node.NO_OBJECT_WEIGHT = 0.1
    # Mask losses are taken at so many points; of OVERSAMPLE times as many candidates the most
    # uncertain make up the share IMPORTANCE.
    node.NUM_POINTS = 12544
    node.OVERSAMPLE = 3.0
    node.IMPORTANCE = 0.75
    # DropLoss (CutLER, UnSAM): pairs of no larger IoU cost nothing; below 0: off.
    node.DROP_IOU = -1.0
    return node


def _inference() -> CfgNode:
    node = CfgNode()
    # Whole photos: a click at each point of a grid of so many columns and rows ...
    node.POINTS_PER_SIDE = 24
    # ... at each of these granularities, unless the caller names others.
    node.GRANULARITIES = (0.12, 0.16, 0.22, 0.32, 0.5, 0.8)
    # Prompts that are decoded at once; bounds memory.
    node.PROMPTS_PER_BATCH = 192
    # Of that decoding, as SOLVER.PRECISION.
    node.PRECISION = "auto"
    # Least predicted IoU of a mask.
    node.QUALITY_THRESHOLD = 0.3
    # Least IoU between the masks at logits over +OFFSET and over -OFFSET; 0 keeps all. Models
    # that were trained for long have far larger logits than those trained for minutes.
    node.STABILITY_THRESHOLD = 0.0
    node.STABILITY_OFFSET = 1.0
    # Of two masks with a larger IoU the one with less predicted quality goes.
    node.NMS_THRESHOLD = 0.8
    # Least area of a mask in cells of the decoder's resolution.
    node.MIN_CELLS = 1
    # The most masks of a photo.
    node.MAX_MASKS = 1000
    # Masks of photos with a longer side than this are enlarged from it by nearest neighbour.
    node.MAX_MASK_SIZE = 1024
    return node
