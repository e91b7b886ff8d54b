"""Report: formulas become pictures, code keeps its dollars, and times are said in words."""
import os
import re
import time

import nbformat
import pytest

from npkit.study.artifacts import open_run
from npkit.study.report import CODE_OR_FORMULA, age, draw_formula, headline, lesson, notebook_html


def draw(text: str) -> str:
    return CODE_OR_FORMULA.sub(draw_formula, text)


def test_formulas_are_drawn_and_keep_their_source():
    page = draw("the ratio $r_t$ and\n$$\\sum_t r_t$$")
    assert page.count("data:image/svg+xml;base64,") == 2
    assert 'alt="r_t"' in page
    assert page.count('<p align="center">') == 1


@pytest.mark.parametrize("text", ["`$HOME`", "```\necho $A $B\n```", "it costs $5 and $6", "a price of 5$", r"\$x\$"])
def test_dollars_that_are_no_formula_stay(text):
    assert draw(text) == text


def test_formula_matplotlib_cannot_draw_is_shown_as_code():
    assert draw(r"$\begin{cases} 1 < 2 \end{cases}$") == r"<code>\begin{cases} 1 &lt; 2 \end{cases}</code>"


def test_a_lesson_says_what_it_teaches():
    goals = "**You will be able to**\n\n* write `a < b`;\n* read a\n  curve.\n\n**Before you start**\n\n* nothing"
    notebook = {"cells": [{"source": ["# 6  Does it & how\n", "\n", "more"]}, {"source": goals}]}
    assert lesson(notebook) == ("Does it &amp; how", ["write <code>a &lt; b</code>", "read a curve"])


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
