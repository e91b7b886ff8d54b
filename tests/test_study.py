"""Study: every notebook executed on a small study, the artifacts judged, then everything once more with them in place.

PPO is rewarded by a judge that reads words and needs no pictures: a gain that a few updates reach for certain.
`make study` runs the whole tiny study, with pictures in PPO.
"""
import json
import re
import subprocess
import sys

import anatomy
import nbformat
import papermill
import pytest
from conftest import REWARDED_FOR_WORDS, ROOT

from npkit.__main__ import main
from npkit.study.artifacts import STAGES, open_run
from npkit.study.profiles import parse_settings

SETTINGS = ["data.num_prompts=8000", "data.ppo_share=0.1", "sft.num_epochs=2", "ppo.num_updates=40",
            "ppo.episodes_per_update=32", "ppo.minibatch_size=16", "ppo.learning_rate=3e-4",
            "ppo.vf_learning_rate=1e-3", "evaluation.num_prefixes=48", "runtime.num_threads=1", *REWARDED_FOR_WORDS]
OPTIONS = [word for setting in SETTINGS for word in ("--set", setting)]
pytestmark = pytest.mark.slow


def find(stage: str):
    return open_run(stage, "tiny", 0, parse_settings(SETTINGS))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The run folder of the study, which was started in a folder that is not the repository."""
    home = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NPKIT_HOME", str(home))
        patch.chdir(tmp_path_factory.mktemp("elsewhere"))
        assert main(["run", *OPTIONS]) == 0
        return home / "runs" / f"tiny-{find('data').label}"


@pytest.fixture(autouse=True)
def npkit_home(study, monkeypatch):
    """The tests read the study's home."""
    monkeypatch.setenv("NPKIT_HOME", str(study.parent.parent))


def test_metrics_of_every_stage_are_numbers_in_range():
    metrics = {stage: find(stage).artifact.metrics for stage in STAGES}
    assert all(metrics.values())
    assert all(abs(value) < float("inf") for values in metrics.values() for value in values.values())
    assert metrics["data"]["data/kept_share"] > 0.9
    assert 1 < metrics["sft"]["eval/perplexity"] < 50
    assert metrics["ppo"]["objective/score"] > metrics["ppo"]["objective/first_score"]
    assert 0 < metrics["ppo"]["objective/kl"] < 30
    assert metrics["ppo"]["objective/finished"] > 0.8
    assert metrics["neurologic"]["decode/clause_coverage"] > 0.9
    assert metrics["neurologic"]["decode/violations"] == 0
    assert metrics["evaluation"]["ppo_minus_sft/oracle_low"] > 0


def test_no_metric_has_moved_from_those_of_five_seeds(study, tmp_path, capsys):
    """The regression gate of `make test`; everything is there already, so that it only reads."""
    file = ROOT / "tests" / "expected" / "small.json"
    if not file.exists():
        pytest.skip("no reference metrics of this study yet: python benchmarks/gate.py small WHY")
    code = main(["run", *OPTIONS, "--check", str(file), "--junit", str(tmp_path / "j.xml")])
    assert code == 0, capsys.readouterr().err
    assert 'failures="0"' in (tmp_path / "j.xml").read_text()


def test_report_is_complete_and_loads_nothing(study):
    index = (study / "index.html").read_text()
    assert "ppo+nl" in index
    assert index.count("<figure>") >= 5
    for stage in STAGES.values():
        page = study / f"{stage.notebook}.html"
        assert f'href="{page.name}"' in index
        assert not re.search(r"<script[^>]+src=|<link[^>]+href=.http|@import|cdnjs|src=.https?:", page.read_text())
        assert "../figures/" not in page.read_text()  # it may be sent to somebody without the repository


def test_outputs_of_executed_notebooks_are_quiet(study):
    for stage in STAGES.values():
        outputs = [cell.get("outputs") for cell in anatomy.read(study / f"{stage.notebook}.ipynb").cells]
        assert any(outputs)
        assert not re.search(r"Traceback|Warning|it/s\]", json.dumps(outputs)), stage.notebook


def test_a_second_run_keeps_everything(study, capsys):
    before = {path: path.stat().st_mtime_ns for path in study.parent.parent.rglob("manifest.json")}
    assert main(["run", *OPTIONS]) == 0
    output = capsys.readouterr()
    assert [line.split()[1] for line in output.err.splitlines()] == ["kept"] * len(STAGES)
    assert "ppo+nl" in output.out
    assert output.out.splitlines()[-1] == str(study / "index.html")
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_notebook_runs_in_jupyter_with_its_own_parameters(tmp_path):
    subprocess.run([sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output-dir", str(tmp_path),
                    "01_data_and_prefixes.ipynb"], cwd=ROOT / "notebooks", check=True, capture_output=True)
    assert open_run("data", "tiny").artifact.metrics["data/num_prompts"] > 10_000


@pytest.mark.parametrize("stage", STAGES)
def test_lessons_say_the_same_again_with_the_functions_of_a_student(study, stage, tmp_path, monkeypatch):
    """Restart and run all, from another folder, with every solution pasted in and `use_mine`.

    What a cell needs comes from the artifact, not from the training that is now skipped; the cells after the exercises
    print what they print with the kit's functions; and no artifact is made by a student's.
    """
    path, made = ROOT / "notebooks" / f"{STAGES[stage].notebook}.ipynb", find(stage).artifact.manifest
    folders = sorted(find(stage).folder.parent.glob("[!.]*"))
    nbformat.write(anatomy.solved(path), tmp_path / path.name)
    monkeypatch.chdir(ROOT / "notebooks")
    mine = papermill.execute_notebook(
        tmp_path / path.name, tmp_path / "mine.ipynb", {"settings": parse_settings(SETTINGS), "use_mine": True},
        kernel_name="python3", progress_bar=False)
    assert anatomy.printed(mine) == anatomy.printed(anatomy.read(study / path.name))
    assert find(stage).artifact.manifest == made
    assert sorted(find(stage).folder.parent.glob("[!.]*")) == folders
