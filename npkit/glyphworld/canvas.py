"""Canvas: the square that GlyphWorld paints on, and the strokes that its effects are made of.

A canvas is (CANVAS, CANVAS, 3) RGB in [0, 1]; a body or weight is (CANVAS, CANVAS) in [0, 1].
"""
import matplotlib.colors
import numpy as np
from scipy import ndimage

CANVAS = 128  # pixels a side while painting
Y, X = np.mgrid[0:CANVAS, 0:CANVAS] / CANVAS  # (CANVAS, CANVAS) coordinates in [0, 1)


def unchanged(canvas: np.ndarray, body: np.ndarray) -> np.ndarray:
    return canvas


def rgb(hsv: np.ndarray) -> np.ndarray:
    """HSV rows (n, 3), hue in turns, as RGB in [0, 1]."""
    return matplotlib.colors.hsv_to_rgb(np.column_stack([hsv[:, 0] % 1, hsv[:, 1:]]))


def backdrop(palette: np.ndarray, body: np.ndarray) -> np.ndarray:
    """A vertical gradient with the subject's soft shadow on it."""
    shadow = ndimage.gaussian_filter(np.roll(body, (5, 4), (0, 1)), 2)[..., None]
    return (palette[0] * (1 - Y[..., None]) + palette[1] * Y[..., None]) * (1 - 0.3 * shadow)


def compose(canvas: np.ndarray, body: np.ndarray, lines: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Lay the subject over the background, lit from above, its inner lines darker (or lighter, if it is dark)."""
    fill = np.clip(palette[2] * (1.2 - 0.4 * Y[..., None]), 0, 1)
    ink = fill * 0.35 if palette[2].max() > 0.3 else 1 - (1 - fill) * 0.5
    fill = fill * (1 - lines[..., None]) + ink * lines[..., None]
    return mix(canvas, fill, body)


def soften(canvas: np.ndarray) -> np.ndarray:
    """The look of a prompt without boosters: a little blurred and flat."""
    return 0.5 + 0.82 * (blur(canvas, 1.9) - 0.5)


def mix(canvas: np.ndarray, other: np.ndarray | float, weight: np.ndarray | float) -> np.ndarray:
    weight = np.asarray(weight)[..., None] if np.ndim(weight) == 2 else weight
    return canvas * (1 - weight) + other * weight


def blur(canvas: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(canvas, (sigma, sigma, 0) if canvas.ndim == 3 else sigma)


def outline(body: np.ndarray, width: int) -> np.ndarray:
    """The band of `width` pixels around the subject."""
    return np.clip(ndimage.maximum_filter(body, 2 * width + 1) - body, 0, 1)


def disc(x: float, y: float, radius: float, soft: float = 0.01) -> np.ndarray:
    return np.clip((radius - np.hypot(X - x, Y - y)) / soft + 0.5, 0, 1)


def stripes(phase: np.ndarray, period: float, share: float = 0.5) -> np.ndarray:
    """1 on the first `share` of every `period` of `phase`, 0 elsewhere."""
    return ((phase / period) % 1 < share).astype(float)


def border(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """1 outside the window that leaves these margins, as shares of the canvas."""
    return 1 - ((X >= left) & (X < 1 - right) & (Y >= top) & (Y < 1 - bottom)).astype(float)


def saturate(canvas: np.ndarray, factor: float) -> np.ndarray:
    grey = canvas.mean(-1, keepdims=True)
    return np.clip(grey + factor * (canvas - grey), 0, 1)


def contrast(canvas: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(0.5 + factor * (canvas - 0.5), 0, 1)


def colour(red: float, green: float, blue: float) -> np.ndarray:
    return np.array([red, green, blue])


def radius() -> np.ndarray:
    return np.hypot(X - 0.5, Y - 0.5)
