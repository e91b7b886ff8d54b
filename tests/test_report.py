"""Report: formulas become MathML, code keeps its dollars, and times are said in words."""
import os
import re
import time

import anatomy
import nbformat
import pytest
from conftest import ROOT

from npkit.study.artifacts import open_run
from npkit.study.report import CODE_OR_FORMULA, age, draw_formula, headline, lesson, notebook_html


def draw(text: str) -> str:
    return CODE_OR_FORMULA.sub(draw_formula, text)


def test_formulas_become_mathml():
    page = draw("the ratio $r_t$ and\n$$\\sum_t r_t$$")
    assert page.count("<math ") == 2
    assert "<msub><mi>r</mi><mi>t</mi></msub>" in page
    assert page.count('<div><math xmlns="http://www.w3.org/1998/Math/MathML" display="block">') == 1


def test_no_formula_of_the_course_is_left_as_tex():
    """What the converter does not know it would write out: a backslash, or an alignment mark."""
    pages = [*map(anatomy.read, anatomy.PATHS)]
    texts = [cell.source for page in pages for cell in page.cells if cell.cell_type == "markdown"]
    texts.append((ROOT / "notebooks" / "GLOSSARY.md").read_text(encoding="utf-8"))
    drawn = [draw_formula(found) for text in texts for found in CODE_OR_FORMULA.finditer(text) if found["display"]
             or found["inline"]]
    assert len(drawn) > 100
    assert not [each for each in drawn if "\\" in each or "<mi>&</mi>" in each or "<mi>&amp;</mi>" in each]


@pytest.mark.parametrize("text", ["`$HOME`", "```\necho $A $B\n```", "it costs $5 and $6", "a price of 5$", r"\$x\$"])
def test_dollars_that_are_no_formula_stay(text):
    assert draw(text) == text


def test_a_lesson_says_what_it_teaches():
    goals = "**You will be able to**\n\n* write `a < b`;\n* read a\n  curve.\n\n**Before you start**\n\n* nothing"
    notebook = {"cells": [{"source": ["# 6  Does it & how\n", "\n", "more"]}, {"source": goals}]}
    assert lesson(notebook) == ("Does it &amp; how", ["write <code>a &lt; b</code>", "read a curve"])


def test_a_page_shows_a_picture_once(tmp_path):
    """The text's committed picture goes where the same cell's own picture stands right above it."""
    drawn = nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})
    text = nbformat.v4.new_markdown_cell("![a curve](attachment:04_a.png)\n\n*You should see* a curve.")
    text["attachments"] = {"04_a.png": {"image/png": "iVBORw0KGgo="}}
    path, alone = tmp_path / "lesson.ipynb", nbformat.from_dict({**text, "id": "alone"})
    cells = [nbformat.v4.new_code_cell("1", outputs=[drawn]), text, nbformat.v4.new_code_cell("2"), alone]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert notebook_html(path).count("iVBORw0KGgo=") == 2  # the output, and the text's where no output stands above


def test_a_page_keeps_hints_folded_and_has_a_dark_dress(tmp_path):
    hint = "<details><summary>Solution</summary>\n\n```python\nx = 1\n```\n\n</details>"
    path = tmp_path / "lesson.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(hint)]), path)
    page = notebook_html(path)
    assert re.search(r"<details>\s*<summary>Solution</summary>.*<div class=\"highlight.*</details>", page, re.DOTALL)
    assert "<details open" not in page
    _, _, dark = page.partition('<style media="(prefers-color-scheme: dark)"')
    assert "--jp-layout-color0: " in dark.partition("</style>")[0]


@pytest.mark.parametrize(("seconds", "words"), [(0, "0 min ago"), (3000, "50 min ago"), (3 * 3600, "3 h ago"),
                                                (3 * 86400, "3 days ago")])
def test_age_is_said_in_words(seconds, words):
    run = open_run("data", "tiny")
    assert age(run) == "missing"
    run.make(lambda folder: {"b/first": 20_000, "second": 0.123456789, "third": 3, "fourth": 4})
    then = time.time() - seconds
    os.utime(run.folder / "manifest.json", (then, then))
    assert age(run) == words
    assert headline(run) == "b/first 20,000; second 0.123457; third 3"
