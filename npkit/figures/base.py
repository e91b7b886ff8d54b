"""Figures: one style, one colour and marker per variant, and grids of pictures, shared by every notebook.

A figure function returns a `Figure` and never touches pyplot's state. `styled` holds the kit's style for all it draws,
legends and notes included, whatever style the session has chosen:

    @styled
    def scores(steps, values) -> Figure:
        figure, axes = new_figure(7, 3.5)
        axes.plot(steps, values)
        return figure
"""
import io
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib.figure
import matplotlib.style
import numpy as np
import pandas as pd
import seaborn
from matplotlib.axes import Axes

from npkit.figures.lettering import Canvas, installed_families, wrap


class VariantStyle(NamedTuple):
    """How a variant looks in every figure: colour (most of Okabe and Ito's or Tol's safe ones) and marker."""
    color: str
    marker: str


VARIANT_STYLE = {
    "prefix": VariantStyle("#7A7A7A", "o"),
    "human": VariantStyle("#009E73", "s"),
    "prefix+boosters": VariantStyle("#999933", "p"),
    "random": VariantStyle("#AA4499", "X"),
    "frequent": VariantStyle("#6B4E16", "d"),
    "sft": VariantStyle("#56B4E9", "^"),
    "best-of-n": VariantStyle("#000000", "h"),
    "sft+beam": VariantStyle("#332288", "<"),
    "sft+nl": VariantStyle("#0072B2", "v"),
    "ppo": VariantStyle("#E69F00", "D"),
    "ppo+beam": VariantStyle("#882255", "P"),
    "ppo+nl": VariantStyle("#D55E00", ">"),
}
SIDE_LINE = 0.16  # inches of a line of a row title
INK, MUTED, PALE = "#26262B", "#7A7A7A", "#E4E4E8"  # text; notes and reference lines; grid lines
STYLE = {
    "font.size": 10,
    "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.edgecolor": "#9A9AA2", "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.grid": True, "grid.color": PALE, "grid.linewidth": 0.8, "legend.frameon": False, "legend.fontsize": 9,
    "legend.title_fontsize": 9, "axes.titlesize": 11, "figure.labelsize": 10,
    "font.family": installed_families(), "text.parse_math": False,  # prompts have dollars, which are no formulas
}
styled = matplotlib.style.context(["default", STYLE])  # a decorator; "default" first: no setting of the session stays


class Figure(matplotlib.figure.Figure):
    """A matplotlib Figure that shows itself as the last line of a notebook cell, without pyplot."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        Canvas(self)

    @styled
    def draw(self, renderer) -> None:
        """Draw the figure; matplotlib makes tick labels only now."""
        super().draw(renderer)

    @styled
    def savefig(self, *args, **options) -> None:
        """Write the figure to a file."""
        super().savefig(*args, **options)

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def style_of(name: str) -> VariantStyle:
    """Return the style of a variant, or of one on some prefixes alone, such as "human (with a completion)"."""
    return VARIANT_STYLE[name.partition(" (")[0]]


@styled
def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **options) -> tuple[Figure, Axes]:
    """Return a figure of `width` x `height` inches in the kit's style and its axes (an array of several)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


@styled
def note_profile(figure: Figure, profile: str) -> Figure:
    """Write "tiny profile: not a result" under a figure drawn from the tiny profile; return the figure."""
    if profile == "tiny":
        figure.text(1, 0, "tiny profile: not a result", ha="right", va="top", fontsize=8, style="italic", color=MUTED)
    return figure


@styled
def picture_sheet(pictures: Sequence, titles: Sequence[str] = (), columns: int = 6, *,
                  column_titles: Sequence[str] = (), row_titles: Sequence[str] = (), size: float = 1.6) -> Figure:
    """Return a grid of pictures, read row by row, each with its title wrapped underneath.

    A picture is a (3, height, width) tensor in [0, 1], a (height, width, 3) array or a PIL image; None leaves a gap.
    `size` is the width of a picture in inches. Column titles take the colour of the variant they name.
    """
    captions = [wrap(title, int(size * 17)) for title in titles] or [[]] * len(pictures)
    rows = [range(start, min(start + columns, len(pictures))) for start in range(0, len(pictures), columns)]
    sides = [wrap(title, 16) for title in row_titles] or [[]] * len(rows)
    heights = [max(size + 0.15 + 0.145 * max(len(captions[index]) for index in row), 0.1 + SIDE_LINE * len(side))
               for row, side in zip(rows, sides, strict=True)]
    left, top = 1.3 * bool(row_titles) + 0.06, 0.3 * bool(column_titles) + 0.05
    x, y = left + np.arange(columns) * (size + 0.12), sum(heights)  # x, y: inches from the lower left corner
    figure = Figure(figsize=(left + columns * (size + 0.12), top + y))
    for column, title in enumerate(column_titles):
        color = VARIANT_STYLE[title].color if title in VARIANT_STYLE else INK
        _write(figure, title, x[column] + size / 2, y + 0.08, color=color, fontsize=10.5, ha="center", weight="bold")
    for row, cells in enumerate(rows):
        if sides[row]:
            middle = y - max(size, SIDE_LINE * len(sides[row])) / 2
            _write(figure, "\n".join(sides[row]), 0.06, middle, va="center", fontsize=9, weight="bold")
        for column, index in enumerate(cells):
            _show(figure, pictures[index], x[column], y - size, size)
            _write(figure, "\n".join(captions[index]), x[column], y - size - 0.05, va="top", fontsize=7.5)
        y -= heights[row]
    return figure


def _write(figure: Figure, text: str, x: float, y: float, color: str = INK, **options) -> None:
    width, height = figure.get_size_inches()  # in shares of the figure: a tight bounding box moves those with the axes
    figure.text(x / width, y / height, text, color=color, linespacing=1.25, **options)


def _show(figure: Figure, picture, x: float, y: float, size: float) -> None:
    if picture is not None:
        width, height = figure.get_size_inches()
        axes = figure.add_axes((x / width, y / height, size / width, size / height))
        axes.imshow(as_array(picture), interpolation="lanczos")
        axes.set_axis_off()


def scatter_in_rows(table: pd.DataFrame, **options) -> None:
    """Draw seaborn's `stripplot`; its jitter comes from numpy's global generator, seeded here and put back."""
    state = np.random.get_state()
    np.random.seed(0)
    try:
        seaborn.stripplot(table, **options)
    finally:
        np.random.set_state(state)


def as_array(picture) -> np.ndarray:
    """Return a picture (tensor, array or PIL image) as a (height, width, 3) array that `imshow` takes."""
    array = np.asarray(picture)
    return array.transpose(1, 2, 0) if array.shape[0] == 3 and array.shape[-1] != 3 else array


def label_tokens(axes: Axes, tokens: Sequence[str]) -> None:
    """Write a token under each whole number of the x axis: blanks visible, line breaks and the like escaped."""
    names = [repr(token)[1:-1].replace(" ", "␣") for token in tokens]
    axes.set_xticks(range(len(tokens)), names, rotation=50, ha="right", rotation_mode="anchor", fontsize=8.5)
