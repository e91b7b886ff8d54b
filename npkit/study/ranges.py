"""Ranges: which numbers of a profile make sense, as their names say, and the weights of several judges."""
import math
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import TYPE_CHECKING

from npkit.errors import NpkitError
from npkit.numbers import read_number

if TYPE_CHECKING:
    from npkit.study.profiles import Profile  # for type hints only: it imports this module

MAY_BE_ZERO = {"max_steps", "num_threads", "sat_tolerance", "prune_factor", "eval_updates"}  # others: at least 1
MOST = {"neurologic.length_penalty": 10, "neurologic.beam_size": 1000}  # a power of lengths; memory
MOST_OF_ALL = 2**31 - 1  # what every library takes


def wrong_numbers(profile: "Profile") -> Iterator[str]:
    """Yield a sentence for each number out of its range."""
    for section, config in vars(profile).items():
        for name, value in vars(config).items() if is_dataclass(config) else ():
            least = 0 if name in MAY_BE_ZERO else 1
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                yield f"{section}.{name} must be a finite number, 0 or more, got {value}"
            elif name.endswith("_share") and value > 1:
                yield f"{section}.{name} is a share between 0 and 1, got {value}"
            elif type(value) is int and value < least:
                yield f"{section}.{name} must be {least} or more, got {value}"
            elif isinstance(value, int | float) and value > MOST.get(f"{section}.{name}", MOST_OF_ALL):
                yield f"{section}.{name} must be {MOST.get(f'{section}.{name}', MOST_OF_ALL):,} or less, got {value}"


def parse_weights(text: str) -> dict[str, float]:
    """Return the weights of `ppo.reward_weights`, such as "pickscore:1, aesthetic:0.5", by judge."""
    weights = {}
    for part in text.split(","):
        name, colon, value = (piece.strip() for piece in part.partition(":"))
        try:
            weight = read_number(value)
        except ValueError:
            weight = 0.0
        if not (name and colon and weight) or name in weights:
            raise NpkitError("ppo.reward_weights names each judge once with a finite weight other than 0, such as "
                             f"\"pickscore:1, aesthetic:0.5\", got {part.strip()!r} in {text!r}")
        weights[name] = weight
    return weights
