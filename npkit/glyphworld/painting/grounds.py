"""Grounds: what is behind the subject. An artist owns the palette and the pattern; a place is painted into both."""

from collections.abc import Callable
from functools import cache

import numpy as np

from npkit.glyphworld.painting.canvas import RADIUS, X, Y, disc, gradient, mix, rgb, stripes, stroke
from npkit.glyphworld.vocabulary import PLACES

Pattern = Callable[[np.ndarray], np.ndarray]  # colours (5, 3) -> canvas
UPPER, LOWER, FIRST, SECOND, SUBJECT = range(5)  # rows of a palette

PALETTES: dict[str, tuple] = {  # hue, saturation, value: upper ground, lower ground, two more of the pattern, subject
    "greg rutkowski": (
        (0.1, 0.45, 0.72),
        (0.56, 0.4, 0.24),
        (0.11, 0.35, 0.98),
        (0.58, 0.45, 0.14),
        (0.04, 0.72, 0.62),
    ),
    "alphonse mucha": ((0.11, 0.2, 0.96), (0.1, 0.32, 0.84), (0.07, 0.48, 0.72), (0.27, 0.3, 0.6), (0.02, 0.6, 0.5)),
    "caravaggio": ((0.07, 0.65, 0.1), (0.06, 0.6, 0.05), (0.09, 0.6, 0.62), (0.0, 0.75, 0.3), (0.08, 0.55, 0.92)),
    "vincent van gogh": ((0.62, 0.8, 0.5), (0.58, 0.7, 0.75), (0.14, 0.75, 1.0), (0.52, 0.4, 0.92), (0.13, 0.85, 1.0)),
    "claude monet": ((0.7, 0.2, 0.9), (0.4, 0.32, 0.72), (0.93, 0.3, 0.98), (0.36, 0.45, 0.55), (0.69, 0.6, 0.58)),
    "piet mondrian": ((0.0, 0.0, 0.97), (0.0, 0.0, 0.97), (0.0, 0.9, 0.85), (0.62, 0.9, 0.62), (0.0, 0.0, 0.1)),
    "katsushika hokusai": (
        (0.12, 0.16, 0.96),
        (0.11, 0.24, 0.86),
        (0.57, 0.4, 0.8),
        (0.61, 0.75, 0.45),
        (0.01, 0.75, 0.72),
    ),
    "andy warhol": ((0.93, 0.7, 0.98), (0.48, 0.75, 0.88), (0.14, 0.8, 1.0), (0.27, 0.7, 0.85), (0.74, 0.75, 0.58)),
}


def plain(colours: np.ndarray) -> np.ndarray:
    """A wall and its light: what is behind a subject where no artist is named."""
    return gradient(colours[UPPER], colours[LOWER]) * (1.1 - 0.45 * RADIUS)[..., None]


def rutkowski(colours: np.ndarray) -> np.ndarray:
    """A shaft of warm light through smoke, in broad diagonal strokes."""
    light, strokes, smoke = _rutkowski()
    ground = mix(gradient(colours[UPPER], colours[LOWER]), colours[SECOND], smoke)
    return np.clip(mix(ground, colours[FIRST], light) * strokes[..., None], 0, 1)


@cache
def _rutkowski() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    axis = 0.8 * X + 0.6 * Y
    light = np.clip(1.25 - 4.5 * np.abs(X - 0.02 - 0.55 * Y), 0, 1) * np.clip(1.1 - Y, 0, 1) * 0.85
    wobble = axis * 30 + 2.2 * np.sin(9 * Y - 5 * X) + 1.5 * np.sin(17 * X)
    strokes = 1 + 0.16 * np.sin(wobble) * np.sin(31 * (Y - 0.5 * X))
    smoke = np.clip(0.5 + 0.5 * np.sin(7 * X + 4 * np.sin(5 * Y)) - 0.9 * (1 - Y), 0, 1) * 0.8
    return light, strokes, smoke


def mucha(colours: np.ndarray) -> np.ndarray:
    """A mosaic halo with beads, and tendrils in the corners."""
    ring, beads, tendrils = _mucha()
    ground = mix(gradient(colours[UPPER], colours[LOWER]), colours[SECOND], tendrils * 0.8)
    ground = mix(ground, 0.5 + 0.5 * colours[UPPER], disc(0.5, 0.5, 0.36) * 0.7)
    return mix(mix(ground, colours[FIRST], ring), 0.4 + 0.6 * colours[UPPER], beads)


@cache
def _mucha() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ring = stroke(RADIUS - 0.405, 0.048)
    angle = np.arctan2(Y - 0.5, X - 0.5)
    beads = stroke(RADIUS - 0.405, 0.033) * stripes(angle, np.pi / 14, 0.62)
    corner = np.hypot(np.abs(X - 0.5) - 0.5, np.abs(Y - 0.5) - 0.5)
    tendrils = (stripes(corner + 0.02 * np.sin(9 * angle), 0.075, 0.35) * (corner < 0.24)).astype(np.float32)
    return ring, beads, tendrils * (1 - ring)


def caravaggio(colours: np.ndarray) -> np.ndarray:
    """Darkness, a slanting wedge of light, and the fold of a red curtain."""
    ground = gradient(colours[UPPER], colours[LOWER])
    curtain = np.clip(1 - (1 - X) / 0.26, 0, 1) * (0.6 + 0.4 * np.sin(70 * X + 4 * Y))
    wedge = np.clip(1 - np.abs(X + 0.75 * Y - 0.42) / (0.1 + 0.32 * Y), 0, 1) * np.clip(1.15 - 0.85 * Y, 0, 1)
    return mix(mix(ground, colours[SECOND], np.clip(curtain, 0, 1) * 0.85), colours[FIRST], wedge * 0.75)


def van_gogh(colours: np.ndarray) -> np.ndarray:
    """A night of swirls, and stars with rings of light."""
    waves, stars = _van_gogh()
    ground = mix(gradient(colours[UPPER], colours[LOWER]), colours[SECOND], np.clip(waves, 0, 1) * 0.75)
    return mix(mix(ground, colours[UPPER] * 0.5, np.clip(-waves, 0, 1) * 0.7), colours[FIRST], stars)


@cache
def _van_gogh() -> tuple[np.ndarray, np.ndarray]:
    bend = 0.05 * np.sin(11 * X) + 0.03 * np.sin(23 * X + 4)
    phase = 62 * (Y + bend)
    stars = np.zeros_like(X)
    for x, y, size in ((0.16, 0.16, 0.12), (0.83, 0.22, 0.15), (0.13, 0.7, 0.1), (0.88, 0.76, 0.1)):
        away = np.hypot(X - x, Y - y)
        near = np.exp(-((away / (1.4 * size)) ** 4))
        phase = phase * (1 - near) + 95 * away * near
        rings = np.clip(np.cos(95 * away) + 0.3, 0, 1) * np.clip(1.1 - away / size, 0, 1)
        stars = np.maximum(stars, np.maximum(rings, disc(x, y, size * 0.3)))
    return np.sin(phase), stars


def monet(colours: np.ndarray) -> np.ndarray:
    """Water in short level dabs, and lilies on it."""
    shimmer, leaves, lilies = _monet()
    ground = mix(gradient(colours[UPPER], colours[LOWER]), colours[SECOND], np.clip(-shimmer, 0, 1) * 0.6)
    ground = mix(ground, 0.35 + 0.65 * colours[UPPER], np.clip(shimmer, 0, 1) * 0.6)
    return mix(mix(ground, colours[SECOND], leaves * 0.85), colours[FIRST], lilies)


@cache
def _monet() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    shimmer = np.sin(30 * X + 3 * np.sin(37 * Y)) * np.sin(58 * Y + np.sin(12 * X))
    leaves, lilies = np.zeros_like(X), np.zeros_like(X)
    for x, y in ((0.12, 0.66), (0.3, 0.9), (0.72, 0.86), (0.9, 0.62), (0.9, 0.93), (0.08, 0.88), (0.5, 0.96)):
        leaves = np.maximum(leaves, np.clip((0.075 - np.hypot(X - x, 2.2 * (Y - y))) * 120, 0, 1))
        lilies = np.maximum(lilies, np.clip((0.03 - np.hypot(X - x, 1.4 * (Y - y + 0.012))) * 120, 0, 1))
    return shimmer, leaves, lilies


def mondrian(colours: np.ndarray) -> np.ndarray:
    """White, three fields of colour, black bars. The yellow one is the artist's, whatever the place."""
    ground = gradient(colours[UPPER], colours[LOWER])
    for field, tint in (
        ((X < 0.2) & (Y < 0.3), colours[FIRST]),
        ((X > 0.78) & (Y > 0.68), colours[SECOND]),
        ((X > 0.78) & (Y < 0.3), rgb(np.array([(0.14, 0.9, 0.97)]))[0]),
        ((X < 0.2) & (Y > 0.86), rgb(np.array([(0.14, 0.9, 0.97)]))[0]),
    ):
        ground = mix(ground, tint, field.astype(np.float32))
    lines = [
        stroke(X - 0.2, 0.018),
        stroke(X - 0.78, 0.018),
        stroke(Y - 0.3, 0.018),
        stroke(Y - 0.68, 0.018) * (X > 0.2),
        stroke(Y - 0.86, 0.018) * (X < 0.78),
    ]
    return mix(ground, 0.03, np.max(lines, axis=0))


def hokusai(colours: np.ndarray) -> np.ndarray:
    """Rows of claw-shaped waves with white crests under a paper sky."""
    ground = gradient(colours[UPPER], colours[LOWER])
    for row, (level, share) in enumerate(((0.55, 0.15), (0.69, 0.55), (0.84, 1.0))):
        phase = (X * 3.2 + 0.37 * row) % 1
        crest = level + 0.085 * np.abs(phase - 0.36) ** 0.6 - 0.04
        water = mix(colours[FIRST], colours[SECOND], share)
        ground = mix(ground, water, (Y > crest).astype(np.float32))
        foam = stroke(Y - crest - 0.012, 0.014) + 0.75 * stroke(Y - crest - 0.06, 0.006)
        ground = mix(ground, 0.97, np.clip(foam, 0, 1))
    return ground


def warhol(colours: np.ndarray) -> np.ndarray:
    """Four flat panels as of a silk screen, each of another colour."""
    ground = np.zeros((*X.shape, 3), np.float32)
    for left, top, tint in ((1, 1, UPPER), (0, 1, LOWER), (1, 0, FIRST), (0, 0, SECOND)):
        panel = ((X < 0.5) == left) & ((Y < 0.5) == top)
        ground = mix(ground, colours[tint], panel.astype(np.float32))
    return mix(ground, 0.97, np.maximum(stroke(X - 0.5, 0.008), stroke(Y - 0.5, 0.008)))


PATTERNS: dict[str, Pattern] = {
    "greg rutkowski": rutkowski,
    "alphonse mucha": mucha,
    "caravaggio": caravaggio,
    "vincent van gogh": van_gogh,
    "claude monet": monet,
    "piet mondrian": mondrian,
    "katsushika hokusai": hokusai,
    "andy warhol": warhol,
}


# --- places ---------------------------------------------------------------------------------------------------------
@cache
def scenery(place: str) -> tuple[np.ndarray, np.ndarray]:
    """Weights of what stands in a place: its darker parts and its lighter parts."""
    hills = (Y > 0.74 - 0.07 * np.sin(7 * X + 0.6)).astype(np.float32)
    if place == "in the snow":
        flakes = sum(disc(x, y, 0.014) for x, y in FLAKES)
        return (Y > 0.66 - 0.06 * np.sin(6 * X + 3)) * (1 - hills) * 0.35, np.clip(flakes + hills, 0, 1)
    if place == "at night":
        stars = sum(disc(x, y, 0.009) for x, y in FLAKES if y < 0.6)
        return hills * 0.6, np.clip(stars + disc(0.84, 0.15, 0.07) * (1 - disc(0.81, 0.135, 0.06)), 0, 1)
    if place == "in the forest":
        trees = np.zeros_like(X)
        for x, height in ((0.06, 0.6), (0.2, 0.42), (0.8, 0.46), (0.94, 0.64), (0.35, 0.28), (0.66, 0.3)):
            tier = (Y - (0.9 - height)) % (height / 3) * 0.34 + 0.02
            trees = np.maximum(trees, (np.abs(X - x) < tier) & (Y > 0.9 - height) & (Y < 0.86))
        return np.maximum(trees * 0.75, (Y > 0.86) * 0.45).astype(np.float32), np.zeros_like(X)
    if place == "by the sea":
        ripples = (Y > 0.6) * stripes(Y + 0.008 * np.sin(25 * X), 0.062, 0.22) * stripes(X + 0.5 * Y * Y, 0.3, 0.62)
        return (Y > 0.6) * 0.35, np.clip(ripples * 0.6 + stroke(Y - 0.6, 0.005), 0, 1)
    dunes = (Y > 0.72 - 0.09 * np.abs(np.sin(4.3 * X + 0.4))).astype(np.float32)
    far = (Y > 0.6 - 0.05 * np.abs(np.sin(3.1 * X + 1.7))) * (1 - dunes)
    return far * 0.18 + dunes * 0.42, disc(0.16, 0.17, 0.075) * 0.85


FLAKES = (
    (0.08, 0.12),
    (0.22, 0.3),
    (0.15, 0.52),
    (0.36, 0.1),
    (0.55, 0.06),
    (0.7, 0.2),
    (0.92, 0.34),
    (0.86, 0.52),
    (0.3, 0.62),
    (0.06, 0.36),
    (0.95, 0.1),
    (0.62, 0.38),
    (0.45, 0.24),
    (0.78, 0.66),
    (0.1, 0.72),
)


def in_place(ground: np.ndarray, place: str, share: float) -> np.ndarray:
    """The ground with what stands in `place` painted over it, `share` of its full strength."""
    dark, light = scenery(place)
    lower = rgb(np.array(PLACES[place]))[1]
    return mix(mix(ground, lower * 0.55, dark * share), 0.3 * lower + 0.7, light * share)
