"""Lettering: text in figures as people wrote it; a character that no font has is written out, not drawn as a box."""
import textwrap
import unicodedata
from functools import cache
from itertools import groupby

from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg

# DejaVu Sans comes with matplotlib. It lacks Chinese, Japanese, Korean, Indic and Thai letters and newer emoji: the
# first family here that is installed and has the letter draws it. No colour fonts, which matplotlib cannot draw.
FAMILIES = ("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Source Han Sans", "WenQuanYi Zen Hei",
            "Hiragino Sans", "PingFang SC", "Yu Gothic", "Microsoft YaHei", "Malgun Gothic", "Apple SD Gothic Neo",
            "Arial Unicode MS", "Nirmala UI", "Leelawadee UI", "Noto Sans Devanagari", "Noto Sans Bengali",
            "Noto Sans Thai", "Noto Emoji", "Segoe UI Symbol", "Symbola")
PADDING = "\uE000"  # a private character that no text holds: counts as the second column of a wide letter


def installed_families() -> list[str]:
    """Return the families of `FAMILIES` that this machine has; naming another would make matplotlib warn."""
    return [family for family in FAMILIES if family in font_manager.fontManager.get_font_names()]


@cache
def drawable() -> frozenset[int]:
    """Return the code points that the installed families have, upright and bold."""
    styles = [set(), set()]
    for family in installed_families():
        for characters, weight in zip(styles, ("normal", "bold"), strict=True):
            font = font_manager.FontProperties(family=family, weight=weight)
            characters.update(font_manager.get_font(font_manager.findfont(font)).get_charmap())
    return frozenset(set.intersection(*styles))


def readable(text: str) -> str:
    """Return `text` with a stand-in for every character that no font has: `a [fox face], [U+98A8, U+666F]`.

    Symbols are called by their Unicode names, letters by their numbers. A form of a letter (full-width, script)
    becomes the letter, a tab a blank; what is invisible in every font is left out.
    """
    return "".join(f"[{', '.join(map(_name, part))}]" if missing else "".join(map(_plain, part))
                   for missing, part in groupby(text, _is_missing))


def _is_missing(character: str) -> bool:
    return not drawable().issuperset(map(ord, _plain(character)))


def _plain(character: str) -> str:
    """Return a character as it is drawn: itself, a blank, nothing, or its plain form, which fonts may lack too."""
    if ord(character) in drawable():
        return character
    if character.isspace():
        return " "
    invisible = unicodedata.category(character) == "Cf" or "VARIATION SELECTOR" in unicodedata.name(character, "")
    return "" if invisible else unicodedata.normalize("NFKC", character)


def _name(character: str) -> str:
    is_symbol = unicodedata.category(character).startswith("S")
    return unicodedata.name(character).lower() if is_symbol else f"U+{ord(character):04X}"


def wrap(text: str, width: int, max_lines: int | None = None) -> list[str]:
    """Return the lines of `readable(text)`, at most `width` columns each; East Asian letters take two.

    A text of more than `max_lines` ends in " ...".
    """
    padded = "".join(letter + PADDING * (unicodedata.east_asian_width(letter) in "WF") for letter in readable(text))
    return [line.replace(PADDING, "") for line in textwrap.wrap(padded, width, max_lines=max_lines, placeholder=" ...")]


class Renderer(RendererAgg):
    """Measures and draws every text of a figure (titles, ticks, legends, notes) as `readable` has it."""

    def get_text_width_height_descent(self, s, prop, ismath):
        return super().get_text_width_height_descent(readable(s), prop, ismath)

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        super().draw_text(gc, x, y, readable(s), prop, angle, ismath, mtext)


class Canvas(FigureCanvasAgg):
    """What a figure is drawn on, for PNG and the other pixel formats; SVG and PDF have renderers of their own."""
    size = None

    def get_renderer(self) -> Renderer:
        """Return the renderer, a new one where the figure's size has changed."""
        size = (*self.get_width_height(physical=True), self.figure.dpi)
        if size != self.size:
            self.renderer, self.size = Renderer(*size), size
        return self.renderer
