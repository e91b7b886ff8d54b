"""Report: one file that loads nothing, answers from a study's own numbers, formulas as MathML, folded hints."""
import json
import os
import re
import time

import anatomy
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from npkit.findings.evaluation import CONTRASTS, WITH_COMPLETION, save_results
from npkit.findings.variants import VARIANTS
from npkit.study.artifacts import STAGES, open_run
from npkit.study.report import Record, age, headline, write_report
from npkit.study.reporting.answers import answer, verdicts
from npkit.study.reporting.pages import CODE_OR_FORMULA, captions, draw_formula, lesson, notebook_html
from npkit.study.reporting.sections import typeset


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


# The index -----------------------------------------------------------------------------------------------------------
PNG = bytes.fromhex("89504e470d0a1a0a")


def run_folder(home, profile="tiny", seed=0, **settings):
    """Return a run folder in which nothing has been executed yet."""
    folder = home / "runs" / "mine"
    folder.mkdir(parents=True)
    facts = {"profile": profile, "seed": seed, "settings": settings}
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def write_prompts(folder) -> dict[str, float]:
    """Write the artifact of a small corpus; return its metrics."""
    rows = [("a fox", ", moody", "test"), ("a <b>cat</b>", "", "sft"), ("a dog", ", 8k", "sft")]
    pd.DataFrame([(prefix + rest, prefix, rest, split) for prefix, rest, split in rows],
                 columns=["prompt", "prefix", "completion", "split"]).to_parquet(folder / "prompts.parquet")
    return {"data/num_prompts": 3, "data/num_prefixes": 3, "data/kept_share": 0.5, "data/num_sft": 2,
            "data/num_ppo": 0, "data/num_validation": 0, "data/num_test": 1}


def scores(variants) -> pd.DataFrame:
    """Return scores of six prefixes by two judges."""
    rng = np.random.default_rng(0)
    return pd.DataFrame([(f"fox {number}", variant, f"fox {number}, {variant}", 1, judge, rng.normal(place))
                         for number in range(6) for place, variant in enumerate(variants)
                         for judge in ("pickscore", "oracle")],
                        columns=["prefix", "variant", "prompt", "seed", "judge", "score"])


@pytest.fixture(autouse=True)
def no_glossary(monkeypatch):
    """Write no glossary: its formulas take seconds."""
    monkeypatch.setattr("npkit.study.reporting.pages.glossary_html", lambda: "")


def test_an_empty_study_says_what_makes_it(npkit_home):
    page = write_report(run_folder(npkit_home, seed=3, **{"ppo.kl_coef": 0.2})).read_text()
    assert "0 of 9 lessons done. Changed settings: ppo.kl_coef = 0.2." in " ".join(page.split())
    assert page.count("Not run yet: npkit run --until 04_ppo --seed 3 --set ppo.kl_coef=0.2") == 2  # above and below
    assert "How it was made" in page and "<td>missing</td>" in page


def test_the_page_is_one_file(npkit_home):
    folder = run_folder(npkit_home)
    figure = open_run("data", "tiny").folder.parents[1] / "figures" / "seed0" / "01_leakage.png"
    figure.parent.mkdir(parents=True)
    figure.write_bytes(PNG)
    (figure.parent / "01_map.png").write_bytes(b"not shown")
    open_run("data", "tiny").make(write_prompts)
    record = Record("A", "Does <it> work?", "It gains 1.", pd.DataFrame({"a": [1]}), PNG)
    page = write_report(folder, [record]).read_text()
    loaded = re.findall(r"(?:src|href)=\"(?!#|data:)([^\"]+)", page)
    assert set(loaded) <= {"GLOSSARY.html"} and "url(" not in page and "@import" not in page
    assert page.count('src="data:image/png;base64,iVBORw0KGgo="') == 2
    assert 'alt="Test prompts whose prefix was seen in training"' in page  # the lesson's own words
    assert "Does &lt;it&gt; work?" in page and 'id="ablation-1"' in page
    assert "@media print" in page and "prefers-color-scheme: dark" in page
    assert "1 of 9 lessons done" in page
    assert "50.0% of what was read is kept: 3 prompts with 3 different prefixes, 2 for SFT" in page
    assert "a &lt;b&gt;cat&lt;/b&gt;" in page and "<b>cat" not in page
    assert "<dt>data.num_prompts</dt><dd>20000</dd>" in page


def test_an_evaluation_of_more_variants(npkit_home):
    variants = [*VARIANTS, "best-of-4", "prefix+booster"]
    rows = scores(variants)
    run = open_run("evaluation", "tiny")
    artifact = run.make(lambda folder: save_results(rows, folder, np.random.default_rng(0), 100))
    page = write_report(run_folder(npkit_home)).read_text()
    assert all(f"<th>{variant}</th>" in page for variant in variants)
    assert page.count("<th>ppo - sft</th>") == 1
    pairs = [pair for pair in CONTRASTS if {*pair} <= {*rows["variant"], WITH_COMPLETION}]
    assert len(pairs) == artifact.table("contrasts")["contrast"].nunique()
    assert re.search(r'<td class="n"><span class="v">\+\d\.\d\d</span> <span class="ci">\[', page)
    assert re.search(r"By pickscore, which PPO was paid by, [\w+-]+ gains most over the prefix", page)
    assert "<pre>       " not in page


@pytest.mark.parametrize("profile", ["small"])
def test_other_profiles_have_a_report_too(npkit_home, profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = tmp_path / "prompts.txt"
    corpus.write_text("a fox\n")
    page = write_report(run_folder(npkit_home, profile, **{"data.source": str(corpus)})).read_text()
    assert f"NeuroPrompts study: {profile}, seed 0" in page and "not a result" not in page


def test_tables_are_typeset():
    frame = pd.DataFrame({("judge", "gain"): ["+0.51 [0.38, 0.64]", "-0.10 [-0.30, 0.10]", "4.20 [-1, 5]"],
                          ("judge", "n"): [200, 1234.5678, None]}, index=["ppo", "<sft>", "x"])
    page = typeset(frame, "Gain & so on").html
    assert '<p class="caption">Gain &amp; so on</p>' in page and "&lt;sft&gt;" in page and 'colspan="2"' in page
    assert '<td class="n"><span class="v">+0.51</span> <span class="ci">[0.38, 0.64]</span></td>' in page
    assert '<td class="n open"><span class="v">\N{MINUS SIGN}0.10</span>' in page and page.count("open") == 1
    levels = typeset(pd.DataFrame({"a": ["-0.10 [-0.30, 0.10]"]})).html
    assert "open" not in levels  # of a level, not of a difference, no sign is asked
    assert '<td class="n">1,234.57</td>' in page and "nan" not in page.lower()


def test_answers_follow_the_numbers():
    run = open_run("data", "tiny")
    assert answer(run) == "Not run yet: npkit run --until 01_data_and_prefixes"
    run.make(lambda folder: {"data/num_prompts": 3})
    assert answer(run).startswith("No answer: the artifact has no metric 'data/")
    metrics = {f"ppo_minus_sft/{judge}{end}": value for judge, values in {
        "a": (1, 0.5, 1.5), "b": (-1, -1.5, -0.5), "c": (0.1, -0.1, 0.3), "d": (2, 1, 3)}.items()
        for end, value in zip(("", "_low", "_high"), values)}
    assert verdicts(metrics, "abcd") == (
        "ppo is better than sft by a (+1.00 [0.50, 1.50]) and d (+2.00 [1.00, 3.00]); ppo is worse than sft by b "
        "(\N{MINUS SIGN}1.00 [\N{MINUS SIGN}1.50, \N{MINUS SIGN}0.50]); ppo is not clearly other than sft by c "
        "(+0.10 [\N{MINUS SIGN}0.10, 0.30]).")


def test_every_question_has_an_answer():
    from npkit.study.reporting.answers import ANSWERS, QUESTIONS
    assert set(QUESTIONS) == set(ANSWERS) <= set(STAGES)  # a stage without has its first metrics


def test_captions_are_the_lessons_own():
    cells = [{"cell_type": "markdown", "source": ["![a curve](../figures/04_a.png)\n", "![b](attachment:04_b.png)"]},
             {"cell_type": "code", "source": "1"}]
    assert captions({"cells": cells}) == {"04_a": "a curve", "04_b": "b"}
