"""Raters: a simulated public, whose taste is a formula of what a picture shows and what its scene asked for.

No person rated anything here. `utility` is the true worth of a picture, `vote` a rater's noisy choice between two, and
`oracle` the mean utility of the pictures that a prompt paints: a number that no real study has.
"""
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage

from npkit.glyphworld.corpus import parse
from npkit.glyphworld.pairs import CATEGORY_OF, PAIRS
from npkit.glyphworld.renderer import Picture, Scene, render

FLOOR = -4.0  # the least utility, and the oracle of a prompt that names no subject: nothing is worse than that


@dataclass(frozen=True)
class Facts:
    """What can be measured of a picture, each between 0 and about 1, and how much its scene asked for."""
    legibility: float  # colour distance of subject and surroundings along the subject's edge, less the mottle there
    sharpness: float  # steepness of that edge, as a share of a step between two pixels
    contrast: float  # lightness between the darkest and the lightest twentieth
    colourfulness: float  # mean chroma
    harmony: float  # 1 when all hues lie on one axis of the colour wheel, 0 when they go round it
    texture: float  # what a blur over two pixels takes away
    size: float  # share of the picture that the subject fills
    offset: float  # distance of the subject's centre from the picture's, in picture widths
    load: int  # number of modifiers


@dataclass(frozen=True)
class Population:
    """A public: what each term of the utility weighs for it, and how noisy its raters vote."""
    weights: dict[str, float]
    noise: float  # utility difference at which a rater takes the better picture in 73 % of the votes
    mean: float = 0.0  # of the weighted sum over random scenes, subtracted
    std: float = 1.0  # of the same, divided by


POPULATIONS = {
    "public": Population(noise=0.78, mean=2.67, std=0.82, weights={
        "legible": 0.8, "erased": 1.9, "sharp": 0.35, "contrast": 0.4, "lively": 0.5, "harmony": 0.6, "textured": 0.25,
        "placed": 0.8, "rich": 1.3, "overload": 0.35, "repeated": 0.5, "pairs": 1.2}),
    "critics": Population(noise=0.78, mean=2.95, std=0.87, weights={  # care counts more, colour and size less
        "legible": 0.7, "erased": 1.5, "sharp": 0.4, "contrast": 0.8, "lively": 0.2, "harmony": 1.2, "textured": 0.6,
        "placed": 0.4, "rich": 1.0, "overload": 0.5, "repeated": 0.8, "pairs": 1.3}),
}


def facts(picture: Picture, scene: Scene) -> Facts:
    """Measure `picture`, painted from `scene`."""
    colours, mask = picture.pixels / 255.0, picture.mask
    lightness, chroma, hue = _lightness_chroma_hue(colours)
    legibility, sharpness = _edge(colours, mask)
    rows, columns = np.indices(mask.shape) / mask.shape[0]
    centre = np.array([(rows * mask).sum(), (columns * mask).sum()]) / max(mask.sum(), 1)
    return Facts(
        legibility=legibility, sharpness=sharpness,
        contrast=float(np.subtract(*np.percentile(lightness, (95, 5)))), colourfulness=float(chroma.mean()),
        harmony=float((abs((chroma * np.exp(2j * hue)).mean()) + 0.03) / (chroma.mean() + 0.03)),
        texture=float(np.abs(lightness - ndimage.uniform_filter(lightness, 5)).mean() * 10),
        size=float(mask.mean()), offset=float(np.hypot(*(centre - 0.5))), load=len(scene.modifiers))


def terms(facts: Facts, scene: Scene) -> dict[str, float]:
    """The utility's terms, each about between -1 and 1: what pleases or displeases in a picture of `scene`."""
    repeats = Counter(CATEGORY_OF[modifier] for modifier in scene.modifiers)
    present = set(scene.modifiers)
    return {
        "legible": min(facts.legibility / 0.45, 1),  # one sees what it is; more than enough is not better
        "erased": -max(0.0, 1 - facts.legibility / 0.15),  # the subject is gone: nothing makes up for that
        "sharp": min(facts.sharpness / 0.5, 1),  # the edge is crisp
        "contrast": min(facts.contrast / 0.8, 1),  # darks and lights
        "lively": 1 - min((facts.colourfulness / 0.35 - 1) ** 2, 1),  # neither grey nor garish
        "harmony": facts.harmony,  # hues belong together
        "textured": 1 - min((facts.texture / 0.45 - 1) ** 2, 2),  # something to look at, but no noise
        "placed": 1 - min(abs(facts.size - 0.2) / 0.2, 1) - 2 * facts.offset,  # in the middle, with air around it
        "rich": (min(facts.load, 4) / 4) ** 1.3,  # ideas beside the subject: one is a start, four are a picture
        "overload": -max(0, facts.load - 4) ** 1.25,  # too many of them
        "repeated": -float(sum(count - 1 for count in repeats.values())),  # two of one kind get in each other's way
        "pairs": sum(worth for pair, worth in PAIRS.items() if pair <= present),  # they help or fight each other
    }


def utility(facts: Facts, scene: Scene, population: str = "public") -> float:
    """The worth of a picture: its weighted terms, with mean 0 and deviation 1 over random scenes, at least FLOOR."""
    public = POPULATIONS[population]
    total = sum(public.weights[name] * value for name, value in terms(facts, scene).items())
    return max(FLOOR, (total - public.mean) / public.std)


def vote(utility_a: float, utility_b: float, rng: np.random.Generator, noise: float) -> bool:
    """Whether a rater prefers a to b, with Bradley and Terry's probability 1 / (1 + exp(-(a - b) / noise))."""
    return bool(rng.random() < 1 / (1 + np.exp((utility_b - utility_a) / noise)))


def oracle(prompts: list[str], seed: int = 0, num_pictures: int = 4) -> list[float]:
    """The mean utility of the pictures that each prompt paints; -4 where it names no subject that GlyphWorld knows."""
    scenes = [parse(prompt) for prompt in prompts]
    seeds = range(seed, seed + num_pictures)
    return [FLOOR if scene is None else sum(rendered_utility(scene, one) for one in seeds) / num_pictures
            for scene in scenes]


def rendered_utility(scene: Scene, seed: int, population: str = "public") -> float:
    """The utility of the picture of `scene` that `seed` paints."""
    return utility(_rendered_facts(scene, seed), scene, population)


@cache
def _rendered_facts(scene: Scene, seed: int) -> Facts:
    return facts(render(scene, np.random.default_rng(seed)), scene)


def _lightness_chroma_hue(colours: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    red, green, blue = np.moveaxis(colours, -1, 0)
    across, along = (red - green), (red + green) / 2 - blue  # the opponent axes red-green and yellow-blue
    return colours @ (0.3, 0.59, 0.11), np.hypot(across, along), np.arctan2(along, across)


def _edge(colours: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Legibility and sharpness along the subject's edge, from colours within three pixels on either side of it."""
    inside = (mask > 0.5).astype(float)
    share = ndimage.uniform_filter(inside, 7)
    edge = (share > 0.25) & (share < 0.75)
    (inner, mottle_in), (outer, mottle_out) = _mean_and_mottle(colours, inside), _mean_and_mottle(colours, 1 - inside)
    stroke = ndimage.uniform_filter(colours, (3, 3, 1)) - (inner + outer) / 2  # what an outline adds, in a line drawing
    step, line = (np.linalg.norm(difference, axis=-1)[edge] for difference in (inner - outer, stroke))
    clear = np.maximum(step, 0.8 * line) - 0.25 * (mottle_in + mottle_out)[edge]
    brightness = (inner + outer).mean(-1)[edge] / 2
    down, right = (np.abs(np.diff(colours, axis=axis, append=colours.take([-1], axis))) for axis in (0, 1))
    sharpness = np.maximum(down, right).max(-1)[edge].mean() / (step.mean() + 0.1)
    return max(float((clear / (0.4 + brightness)).mean()), 0.0), float(sharpness)


def _mean_and_mottle(colours: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour (64, 64, 3) of the part of each 7x7 window on `side`, and the deviation from it (64, 64)."""
    def mean_of(values: np.ndarray) -> np.ndarray:
        weight = np.maximum(ndimage.uniform_filter(side, 7), 1e-3)
        return ndimage.uniform_filter(values * side[..., None], (7, 7, 1)) / weight[..., None]

    mean = mean_of(colours)
    return mean, np.sqrt(np.maximum(mean_of(colours ** 2) - mean ** 2, 0).sum(-1))
