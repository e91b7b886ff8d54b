"""Lettering: what fonts have is drawn as it is, what they lack is written out, and lines keep to their width."""
import warnings

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from npkit.figures import lettering, new_figure
from npkit.figures.lettering import readable, wrap


@pytest.mark.parametrize(("text", "written"), [
    ("ren\u00e9 magritte, \u0142\u00f3d\u017a, Gr\u00f6\u00dfe, e\u0301, \u05e9\u05dc\u05d5\u05dd", None),
    ("$5 and $6, \\frac{1}{2} ^_^ [x]", None),
    ("\u2744 \u2764\ufe0f", None),
    ("a \U0001F98A fox", "a [fox face] fox"),
    ("\U0001F98A\U0001F680", "[fox face, rocket]"),
    ("\u98a8\u666f \ud55c", "[U+98A8, U+666F] [U+D55C]"),
    ("\uff4f\uff49\uff4c\uff0c \U0001D58B\U0001D594\U0001D59D", "oil, fox"),
    ("a\tb\u3000c\nd", "a b c d"),
    ("a\x00\udcff", "a[U+0000, U+DCFF]"),
    ("a\U000E0061b", "ab"),
    ("", None),
])
def test_text_is_drawn_or_written_out(text, written):
    assert readable(text) == (text if written is None else written)
    assert readable(readable(text)) == readable(text)


def test_different_letters_stay_different():
    letters = [chr(code) for start in (0x4E00, 0xAC00, 0x0E01, 0x0905, 0x1F900) for code in range(start, start + 40)]
    assert len({readable(letter) for letter in letters}) == len(letters)


def test_lines_keep_to_their_width():
    assert wrap("oil painting, by rembrandt", 13) == ["oil painting,", "by rembrandt"]
    assert wrap("a \U0001F98A fox", 11) == ["a [fox", "face] fox"]
    assert wrap("one two three four five", 9, max_lines=2) == ["one two", "three ..."]


def png(text: str) -> bytes:
    figure, axes = new_figure(3, 1)
    axes.set_title(text)
    return figure._repr_png_()


def test_the_picture_is_that_of_the_text_written_out():
    assert png("a \U0001F98A, \u98a8\u666f") == png("a [fox face], [U+98A8, U+666F]") != png("a , ")


@pytest.fixture
def font_with_a_wind(tmp_path, monkeypatch):
    """A font called Noto Sans CJK JP, with one letter, installed for the time of a test."""
    pen = TTGlyphPen(None)
    for place, corner in enumerate([(0, 0), (0, 900), (900, 900), (900, 0)]):
        (pen.lineTo if place else pen.moveTo)(corner)
    pen.closePath()
    glyph, builder = pen.glyph(), FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "wind"])
    builder.setupCharacterMap({0x98A8: "wind"})
    builder.setupGlyf({".notdef": glyph, "wind": glyph})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "wind": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=0)
    builder.setupNameTable({"familyName": "Noto Sans CJK JP", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "wind.ttf")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [*font_manager.fontManager.ttflist])
    font_manager.fontManager.addfont(tmp_path / "wind.ttf")
    lettering.drawable.cache_clear()
    yield "Noto Sans CJK JP"
    lettering.drawable.cache_clear()


def test_an_installed_font_draws_what_dejavu_lacks(font_with_a_wind):
    assert readable("\u98a8\u666f") == "\u98a8[U+666F]"
    figure, axes = new_figure(3, 1)
    axes.set_title("a \u98a8", family=lettering.installed_families())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # "Glyph ... missing from font"
        assert figure._repr_png_() != png("a [U+98A8]")
    assert wrap("\u98a8\u98a8\u98a8\u98a8", 4) == ["\u98a8\u98a8", "\u98a8\u98a8"]  # a wide letter takes two columns
