"""Configuration keys of training: objectives, task sampler, solver, logging, checkpoints."""

from __future__ import annotations

from typing import Any

from fvcore.common.config import CfgNode


def _objective(schedule: str, start: float, end: float, **keys: Any) -> CfgNode:
    """Return the node of an objective that is off, with its schedule and its own keys."""
    node = CfgNode()
    node.WEIGHT = 0.0
    node.SCHEDULE = schedule
    node.START = start
    node.END = end
    for key, value in keys.items():
        node[key] = value
    return node


def objective_defaults() -> CfgNode:
    """Return the defaults of ``OBJECTIVES``: terms of the loss beside the model's own.

    Each has a WEIGHT (0 is off) and a SCHEDULE over the training: "constant"; "linear", a ramp from
    zero at START to the full weight at END; or "cosine", a fade from the full weight at START to
    zero at END. START and END are shares of the training, in [0, 1].
    """
    node = CfgNode()
    # Student and averaged teacher agree on two views, prompt by prompt, at the same granularity:
    # LOSS "dice" or "kl", over so many masks of a photo.
    node.CONSISTENCY = _objective("linear", 0.0, 0.2, LOSS="dice", MASKS_PER_IMAGE=8)
    # Confident answers of the teacher on one view are prompts and targets on the other: clicks on
    # a grid, the least predicted IoU and stability of an answer, the most answers of a photo.
    node.PROPAGATION = _objective(
        "linear",
        0.2,
        0.5,
        POINTS_PER_SIDE=6,
        QUALITY_THRESHOLD=0.7,
        STABILITY_THRESHOLD=0.8,
        MASKS_PER_IMAGE=8,
        BOX_PROBABILITY=0.3,
    )
    # Embeddings of patches within a mask attract, across its boundary they repel (InfoNCE);
    # negatives within BOUNDARY_WIDTH patches of the boundary weigh HARD_WEIGHT times as much.
    node.CONTRAST = _objective(
        "constant",
        0.0,
        1.0,
        TEMPERATURE=0.1,
        PROJECTION_DIM=64,
        MASKS_PER_IMAGE=4,
        ANCHORS_PER_MASK=16,
        BOUNDARY_WIDTH=2,
        HARD_WEIGHT=2.0,
    )
    # ViSA: patches of one semantic region, by frozen FEATURES ("classical", or a ViT by timm's name
    # with FEATURE_WEIGHTS), are drawn together. TARGET "affinity" of NUM_PAIRS pairs of patches, or
    # "prototype" of the regions of so many patches.
    node.VISA = _objective(
        "cosine",
        0.0,
        0.4,
        TARGET="affinity",
        FEATURES="classical",
        FEATURE_WEIGHTS="",
        BOUNDARY_WIDTH=2.0,
        TEMPERATURE=0.1,
        NUM_PAIRS=1024,
    )
    # The answer at a finer granularity lies within the one at a coarser for the same click, for
    # MASKS_PER_IMAGE clicks and granularities at least MIN_STEP apart.
    node.NESTING = _objective("constant", 0.0, 1.0, MASKS_PER_IMAGE=4, MIN_STEP=0.2)
    return node


def task_sampler_defaults() -> CfgNode:
    """Return the defaults of ``TASKS``: the adaptive task sampler (ATS), off unless ENABLED."""
    node = CfgNode()
    node.ENABLED = False
    # Share of the training after which harder tasks are drawn more often; before, it only looks.
    node.START = 0.5
    # A task's chance goes with its difficulty to the power of 1 / TEMPERATURE; no task's chance
    # falls below the share FLOOR of an even one.
    node.TEMPERATURE = 1.0
    node.FLOOR = 0.2
    # Share of the running difficulty that a new observation leaves.
    node.MOMENTUM = 0.9
    # Steps for which a set of chances holds.
    node.REFRESH_PERIOD = 50
    # What it chooses: photos, granularities of masks, kinds of prompts.
    node.PHOTOS = True
    node.GRANULARITIES = True
    node.PROMPTS = True
    return node


def logging_defaults() -> CfgNode:
    """Return the defaults of ``LOGGING``: where the numbers and pictures of a run go."""
    node = CfgNode()
    # "jsonl" (metrics.jsonl, always on), "progress" (lines to read), "tensorboard", "wandb".
    node.WRITERS = ("jsonl", "progress")
    # "online", "offline" (later: wandb sync) or "disabled"; project and name of the run.
    node.WANDB_MODE = "offline"
    node.WANDB_PROJECT = "unsam"
    node.RUN_NAME = ""
    # Steps between two pictures of predictions on so many photos of DATASETS.TEST (else TRAIN), in
    # OUTPUT_DIR/samples; 0 for none.
    node.SAMPLE_PERIOD = 0
    node.SAMPLE_PHOTOS = 4
    return node


def solver_defaults() -> CfgNode:
    """Return the defaults of ``SOLVER``: steps, optimizer, precision."""
    node = CfgNode()
    # Optimizer steps of the whole run.
    node.MAX_ITER = 1000
    # Seconds of training (loading and steps; not saving, not evaluating) after which the run ends
    # even if MAX_ITER is not reached, the schedule with it; 0 for no limit. With a limit the
    # schedule follows the clock, so a resumed run is no longer equal bit for bit.
    node.MAX_SECONDS = 0.0
    # What tells these seconds: "wall", or "cpu": the processor time of the training process (not
    # of its loader's workers), which is fair on a machine that others use too.
    node.CLOCK = "wall"
    # Photos of one optimizer step, over all processes: N processes share them, so the same recipe
    # trains alike on one GPU and on eight.
    node.BATCH_SIZE = 8
    # Parts that each process cuts its share into, one after the other, to save memory.
    node.ACCUMULATE = 1
    # AdamW: learning rate after warm-up, decay of matrices (never of biases, norms, embeddings).
    node.BASE_LR = 0.0005
    node.WEIGHT_DECAY = 0.05
    node.BETAS = (0.9, 0.999)
    # Rate of the backbone or image encoder, as a share of BASE_LR; and of each of its layers as
    # a share of the next one's, from the last to the first (1: all alike).
    node.BACKBONE_MULTIPLIER = 1.0
    node.LAYER_DECAY = 1.0
    # Parameters whose names match one of these patterns (fnmatch: "image_encoder.*") do not learn.
    node.FREEZE = ()
    # Steps of linear warm-up; then "cosine": half a cosine down to FINAL_LR_RATIO * BASE_LR; or
    # "step": times GAMMA at each of STEPS, which are shares of the run.
    node.WARMUP_ITERS = 50
    node.SCHEDULE = "cosine"
    node.FINAL_LR_RATIO = 0.01
    node.STEPS = ()
    node.GAMMA = 0.1
    # The gradient is scaled down to this norm; 0 leaves it as it is.
    node.CLIP_NORM = 1.0
    node.EMA = CfgNode()
    # Keep a moving average of the weights, which such a share of survives each step; it is what
    # is evaluated and handed out, and the teacher of objectives. 0 keeps none.
    node.EMA.DECAY = 0.0
    # Several processes: "ddp" (each holds the model) or "fsdp" (each holds a part of it).
    node.PARALLEL = "ddp"
    # Recompute the image encoder's blocks on the way back instead of keeping what they computed.
    node.ACTIVATION_CHECKPOINTING = False
    # Compile the encoder and the decoder (torch.compile); the first steps take minutes.
    node.COMPILE = False
    # "float32", "bfloat16" or "float16" (autocast; float16 with loss scaling), or "auto": bfloat16
    # on a GPU or processor that computes in it, about twice as fast; else float32.
    node.PRECISION = "auto"
    # Steps between two lines of progress and of metrics.jsonl.
    node.LOG_PERIOD = 20
    # Steps between two evaluations on DATASETS.TEST; 0 for none during training.
    node.EVAL_PERIOD = 0
    # Minutes after which a process that waits for another gives up.
    node.TIMEOUT_MINUTES = 30.0
    return node


def checkpoint_defaults() -> CfgNode:
    """Return the defaults of ``CHECKPOINT``."""
    node = CfgNode()
    # Steps between two checkpoints; there is always one at the end and on SIGTERM or Ctrl-C.
    node.PERIOD = 500
    # Newest checkpoints to keep; 0 keeps all.
    node.KEEP = 3
    return node
