"""House: how the modules of npkit import each other, how long they are, how many share a folder."""
import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
           for path in sorted((ROOT / "npkit").rglob("*.py"))}
MAX_LINES, MAX_MODULES = 400, 12
ORDER = (  # from the bottom to the top: a module imports what stands lower, and nothing of another part of its own row
    ("npkit", "npkit.errors", "npkit.numbers"),
    ("npkit.study.syntax",),
    ("npkit.study.code",),
    ("npkit.study.contents",),
    ("npkit.study.ranges",),
    ("npkit.study.profiles",),
    ("npkit.study.artifacts",),
    ("npkit.text",),
    ("npkit.neurologic", "npkit.scoring"),
    ("npkit.training", "npkit.wishes"),
    ("npkit.findings",),
    ("npkit.preferences",),
    ("npkit.figures", "npkit.checks"),
    ("npkit.optimize",),
    ("npkit.patterns",),
    ("npkit.widgets", "npkit.study"),  # the study's other modules run and report it
    ("npkit.ablations",),  # each of their runs is a study
    ("npkit.commands",),
    ("npkit.__main__",),
)
RANKS = {part: rank for rank, parts in enumerate(ORDER) for part in parts}


def imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Return the modules of npkit that an import statement names."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names} & set(MODULES)
    inner = {f"{node.module}.{alias.name}" for alias in node.names}
    return {name if name in MODULES else node.module for name in inner} & set(MODULES)


def imports(tree: ast.AST, lazy: bool) -> set[str]:
    """Return what a module imports when it is imported itself; with `lazy`, also what its functions import."""
    found = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            found |= imported(node)
        elif not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING") and (
                lazy or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))):
            found |= imports(node, lazy)
    return found


def graph(lazy: bool) -> dict[str, set[str]]:
    """Return module -> the modules of npkit that it imports; `npkit` itself, a door that opens on call, not counted."""
    return {name: imports(ast.parse(path.read_text(encoding="utf-8")), lazy and name != "npkit")
            for name, path in MODULES.items()}


def part(name: str) -> str:
    """Return the longest entry of `ORDER` that a module belongs to; an entry holds the modules under it."""
    return max((entry for entry in RANKS if f"{name}.".startswith(f"{entry}.") and (entry != "npkit" or name == entry)),
               key=len)


def test_the_graph_is_read_right():
    code = ("from typing import TYPE_CHECKING\nimport npkit.text.corpus\nfrom npkit.study import profiles, artifacts\n"
            "from npkit.errors import NpkitError\nif TYPE_CHECKING:\n    import npkit.optimize\n"
            "def lazily():\n    from npkit import figures\n")
    now = {"npkit.text.corpus", "npkit.study.profiles", "npkit.study.artifacts", "npkit.errors"}
    assert imports(ast.parse(code), lazy=False) == now
    assert imports(ast.parse(code), lazy=True) == now | {"npkit.figures"}
    assert part("npkit.study.runner") == "npkit.study" and part("npkit.text.corpus") == "npkit.text"
    assert not any(isinstance(node, ast.ImportFrom) and node.level for path in MODULES.values()
                   for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))), "relative imports are not read"


@pytest.mark.parametrize("lazy", [False, True], ids=["at import", "in functions too"])
def test_no_circles(lazy):
    TopologicalSorter(graph(lazy)).prepare()  # raises CycleError with the modules of a circle


def test_imports_go_down():
    pairs = [(name, other) for name, others in graph(lazy=True).items() for other in sorted(others)
             if "npkit.glyphworld" not in f"{name} {other}"]  # it stands beside the order: see the next test
    wrong = [f"{name} imports {other}" for name, other in pairs
             if part(name) != part(other) and RANKS[part(other)] >= RANKS[part(name)]]
    assert not wrong


def test_glyphworld_knows_nothing_of_the_study_and_is_named_by_the_profiles_alone():
    own = {name for name in MODULES if name.startswith("npkit.glyphworld")}
    found = graph(lazy=True)
    assert not {other for name in own for other in found[name]} - own - {"npkit.errors"}
    assert not {name for name in set(MODULES) - own if found[name] & own} - {"npkit.checks.glyphworld",
                                                                             "npkit.figures.glyphworld"}


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_long(name):
    num_lines = MODULES[name].read_text(encoding="utf-8").count("\n")
    assert num_lines <= MAX_LINES


def test_no_folder_is_crowded():
    folders: dict[Path, list[str]] = {}
    for path in MODULES.values():
        folders.setdefault(path.parent, []).append(path.name)
    crowded = {folder.name: len(files) - 1 for folder, files in folders.items() if len(files) - 1 > MAX_MODULES}
    assert set(crowded) <= {"glyphworld"}


def test_mocks_stay_in_tests():
    assert not [name for name, path in MODULES.items() if "unittest" in path.read_text(encoding="utf-8")]
