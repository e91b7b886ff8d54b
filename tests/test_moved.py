"""Moved: a slider for each argument, results as pictures, tables and text, errors in words, a twin as a table."""
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from npkit import figures
from npkit.errors import NpkitError
from npkit.widgets.moved import moved, twin


def test_a_slider_for_each_argument_draws_again_when_it_is_let_go():
    asked = []
    widget = moved(lambda temperature, seed: asked.append((temperature, seed)) or f"{temperature:.1f} <b> {seed}",
                   temperature=(1.0, 0.2, 2.0, 0.1), seed=(3, 0, 9))
    assert [slider.description for slider in widget.sliders.values()] == ["temperature", "seed"]
    assert not any(slider.continuous_update for slider in widget.sliders.values())
    assert widget.result.value == "<pre>1.0 &lt;b&gt; 3</pre>"
    widget.sliders["temperature"].value = 0.5
    assert widget.result.value == "<pre>0.5 &lt;b&gt; 3</pre>"
    assert asked == [(1.0, 3), (0.5, 3)]


def test_figures_pictures_and_tables_are_shown_and_pictures_have_words():
    figure, _ = figures.new_figure(2, 1)
    array = np.zeros((4, 4, 3), np.uint8)
    for result in (figure, array, torch.zeros(3, 4, 4), Image.fromarray(array)):
        shown = moved(lambda guidance, result=result: result, guidance=(1.5, 0.0, 3.0)).result.value
        assert shown.startswith('<img alt="guidance 1.5" src="data:image/png;base64,iVBOR')
    table = pd.DataFrame({"prompt": ["<script>alert(1)</script>" + "x" * 99]})
    for result in (table, table["prompt"]):
        shown = moved(lambda seed, result=result: result, seed=(0, 0, 9)).result.value
        assert "<table" in shown and "&lt;script&gt;" in shown and "<script>" not in shown and "x" * 99 in shown


def test_errors_are_words_and_the_sliders_stay():
    def fails(seed: int) -> str:
        if seed == 1:
            raise NpkitError("a sentence & more")
        return str(1 // (seed - 2))

    widget = moved(fails, seed=(0, 0, 3))
    assert widget.result.value == "<pre>-1</pre>"
    widget.sliders["seed"].value = 1
    assert widget.result.value == '<p role="alert">a sentence &amp; more</p>'
    widget.sliders["seed"].value = 2
    assert "ZeroDivisionError" in widget.result.value
    widget.sliders["seed"].value = 3
    assert widget.result.value == "<pre>1</pre>"


def test_lists_and_boxes():
    widget = moved(lambda subject, plain: f"{subject} {plain}", subject=["a cat", "a moon"], plain=False)
    widget.sliders["subject"].value = "a moon"
    widget.sliders["plain"].value = True
    assert widget.result.value == "<pre>a moon True</pre>"


@pytest.mark.parametrize("wrong", [(1.0, 2.0), (5, 0, 3), "all", [], (1, 0, "2"), None])
def test_ranges_that_make_no_sense_are_a_sentence(wrong):
    with pytest.raises(NpkitError, match="the range of seed is"):
        moved(lambda seed: seed, seed=wrong)
    with pytest.raises(NpkitError, match="needs a range for each argument"):
        moved(lambda: 1)


def test_the_twin_has_a_row_for_each_value():
    found = twin(lambda kl_coef: {"gain": 2 * kl_coef}, kl_coef=[0.1, 1.0])
    assert found.to_dict("list") == {"kl_coef": [0.1, 1.0], "gain": [0.2, 2.0]}
    assert twin(lambda a, b: a + b, a=[1, 2], b=[3, 4])["result"].tolist() == [4, 6]
    assert twin(lambda a: pd.Series({"x": a}), a=[1])["x"].tolist() == [1]
