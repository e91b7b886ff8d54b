"""Drawing: how a style draws the subject: its fill, its lines and what runs along its outline, never the ground."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from npkit.glyphworld.painting.canvas import LUMINANCE, Shape, X, Y, colour, mix, shifted, stripes, stroke

INK = colour(0.05, 0.04, 0.1)


@dataclass(frozen=True)
class Tones:
    """The subject's own colour and the two that its light and shade make of it, each (3,)."""

    plain: np.ndarray

    @property
    def light(self) -> np.ndarray:
        return 1 - (1 - self.plain) * 0.4

    @property
    def dark(self) -> np.ndarray:
        return self.plain * 0.42

    @property
    def ink(self) -> np.ndarray:
        """What its inner lines are drawn with: dark on a light subject, light on a dark one."""
        return self.plain * 0.2 if self.plain @ LUMINANCE > 0.14 else 1 - (1 - self.plain) * 0.25


def finish_fill(canvas: np.ndarray, fill: np.ndarray, shape: Shape, ink: np.ndarray) -> np.ndarray:
    """The fill laid on the ground within the subject, its inner lines drawn in `ink`."""
    return mix(canvas, mix(fill, ink, shape.lines), shape.body)


def plain(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """Lit from above, a little rounded."""
    fill = np.clip(tones.plain * (1.18 - 0.36 * Y[..., None]), 0, 1)
    fill = mix(fill, tones.light, np.clip(shape.faces(-0.6, -0.8), 0, 1) * 0.5)
    fill = mix(fill, tones.dark, np.clip(shape.faces(0.6, 0.8), 0, 1) * 0.45)
    return finish_fill(canvas, fill, shape, tones.ink)


def anime(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """Two flat tones with a hard edge between them, one gleam, a firm dark outline."""
    shade = (X + 0.8 * Y > 0.98).astype(np.float32)
    fill = mix(np.broadcast_to(1 - (1 - tones.plain) * 0.78, canvas.shape), tones.plain * 0.68, shade)
    gleam = stroke(shape.distance - 8, 2.6) * (shape.faces(-0.7, -0.7) > -0.2) * (X + Y < 0.92)
    fill = mix(fill, 0.98, gleam)
    return mix(finish_fill(canvas, fill, shape, INK), INK, shape.band(0, 4.5))


def cyberpunk(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """A dark body with scan lines, in a tube of magenta and cyan neon."""
    fill = tones.plain * (0.62 + 0.3 * stripes(Y, 0.045, 0.5))[..., None]
    around = mix(canvas, colour(0.06, 0.02, 0.16), shape.glow(14) * 0.8)
    neon = mix(around, colour(1, 0.1, 0.8), np.clip(1.1 * shape.glow(8), 0, 1))
    drawn = finish_fill(neon, fill, shape, colour(0.2, 0.95, 1))
    return mix(mix(drawn, colour(1, 0.85, 1), shape.band(0.5, 2)), colour(0.2, 0.95, 1), shape.band(4.5, -2.5))


def art_nouveau(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """A flat fill, a sinuous dark contour with a golden one around it, whiplash lines inside."""
    whip = np.sin(22 * (X - 0.5) + 7 * np.sin(6.5 * Y + 1.2))
    fill = mix(np.broadcast_to(tones.plain, canvas.shape), tones.light, stroke(whip, 0.34) * 0.8)
    gold = colour(0.93, 0.76, 0.3)
    drawn = finish_fill(canvas, fill, shape, tones.ink)
    return mix(
        mix(mix(drawn, colour(0.2, 0.12, 0.05), shape.band(0, 9)), gold, shape.band(-1.5, 7)), gold, shape.band(7, -4.5)
    )


def vaporwave(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """A sunset gradient cut by widening slits, with a cyan and a pink ghost beside it."""
    ghosts = mix(canvas, colour(0.1, 0.9, 1), shifted(shape.body, 9, 0) * 0.85)
    ghosts = mix(ghosts, colour(1, 0.3, 0.75), shifted(shape.body, -9, 0) * 0.85)
    sunset = mix(tones.light, tones.plain * 0.8, np.clip(1.5 * Y - 0.3, 0, 1)[..., None])
    pink = mix(sunset, colour(1, 0.45, 0.8), (0.45 * np.clip(1.2 - 1.5 * Y, 0, 1))[..., None])
    slits = ((Y * 14) % 1 < np.clip(1.3 * Y - 0.45, 0, 0.5)).astype(np.float32)
    return finish_fill(ghosts, mix(pink, colour(0.25, 0.05, 0.4), slits * 0.8), shape, colour(0.25, 0.05, 0.4))


def impressionist(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """Thick short dabs of four neighbouring tones that ruffle the outline."""
    cell = np.floor(X * 9 + 0.5 * np.sin(Y * 33)), np.floor(Y * 17 + 0.8 * np.sin(X * 24))
    tone = (cell[0] * 7 + cell[1] * 3) % 4
    fill = np.broadcast_to(tones.plain, canvas.shape)
    warm, cool = (
        np.clip(tones.plain * colour(1.5, 1.1, 0.6) + 0.1, 0, 1),
        np.clip(tones.plain * colour(0.55, 0.85, 1.5) + 0.05, 0, 1),
    )
    for index, other in ((1, warm), (2, cool), (3, tones.light)):
        fill = mix(fill, other, (tone == index).astype(np.float32))
    ragged = Shape(shape.distance + 3.2 * np.sin(X * 75 + Y * 22) * np.sin(Y * 66) - 0.5, shape.lines)
    halo = mix(canvas, tones.dark, ragged.band(0, 3) * 0.5)
    return finish_fill(halo, fill, ragged, tones.ink)


def pop_art(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """Printed dots in the lower half, a thick black outline, a white misprint around it."""
    dots = (np.hypot((X * 17) % 1 - 0.5, (Y * 17) % 1 - 0.5) < 0.12 + 0.3 * np.clip(Y - 0.25, 0, 0.8)).astype(
        np.float32
    )
    fill = mix(np.broadcast_to(tones.light, canvas.shape), tones.plain * 0.92, dots)
    printed = mix(canvas, 0.99, shape.band(0, 11))
    drawn = finish_fill(printed, fill, shape, INK)
    return mix(drawn, INK, shape.band(0, 5.5))


def cubism(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """Facets of light and shade with dark seams, as if folded from paper."""
    first, second = np.floor((X + 0.55 * Y) * 5.2), np.floor((Y - 0.7 * X + 1) * 5.2)
    facet = (first * 2 + second * 3) % 4
    seams = np.maximum(stripes((X + 0.55 * Y) * 5.2 + 0.03, 1, 0.06), stripes((Y - 0.7 * X + 1) * 5.2 + 0.03, 1, 0.06))
    fill = np.broadcast_to(tones.plain, canvas.shape)
    for index, tone in ((1, tones.light), (2, tones.dark), (3, 0.6 * tones.plain + 0.25)):
        fill = mix(fill, tone, (facet == index).astype(np.float32) * 0.9)
    drawn = finish_fill(canvas, mix(fill, INK, seams * 0.75), shape, tones.ink)
    return mix(drawn, INK, shape.band(0, 2.5))


def art_deco(canvas: np.ndarray, shape: Shape, tones: Tones) -> np.ndarray:
    """Two steps of gold that follow the outline inwards, and a fan of fine rays."""
    gold = colour(0.9, 0.74, 0.36)
    steps = ((shape.distance % 13 < 6) & (shape.distance > 3) & (shape.distance < 24)).astype(np.float32)
    rays = stripes(np.arctan2(X - 0.5, 1.02 - Y), np.pi / 18, 0.3)
    fill = mix(np.broadcast_to(tones.plain, canvas.shape), tones.dark, rays * 0.55)
    drawn = finish_fill(canvas, mix(fill, gold, steps), shape, tones.ink)
    return mix(mix(drawn, colour(0.08, 0.07, 0.08), shape.band(0, 6)), gold, shape.band(-2, 4.5))


STYLES: dict[str, Callable[[np.ndarray, Shape, Tones], np.ndarray]] = {
    "anime": anime,
    "cyberpunk": cyberpunk,
    "art nouveau": art_nouveau,
    "vaporwave": vaporwave,
    "impressionist": impressionist,
    "pop art": pop_art,
    "cubism": cubism,
    "art deco": art_deco,
}
