"""Syntax: names in code, and the statements of a notebook that decide its result."""
import ast

import nbformat
import pytest

from npkit.study.syntax import deciding_statements, dotted_names, imports_of, names_bound, parse


def one(text: str) -> ast.stmt:
    [statement] = parse(text)
    return statement


@pytest.mark.parametrize(("text", "names"), [
    ("a.b.c(d)", {("a", "b", "c"), ("d",)}),
    ("f(x).y", {("f",), ("x",)}),
    ("def g(x: Kind, y=start) -> Kind:\n    z = x + y\n    return z + other", {("start",), ("other",)}),
    ("[x for x in xs if x in kept]", {("xs",), ("kept",)}),
    ("lambda x: x + y", {("y",)}),
    ("count: int = first", {("count",), ("first",)}),
    ("class A(B):\n    size: Kind = default\n    def f(self):\n        return self.size",
     {("B",), ("size",), ("default",)}),
])
def test_names_from_outside_without_annotations(text, names):
    assert dotted_names(one(text)) == names


@pytest.mark.parametrize(("text", "names"), [
    ("a, (b, *c) = 1, (2, 3)", {"a", "b", "c"}),
    ("a.b = 1", {"a"}),
    ("a[0] += 1", {"a"}),
    ("del a", {"a"}),
    ("for i in x:\n    y = i", {"i", "y"}),
    ("with f() as g:\n    import h.i as j, k.l", {"g", "j", "k"}),
    ("def f():\n    x = 1", {"f"}),
    ("[x for x in y]", set()),
])
def test_names_bound(text, names):
    assert names_bound(one(text)) == names


def test_imports_of_every_scope():
    text = "import a.b\nimport c.d as e\ndef f():\n    from .g import h as i\n    from .. import j"
    assert imports_of(parse(text), "p.q") == {"a": {("a", "")}, "e": {("c.d", "")}, "i": {("p.q.g", "h")},
                                              "j": {("p", "j")}}


CELLS = ["import numpy as np\nfrom npkit import figures\nfrom npkit.training import sft",
         "run = npkit.start('02_sft')\nrun.summary()",
         "rng = np.random.default_rng(run.seed)\n[rng.integers(9) for _ in range(3)]",
         "def exercise(x):\n    raise NotImplementedError\n\n\ncheck(exercise)",
         "toy = [1, 2]\ntoy.append(3)\nfigure = figures.draw(toy)\nfigure",
         "start = rng.normal()\nsizes = [start]\nsizes.sort()\nprint(sizes)",
         "%matplotlib inline\n!ls\nsizes[0] = 2\nunfinished = sizes[0]",
         "this is no Python",
         "artifact = run.make(lambda folder: sft.write_policy(sizes, folder))\nrun.save_figure(figure, 'name')",
         "sizes = []"]
DECIDING = ["rng = np.random.default_rng(run.seed)", "[rng.integers(9) for _ in range(3)]", "start = rng.normal()",
            "sizes = [start]", "sizes.sort()", "sizes[0] = 2",
            "artifact = run.make(lambda folder: sft.write_policy(sizes, folder))"]


def write(path, cells) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"),
                                               *map(nbformat.v4.new_code_cell, cells)])
    nbformat.write(notebook, path)


def test_what_run_make_rests_on(tmp_path):
    write(tmp_path / "n.ipynb", CELLS)
    found = [ast.unparse(each) for each in deciding_statements(tmp_path / "n.ipynb")]
    assert [text for text in found if "import" not in text] == DECIDING
    assert [text for text in found if "import" in text] == ["import numpy as np", "from npkit.training import sft"]


def test_a_seed_set_for_a_library_counts_and_so_does_all_where_nothing_is_made(tmp_path):
    cells = ["import torch", "torch.manual_seed(1)", "x = torch.rand(3)", "y = 1", "run.make(lambda f: x)"]
    write(tmp_path / "n.ipynb", cells)
    found = [ast.unparse(each) for each in deciding_statements(tmp_path / "n.ipynb")]
    assert found == [cell for cell in cells if cell != "y = 1"]
    write(tmp_path / "n.ipynb", ["x = 1", "y = 2"])
    assert len(deciding_statements(tmp_path / "n.ipynb")) == 2
