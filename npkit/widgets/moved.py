"""Moved: a lesson's function with a slider for each argument, its result drawn as a picture, a figure, a table or text.

    moved(lambda temperature: shares(temperature), temperature=(1.0, 0.2, 2.0, 0.1))

It is drawn again when a slider is let go. What comes of it is set as a trait, so that nothing depends on which cell
prints; errors appear in words in its place.
"""
import base64
import html
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from ipywidgets import HTML, Checkbox, Dropdown, FloatSlider, IntSlider, Layout, VBox, Widget

from npkit.errors import NpkitError
from npkit.widgets.voting import escaped, picture_uri

WIDE = Layout(width="min(34em, 100%)")
LABEL = {"description_width": "12em"}
FEW = 20  # steps of a slider of floats whose step is not given


class Moved(VBox):
    """The sliders, by name in `sliders`, and below them what the function makes of their values."""

    def __init__(self, function: Callable, ranges: dict[str, object]):
        self.function = function
        self.sliders = {name: control(name, allowed) for name, allowed in ranges.items()}
        self.result = HTML()
        super().__init__([*self.sliders.values(), self.result])
        for slider in self.sliders.values():
            slider.observe(self.draw, "value")
        self.draw()

    @property
    def values(self) -> dict[str, object]:
        """What the sliders say now."""
        return {name: slider.value for name, slider in self.sliders.items()}

    def draw(self, _change: object = None) -> None:
        """Call the function with the sliders' values and show what it returns, or what went wrong."""
        values = self.values
        try:
            shown = as_html(self.function(**values), words_of(values))
        except NpkitError as error:
            shown = f'<p role="alert">{escaped(str(error))}</p>'
        except Exception as error:  # noqa: BLE001 (a callback's error is shown nowhere else)
            shown = f'<p role="alert">{escaped(f"{type(error).__name__}: {error}")}</p>'
        self.result.value = shown


def moved(function: Callable, **ranges: object) -> Moved:
    """Return a widget that calls `function` with one value of each range, by name; its first is the range's first.

    A range is (first, lowest, highest) or (first, lowest, highest, step) of numbers, a list of choices, or True or
    False. The function returns a figure, a picture, a table, or anything with a text.
    """
    if not ranges:
        raise NpkitError("moved needs a range for each argument, such as temperature=(1.0, 0.2, 2.0)")
    return Moved(function, ranges)


def control(name: str, allowed: object) -> Widget:
    """Return the slider, list or box of an argument."""
    options = {"description": name.replace("_", " "), "style": LABEL, "layout": WIDE}
    if isinstance(allowed, bool):
        return Checkbox(value=allowed, indent=True, **options)
    if isinstance(allowed, list) and allowed:
        return Dropdown(options=allowed, value=allowed[0], **options)
    numbers = allowed if isinstance(allowed, tuple) else ()
    if len(numbers) not in (3, 4) or not all(type(each) in (int, float) for each in numbers) or not (
            numbers[1] <= numbers[0] <= numbers[2]):
        raise NpkitError(f"the range of {name} is (first, lowest, highest), perhaps with a step, a list, or True or "
                         f"False; got {allowed!r}")
    first, low, high, *step = numbers
    if all(type(each) is int for each in numbers):
        return IntSlider(value=first, min=low, max=high, step=step[0] if step else 1, continuous_update=False,
                         **options)
    return FloatSlider(value=first, min=low, max=high, step=step[0] if step else (high - low) / FEW,
                       continuous_update=False, **options)


def as_html(result: object, words: str) -> str:
    """Return what a function has returned as HTML; `words` say of a picture what it was made with."""
    if isinstance(result, pd.Series):
        result = result.to_frame()
    if isinstance(result, pd.DataFrame):
        with pd.option_context("display.max_colwidth", None):  # prompts whole
            return result.to_html(border=0)  # escapes what the cells hold
    if callable(getattr(result, "_repr_png_", None)):
        return picture_html(f"data:image/png;base64,{as_base64(result._repr_png_())}", words)
    if isinstance(result, np.ndarray) or type(result).__name__ == "Tensor":
        return picture_html(picture_uri(result), words, "width: 288px; image-rendering: auto")
    return f"<pre>{escaped(result if isinstance(result, str) else repr(result))}</pre>"


def as_base64(png: bytes | str) -> str:
    """Return a PNG's bytes as base64; PIL and matplotlib give bytes, others the text already."""
    return png if isinstance(png, str) else base64.b64encode(png).decode()


def picture_html(address: str, words: str, style: str = "max-width: 100%") -> str:
    """Return a picture as HTML, with words for those who do not see it."""
    return f'<img alt="{html.escape(words)}" src="{address}" style="{style}">'


def words_of(values: dict[str, object]) -> str:
    """Return the values in words, such as "temperature 0.7, seed 3"."""
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" if isinstance(value, float) else
                     f"{name.replace('_', ' ')} {value}" for name, value in values.items())


def twin(function: Callable, **columns: Sequence) -> pd.DataFrame:
    """Return the function's results for a few values of each argument, a row each: the widget's twin for paper.

    All sequences have the same length; of a result that is a number or a text, a column `result`.
    """
    rows = [dict(zip(columns, values)) for values in zip(*columns.values(), strict=True)]
    return pd.DataFrame([row | as_row(function(**row)) for row in rows])


def as_row(result: object) -> dict[str, object]:
    """Return a result as the cells of a row: of a dictionary or series its entries, of anything else itself."""
    if isinstance(result, dict):
        return result
    return dict(result) if isinstance(result, pd.Series) else {"result": result}
