"""Wordsmith: a prompt whose words were tried one by one on pictures, shown to the public, category by category."""
import numpy as np

from npkit.glyphworld.painter import paint
from npkit.glyphworld.people.public import utility
from npkit.glyphworld.vocabulary import CATEGORIES


def improve(prefix: str, seed: int = 0) -> str:
    """Return the prefix and, category by category, the word whose picture is worth most, or none."""
    prompt = prefix
    for names in CATEGORIES.values():
        rivals = [prompt, *(f"{prompt}, {name}" for name in names)]
        pictures = np.stack([paint(rival, seed) for rival in rivals])
        prompt = rivals[utility(pictures, [prefix] * len(rivals)).argmax()]
    return prompt
