"""Tastes: what GlyphWorld's two simulated populations like, every number of it, drawn once from a written seed.

Nobody was asked. The numbers were drawn before any study was run on them. Another `seed` gives another world: a finding
that flips with it was none.
"""
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from npkit.glyphworld.people.pairs import PAIRS
from npkit.glyphworld.vocabulary import CATEGORIES, KINDS, MODIFIERS, PLACES

SEED = 2311_12229  # of the tastes; the number of the NeuroPrompts paper, so that nobody chose it
LEANING = 0.25  # mean liking of an effect: it is rather liked than not, else nobody would write modifiers
LIKES = 0.35  # deviation of the general likings over the effects
FITS = 0.6  # of their fits: with equal deviations one constant suffix was nearly best for every prefix


@dataclass(frozen=True)
class Population:
    """What each term of the utility weighs for a public, its tastes, and how noisy its raters vote."""
    weights: dict[str, float]
    likes: np.ndarray  # (48,) of each effect, whatever was asked for
    kind_fits: np.ndarray  # (6, 48) more or less of it, by the kind of the subject asked for
    place_fits: np.ndarray  # (5, 48) by the place asked for; of vibes alone
    plenty: float = 4.0  # likings add up to less and less, to this at most
    noise: float = 0.8  # utility difference at which a rater takes the better picture in 73 % of the votes


WEIGHTS: dict[str, dict[str, float]] = {
    "public": {"subject": 3.0, "colour": 0.6, "place": 0.6, "contrast": 0.4, "lively": 0.4, "harmony": 0.4,
               "sharp": 0.4, "textured": 0.3, "placed": 0.4, "taste": 1.0, "pairs": 0.5},
    "critics": {"subject": 2.4, "colour": 0.4, "place": 0.8, "contrast": 0.6, "lively": 0.2, "harmony": 0.8,
                "sharp": 0.3, "textured": 0.5, "placed": 0.3, "taste": 1.0, "pairs": 0.6},
}


@cache
def populations(seed: int = SEED) -> dict[str, Population]:
    """Both populations of the world with this seed."""
    return {name: _draw(weights, np.random.default_rng((seed, number)))
            for number, (name, weights) in enumerate(WEIGHTS.items())}


def _draw(weights: dict[str, float], rng: np.random.Generator) -> Population:
    is_vibe = np.array([name in CATEGORIES["vibe"] for name in MODIFIERS])
    likes = LEANING + LIKES * rng.standard_normal(len(MODIFIERS))
    kind_fits = FITS * rng.standard_normal((len(KINDS), len(MODIFIERS)))
    place_fits = FITS * rng.standard_normal((len(PLACES), len(MODIFIERS))) * is_vibe
    return Population(weights, likes.round(2), kind_fits.round(2), place_fits.round(2))


def liking(population: Population, kind: str, place: str | None) -> np.ndarray:
    """(48,) what each effect is worth to the population in a picture of such a subject in such a place."""
    fit = population.kind_fits[list(KINDS).index(kind)]
    return population.likes + fit + (population.place_fits[list(PLACES).index(place)] if place else 0)


def table(seed: int = SEED) -> pd.DataFrame:
    """Every number: population, what it is about (term, effect, effect for a kind or place, pair), and its worth."""
    rows = []
    for name, public in populations(seed).items():
        rows += [(name, "weight", term, worth) for term, worth in public.weights.items()]
        rows += [(name, "constant", "plenty", public.plenty), (name, "constant", "noise", public.noise)]
        rows += [(name, "effect", effect, worth) for effect, worth in zip(MODIFIERS, public.likes, strict=True)]
        for kinds, fits in ((KINDS, public.kind_fits), (PLACES, public.place_fits)):
            rows += [(name, f"effect, {kind}", effect, worth) for kind, line in zip(kinds, fits, strict=True)
                     for effect, worth in zip(MODIFIERS, line, strict=True) if worth]
        rows += [(name, "pair", " + ".join(sorted(pair)), worth) for pair, worth in PAIRS.items()]
    return pd.DataFrame(rows, columns=["population", "about", "name", "worth"])
