"""Weather: the light and air that a vibe lays over the whole picture, fainter on the subject than around it."""
from collections.abc import Callable
from functools import cache

import matplotlib.colors
import numpy as np

from npkit.glyphworld.painting.canvas import (
    LUMINANCE,
    RADIUS,
    Shape,
    X,
    Y,
    colour,
    contrast,
    disc,
    mix,
    saturate,
    stripes,
)

ON_SUBJECT = 0.42  # share of a vibe's strength on the subject: its hue may change a little, its shape may not drown


def cinematic(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Teal shadows, orange lights, and the corners a little darker."""
    light = (canvas @ LUMINANCE)[..., None]
    graded = contrast(canvas, 1.08) + (light - 0.42) * colour(0.95, 0.15, -1.05) + colour(-0.12, 0.03, 0.11)
    return np.clip(graded * np.clip(1.12 - 0.9 * RADIUS ** 2, 0, 1.1)[..., None], 0, 1)


def fantasy(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Violet air with a golden glow behind the subject and two floating moons."""
    air = mix(canvas, canvas * 0.5 + colour(0.3, 0.1, 0.46), 0.62)
    air = mix(air, colour(1, 0.86, 0.5), np.exp(-(RADIUS / 0.36) ** 4) * 0.62)
    moons = disc(0.84, 0.17, 0.085) * (1 - 0.45 * disc(0.87, 0.19, 0.07)) + disc(0.13, 0.3, 0.045)
    return mix(air, colour(0.96, 0.86, 1), np.clip(moons, 0, 1) * 0.9)


def colorful(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Rainbow light from corner to corner; the picture's own lights and darks stay."""
    light = (canvas @ LUMINANCE)[..., None]
    return mix(saturate(canvas, 1.4), np.clip(_rainbow() * (0.5 + 0.62 * light), 0, 1), 0.68)


@cache
def _rainbow() -> np.ndarray:
    hues = np.stack([(X + Y) * 0.62 % 1, np.full_like(X, 0.72), np.ones_like(X)], -1)
    return matplotlib.colors.hsv_to_rgb(hues).astype(np.float32)


def atmospheric(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Banks of fog that drift in from below."""
    banks = 0.5 + 0.5 * np.sin(16 * Y + 1.6 * np.sin(5 * X + 1))
    fog = np.clip(2.0 * Y - 0.75, 0, 0.92) * (0.78 + 0.22 * banks) + 0.12
    return mix(canvas, colour(0.88, 0.92, 0.96), np.clip(fog, 0, 0.92))


def moody(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Little colour, deep shade, one pale light from the left."""
    light = np.clip(1.02 - 0.95 * np.hypot(X - 0.12, 0.8 * (Y - 0.3)), 0.16, 1)
    return saturate(canvas, 0.45) * light[..., None] * colour(0.78, 0.86, 1.0)


def magical(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Sparkles and a violet dusk at the edges."""
    dusk = mix(canvas, colour(0.32, 0.12, 0.6), np.clip(1.5 * RADIUS - 0.22, 0, 0.72))
    return mix(dusk, colour(1, 0.95, 0.6), _sparkles() * (1 - 0.6 * shape.body))


@cache
def _sparkles() -> np.ndarray:
    stars = np.zeros_like(X)
    for x, y, size in ((0.14, 0.17, 0.1), (0.83, 0.13, 0.12), (0.9, 0.52, 0.075), (0.09, 0.6, 0.085), (0.79, 0.87, 0.1),
                       (0.4, 0.08, 0.06), (0.2, 0.89, 0.07), (0.62, 0.2, 0.045), (0.95, 0.75, 0.05)):
        star = size - np.abs(X - x) - np.abs(Y - y) - 15 * np.abs((X - x) * (Y - y))
        stars = np.maximum(stars, np.clip(star / size * 3, 0, 1))
    return stars.astype(np.float32)


def stormy(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """A grey sky, a roof of cloud, slanting rain."""
    grey = mix(saturate(canvas, 0.5), colour(0.3, 0.35, 0.44), 0.42)
    roof = np.clip(1.3 - 5.5 * (Y - 0.05 * np.sin(13 * X) - 0.03 * np.sin(29 * X + 1)), 0, 1)
    drops = _rain() * (1 - 0.55 * shape.body)
    return mix(mix(grey, colour(0.12, 0.14, 0.2), roof * 0.8), colour(0.86, 0.93, 1.0), drops * 0.72)


@cache
def _rain() -> np.ndarray:
    slant = X + Y * 0.35
    return stripes(slant, 0.085, 0.17) * stripes(Y * 1.3 + np.floor(slant / 0.085) * 0.37, 0.45, 0.55)


def faded(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """An old print: sepia, pale, with stains at the edges and two creases."""
    light = (canvas @ LUMINANCE)[..., None]
    sepia = 0.25 + 0.7 * mix(canvas, light, 0.72) * colour(1.05, 0.96, 0.8) + colour(0.09, 0.04, -0.06)
    stain = np.clip(2.4 * (RADIUS + 0.04 * np.sin(9 * X + 5 * Y)) - 1.0, 0, 0.7)
    creases = stripes(X + 0.03 * Y - 0.3, 1.0, 0.012) + stripes(Y - 0.04 * X - 0.62, 1.0, 0.012)
    return mix(mix(np.clip(sepia, 0, 1), colour(0.72, 0.58, 0.38), stain), 0.97, np.clip(creases, 0, 1) * 0.7)


VIBES: dict[str, Callable[[np.ndarray, Shape], np.ndarray]] = {
    "cinematic": cinematic, "fantasy": fantasy, "colorful": colorful, "atmospheric": atmospheric, "moody": moody,
    "magical": magical, "stormy": stormy, "faded": faded,
}


def lay_over(vibe: str, canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """The canvas in the vibe's light, the subject less so."""
    return mix(canvas, VIBES[vibe](canvas, shape), 1 - (1 - ON_SUBJECT) * shape.body)
