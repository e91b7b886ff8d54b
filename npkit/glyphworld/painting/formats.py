"""Formats: the sheet that holds the scene. Frames are laid around it, never over it; media keep the subject apart."""

from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from npkit.glyphworld.painting.canvas import (
    CANVAS,
    LUMINANCE,
    RADIUS,
    Shape,
    X,
    Y,
    blur,
    colour,
    contrast,
    mix,
    saturate,
    shifted,
    shrink,
    stripes,
    to_bytes,
)
from npkit.glyphworld.painting.glyphs import FONT

MARGINS: dict[str, tuple[float, float, float, float]] = {  # left, top, right, bottom: what the frame takes
    "oil painting": (0.09, 0.09, 0.09, 0.09),
    "photograph": (0.06, 0.06, 0.06, 0.18),
    "advertising poster": (0.05, 0.05, 0.05, 0.24),
}
BLOCKS = 32  # a side of pixel art
TITLE = "W O R L D"  # on every advertising poster
FONT_BOLD = FONT.with_name("DejaVuSans-Bold.ttf")


def inset(scene: np.ndarray, sheet: np.ndarray, margins: tuple[float, float, float, float]) -> np.ndarray:
    """The sheet with the scene, made smaller, within its margins; layers (CANVAS, CANVAS) or canvases."""
    left, top, right, bottom = (round(share * CANVAS) for share in margins)
    size = (CANVAS - left - right, CANVAS - top - bottom)
    small = np.asarray(Image.fromarray(to_bytes(scene)).resize(size, Image.BILINEAR, reducing_gap=None))
    sheet = sheet.copy()
    sheet[top : CANVAS - bottom, left : CANVAS - right] = small / np.float32(255)
    return sheet


# --- media: the scene drawn with another tool -----------------------------------------------------------------------
def render_3d(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """The subject thick as a block, its sides in shade, bevelled, with a shadow on the floor."""
    shadow = np.exp(-(((X - 0.54) / 0.3) ** 2) - ((Y - 0.88) / 0.04) ** 2)
    scene = mix(canvas, canvas * 0.3, shadow * 0.75)
    side = np.clip(sum(shifted(shape.body, step, step) for step in (3, 6, 9, 12)), 0, 1) * (1 - shape.body)
    tone = (canvas * shape.body[..., None]).sum((0, 1)) / max(shape.body.sum(), 1)
    scene = mix(scene, tone * 0.38, side)
    scene = mix(scene, 1.0, np.clip(shape.faces(-0.7, -0.7), 0, 1) * 0.55)
    return mix(scene, scene * 0.4, np.clip(shape.faces(0.7, 0.7), 0, 1) * 0.6)


def stained_glass(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Panes of richer colour between lead lines, which end at the subject's own."""
    panes, lead = _panes()
    glass = saturate(canvas, 1.6) * (panes + (1 - panes) * 0.6 * shape.body)[..., None]
    return mix(np.clip(glass, 0, 1), 0.03, np.maximum(lead * (1 - shape.band(99, 5)), shape.band(0, 5)))


@cache
def _panes() -> tuple[np.ndarray, np.ndarray]:
    rising, falling = (X + Y) / 0.36 + 0.1, (X - Y) / 0.36 + 0.1
    tone = (np.floor(rising) * 2 + np.floor(falling)) % 3
    lead = np.maximum(stripes(rising, 1, 0.075), stripes(falling, 1, 0.075))
    return (0.78 + 0.2 * tone).astype(np.float32), np.maximum(lead, (np.maximum(abs(X - 0.5), abs(Y - 0.5)) > 0.48))


def watercolor(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Thin colour that runs out towards the paper's edge, pooled along the subject's outline."""
    run = RADIUS + 0.022 * np.sin(np.arctan2(Y - 0.5, X - 0.5) * 7) + 0.012 * np.sin(31 * X + 17 * Y)
    paper = np.clip(13 * run - 5.9, 0, 1) * (1 - 0.6 * shape.body)
    pooled = np.clip(1 - np.abs(run - 0.445) / 0.02, 0, 1) * (1 - shape.body)
    cloudy = (0.86 + 0.14 * np.sin(8 * X + 5 * np.sin(6 * Y)))[..., None]
    wash = 1 - (1 - saturate(blur(canvas, 1), 1.25)) * mix(0.82 * cloudy, 1.0, 0.8 * shape.body)
    wash = mix(wash, wash * 0.6, np.maximum(shape.band(4, 1) * 1.1, pooled))
    return mix(wash, colour(0.985, 0.975, 0.94), paper)


def pixel_art(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Blocks of few colours, the ground calmer and dithered, the subject outlined by blocks that stand out."""
    factor = CANVAS // BLOCKS
    blocks, body = shrink(contrast(canvas, 1.1), factor), shrink(shape.body, factor)
    ground = np.average(blocks, axis=(0, 1), weights=1.001 - body)
    calm = mix(blocks, mix(blur(blocks, 1), ground, 0.25), (body < 0.5) * np.float32(0.7))
    chess = (np.indices((BLOCKS, BLOCKS)).sum(0) % 2 - 0.5) * 0.1 * (body < 0.5)
    few = np.round(np.clip(calm + chess[..., None], 0, 1) * 6) / 6
    outline = ((body < 0.4) & (ndimage.maximum_filter(body, 3) > 0.4)).astype(np.float32)
    few = mix(few, 0.04 if ground @ LUMINANCE > 0.3 else 0.93, outline * 0.85)
    return few.repeat(factor, 0).repeat(factor, 1).astype(np.float32)


def pencil(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Graphite on paper: edges as lines, shade as hatching, a breath of colour; the ground with a light hand."""
    soft = blur(canvas, 0.8)
    down, right = np.gradient(soft, axis=(0, 1))
    edges = np.clip(9 * (np.abs(down) + np.abs(right)).max(-1), 0, 1)
    grey = soft @ LUMINANCE
    hatch = stripes(X + Y, 0.036, 0.5) * (grey < 0.56) * 0.5 + stripes(X - Y, 0.036, 0.5) * (grey < 0.3) * 0.35
    graphite = (
        np.maximum(edges * 0.8, hatch) * (0.5 + 0.35 * shape.body) * (1 - 0.85 * shape.band(0, 8) * (1 - shape.body))
    )
    graphite = np.maximum(graphite, np.maximum(shape.band(1.5, 3), shape.lines * shape.body * 0.85))
    paper = mix(np.broadcast_to(colour(0.97, 0.96, 0.93), canvas.shape), canvas, 0.2)
    return mix(paper, 0.13, graphite * 0.88)


# --- frames: what is laid around the scene --------------------------------------------------------------------------
def oil_painting(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """Ridges of paint, in a carved frame of wood and gold."""
    ridges = np.sin(X * 150 + 2.5 * np.sin(Y * 37)) * np.sin(Y * 120 + 2 * np.sin(X * 31))
    thick = np.clip(saturate(canvas, 1.2) + (0.055 - 0.025 * shape.body)[..., None] * ridges[..., None], 0, 1)
    return inset(thick, _wood(), MARGINS["oil painting"])


@cache
def _wood() -> np.ndarray:
    out = np.maximum(np.abs(X - 0.5), np.abs(Y - 0.5))
    carved = (0.85 + 0.15 * np.sin(np.where(np.abs(X - 0.5) > np.abs(Y - 0.5), Y, X) * 110))[..., None]
    wood = mix(
        colour(0.42, 0.25, 0.1) * carved, colour(0.93, 0.74, 0.32), ((out > 0.465) | (out < 0.425)) * np.float32(1)
    )
    return wood * np.where((X - Y > 0) == (X + Y > 1), 0.86, 1.05)[..., None].astype(np.float32)


def photograph(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """An instant photograph: a white card, wider below, the corners of the picture darker."""
    picture = np.clip(canvas * np.clip(1.1 - 0.75 * RADIUS**2, 0, 1.1)[..., None], 0, 1)
    card = (
        np.full_like(canvas, 0.97)
        - 0.07 * np.clip((np.maximum(abs(X - 0.5), abs(Y - 0.5)) - 0.485) * 90, 0, 1)[..., None]
    )
    return inset(picture, card, MARGINS["photograph"])


def poster(canvas: np.ndarray, shape: Shape) -> np.ndarray:
    """A printed sheet with a red band of lettering under the scene."""
    return inset(contrast(canvas, 1.08), _print(), MARGINS["advertising poster"])


@cache
def _print() -> np.ndarray:
    sheet = np.broadcast_to(colour(0.97, 0.93, 0.82), (CANVAS, CANVAS, 3))
    band = ((Y > 0.79) & (Y < 0.955) & (np.abs(X - 0.5) < 0.45)).astype(np.float32)
    letters = Image.new("L", (CANVAS, CANVAS))
    ImageDraw.Draw(letters).text(
        (CANVAS / 2, 0.873 * CANVAS), TITLE, font=ImageFont.truetype(str(FONT_BOLD), 27), fill=255, anchor="mm"
    )
    letters = np.asarray(letters, np.float32) / 255
    return mix(mix(sheet, colour(0.8, 0.1, 0.12), band), colour(1, 0.96, 0.85), letters)


FORMATS: dict[str, Callable[[np.ndarray, Shape], np.ndarray]] = {
    "3d render": render_3d,
    "stained glass window": stained_glass,
    "watercolor painting": watercolor,
    "pixel art": pixel_art,
    "pencil sketch": pencil,
    "oil painting": oil_painting,
    "photograph": photograph,
    "advertising poster": poster,
}
