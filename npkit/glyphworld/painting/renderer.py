"""Renderer: a GlyphWorld scene (subject, colour, place, modifiers) painted in 96x96 RGB, with its subject's mask.

Each category of modifiers owns one aspect of the picture, so that one word of each composes: perspective the layout,
artist the palette and the pattern behind the subject, style how the subject is drawn, vibe light and weather, booster
the finish, format the sheet. Of two words of one category the first rules.
"""

from dataclasses import dataclass, field

import numpy as np

from npkit.glyphworld.painting import drawing, finishes, formats, grounds, layouts, weather
from npkit.glyphworld.painting.canvas import Shape, blur, mix, rgb, shifted, shrink, to_bytes
from npkit.glyphworld.painting.guard import keep_legible
from npkit.glyphworld.vocabulary import CATEGORY_OF, COLOURS, PLACES, SUBJECTS

TONES = {"white": 1.0, "black": 0.0}  # a white subject that drowns is not made darker, nor a black one lighter


@dataclass(frozen=True)
class Scene:
    """What a picture shows: one subject, perhaps its colour and place, and modifiers, the first of a category first."""

    subject: str
    modifiers: tuple[str, ...] = ()
    colour: str | None = None
    place: str | None = None


@dataclass(frozen=True)
class Picture:
    """A painted scene: `pixels` (96, 96, 3) uint8, `mask` (96, 96) float in [0, 1] where the subject is."""

    pixels: np.ndarray
    mask: np.ndarray = field(repr=False)


def render(scene: Scene, rng: np.random.Generator) -> Picture:
    """Paint `scene`; `rng` chooses only what words leave open: hues and the exact position.

    Raises ValueError for a subject or modifier that GlyphWorld does not have.
    """
    _check(scene)
    words = ruling(scene.modifiers)
    colours = palette(scene, words.get("artist"), rng)
    shape = layouts.place(
        scene.subject, layouts.LAYOUTS.get(words.get("perspective"), layouts.PLAIN), rng.normal(0, 0.018, 2)
    )
    canvas = paint_ground(scene, words, colours, shape)
    canvas = drawing.STYLES.get(words.get("style"), drawing.plain)(
        canvas, shape, drawing.Tones(colours[grounds.SUBJECT])
    )
    if "vibe" in words:
        canvas = weather.lay_over(words["vibe"], canvas, shape)
    canvas = finishes.BOOSTERS.get(words.get("booster"), finishes.unpolished)(canvas, shape)
    canvas = layouts.LENSES.get(words.get("perspective"), _unchanged)(canvas, shape)
    canvas = keep_legible(canvas, shape, TONES.get(scene.colour))
    return onto_sheet(words.get("format"), canvas, shape)


def _check(scene: Scene) -> None:
    if scene.subject not in SUBJECTS:
        raise ValueError(f"GlyphWorld has no subject {scene.subject!r}; it has {', '.join(SUBJECTS)}")
    unknown = set(scene.modifiers) - set(CATEGORY_OF)
    if unknown:
        raise ValueError(f"GlyphWorld has no modifier {min(unknown)!r}; it has {', '.join(CATEGORY_OF)}")


def ruling(modifiers: tuple[str, ...]) -> dict[str, str]:
    """The first modifier of each category that has one."""
    return {CATEGORY_OF[name]: name for name in reversed(modifiers)}


def palette(scene: Scene, artist: str | None, rng: np.random.Generator) -> np.ndarray:
    """Colours (5, 3) RGB: the artist's or any, but the place's ground and the subject's colour where they are named."""
    hue, coin, jitter = rng.random(), rng.random(), rng.normal(0, 0.012, 3)
    is_dark = np.mean([value for _, _, value in PLACES[scene.place]]) < 0.5 if scene.place else coin < 0.5
    colours = rgb(np.array(grounds.PALETTES[artist]) if artist else open_palette(hue, is_dark))
    if scene.place:
        colours[:2] = rgb(np.array(PLACES[scene.place]))
    if scene.colour:
        colours[grounds.SUBJECT] = rgb(np.array([COLOURS[scene.colour]]))[0]
    return np.clip(colours + jitter, 0, 1).astype(np.float32)


def open_palette(hue: float, is_dark: bool) -> np.ndarray:
    """Hue, saturation, value (5, 3) around `hue`: a light subject of the opposite hue on a dark ground, or the reverse.
    """
    shifts = (0, 0.06, 0.1, 0, 0.5)
    light, dark = ((0.3, 0.92), (0.36, 0.72), (0.2, 1), (0.4, 0.6), (0.72, 0.56)), \
        ((0.5, 0.38), (0.45, 0.22), (0.4, 0.6), (0.4, 0.3), (0.6, 0.88))
    return np.array([(hue + shift, *tone) for shift, tone in zip(shifts, dark if is_dark else light, strict=True)])


def paint_ground(scene: Scene, words: dict[str, str], colours: np.ndarray, shape: Shape) -> np.ndarray:
    """What is behind the subject, with the subject's soft shadow on it."""
    ground = grounds.PATTERNS.get(words.get("artist"), grounds.plain)(colours)
    if scene.place:
        ground = grounds.in_place(ground, scene.place, 0.6 if "artist" in words else 1.0)
    ground = layouts.STAGES.get(words.get("perspective"), _unchanged)(ground, shape)
    return mix(ground, ground * 0.7, blur(shifted(shape.body, 3, 5), 5))


def onto_sheet(name: str | None, canvas: np.ndarray, shape: Shape) -> Picture:
    """The finished picture: the canvas on its sheet, at half the size, and where the subject went."""
    sheet = formats.FORMATS.get(name, _unchanged)(canvas, shape)
    mask = shape.body
    if name in formats.MARGINS:
        mask = formats.inset(mask, np.zeros_like(mask), formats.MARGINS[name])
    return Picture(to_bytes(shrink(sheet, 2)), shrink(mask, 2))


def _unchanged(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    return canvas
