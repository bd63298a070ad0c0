"""Make pseudo masks: ``python tools/generate_pseudo_masks.py --input PHOTOS --output MASKS``.

The same as ``unsam pseudo-masks``; see docs/scaling.md for many photos and many machines.
"""

from __future__ import annotations

import sys

from unsam.cli import main

if __name__ == "__main__":
    sys.exit(main(["pseudo-masks", *sys.argv[1:]]))
