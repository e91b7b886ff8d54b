"""Layouts: what the perspective words do. They place, size and tilt the subject and say what stands around it.

A layout never chooses a colour of its own: floors, bars and blocks are lighter or darker parts of the ground.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from npkit.glyphworld.painting.canvas import (
    CANVAS,
    RADIUS,
    Shape,
    X,
    Y,
    blur,
    colour,
    disc,
    mix,
    shifted,
    stripes,
    stroke,
)
from npkit.glyphworld.painting.glyphs import EXTENT, GLYPH, glyph


@dataclass(frozen=True)
class Layout:
    """Where the subject stands: side of its box and centre, as shares of the canvas, and how the box is bent."""

    scale: float = 0.66
    x: float = 0.5
    y: float = 0.5
    bend: tuple[tuple[float, ...], ...] = ((1, 0, 0), (0, 1, 0), (0, 0, 1))  # homography of the box, middle at (0, 0)


PLAIN = Layout()
LAYOUTS: dict[str, Layout] = {
    "close up": Layout(scale=1.08),
    "wide angle": Layout(scale=0.46, y=0.56),
    "isometric": Layout(scale=0.66, y=0.44, bend=((0.84, 0.0, 0), (-0.36, 0.98, 0), (0, 0, 1))),
    "low angle": Layout(scale=0.7, y=0.51, bend=((1.0, 0, 0), (0, 1.1, 0), (0, -0.75, 1))),
    "panoramic": Layout(scale=0.56),
}


def place(subject: str, layout: Layout, shift: np.ndarray) -> Shape:
    """The subject's shape under `layout`, moved by `shift` (2,) canvas widths."""
    centre = CANVAS * np.array([layout.x + shift[0], layout.y + shift[1]])
    to_box = np.diag([1 / EXTENT, 1 / EXTENT, 1]) @ _move(-GLYPH / 2, -GLYPH / 2)
    forward = (
        _move(*centre) @ np.diag([layout.scale * CANVAS, layout.scale * CANVAS, 1]) @ np.array(layout.bend) @ to_box
    )
    back = np.linalg.inv(forward)
    back /= back[2, 2]
    stretch = layout.scale * CANVAS / EXTENT * abs(np.linalg.det(np.array(layout.bend)[:2, :2])) ** 0.5
    distances = [_warp(layer, back) * np.float32(stretch) for layer in glyph(subject)]
    return Shape(distances[0], np.clip(distances[1] + 0.5, 0, 1))


def _move(x: float, y: float) -> np.ndarray:
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])


def _warp(layer: np.ndarray, back: np.ndarray) -> np.ndarray:
    image = Image.fromarray(layer).transform(
        (CANVAS, CANVAS), Image.PERSPECTIVE, tuple(back.ravel()[:8]), Image.BILINEAR, fillcolor=-GLYPH
    )
    return np.asarray(image)


# --- what stands behind the subject ---------------------------------------------------------------------------------
def wide_angle(ground: np.ndarray, shape: Shape) -> np.ndarray:
    """A far horizon, bent by the lens, over a floor whose boards run towards it."""
    horizon = 0.62 - 0.3 * (X - 0.5) ** 2
    floor = (Y > horizon).astype(np.float32)
    boards = stripes((X - 0.5) / (Y - 0.5 + 1e-6), 0.36, 0.12) * floor
    return mix(
        mix(ground, ground * 0.55, floor), 0.75 * ground + 0.25, np.maximum(boards * 0.7, stroke(Y - horizon, 0.006))
    )


def isometric(ground: np.ndarray, shape: Shape) -> np.ndarray:
    """A block under the subject, seen from above and aside."""
    across, depth = np.abs(X - 0.5), 0.11
    top = (across / 0.42 + np.abs(Y - 0.72) / 0.21 < 1).astype(np.float32)
    lower = across / 0.42 + np.abs(Y - 0.72 - depth) / 0.21 < 1
    side = ((lower | ((across < 0.42) & (Y > 0.72) & (Y < 0.72 + depth))) & (top < 0.5)).astype(np.float32)
    side *= Y > 0.72
    shaded = mix(ground, ground * np.where(X < 0.5, 0.62, 0.38)[..., None], side)
    block = mix(shaded, 0.62 * ground + 0.38, top)
    return mix(block, block * 0.55, np.clip(shifted(shape.body, -14, 12) * top, 0, 1) * 0.8)


def low_angle(ground: np.ndarray, shape: Shape) -> np.ndarray:
    """Walls that run together far above, and a strip of floor: the ant's view."""
    beams = stripes(np.arctan2(X - 0.5, Y + 0.3), 0.19, 0.5)
    walls = ground * (1 - 0.42 * beams * np.clip(1.3 - Y, 0, 1))[..., None]
    return mix(walls, ground * 0.35, np.clip((Y - 0.88) * 60, 0, 1))


BOKEH = (
    (0.13, 0.15, 0.105),
    (0.87, 0.2, 0.125),
    (0.09, 0.56, 0.09),
    (0.92, 0.62, 0.1),
    (0.26, 0.89, 0.1),
    (0.72, 0.9, 0.085),
    (0.47, 0.07, 0.075),
    (0.66, 0.1, 0.05),
    (0.06, 0.84, 0.06),
    (0.93, 0.42, 0.05),
)


def bokeh(ground: np.ndarray, shape: Shape) -> np.ndarray:
    """The ground out of focus, its lights grown to discs."""
    ground = blur(ground, 5)
    for x, y, size in BOKEH:
        rim = disc(x, y, size) - disc(x, y, size * 0.86)
        ground = mix(ground, 0.3 * ground + 0.7, disc(x, y, size) * 0.62 + rim * 0.3)
    return ground


def white_background(ground: np.ndarray, shape: Shape) -> np.ndarray:
    """A white sweep behind the subject; of what was behind it a trace stays in the corners."""
    shadow = np.exp(-(((X - 0.5) / 0.26) ** 2) - ((Y - 0.86) / 0.035) ** 2) * 0.3
    return mix(mix(ground, 0.985, 1 - 0.3 * np.clip((RADIUS - 0.4) / 0.25, 0, 1)), 0.45, shadow)


def panoramic(ground: np.ndarray, shape: Shape) -> np.ndarray:
    """Two ridges of far hills along the whole width."""
    for level, shade in ((0.62, 0.82), (0.72, 0.62)):
        ridge = level - 0.06 * np.sin(X * 9 + level * 40) - 0.03 * np.sin(X * 23 + level * 7)
        ground = mix(ground, ground * shade, (Y > ridge).astype(np.float32))
    return ground


STAGES: dict[str, Callable[[np.ndarray, Shape], np.ndarray]] = {
    "wide angle": wide_angle,
    "isometric": isometric,
    "low angle": low_angle,
    "bokeh": bokeh,
    "white background": white_background,
    "panoramic": panoramic,
}


# --- what the lens adds ---------------------------------------------------------------------------------------------
def lens_flare(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """A light in the upper right corner, its streak and its ghosts, fainter on the subject."""
    core, streak = np.hypot(X - 0.82, Y - 0.16) / 0.14, np.abs(Y - 0.16) / 0.016 + np.abs(X - 0.82) / 0.4
    rays = np.exp(-((np.hypot(X - 0.82, Y - 0.16) / 0.26) ** 2)) * stripes(
        np.arctan2(Y - 0.16, X - 0.82), np.pi / 6, 0.3
    )
    ghosts = (
        0.5 * (disc(0.3, 0.72, 0.085) - disc(0.3, 0.72, 0.07))
        + 0.4 * disc(0.16, 0.88, 0.045)
        + 0.3 * disc(0.6, 0.4, 0.03)
    )
    light = np.clip(1.3 * np.exp(-(core**2)) + np.exp(-streak) + 0.4 * rays + ghosts, 0, 1)
    return mix(canvas, colour(1, 0.98, 0.86), light * (1 - 0.5 * shape.body))


def bars(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """The black bars above and below a very wide picture."""
    return mix(canvas, 0.015, ((Y < 0.135) | (Y > 0.865)).astype(np.float32))


LENSES: dict[str, Callable[[np.ndarray, Shape], np.ndarray]] = {"lens flare": lens_flare, "panoramic": bars}
