"""Artifacts: whole or not at all, named by everything that went into them."""
import json
import re

import pandas
import pytest

import npkit
from npkit.errors import MissingArtifact, NpkitError
from npkit.study import artifacts
from npkit.study.artifacts import STAGES, open_run


def fill(folder) -> dict[str, float]:
    """Write a table and return a metric, as a stage does."""
    pandas.DataFrame({"prompt": ["a cat, oil painting"]}).to_parquet(folder / "prompts.parquet")
    return {"num_prompts": 1}


def test_home_is_the_variable_else_the_repository(npkit_home, monkeypatch):
    assert artifacts.home() == npkit_home
    monkeypatch.delenv("NPKIT_HOME")
    assert (artifacts.home() / "pyproject.toml").exists()


def test_make_writes_manifest_and_table(npkit_home):
    run = npkit.start("01_data_and_prefixes", seed=3)
    made = run.make(fill)
    assert made.path == npkit_home / "artifacts" / "tiny" / "data" / run.key
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert (manifest["stage"], manifest["seed"], manifest["metrics"]) == ("data", 3, {"num_prompts": 1.0})
    assert manifest["config"]["data"]["prefix_rule"] == "first_comma"
    assert {"torch", "trl", "python"} <= set(manifest["versions"])
    assert list(made.table("prompts")["prompt"]) == ["a cat, oil painting"]
    assert made.dataset("prompts").column_names == ["prompt"]


def test_make_runs_once():
    run = npkit.start("01_data_and_prefixes")
    run.make(fill)
    assert open_run("data", "tiny").make(lambda folder: pytest.fail("made twice")).metrics == {"num_prompts": 1.0}


def test_dollars_in_tables_are_no_formulas():
    npkit.start("01_data_and_prefixes")
    assert "ignore" in re.search(r'class="([^"]*)"', pandas.DataFrame({"prompt": ["$5 and $6"]})._repr_html_())[1]


def test_failed_make_leaves_no_artifact_but_its_scratch():
    run = npkit.start("01_data_and_prefixes")
    (run.scratch / "step-000001").mkdir()

    def break_down(folder):
        fill(folder)
        raise RuntimeError("power cut")
    with pytest.raises(RuntimeError, match="power cut"):
        run.make(break_down)
    assert run.artifact is None
    assert (run.scratch / "step-000001").exists()
    assert run.make(fill).metrics == {"num_prompts": 1.0}
    assert not run.folder.with_name(f".{run.key}.work").exists()
    assert not run.folder.with_name(f".{run.key}.draft").exists()


def test_missing_input_names_the_notebook_that_makes_it():
    with pytest.raises(MissingArtifact) as caught:
        npkit.start("04_ppo").input("sft")
    assert str(caught.value) == ("ppo needs the artifact of stage sft (profile tiny, seed 0): "
                                 "run notebook 02_sft first (npkit run --only 02_sft)")


def test_missing_input_repeats_the_options_that_lead_to_it():
    with pytest.raises(MissingArtifact, match=r"\(npkit run --only 02_sft --seed 2 --set sft.num_epochs=2\)"):
        npkit.start("04_ppo", seed=2, settings={"sft.num_epochs": 2}).input("sft")


def test_only_declared_inputs_are_read():
    with pytest.raises(NpkitError, match="sft reads data, not 'ppo'"):
        npkit.start("02_sft").input("ppo")


def test_input_returns_the_artifact_of_the_same_settings():
    made = npkit.start("01_data_and_prefixes", seed=1).make(fill)
    assert npkit.start("02_sft", seed=1).input("data").key == made.key
    with pytest.raises(MissingArtifact, match=r"stage data \(profile tiny, seed 2\)"):
        npkit.start("02_sft", seed=2).input("data")


@pytest.mark.parametrize(("settings", "changed"), [
    ({"data.num_prompts": 10}, {"data", "sft", "ppo", "neurologic", "evaluation"}),
    ({"sft.num_epochs": 1}, {"sft", "ppo", "neurologic", "evaluation"}),
    ({"ppo.kl_coef": 1}, {"ppo", "neurologic", "evaluation"}),
    ({"neurologic.beam_size": 2}, {"neurologic", "evaluation"}),
    ({"evaluation.num_prefixes": 10}, {"neurologic", "evaluation"}),
    ({"images.num_inference_steps": 1}, {"ppo", "neurologic", "evaluation"}),
    ({"runtime.num_threads": 1, "runtime.cell_timeout": 1}, set()),
])
def test_a_setting_changes_the_keys_downstream_of_it(settings, changed):
    found = {stage for stage in STAGES if open_run(stage, "tiny", 0, settings).key != open_run(stage, "tiny").key}
    assert found == changed


def test_the_seed_and_a_model_on_disk_change_the_key(tmp_path):
    assert open_run("data", "tiny", 1).key != open_run("data", "tiny").key
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a cat")
    before = open_run("data", "tiny", 0, {"data.source": str(corpus)}).key
    corpus.write_text("a dog")
    assert open_run("data", "tiny", 0, {"data.source": str(corpus)}).key != before


def test_none_among_the_settings_is_no_setting():
    assert open_run("ppo", "tiny", 0, {"ppo.kl_coef": None}).label == "seed0"


@pytest.mark.parametrize("seed", [-1, 0.0, "0", True])
def test_wrong_seed_is_refused(seed):
    with pytest.raises(NpkitError, match="seed is a whole number"):
        npkit.start("02_sft", seed=seed)


def test_wrong_notebook_and_device_are_refused():
    with pytest.raises(NpkitError, match="unknown notebook '3_ppo'"):
        npkit.start("3_ppo")
    import torch
    if not torch.cuda.is_available():
        with pytest.raises(NpkitError, match="this machine has no CUDA device"):
            _ = npkit.start("04_ppo", settings={"runtime.device": "cuda"}).device


def test_start_sets_the_threads_and_summary_shows_what_counts():
    import torch
    before = torch.get_num_threads()
    try:
        run = npkit.start("04_ppo", settings={"runtime.num_threads": 1})
        facts = run.summary()["value"]
        assert facts["threads"] == "1"
        assert (facts["stage"], facts["key"]) == ("ppo", run.key)
    finally:
        torch.set_num_threads(before)


def test_start_turns_the_libraries_progress_bars_off():
    import datasets
    from diffusers.utils import logging
    npkit.start("02_sft")
    assert datasets.are_progress_bars_disabled()
    assert not logging.is_progress_bar_enabled()


def test_figure_is_saved_where_the_report_looks(npkit_home):
    from npkit.figures import new_figure
    figure, _ = new_figure(2, 1)
    path = npkit.start("04_ppo").save_figure(figure, "04_reward_curve")
    assert path == npkit_home / "artifacts" / "tiny" / "figures" / "seed0" / "04_reward_curve.png"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in path.parent.iterdir()] == ["04_reward_curve.png"]
