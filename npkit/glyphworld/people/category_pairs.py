"""Pairs of categories: what the public's likings of pairs of words come to between the categories of these words."""
import numpy as np
import pandas as pd

from npkit.glyphworld.people.eye import load_eye
from npkit.glyphworld.people.pairs import PAIRS
from npkit.glyphworld.people.public import FOLDER
from npkit.glyphworld.people.tastes import populations
from npkit.glyphworld.vocabulary import CATEGORIES, CATEGORY_OF


def worth_of_pairs(population: str = "public") -> pd.DataFrame:
    """Return the interactions that a population is written to have, categories down and across, in units of utility.

    Of two categories: the mean worth of a pair of modifiers, one of each, over all such pairs. It holds where both are
    seen for certain; the diagonal is empty.
    """
    unit = populations()[population].weights["pairs"] / load_eye(FOLDER)[1][population][1]
    names = list(CATEGORIES)
    square = pd.DataFrame(0.0, index=names, columns=names)
    for pair, worth in PAIRS.items():
        one, other = (CATEGORY_OF[name] for name in pair)
        share = unit * worth / (len(CATEGORIES[one]) * len(CATEGORIES[other]))
        square.loc[one, other] += share
        square.loc[other, one] += share
    return square.mask(np.eye(len(names), dtype=bool))
