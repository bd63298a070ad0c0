from __future__ import annotations

import random
import subprocess

from unsam.data.preparation.draw import draw


def test_the_rule_is_the_one_that_is_written() -> None:
    """Against coreutils, which anyone can draw with."""
    script = 'for i in $(seq 40); do echo "$(printf 3:$i | sha256sum) $i"; done | sort | head -7'
    shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    expected = [int(line.split()[-1]) for line in shown.stdout.splitlines()]
    assert draw(range(1, 41), 7, seed=3) == expected


def test_neither_order_nor_repeats_matter_and_more_adds_to_less() -> None:
    ids = list(range(500))
    shuffled = ids * 2
    random.Random(1).shuffle(shuffled)
    assert draw(shuffled, 100) == draw(ids, 100)
    assert draw(ids, 30) == draw(ids, 100)[:30]
    assert draw(ids, 100) != draw(ids, 100, seed=1)
    assert len(draw(ids, 1000)) == 500
