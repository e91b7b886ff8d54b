"""Worth: what a picture is worth to each population when a rater is asked one question, for simulated votes.

"Which is prettier?" is answered by the whole utility but for what was asked for; "which shows the prompt better?" by
what was asked for alone: subject, colour and place. Both in the unit of the utility, of which `Population.noise` is
the raters' noise.
"""
from collections.abc import Sequence

import numpy as np

from npkit.glyphworld.people import eye as eyes
from npkit.glyphworld.people.public import FLOOR, FOLDER, craft_terms, terms
from npkit.glyphworld.people.tastes import populations

FAITH = ("subject", "colour", "place")  # the terms about what was asked for


def by_question(prefixes: Sequence[str], pictures: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Population -> question -> worth (n,) of pictures (n, 96, 96, 3) uint8 to those who asked for `prefixes`."""
    eye, normalisation = eyes.load_eye(FOLDER)
    craft, seen, found = [craft_terms(picture) for picture in pictures], eyes.look(eye, pictures), {}
    for name, people in populations().items():
        values = {term: people.weights[term] * each / normalisation[name][1]
                  for term, each in terms(craft, prefixes, people, seen).items()}
        shows = np.maximum(FLOOR, sum(values[term] for term in FAITH))  # a prefix may name no subject of GlyphWorld
        found[name] = {"prettier": sum(each for term, each in values.items() if term not in FAITH), "shows": shows}
    return found
