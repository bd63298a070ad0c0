"""Names of tensors by tables of regular expressions, as all layouts write them."""

from __future__ import annotations

import re
from collections.abc import Callable

Rules = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Regular expressions and what they are replaced by, as in `re.sub`; their order counts."""


def replaced_start(name: str, rules: Rules) -> str:
    """Return a name with its start replaced by the first rule that fits, "" where none does."""
    for pattern, replacement in rules:
        renamed, count = re.subn(f"^(?:{pattern})", replacement, name)
        if count:
            return renamed
    return ""


def replaced_everywhere(name: str, rules: Rules) -> str:
    """Return a name after every rule was applied, one after the other, wherever it fits."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
