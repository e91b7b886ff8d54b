"""Canvas: the square that GlyphWorld paints on, and the strokes that its painters are made of.

A canvas is (CANVAS, CANVAS, 3) RGB in [0, 1]; a weight is (CANVAS, CANVAS) in [0, 1]; both float32. The canvas has
twice the side of a finished picture, so that hard edges come out smooth.
"""
from dataclasses import dataclass

import matplotlib.colors
import numpy as np
from PIL import Image
from scipy import ndimage

SIZE = 96  # pixels a side of a finished picture
CANVAS = 2 * SIZE  # pixels a side while painting
Y, X = ((np.mgrid[0:CANVAS, 0:CANVAS] + 0.5) / CANVAS).astype(np.float32)  # coordinates in [0, 1]
RADIUS = np.hypot(X - 0.5, Y - 0.5)  # distance from the middle
LUMINANCE = np.array([0.3, 0.59, 0.11], np.float32)


@dataclass(frozen=True)
class Shape:
    """Where the subject is: `distance` in canvas pixels to its edge, positive inside; `lines` its drawn inner lines."""
    distance: np.ndarray  # (CANVAS, CANVAS)
    lines: np.ndarray  # (CANVAS, CANVAS) in [0, 1]

    @property
    def body(self) -> np.ndarray:
        """1 inside, 0 outside, one pixel of transition."""
        return np.clip(self.distance + 0.5, 0, 1)

    def band(self, inner: float, outer: float) -> np.ndarray:
        """1 from `inner` pixels within the edge to `outer` pixels outside of it."""
        return np.clip(self.distance + outer + 0.5, 0, 1) * np.clip(inner - self.distance + 0.5, 0, 1)

    def glow(self, reach: float) -> np.ndarray:
        """1 on the subject, falling to 0 over `reach` pixels outside of it."""
        return np.exp(np.minimum(self.distance, 0) / reach)

    def faces(self, x: float, y: float) -> np.ndarray:
        """How far the subject, puffed up, faces towards (x, y): from -1 to 1 near its edge, 0 in its flat middle."""
        height = blur(np.clip(self.distance, 0, 12) / 12, 2)
        down, right = np.gradient(height)
        return np.clip(-6 * (right * x + down * y), -1, 1) * self.body


def rgb(hsv: np.ndarray) -> np.ndarray:
    """HSV rows (n, 3), hue in turns, as RGB in [0, 1]."""
    return matplotlib.colors.hsv_to_rgb(np.column_stack([hsv[:, 0] % 1, hsv[:, 1:]])).astype(np.float32)


def colour(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue], np.float32)


def gradient(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """A canvas that goes from one colour at the top to another at the bottom."""
    return upper * (1 - Y[..., None]) + lower * Y[..., None]


def mix(canvas: np.ndarray | float, other: np.ndarray | float, weight: np.ndarray | float) -> np.ndarray:
    """From `canvas` towards `other` by `weight`, of which one that is 2-D holds for all three colours."""
    mixed = (other - canvas) * (weight[..., None] if np.ndim(weight) == 2 else weight)
    mixed += canvas  # in place where it can be: a third of the time that a picture takes goes by here
    return mixed


def blur(canvas: np.ndarray, sigma: float) -> np.ndarray:
    """Nearly a Gaussian blur: two passes of a box, whose cost does not grow with `sigma`."""
    side = max(1, round((6 * sigma ** 2 + 1) ** 0.5))
    size = (side, side, 1)[:canvas.ndim]
    return ndimage.uniform_filter(ndimage.uniform_filter(canvas, size, mode="nearest"), size, mode="nearest")


def saturate(canvas: np.ndarray, factor: float) -> np.ndarray:
    grey = (canvas @ LUMINANCE)[..., None]
    return np.clip(grey + factor * (canvas - grey), 0, 1)


def contrast(canvas: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(0.5 + factor * (canvas - 0.5), 0, 1)


def disc(x: float, y: float, radius: float, soft: float = 0.006) -> np.ndarray:
    return np.clip((radius - np.hypot(X - x, Y - y)) / soft + 0.5, 0, 1)


def stripes(phase: np.ndarray, period: float, share: float = 0.5) -> np.ndarray:
    """1 on the first `share` of every `period` of `phase`, 0 elsewhere."""
    return ((phase / period) % 1 < share).astype(np.float32)


def stroke(signed: np.ndarray, width: float) -> np.ndarray:
    """1 where `signed` is within `width` of 0: a line along the zeros of a function."""
    return (np.abs(signed) < width).astype(np.float32)


def shifted(layer: np.ndarray, right: int, down: int) -> np.ndarray:
    """A layer moved by whole pixels; what comes in from the side is its edge value."""
    rows = np.clip(np.arange(CANVAS) - down, 0, CANVAS - 1)
    return layer[rows][:, np.clip(np.arange(CANVAS) - right, 0, CANVAS - 1)]


def shrink(layer: np.ndarray, factor: int) -> np.ndarray:
    """The mean of every block of `factor` x `factor` pixels."""
    side = len(layer) // factor
    rows = layer.reshape(side, factor, -1).sum(1)  # one axis after the other: several times faster than both at once
    return rows.reshape(side, side, factor, *layer.shape[2:]).sum(2) / factor ** 2


def enlarge(layer: np.ndarray) -> np.ndarray:
    """A small square layer (side, side) stretched smoothly over the canvas."""
    return np.asarray(Image.fromarray(layer.astype(np.float32)).resize((CANVAS, CANVAS), Image.BILINEAR))


def to_bytes(canvas: np.ndarray) -> np.ndarray:
    return (np.clip(canvas, 0, 1) * 255 + 0.5).astype(np.uint8)
