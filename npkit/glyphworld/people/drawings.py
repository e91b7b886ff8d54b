"""Drawings: GlyphWorld's public with its tastes drawn anew, as judges of pictures.

Weights, eye and normalisation are those of the public that everything else is measured by; what it likes is drawn from
another seed. A finding that changes its sign with the drawing is a property of that world, not of the method.
"""
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from npkit.glyphworld.people.eye import load_eye, look
from npkit.glyphworld.people.public import FLOOR, craft_terms, terms
from npkit.glyphworld.people.tastes import SEED, populations


def public_with_seed(seed: int) -> Callable[[Sequence[str], np.ndarray, Path], np.ndarray]:
    """Return the judge of pictures (n, 96, 96, 3) uint8 whose tastes are drawn from `seed`."""
    def public(prefixes: Sequence[str], pictures: np.ndarray, head: Path) -> np.ndarray:
        eye, normalisation = load_eye(head)
        mean, deviation = normalisation["public"]
        people = populations(seed)["public"]
        found = terms([craft_terms(picture) for picture in pictures], prefixes, people, look(eye, pictures))
        worth = sum(people.weights[name] * values for name, values in found.items())
        return np.maximum(FLOOR, (worth - mean) / deviation)
    return public


def public_1(prefixes: Sequence[str], pictures: np.ndarray, head: Path) -> np.ndarray:
    """The simulated public's utility of each picture, with tastes of a first other drawing; -4 is the least."""
    return public_with_seed(SEED + 1)(prefixes, pictures, head)


def public_2(prefixes: Sequence[str], pictures: np.ndarray, head: Path) -> np.ndarray:
    """The simulated public's utility of each picture, with tastes of a second other drawing; -4 is the least."""
    return public_with_seed(SEED + 2)(prefixes, pictures, head)
