"""Study: the runner on small notebooks of our own; what it keeps, what it repeats, how it reports what went wrong."""
import ast
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from filelock import FileLock
from test_code import copy_repository

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.study import code, gate, runner
from npkit.study.artifacts import NOTEBOOKS, STAGES, open_run
from npkit.study.syntax import deciding_statements

PARAMETERS = 'profile: str = "tiny"\nseed: int = 0\nsettings: dict = {}'
START = 'import npkit\nrun = npkit.start("{}", profile=profile, seed=seed, settings=settings)'
MAKE = 'run.make(lambda folder: {"num_prompts": 7 + seed}).metrics'


def write_notebook(path, *cells: str, parameters: str = PARAMETERS) -> None:
    """Write a notebook: a title, the parameters cell, the call of `npkit.start` and `cells`."""
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    rest = [nbformat.v4.new_code_cell(cell) for cell in (START.format(path.stem), *cells)]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# $x^2$"), first, *rest])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata["language_info"] = {"name": "python"}
    nbformat.write(notebook, path)


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    """A folder with our own notebooks 00 and 01, which do nothing but make their artifacts."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    write_notebook(folder / "00_glyphworld.ipynb", MAKE)
    write_notebook(folder / "01_data_and_prefixes.ipynb", MAKE)
    monkeypatch.setattr(runner, "NOTEBOOKS", folder)
    return folder


def test_runs_once_keeps_and_reports(notebooks, npkit_home, capsys):
    command = ["run", "--until", "data", "--seed", "1", "--set", "ppo.kl_coef=0.1"]
    assert main(command) == 0
    progress = capsys.readouterr().err.splitlines()
    assert [line.split()[:2] for line in progress] == [["00_glyphworld", "done"], ["01_data_and_prefixes", "done"]]
    settings = {"ppo.kl_coef": 0.1}
    run = open_run("data", "tiny", 1, settings)
    assert run.artifact.metrics == {"num_prompts": 8.0}
    folder = npkit_home / "runs" / f"tiny-{run.label}"
    assert json.loads((folder / "run.json").read_text()) == {"profile": "tiny", "seed": 1, "settings": settings}

    assert main(command) == 0
    output = capsys.readouterr()
    assert [line.split()[1] for line in output.err.splitlines()] == ["kept", "kept"]
    assert output.out.strip() == str(folder / "index.html")
    index = (folder / "index.html").read_text()
    assert run.key in index
    assert re.search(r"num_prompts</dt>\s*<dd[^>]*>8<", index)
    check_offline(index)
    check_offline((folder / "01_data_and_prefixes.html").read_text())

    write_notebook(notebooks / "01_data_and_prefixes.ipynb", "# edited", MAKE)
    assert main(command) == 0
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["kept", "done"]


def check_offline(page: str) -> None:
    """A page loads no script, style or picture from an address, and its formula is drawn."""
    for loaded in ('src="http', "src='http", "@import", '<script src', 'import("http', "cdnjs"):
        assert loaded not in page
    assert "$x^2$" not in page


def test_fresh_makes_the_artifact_again(notebooks, npkit_home, capsys):
    assert main(["run", "--only", "data"]) == 0
    run = open_run("data", "tiny")
    (run.folder / "mark").touch()
    assert main(["run", "--only", "data", "--fresh", "--check", str(reference(npkit_home, 7, 6, 8, 7))]) == 0
    assert not (run.folder / "mark").exists()
    capsys.readouterr()
    file = reference(npkit_home, 100, 101, 102)
    assert main(["run", "--only", "data", "--check", str(file), "--junit", str(npkit_home / "j.xml")]) == 3
    assert "npkit: data num_prompts is 7, expected 101 within " in capsys.readouterr().err
    assert '<failure message="data num_prompts is 7' in (npkit_home / "j.xml").read_text()


def test_expected_values_are_refreshed_by_command(notebooks, tmp_path, capsys):
    file = reference(tmp_path, 100, 101, 102)
    assert main(["run", "--only", "data", "--check", str(file), "--refresh", "a corpus of seven"]) == 0
    assert "is 7, expected 101 within" in capsys.readouterr().err  # what has moved is said
    found = gate.read_reference(file)
    assert (found.history[-1]["reason"], len(found.studies)) == ("a corpus of seven", 4)
    assert main(["run", "--only", "data", "--check", str(file)]) == 0
    for option in (["--refresh", "why"], ["--tight"], ["--junit", "j.xml"]):
        assert main(["run", "--only", "data", *option]) == 2
        assert f"{option[0]} goes with the file of --check: name one" in capsys.readouterr().err
    assert main(["run", "--only", "data", "--seed", "3", "--check", str(file), "--tight"]) == 2  # before anything runs
    assert open_run("data", "tiny", 3).artifact is None


CORPUS_NOTEBOOK = """from npkit.text import corpus
run.make(lambda folder: corpus.write_corpus(run.config.data, run.seed, folder)).metrics"""
ONE_MORE = """

_write_corpus = write_corpus


def write_corpus(config, seed, folder):
    return {name: value + 1 for name, value in _write_corpus(config, seed, folder).items()}
"""


def test_check_never_compares_what_other_code_made(tmp_path):
    repository = copy_repository(tmp_path / "repository")
    write_notebook(repository / "notebooks/01_data_and_prefixes.ipynb", CORPUS_NOTEBOOK)
    file = tmp_path / "expected.json"
    command = [sys.executable, "-m", "npkit", "run", "--only", "data", "--set", "data.num_prompts=300", "--check",
               str(file), "--tight"]

    def check(*options: str) -> tuple[int, str]:
        found = subprocess.run([*command, *options], env=os.environ | {"PYTHONPATH": str(repository)}, cwd=tmp_path,
                               capture_output=True, text=True, check=False)
        return found.returncode, found.stderr

    assert check("--refresh", "the first")[0] == 0
    code, said = check()
    assert (code, "    kept" in said) == (0, True)  # the progress line, not the metric data/kept_share
    with open(repository / "npkit/text/corpus.py", "a", encoding="utf-8") as module:
        module.write(ONE_MORE)
    code, said = check()
    assert (code, "    kept" in said) == (3, False)
    (value,) = json.loads(file.read_text())["metrics"]["data"]["data/num_prompts"]
    assert f"data data/num_prompts is {value + 1:.6g}, expected {value:.6g} within 0" in said


def metric_patterns(stage: str) -> re.Pattern:
    """Return a pattern of all strings, with what is put in, in the code that makes a stage's artifact."""
    facts = STAGES[stage]
    trees = [statement for name in facts.code.modules if not name.endswith(".ipynb")
             for statement in code.read_module(name).statements]
    trees += deciding_statements(NOTEBOOKS / f"{facts.notebook}.ipynb")
    nodes = [node for tree in trees for node in ast.walk(tree)]
    found = {re.escape(node.value) for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found |= {"".join(re.escape(part.value) if isinstance(part, ast.Constant) else r"[\w+() -]+"  # names of variants
                      for part in node.values) for node in nodes if isinstance(node, ast.JoinedStr)}
    return re.compile("|".join(found))


def test_committed_expectations_name_metrics_that_their_stages_write():
    for file in (Path(__file__).parent / "expected").glob("*.json"):
        for study in gate.read_reference(file).studies:
            for stage, metrics in study.metrics.items():
                pattern = metric_patterns(stage)
                assert [name for name in metrics if not pattern.fullmatch(name) and "found/" not in name] == []
    assert not metric_patterns("sft").fullmatch("eval/perplexities")


def reference(folder: Path, *values: float) -> Path:
    """Write a file of reference metrics, a study a value, and return its path."""
    path = folder / "expected.json"
    studies = tuple(gate.Study(seed, 2, "a machine", "abc", 0, {"data": {"num_prompts": float(value)}})
                    for seed, value in enumerate(values))
    gate.write_reference(path, gate.Reference("tiny", {}, (), studies))
    return path


def test_failing_notebook_is_reported_without_papermill(notebooks, npkit_home, capsys):
    write_notebook(notebooks / "01_data_and_prefixes.ipynb", "total = 0\ntotal / 0", MAKE)
    assert main(["run", "--only", "data"]) == 1
    error = capsys.readouterr().err
    assert "01_data_and_prefixes failed in cell 4 of 5:\n    total = 0\n    total / 0\n" in error
    assert "ZeroDivisionError: division by zero" in error
    assert "Traceback" not in error
    assert [path.name for path in (npkit_home / "runs" / "tiny-seed0").glob("[!.]*.ipynb")] == [
        "01_data_and_prefixes.failed.ipynb"]


def test_users_mistake_inside_a_notebook_is_a_sentence(notebooks, npkit_home, capsys):
    write_notebook(notebooks / "01_data_and_prefixes.ipynb", "from npkit.errors import PrefixTooLong\n"
                                                             'raise PrefixTooLong("prefix has 81 tokens")')
    assert main(["run", "--only", "data"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "npkit: prefix has 81 tokens"
    assert not list((npkit_home / "runs").rglob("*01_data*"))


@pytest.mark.parametrize(("cells", "seconds", "words"), [
    (("import sys\nsys.exit(0)", MAKE), 300, "did not complete"),
    (("1 + 1",), 300, "it wrote no artifact"),
    (("import time\ntime.sleep(300)",), 8, "CellTimeoutError"),
])
def test_what_papermill_would_let_pass_fails(notebooks, capsys, cells, seconds, words):
    write_notebook(notebooks / "01_data_and_prefixes.ipynb", *cells)
    assert main(["run", "--only", "data", "--set", f"runtime.cell_timeout={seconds}"]) == 1
    assert words in capsys.readouterr().err


def test_error_hidden_in_a_widget_is_found():
    output = {"output_type": "error", "ename": "KeyError", "evalue": "'style'"}
    state = {"1": {"model_name": "OutputModel", "state": {"outputs": [output]}},
             "2": {"model_name": "ButtonModel", "state": {}}}
    metadata = {"widgets": {"application/vnd.jupyter.widget-state+json": {"state": state}}}
    assert runner.hidden_problem(SimpleNamespace(cells=[], metadata=metadata)) == "a widget shows KeyError: 'style'"
    assert runner.hidden_problem(SimpleNamespace(cells=[], metadata={})) == ""


def test_a_kernel_inherits_variables_that_the_process_does_not_keep(monkeypatch):
    monkeypatch.setenv("NPKIT_TEST_KEPT", "before")
    with runner.environment({"NPKIT_TEST_KEPT": "now", "NPKIT_TEST_NEW": "1"}):
        assert (os.environ["NPKIT_TEST_KEPT"], os.environ["NPKIT_TEST_NEW"]) == ("now", "1")
    assert os.environ["NPKIT_TEST_KEPT"] == "before"
    assert "NPKIT_TEST_NEW" not in os.environ


SLOW = """def slow(folder):
    import time
    first_try = not (run.scratch / "step-000001").exists()
    (run.scratch / "step-000001").touch()
    time.sleep(600 if first_try else 0)
    return {"num_prompts": 7}
run.make(slow).metrics"""


def test_killed_study_finishes_when_run_again(notebooks, npkit_home):
    write_notebook(notebooks / "01_data_and_prefixes.ipynb", SLOW)
    code = ("import pathlib; from npkit.study import runner; from npkit.__main__ import main; "
            f"runner.NOTEBOOKS = pathlib.Path({str(notebooks)!r}); main(['run', '--only', 'data'])")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while not list((npkit_home / "artifacts").rglob("step-000001")):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert open_run("data", "tiny").artifact is None
    assert main(["run", "--only", "data"]) == 0
    assert open_run("data", "tiny").artifact.metrics == {"num_prompts": 7.0}
    assert not list((npkit_home / "artifacts").rglob("*.work"))


def test_half_written_copy_is_not_kept(notebooks):
    planned = runner.plan("tiny", only=["glyphworld"])
    planned.folder.mkdir(parents=True)
    planned.folder.joinpath(".00_glyphworld.ipynb").write_text("{")
    assert not planned.kept(planned.runs[0])
    runner.run_study(planned)
    assert planned.kept(planned.runs[0])
    assert not planned.folder.joinpath(".00_glyphworld.ipynb").exists()


def test_what_a_kernel_says_goes_to_the_log(tmp_path, capfd):
    with runner.noise_into(tmp_path / "kernels.log"):
        subprocess.run(["sh", "-c", "echo to the screen; echo a warning >&2"], check=True)
    subprocess.run(["sh", "-c", "echo heard"], check=True)
    assert capfd.readouterr() == ("heard\n", "")
    assert (tmp_path / "kernels.log").read_text() == "to the screen\na warning\n"


def test_misspelt_parameter_is_refused(notebooks):
    write_notebook(notebooks / "00_glyphworld.ipynb", parameters='profile: str = "tiny"\nsede: int = 0')
    with pytest.raises(NpkitError, match=r"must define profile, seed, settings, it defines profile, sede"):
        runner.plan("tiny", only=["glyphworld"])


def test_one_run_at_a_time(notebooks, monkeypatch):
    planned = runner.plan("tiny", only=["glyphworld"])
    planned.folder.mkdir(parents=True)
    monkeypatch.setattr(runner, "LOCK_SECONDS", 0.1)
    with FileLock(planned.folder / ".lock"), pytest.raises(NpkitError, match="another npkit run is at work"):
        runner.run_study(planned)


def test_stages_are_chosen_in_the_order_of_the_study():
    assert runner.choose(["04_ppo", "data"], "") == ["data", "ppo"]
    assert runner.choose([], "02_sft") == ["glyphworld", "data", "sft"]
    with pytest.raises(NpkitError, match="unknown notebook '3_ppo'"):
        runner.choose(["3_ppo"], "")
    with pytest.raises(NpkitError, match="nothing to run"):
        runner.choose(["ppo"], "data")
