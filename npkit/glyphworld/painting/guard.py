"""Guard: GlyphWorld's law that a subject stays legible. Where it would drown in the ground, light sets it apart.

Along the subject's edge the colours within a few pixels on either side are compared. Where their distance is below what
the eye needs, more of it where they are mottled, the subject turns lighter or darker, the ground beside it the other
way, and in the worst case a fine line parts the two. A subject that stands out already is left alone.
"""
import numpy as np
from scipy import ndimage

from npkit.glyphworld.painting.canvas import LUMINANCE, Shape, blur, enlarge, mix, shrink

REACH = 9  # canvas pixels on either side of the edge that are compared
NEED = 0.29  # colour distance (RGB in [0, 1]) that the eye needs on a calm ground
MOTTLE = 0.55  # how much more of it, a unit of mottle
GRID = 6  # comparisons are made on a grid so many times coarser


def keep_legible(canvas: np.ndarray, shape: Shape, tone: float | None = None) -> np.ndarray:
    """The canvas with the subject set apart where needed; `tone` 1 makes it lighter, 0 darker, None what is nearer."""
    inner, outer = shape.band(REACH + 5, -1), shape.band(-1, REACH)
    lack, lighter = shortfall(canvas, inner, outer)
    if lack.max() < 0.02:
        return canvas
    towards = float(lighter if tone is None else tone)
    lack = np.clip(blur(enlarge(lack), 4), 0, 1)
    aside = np.exp(np.minimum(shape.distance, 0) / 8) * (1 - shape.body)
    calm = mix(canvas, blur(canvas, 3), aside * lack)
    canvas = mix(calm, 1 - towards, aside * lack * 0.75)
    canvas = mix(canvas, towards, shape.body * (1 - 0.6 * shape.lines) * lack * 0.38)
    return mix(canvas, 1 - towards, shape.band(0, 2.2) * np.clip(2.2 * lack - 0.7, 0, 1))


def shortfall(canvas: np.ndarray, inner: np.ndarray, outer: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which share of the needed contrast is missing around each place (coarse grid); is the subject the lighter one?"""
    (mean_in, mottle_in), (mean_out, mottle_out) = (_near(canvas, side) for side in (inner, outer))
    need = NEED + MOTTLE * (mottle_out + 0.5 * mottle_in)
    gap = np.linalg.norm(mean_in - mean_out, axis=-1)
    edge = ndimage.maximum_filter(shrink(inner, GRID), 3) * ndimage.maximum_filter(shrink(outer, GRID), 3) > 0
    lack = np.clip((need - gap) / need, 0, 1) * edge
    difference, surroundings = (mean_in - mean_out)[edge].mean(0) @ LUMINANCE, mean_out[edge].mean(0) @ LUMINANCE
    return lack, bool(difference > 0) if abs(difference) > 0.06 else bool(surroundings < 0.5)


def _near(canvas: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour of a side within a window around each place, and the mottle: the deviation from that mean."""
    def mean_of(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(shrink(values * side[..., None], GRID), (5, 5, 1)) / weight[..., None]

    weight = np.maximum(ndimage.uniform_filter(shrink(side, GRID), 5), 1e-5)
    mean = mean_of(canvas)
    return mean, np.sqrt(np.maximum(mean_of(canvas ** 2) - mean ** 2, 0).sum(-1))
