"""Renderer: a GlyphWorld scene (subject, colour, place, modifiers) painted in 64x64 RGB, with its subject's mask."""
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from npkit.glyphworld import effects
from npkit.glyphworld.canvas import CANVAS, backdrop, compose, rgb, soften, unchanged
from npkit.glyphworld.vocabulary import COLOURS, PLACES, SUBJECTS

SIZE = 64  # pixels a side of a finished picture, half the canvas's: against jagged edges
FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"


@dataclass(frozen=True)
class Scene:
    """What a picture shows: one subject, perhaps its colour and place, and modifiers in any order."""
    subject: str
    modifiers: tuple[str, ...] = ()
    colour: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Picture:
    """A painted scene: `pixels` (64, 64, 3) uint8, `mask` (64, 64) float in [0, 1] where the subject is."""
    pixels: np.ndarray
    mask: np.ndarray = field(repr=False)


def render(scene: Scene, rng: np.random.Generator) -> Picture:
    """Paint `scene`; `rng` chooses only what words leave open: the hue of the background and the exact position.

    Raises ValueError for a subject or modifier that GlyphWorld does not have.
    """
    _check(scene)
    active = [name for name in effects.ORDER if name in scene.modifiers]
    palette = _palette(scene, active, rng)
    body, lines = _place(scene, active, rng)
    canvas = backdrop(palette, body)
    for name in active:
        canvas = effects.BACKDROPS.get(name, unchanged)(canvas, body)
    canvas = compose(canvas, body, lines, palette)
    for name in active:
        canvas = effects.SURFACES.get(name, unchanged)(canvas, body)
    if not any(name in effects.CRISP for name in active):
        canvas = soften(canvas)
    for name in active:
        canvas = effects.OVERLAYS.get(name, unchanged)(canvas, body)
    return Picture(_halve(np.clip(canvas, 0, 1) * 255).round().astype(np.uint8), _halve(body[..., None])[..., 0])


def _check(scene: Scene) -> None:
    if scene.subject not in SUBJECTS:
        raise ValueError(f"GlyphWorld has no subject {scene.subject!r}; it has {', '.join(SUBJECTS)}")
    unknown = set(scene.modifiers) - set(effects.ORDER)
    if unknown:
        raise ValueError(f"GlyphWorld has no modifier {min(unknown)!r}; it has {', '.join(effects.ORDER)}")


def _palette(scene: Scene, active: list[str], rng: np.random.Generator) -> np.ndarray:
    """Colours (3, 3) RGB of upper background, lower background and subject: the mean of all that words ask for."""
    hue, jitter = rng.random(), rng.normal(0, 0.012, 3)
    hues = np.array([(hue, 0.35, 0.75), (hue + 0.08, 0.38, 0.55), (hue + 0.5, 0.65, 0.32)])
    if scene.place:
        hues[:2] = PLACES[scene.place]
        hues[2] = (hue, 0.65, 0.25 if hues[:2, 2].mean() > 0.5 else 0.9)
    colours = [effects.PALETTES[name] for name in active if name in effects.PALETTES]
    plain = rgb(hues)
    mixed = np.mean([rgb(np.array(c)) for c in colours], axis=0) if colours else plain
    if scene.colour:
        mixed[2] = rgb(np.array([COLOURS[scene.colour]]))[0]
    return np.clip(mixed + jitter[:, None], 0, 1)


@cache
def _glyph(subject: str) -> tuple[np.ndarray, np.ndarray]:
    """Body and inner lines (height, width) in [0, 1] of a subject's glyph; outlined glyphs get a filled body."""
    character, outlined = SUBJECTS[subject]
    font = ImageFont.truetype(str(FONT), 160)
    sheet = Image.new("L", (320, 320))
    ImageDraw.Draw(sheet).text((80, 60), character, font=font, fill=255)
    stroke = np.asarray(sheet.crop(sheet.getbbox()), float) / 255
    if not outlined:
        return stroke, np.zeros_like(stroke)
    body = ndimage.binary_fill_holes(stroke > 0.4).astype(float)
    return np.maximum(body, stroke), stroke


def _place(scene: Scene, active: list[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Body and lines (CANVAS, CANVAS) after scaling, positioning and the perspective's warp."""
    scale, (x, y) = 0.68, 0.5 + rng.normal(0, 0.018, 2)
    for name in active:
        scale, y = effects.LAYOUTS.get(name, lambda s, v: (s, v))(scale, y)
    layers = []
    for layer in _glyph(scene.subject):
        image = Image.fromarray((layer * 255).astype(np.uint8))
        factor = scale * CANVAS / max(image.size)
        image = image.resize([max(1, round(side * factor)) for side in image.size], Image.LANCZOS)
        sheet = Image.new("L", (CANVAS, CANVAS))
        sheet.paste(image, (round(x * CANVAS - image.width / 2), round(y * CANVAS - image.height / 2)))
        for name in active:
            if name in effects.WARPS:
                sheet = sheet.transform(sheet.size, Image.PERSPECTIVE, effects.WARPS[name], Image.BICUBIC)
        layers.append(np.asarray(sheet, float) / 255)
    return layers[0], layers[1]


def _halve(canvas: np.ndarray) -> np.ndarray:
    return canvas.reshape(SIZE, CANVAS // SIZE, SIZE, CANVAS // SIZE, -1).mean((1, 3))
