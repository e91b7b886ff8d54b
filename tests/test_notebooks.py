"""Notebooks: their anatomy and budgets; `test_study.py` executes them."""
import ast
import re
import statistics

import anatomy
import pytest

PARAMETERS = '''profile: str = "tiny"  # tiny, small or paper
seed: int = 0  # seeds everything random in this notebook
settings: dict = {}  # dotted overrides of the profile, such as {"ppo.kl_coef": 0.1}
use_mine: bool = False  # True: the cells after an exercise use the function that you wrote'''
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
    assert f'run = npkit.start("{path.stem}", profile=profile, seed=seed, settings=settings, use_mine=use_mine)' in (
        cells[3].source)
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
    assert 30 <= len(cells) <= 80
    assert statistics.median(lines) <= 6
    assert max(lines) <= 20
    assert 3 <= words / sum(lines) <= 9, f"{words} words for {sum(lines)} lines of code"


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
