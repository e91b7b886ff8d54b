"""Numbers: what a person writes for one. Python's own float() and int() also take 1_000, ١٢, nan and infinity."""
import math
import re

WHOLE = re.compile(r"[+-]?[0-9]+")
DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read_whole_number(text: str) -> int:
    """Return the whole number that `text` writes in digits from 0 to 9; raise ValueError for anything else."""
    if not WHOLE.fullmatch(text.strip()):
        raise ValueError(f"{text[:40]!r} is no whole number, such as 3")
    return int(text)


def read_number(text: str) -> float:
    """Return the number that `text` writes, such as 3, 0.25 or 1e-5; raise ValueError for anything else."""
    if not DECIMAL.fullmatch(text.strip()) or not math.isfinite(float(text)):
        raise ValueError(f"{text[:40]!r} is no number, such as 0.25")
    return float(text)
