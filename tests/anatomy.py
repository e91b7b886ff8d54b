"""Reading notebooks for the tests: cells, budgets, exercises."""
import ast
import re
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import nbformat
from conftest import ROOT

from npkit.study.artifacts import STAGES

PATHS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
STAGE_OF = {facts.notebook: stage for stage, facts in STAGES.items()}
CALL = re.compile(r"^checks\.(\w+\.)?(?P<check>check_\w+)\((?P<function>\w+)\)$")
SOLUTION = re.compile(r"<details>\s*<summary>Solution</summary>\s*```python\n(?P<code>.*?)```\s*</details>", re.DOTALL)

SUMMARY = re.compile(r"<summary>(.*?)</summary>")


@dataclass(frozen=True)
class Exercise:
    """An exercise of a notebook: its stub, its solution and the check that judges both."""
    notebook: str
    stage: str
    check: str
    function: str
    rating: str
    stub: str
    solution: str
    imports: str
    folded: tuple[str, ...]  # the summaries of the hints and of the solution
    later: tuple[str, ...]  # the code cells below it

    def judge(self, code: str) -> str:
        """Run `code` after the notebook's imports and return what the check says of its last function."""
        names: dict = {}
        exec(self.imports, names)  # noqa: S102 (the notebook's own code)
        exec(code, names)  # noqa: S102
        check = getattr(import_module(f"npkit.checks.{self.stage}"), self.check)
        return check(names[last_function(code)])


def last_function(code: str) -> str:
    """Return the name of the last function that `code` defines."""
    return [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)][-1]


def read(path: Path):
    """Return a notebook."""
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[str]:
    """Return the source of every code cell."""
    return [cell.source for cell in read(path).cells if cell.cell_type == "code"]


def prose(path: Path) -> list[str]:
    """Return the words of the running text: no headings, tables, code, formulas, addresses, hints or other HTML."""
    text = "\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    text = re.sub(r"<details>.*?</details>", " ", text, flags=re.DOTALL)
    text = re.sub(r"```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|<[^>]+>|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    text = re.sub(r"^(#|\|).*$", "", text, flags=re.MULTILINE)
    return [word for word in text.split() if re.search(r"[A-Za-z]", word)]


def code_lines(source: str) -> int:
    """Return the number of lines that are not blank."""
    return sum(bool(line.strip()) for line in source.splitlines())


def imports(path: Path) -> str:
    """Return the import statements of all code cells."""
    trees = (ast.parse(source) for source in code_cells(path))
    return "\n".join(ast.unparse(node) for tree in trees for node in tree.body
                     if isinstance(node, (ast.Import, ast.ImportFrom)))


def exercises(path: Path) -> list[Exercise]:
    """Return the exercises of a notebook: rating above, stub tagged `exercise`, solution in the next markdown cell."""
    cells, found = read(path).cells, []
    for index, cell in enumerate(cells):
        if "exercise" in cell.metadata.get("tags", []):
            *stub, call = cell.source.splitlines()
            match = CALL.match(call)
            assert match, f"{path.stem}: the last line of an exercise calls its check, found {call!r}"
            solution = SOLUTION.search(cells[index + 1].source)
            assert solution, f"{path.stem}: no <details> solution after {match['check']}"
            found.append(Exercise(path.stem, STAGE_OF[path.stem], match["check"], match["function"],
                                  cells[index - 1].source, "\n".join(stub), solution["code"], imports(path),
                                  tuple(SUMMARY.findall(cells[index + 1].source)),
                                  tuple(each.source for each in cells[index + 1:] if each.cell_type == "code")))
    return found


def slips(stage: str) -> dict[str, list[dict[str, str]]]:
    """Return the known slips of a stage's checks: check -> code and words of the hint."""
    path = ROOT / "tests" / "slips" / f"{stage}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def solved(path: Path):
    """Return a notebook with its solutions in the place of the exercises' stubs."""
    notebook, solutions = read(path), iter(exercises(path))
    for cell in notebook.cells:
        if "exercise" in cell.metadata.get("tags", []):
            cell.source = next(solutions).solution + "\n\n" + cell.source.splitlines()[-1]
    return notebook


def printed(notebook) -> dict[str, list[str]]:
    """Return what each code cell printed, by cell id: no pictures, no exercise, nothing tagged `varies` (seconds).

    A library's notices on stderr are left out: they may come in one piece or in two.
    """
    texts, left_out = {}, {"exercise", "varies", "injected-parameters"}
    for cell in notebook.cells:
        if cell.cell_type == "code" and not left_out & set(cell.metadata.get("tags", [])):
            said = "".join(output.get("text", "") for output in cell.outputs  # a kernel may send one line in two parts
                           if output.get("name") != "stderr")
            shown = [output["data"].get("text/plain", "") for output in cell.outputs
                     if "data" in output and "image/png" not in output["data"]]
            texts[cell["id"]] = [said, *shown]
    return texts
