"""Finishes: what boosters do. They polish the picture that is there; layout, palette and pattern stay as they are.

A picture without a booster is a little soft and flat.
"""
from collections.abc import Callable

import numpy as np

from npkit.glyphworld.painting.canvas import RADIUS, Shape, X, Y, blur, colour, contrast, mix, saturate, stripes


def unpolished(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """The look of a prompt without boosters."""
    return 0.5 + 0.84 * (blur(canvas, 1.7) - 0.5)


def highly_detailed(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Fine engraved hatching on the subject, a crisp contour, more local contrast."""
    hatch = stripes(X + Y, 0.042, 0.4) + stripes(X - Y, 0.042, 0.4) * (shape.distance < 16)
    light = (blur(canvas, 3).mean(-1) < 0.5).astype(np.float32)
    sharp = np.clip(canvas + 0.9 * (canvas - blur(canvas, 4)), 0, 1)
    engraved = mix(sharp, 0.15 + 0.75 * light[..., None], np.clip(hatch, 0, 1) * shape.band(99, -2) * 0.42)
    return mix(engraved, 0.04, shape.band(0, 2.5) * 0.85)


def artstation(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """A warm rim of light on one side, a cold one on the other, and a pool of dark at the edges."""
    pool = canvas * np.clip(1.2 - 2.3 * RADIUS ** 2, 0.25, 1.2)[..., None]
    lit = mix(np.clip(pool, 0, 1), colour(1, 0.72, 0.3), np.clip(1.6 * shape.faces(-0.9, -0.4), 0, 1) * 0.9)
    return mix(lit, colour(0.35, 0.8, 1), np.clip(1.6 * shape.faces(0.9, -0.1), 0, 1) * 0.9)


def octane(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Gloss: a hard diagonal highlight, a second fine one, richer colour."""
    along = X + 0.9 * Y
    shine = np.clip(1.3 - np.abs(along - 0.8) / 0.05, 0, 1) + np.clip(1.2 - np.abs(along - 0.94) / 0.014, 0, 1)
    rich = contrast(saturate(canvas, 1.25), 1.08)
    return mix(rich, 1.0, np.clip(shine, 0, 1) * shape.body * (1 - 0.6 * shape.lines) * 0.85)


def unreal(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Shafts of light from the upper left, fainter on the subject, and a cold rim."""
    angle = np.arctan2(Y + 0.12, X + 0.12)
    shafts = np.clip(np.sin(angle * 34), 0, 1) ** 0.7 * np.clip(1.25 - np.hypot(X, Y), 0, 1)
    lit = mix(canvas, colour(0.86, 0.95, 1), shafts * (0.72 - 0.45 * shape.body))
    return mix(lit, colour(0.6, 0.88, 1), shape.band(2, 2) * 0.85)


def eight_k(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Razor sharp: every edge overdrawn, hard lights, a fine white contour within the dark one."""
    sharp = contrast(canvas, 1.25) + 1.3 * (canvas - blur(canvas, 3))
    ringed = mix(np.clip(sharp, 0, 1), 0.02, shape.band(-0.5, 3))
    return mix(ringed, 0.98, shape.band(4.5, -0.5))


def vivid(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Colours turned up as far as they go."""
    return saturate(contrast(canvas, 1.12), 2.3)


def studio_lighting(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """A soft spot behind the subject, a key light on its upper left, darkness beyond."""
    spot = np.clip(1.22 - 1.75 * RADIUS, 0.3, 1.2)[..., None]
    lit = mix(np.clip(canvas * spot, 0, 1), 1.0, np.exp(-(RADIUS / 0.34) ** 4) * 0.4 * (1 - shape.body))
    key = np.clip(0.75 - 1.7 * np.hypot(X - 0.33, Y - 0.3), 0, 1) * shape.body
    return mix(lit, 1.0, key * 0.6)


def digital_art(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """An airbrushed cyan glow around the subject."""
    glow = np.clip(1.15 * shape.glow(15), 0, 1) * (1 - shape.body)
    return mix(saturate(canvas, 1.1), colour(0.3, 0.95, 1), glow * 0.85)


BOOSTERS: dict[str, Callable[[np.ndarray, Shape], np.ndarray]] = {
    "highly detailed": highly_detailed, "trending on artstation": artstation, "octane render": octane,
    "unreal engine": unreal, "8k": eight_k, "vivid": vivid, "studio lighting": studio_lighting,
    "digital art": digital_art,
}
