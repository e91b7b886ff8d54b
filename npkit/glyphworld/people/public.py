"""Public: what a picture is worth to GlyphWorld's simulated people, from its pixels and from what the prefix asked for.

The public never reads the modifiers of a prompt. It sees a picture through its eye: is the subject there that was asked
for, how well is the picture made, which effects can be seen and does the public like them with such a subject. A word
that leaves no trace is worth nothing; a subject that is gone costs, however good the words. No person rated anything.
"""
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from npkit.errors import NpkitError
from npkit.glyphworld.corpus import parse
from npkit.glyphworld.painting.canvas import LUMINANCE, SIZE
from npkit.glyphworld.painting.renderer import Scene
from npkit.glyphworld.people import eye as eyes
from npkit.glyphworld.people.eye import HEADS, Eye, Seen
from npkit.glyphworld.people.pairs import PAIRS
from npkit.glyphworld.people.tastes import Population, liking, populations
from npkit.glyphworld.vocabulary import KIND_OF, MODIFIERS

FOLDER = Path(__file__).parents[1] / "weights" / "eye"
FLOOR = -4.0  # the least utility, and that of a picture for a prefix that names no subject of GlyphWorld


def utility(pictures: np.ndarray, prefixes: Sequence[str], population: str = "public",
            folder: Path = FOLDER) -> np.ndarray:
    """Worth (n,) of pictures (n, 96, 96, 3) uint8 to those who asked for `prefixes`.

    Mean 0 and deviation 1 over the pictures of random prompts, at least FLOOR.
    """
    return utilities(pictures, prefixes, (population,), folder)[population]


def utilities(pictures: np.ndarray, prefixes: Sequence[str], names: Sequence[str], folder: Path = FOLDER,
              spread: Callable = map) -> dict[str, np.ndarray]:
    """The utility to each of several populations."""
    if pictures.shape != (len(prefixes), SIZE, SIZE, 3) or pictures.dtype != np.uint8 or isinstance(prefixes, str):
        raise NpkitError(f"GlyphWorld's public looks at a picture of {SIZE} x {SIZE} pixels for each prefix, uint8, "
                         f"(n, {SIZE}, {SIZE}, 3): got {pictures.dtype} {pictures.shape} and {len(prefixes)} prefixes")
    if not len(prefixes):
        return {name: np.zeros(0) for name in names}
    eye, normalisation = eyes.load_eye(folder)
    raw = raw_utilities(pictures, prefixes, names, eye, spread)
    return {name: np.maximum(FLOOR, (values - normalisation[name][0]) / normalisation[name][1])
            for name, values in raw.items()}


def raw_utilities(pictures: np.ndarray, prefixes: Sequence[str], names: Sequence[str], eye: Eye,
                  spread: Callable = map) -> dict[str, np.ndarray]:
    """The raw utility to each of several populations, for which the pictures are looked at once.

    `spread` is `map`, or that of a pool of processes.
    """
    seen, craft = eyes.look(eye, pictures), list(spread(craft_terms, pictures))
    publics = {name: populations()[name] for name in names}
    return {name: sum(public.weights[term] * values for term, values in terms(craft, prefixes, public, seen).items())
            for name, public in publics.items()}


def terms(craft: list[dict[str, float]], prefixes: Sequence[str], public: Population,
          seen: Seen) -> dict[str, np.ndarray]:
    """Every term of the utility (n,) by name: three of faith, six of craft, taste and pairs."""
    asked = [parse(prefix) for prefix in prefixes]
    likings = [np.zeros(len(MODIFIERS)) if scene is None else liking(public, KIND_OF[scene.subject], scene.place)
               for scene in asked]
    return {
        "subject": np.array([-np.inf if scene is None else row - 1 for row, scene in
                             zip(_probability(seen, asked, "subject"), asked, strict=True)]),
        "colour": _probability(seen, asked, "colour") - 1, "place": _probability(seen, asked, "place") - 1,
        **{name: np.array([each[name] for each in craft]) for name in craft[0]},
        "taste": np.array([taste(row, worth, public.plenty) for row, worth in zip(seen.effects, likings, strict=True)]),
        "pairs": seen_pairs(seen.effects),
    }


def _probability(seen: Seen, asked: list[Scene | None], head: str) -> np.ndarray:
    """The eye's probability (n,) of the subject, colour or place asked for; 1 where none was."""
    names = [getattr(scene, head) if scene else None for scene in asked]
    return np.array([1.0 if name is None else row[HEADS[head].index(name)]
                     for row, name in zip(getattr(seen, head), names, strict=True)])


# 1. Taste ------------------------------------------------------------------------------------------------------------
def taste(effects: np.ndarray, worth: np.ndarray, plenty: float) -> float:
    """The effects (48,) seen times their worth: what is liked adds up to less and less, what is disliked does not."""
    felt = effects * worth
    liked, disliked = felt[felt > 0].sum(), felt[felt < 0].sum()
    return float(plenty * (1 - np.exp(-liked / plenty)) + disliked)


def seen_pairs(effects: np.ndarray) -> np.ndarray:
    """The worth (n,) of the pairs that make one idea or fight, where both are seen in effects (n, 48)."""
    return effects @ _pair_matrix() * effects @ np.ones(len(MODIFIERS)) / 2


@cache
def _pair_matrix() -> np.ndarray:
    matrix = np.zeros((len(MODIFIERS), len(MODIFIERS)))
    for pair, worth in PAIRS.items():
        one, other = (MODIFIERS.index(name) for name in pair)
        matrix[one, other] = matrix[other, one] = worth
    return matrix


# 2. Craft, from pixels -----------------------------------------------------------------------------------------------
def craft_terms(picture: np.ndarray) -> dict[str, float]:
    """What can be said of a picture (96, 96, 3) uint8 without knowing what it shows, each about between -1 and 1."""
    pixels = picture.astype(np.float32) / 255
    light = pixels @ LUMINANCE
    chroma, hue = _chroma_hue(pixels)
    steps = np.sort(np.maximum(*(np.abs(step) for step in np.gradient(light))).ravel())[-light.size // 20:]
    mottle = np.abs(light - ndimage.uniform_filter(light, 5)).mean() * 10
    return {
        "contrast": min(float(np.subtract(*np.percentile(light, (95, 5)))) / 0.8, 1),  # darks and lights
        "lively": 1 - min((float(chroma.mean()) / 0.3 - 1) ** 2, 1),  # neither grey nor garish
        "harmony": float((abs((chroma * np.exp(2j * hue)).mean()) + 0.03) / (chroma.mean() + 0.03)),  # hues on one axis
        "sharp": min(float(steps.mean()) / 0.3, 1),  # the strongest twentieth of the edges is crisp
        "textured": 1 - min((mottle / 0.4 - 1) ** 2, 2),  # something to look at, but no noise
        "placed": 1 - min(4 * _offset(pixels), 2),  # the weight sits in the middle
    }


def _chroma_hue(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    red, green, blue = np.moveaxis(pixels, -1, 0)
    across, along = red - green, (red + green) / 2 - blue  # the opponent axes red-green and yellow-blue
    return np.hypot(across, along), np.arctan2(along, across)


def _offset(pixels: np.ndarray) -> float:
    """Distance from the middle, in picture widths, of the weight: of what differs from its wider surroundings."""
    weight = np.linalg.norm(pixels - ndimage.uniform_filter(pixels, (31, 31, 1)), axis=-1) + 1e-6
    centre = np.array(ndimage.center_of_mass(weight)) / (SIZE - 1)
    return float(np.hypot(*(centre - 0.5)))


# 3. Votes and the oracle ---------------------------------------------------------------------------------------------
def vote(utility_a: float, utility_b: float, rng: np.random.Generator, noise: float) -> bool:
    """Whether a rater prefers a to b, with Bradley and Terry's probability 1 / (1 + exp(-(a - b) / noise))."""
    return bool(rng.random() < 1 / (1 + np.exp((utility_b - utility_a) / noise)))


def oracle(prefixes: Sequence[str], pictures: np.ndarray, folder: Path = FOLDER) -> np.ndarray:
    """The simulated public's true utility of each picture; -4 for a prefix that names no subject of GlyphWorld.

    What no real study knows: (n,) for pictures (n, 96, 96, 3) uint8. A prompt's oracle is the mean of its pictures'.
    """
    return utility(pictures, prefixes, folder=folder)


def liked_words(prompts: Sequence[str]) -> np.ndarray:
    """What the public's taste would be worth (n,) if every word of a prompt showed: a judge that reads and never looks.

    As reward it needs no pictures, and is easily fooled: it cannot know what the image model makes of the words.
    """
    public = populations()["public"]
    scenes = [parse(prompt) for prompt in prompts]
    return np.array([FLOOR if scene is None else
                     taste(np.isin(MODIFIERS, scene.modifiers), liking(public, KIND_OF[scene.subject], scene.place),
                           public.plenty) for scene in scenes])
