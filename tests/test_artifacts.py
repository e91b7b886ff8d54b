"""Artifacts: whole or not at all, named by everything that went into them."""
import json
import re
from functools import cache

import pandas
import pytest

import npkit
from npkit.__main__ import main
from npkit.errors import MissingArtifact, NpkitError
from npkit.study import artifacts, code
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


def test_missing_input_names_the_command_that_makes_it():
    with pytest.raises(MissingArtifact) as caught:
        npkit.start("04_ppo").input("sft")
    assert str(caught.value) == ("ppo needs the artifact of stage sft (profile tiny, seed 0): "
                                 "make it by npkit run --until 02_sft")
    with pytest.raises(MissingArtifact) as caught:
        npkit.start("04_ppo").need(["sft", "data"])
    assert str(caught.value) == ("ppo needs the artifacts of stages data and sft (profile tiny, seed 0): "
                                 "make them by npkit run --until 02_sft")


def test_missing_input_repeats_the_options_that_lead_to_it():
    with pytest.raises(MissingArtifact, match=r"npkit run --until 02_sft --seed 2 --set sft.num_epochs=2$"):
        npkit.start("04_ppo", seed=2, settings={"sft.num_epochs": 2}).input("sft")


def test_only_declared_inputs_are_read():
    with pytest.raises(NpkitError, match="sft reads data, not 'ppo'"):
        npkit.start("02_sft").input("ppo")


def test_input_returns_the_artifact_of_the_same_settings():
    made = npkit.start("01_data_and_prefixes", seed=1).make(fill)
    assert npkit.start("02_sft", seed=1).input("data").key == made.key
    with pytest.raises(MissingArtifact, match=r"stage data \(profile tiny, seed 2\)"):
        npkit.start("02_sft", seed=2).input("data")


AFTER_SFT = {"ppo", "neurologic", "evaluation", "ablations", "explorer", "preference"}


@pytest.mark.parametrize(("settings", "changed"), [
    ({"data.num_prompts": 10}, {"data", "sft", *AFTER_SFT}),
    ({"sft.num_epochs": 1}, {"sft", *AFTER_SFT}),
    ({"ppo.kl_coef": 1}, AFTER_SFT),
    ({"neurologic.beam_size": 2}, AFTER_SFT - {"ppo"}),
    ({"evaluation.num_prefixes": 10}, {"neurologic", "evaluation", "ablations", "preference"}),
    ({"ablation.best_of": 2}, {"ablations"}),
    ({"preference.votes_per_pair": 2}, {"preference"}),
    ({"images.num_inference_steps": 1}, AFTER_SFT),
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


def test_a_corpus_counts_by_content_wherever_it_is(tmp_path, npkit_home, monkeypatch):
    keys = set()
    for folder in (tmp_path / "one", tmp_path / "two", npkit_home):
        folder.mkdir()
        (folder / "prompts.txt").write_text("a cat, oil painting")
        monkeypatch.chdir(folder)
        names = ("prompts.txt", "./prompts.txt", str(folder / "prompts.txt"))
        keys |= {open_run("data", "tiny", 0, {"data.source": name}).key for name in names}
    monkeypatch.chdir("/")
    keys.add(open_run("data", "tiny", 0, {"data.source": "prompts.txt"}).key)  # found in the home
    assert len(keys) == 1
    (npkit_home / "prompts.txt").unlink()
    with pytest.raises(NpkitError, match="prompts.txt does not exist .data.source; looked in / and "):
        open_run("data", "tiny", 0, {"data.source": "prompts.txt"})
    with pytest.raises(NpkitError, match="metadata.parquet does not exist .data.source; looked in / and "):
        _ = open_run("sft", "small").key


def test_status_reads_a_corpus_once(tmp_path, monkeypatch, capsys):
    corpus = tmp_path / "prompts.txt"
    corpus.write_text("a cat, oil painting")
    read = []
    monkeypatch.setattr(code, "_read_file", cache(lambda path, *facts: read.append(path) or str(path)))
    assert main(["status", "--set", f"data.source={corpus}"]) == 0
    assert read.count(corpus) == 1
    assert capsys.readouterr().out.count("missing") == len(STAGES)


def test_the_manifest_names_the_code(npkit_home):
    made = npkit.start("01_data_and_prefixes").make(fill)
    assert set(made.manifest["code"]) == {"01_data_and_prefixes.ipynb", "npkit.numbers", "npkit.text.characters",
                                           "npkit.text.corpus", "npkit.text.readers"}
    assert {"pandas", "datasets", "python"} <= set(made.manifest["libraries"])
    assert "torch" not in made.manifest["libraries"], "data are made without it"
    assert list(made.manifest["sources"]) == ["npkit.glyphworld.corpus:generate"]


def test_a_missing_artifact_says_what_changed_since_the_last(monkeypatch, capsys):
    npkit.start("01_data_and_prefixes").make(fill)
    npkit.start("02_sft").make(fill)
    assert open_run("sft", "tiny").changed() == []
    real = code.read_module("npkit.text.corpus")
    monkeypatch.setitem(real.__dict__, "digest", "another")
    code.code_of.cache_clear()
    try:
        assert open_run("data", "tiny").changed() == ["npkit.text.corpus"]
        assert open_run("sft", "tiny").changed() == ["data"]
        assert open_run("data", "tiny", 1).changed() == []
        assert main(["status"]) == 0
        assert "missing       changed since the last: npkit.text.corpus\n" in capsys.readouterr().out
    finally:
        code.code_of.cache_clear()


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


@pytest.mark.parametrize("text", ["", "[]", "{", '{"metrics": {"a": "x"}}', '{"key": "k"}'])
def test_a_damaged_manifest_is_told_in_a_sentence(text):
    run = open_run("data", "tiny")
    run.make(lambda folder: {"n": 1.0})
    (run.folder / "manifest.json").write_text(text)
    with pytest.raises(NpkitError, match=r"manifest.json is damaged .*: remove its folder"):
        run.artifact  # noqa: B018 (raises)


def test_a_damaged_table_is_told_in_a_sentence():
    run = open_run("data", "tiny")
    artifact = run.make(lambda folder: {"n": (folder / "prompts.parquet").write_bytes(b"PAR1 cut off PAR1")})
    with pytest.raises(NpkitError, match=r"prompts.parquet is damaged .*: remove its folder, and npkit run makes"):
        artifact.table("prompts")
    with pytest.raises(FileNotFoundError):
        artifact.table("samples")


def test_a_file_behind_a_link_is_written_and_the_link_stays(tmp_path):
    (tmp_path / "real.md").write_text("old")
    (tmp_path / "link.md").symlink_to("real.md")
    artifacts.write_whole(tmp_path / "link.md", "new")
    assert (tmp_path / "link.md").is_symlink() and (tmp_path / "real.md").read_text() == "new"
