"""Glyphs: the outlines of GlyphWorld's subjects, signs of the DejaVu Sans font, as distances to their edges."""
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from npkit.glyphworld.vocabulary import SUBJECTS

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
GLYPH = 256  # pixels a side of a glyph's square
EXTENT = 128  # pixels of its longer side within that square
FINE = 2  # glyphs are measured on a grid twice as fine: a distance is no better than its pixels
SMALL_HOLE = 0.5  # a hole below this share of the ink is drawn (an eye); one sees through the gear's alone


@cache
def glyph(subject: str) -> tuple[np.ndarray, np.ndarray]:
    """Signed distances (GLYPH, GLYPH) in pixels to the edge of the subject's body and of the lines drawn on it."""
    character, outlined = SUBJECTS[subject]
    ink = _draw(character)
    body = ndimage.binary_fill_holes(ink) if outlined else _fill_small_holes(ink)
    lines = ink if outlined else body & ~ink
    return _distance(body), _distance(lines)


def _draw(character: str) -> np.ndarray:
    """The character in the middle of a fine square, its longer side EXTENT pixels of the coarse one."""
    font = ImageFont.truetype(str(FONT), 500)
    sheet = Image.new("L", (1000, 1000))
    ImageDraw.Draw(sheet).text((250, 150), character, font=font, fill=255)
    cut = sheet.crop(sheet.getbbox())
    factor = EXTENT * FINE / max(cut.size)
    cut = cut.resize([max(1, round(side * factor)) for side in cut.size], Image.LANCZOS)
    square = Image.new("L", (GLYPH * FINE, GLYPH * FINE))
    square.paste(cut, ((GLYPH * FINE - cut.width) // 2, (GLYPH * FINE - cut.height) // 2))
    return np.asarray(square) > 127


def _fill_small_holes(ink: np.ndarray) -> np.ndarray:
    holes, count = ndimage.label(ndimage.binary_fill_holes(ink) & ~ink)
    areas = ndimage.sum_labels(np.ones_like(holes), holes, np.arange(1, count + 1))
    small = 1 + np.flatnonzero(areas < SMALL_HOLE * ink.sum())
    return ink | np.isin(holes, small)


def _distance(inside: np.ndarray) -> np.ndarray:
    """Distances to the edge, positive inside, on the coarse grid."""
    if not inside.any():
        return np.full((GLYPH, GLYPH), -float(GLYPH), np.float32)
    fine = ndimage.distance_transform_edt(inside) - ndimage.distance_transform_edt(~inside)
    return (fine.reshape(GLYPH, FINE, GLYPH, FINE).mean((1, 3)) / FINE).astype(np.float32)
