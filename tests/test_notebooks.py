"""Notebooks: their anatomy and budgets, then the whole tiny study executed and its metrics judged."""
import ast
import json
import re
import statistics
import subprocess
import sys
import time

import anatomy
import pytest
from conftest import ROOT

from npkit.__main__ import main
from npkit.study.artifacts import STAGES, open_run

PARAMETERS = '''profile: str = "tiny"  # tiny, small or paper
seed: int = 0  # seeds everything random in this notebook
settings: dict = {}  # dotted overrides of the profile, such as {"ppo.kl_coef": 0.1}'''
NEVER_IN_CODE = [r"^\s*[!%]", r"os\.chdir", r"sys\.path", r"import \*", r"filterwarnings", r"['\"]cuda", r"\.cuda\(",
                 r"except\s*:", r"hasattr\(", r"rich\.traceback", r"(?<![\w.])input\(", r"pickle", r"torch\.load\(",
                 r"FAST", r"https?://", r"['\"]\.\.?/"]
NEVER_IN_PROSE = [r"(?i)\bsimply\b", r"(?i)\bjust\b"]
each_notebook = pytest.mark.parametrize("path", anatomy.PATHS, ids=lambda path: path.stem)


# 1. Anatomy and budgets ----------------------------------------------------------------------------------------------
@each_notebook
def test_committed_notebook_is_clean(path):
    notebook = anatomy.read(path)
    assert notebook.metadata["kernelspec"]["name"] == "python3"
    assert notebook.metadata["language_info"]["name"] == "python"
    assert not {"papermill", "widgets", "npkit"} & set(notebook.metadata)
    ids = [cell["id"] for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert set(cell.metadata) <= {"tags"}
        assert "raises-exception" not in cell.metadata.get("tags", [])


@each_notebook
def test_notebook_begins_and_ends_as_the_guide_says(path):
    cells = anatomy.read(path).cells
    assert [cell.cell_type for cell in cells[:4]] == ["markdown", "markdown", "code", "code"]
    assert cells[0].source.startswith(f"# {int(path.stem[:2])}  ")
    assert "You will be able to" in cells[1].source
    assert "Before you start" in cells[1].source
    assert [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])] == [PARAMETERS]
    assert cells[2].source == PARAMETERS
    assert f'run = npkit.start("{path.stem}", profile=profile, seed=seed, settings=settings)' in cells[3].source
    assert cells[3].source.endswith("run.summary()")
    assert all(part in cells[-2].source for part in ("Summary", "Questions", "Go further"))
    assert cells[-1].cell_type == "code"


@each_notebook
def test_headings_are_one_title_and_numbered_sections(path):
    text = re.sub(r"```.*?```", "", "\n".join(
        cell.source for cell in anatomy.read(path).cells if cell.cell_type == "markdown"), flags=re.DOTALL)
    headings = re.findall(r"^(#+) (.*)$", text, re.MULTILINE)
    assert [marks for marks, _ in headings].count("#") == 1
    sections = [title for marks, title in headings if marks == "##"]
    assert len(sections) >= 3
    numbered = [title for title in sections if re.match(rf"{int(path.stem[:2])}\.\d+ ", title)]
    assert set(sections) - set(numbered) <= {"Summary", "Questions", "Go further"}


@each_notebook
def test_budgets(path):
    cells = anatomy.read(path).cells
    lines = [anatomy.code_lines(source) for source in anatomy.code_cells(path)]
    words = len(anatomy.prose(path))
    assert 30 <= len(cells) <= 60
    assert statistics.median(lines) <= 6
    assert max(lines) <= 20
    assert 3 <= words / sum(lines) <= 6, f"{words} words for {sum(lines)} lines of code"


@each_notebook
def test_what_a_notebook_never_does(path):
    code = "\n".join(anatomy.code_cells(path))
    found = [pattern for pattern in NEVER_IN_CODE if re.search(pattern, code, re.MULTILINE)]
    found += [pattern for pattern in NEVER_IN_PROSE if re.search(pattern, " ".join(anatomy.prose(path)))]
    assert not found
    assert not re.search(r"[\U0001F300-\U0001FAFF]", path.read_text(encoding="utf-8")), "an emoji"
    assert max(map(len, code.splitlines())) <= 120
    definitions = [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    assert all(node.end_lineno - node.lineno < 15 for node in definitions)


@each_notebook
def test_pictures_are_committed_figures(path):
    text = "\n".join(cell.source for cell in anatomy.read(path).cells if cell.cell_type == "markdown")
    addresses = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert addresses, "a reader on the web sees no result"
    missing = [address for address in addresses if not (path.parent / address).resolve().is_file()]
    assert not missing
    assert all(address.startswith("../figures/") for address in addresses)
    assert "<img" not in text


# 2. The tiny study ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def study_home(tmp_path_factory):
    """The home of a whole tiny study, run once from a folder that is not the repository."""
    home = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPKIT_HOME", str(home))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert main(["run"]) == 0
    return home


@pytest.fixture
def metrics(study_home, monkeypatch):
    """Stage -> metrics of the study's artifacts."""
    monkeypatch.setenv("NPKIT_HOME", str(study_home))
    return {stage: open_run(stage, "tiny").artifact.metrics for stage in STAGES}


@pytest.mark.slow
def test_every_stage_left_metrics(metrics):
    assert set(metrics) == set(STAGES)
    assert all(values for values in metrics.values())
    assert all(abs(value) < float("inf") for values in metrics.values() for value in values.values())


@pytest.mark.slow
def test_metrics_are_in_range(metrics):
    assert metrics["data"]["data/kept_share"] > 0.9
    assert 1 < metrics["sft"]["eval/perplexity"] < 50
    assert metrics["ppo"]["objective/score"] > metrics["ppo"]["objective/first_score"]
    assert 0 < metrics["ppo"]["objective/kl"] < 30
    assert metrics["ppo"]["objective/finished"] > 0.8
    assert metrics["neurologic"]["decode/clause_coverage"] > 0.9
    assert metrics["neurologic"]["decode/violations"] == 0
    assert metrics["evaluation"]["ppo_minus_sft/pickscore_low"] > 0


@pytest.mark.slow
def test_second_run_keeps_everything(study_home, monkeypatch, capsys):
    monkeypatch.setenv("NPKIT_HOME", str(study_home))
    start = time.monotonic()
    assert main(["run"]) == 0
    assert time.monotonic() - start < 60
    output = capsys.readouterr()
    assert [line.split()[1] for line in output.err.splitlines()] == ["kept"] * len(STAGES)
    assert "ppo+nl" in output.out
    assert output.out.splitlines()[-1] == str(study_home / "runs" / "tiny-seed0" / "index.html")


@pytest.mark.slow
def test_report_is_complete_and_loads_nothing(study_home):
    folder = study_home / "runs" / "tiny-seed0"
    index = (folder / "index.html").read_text()
    assert "ppo+nl" in index
    assert index.count("<figure>") >= 5
    pages = [folder / f"{stage.notebook}.html" for stage in STAGES.values()]
    for page in pages:
        assert f'href="{page.name}"' in index
        assert not re.search(r"<script[^>]+src=|<link[^>]+href=.http|@import|cdnjs|src=.https?:", page.read_text())


@pytest.mark.slow
def test_outputs_of_executed_notebooks_are_quiet(study_home):
    for path in sorted((study_home / "runs" / "tiny-seed0").glob("[!.]*.ipynb")):
        text = json.dumps([cell.get("outputs") for cell in anatomy.read(path).cells])
        assert "Traceback" not in text, path.stem
        assert "Warning" not in text, path.stem
        assert "it/s]" not in text, path.stem


@pytest.mark.slow
@each_notebook
def test_restart_and_run_all_in_the_notebooks_folder(study_home, tmp_path, monkeypatch, path):
    monkeypatch.setenv("NPKIT_HOME", str(study_home))
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(tmp_path),
                    path.name], cwd=ROOT / "notebooks", check=True, capture_output=True)
    assert (tmp_path / path.name).exists()
