"""The regression gate: tolerances from reference studies, verdicts, JUnit XML, refreshing, and what is refused."""
import importlib.util
import inspect
import json
import math
import os
import re
import subprocess
import sys
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.findings import tolerances
from npkit.study import gate
from npkit.study.artifacts import open_run
from npkit.text.corpus import write_corpus

SETTINGS = ["--set", "data.num_prompts=300"]  # other than the profile's: the repository's file does not fit
LOSSES = (4.0, 5.0, 6.0, 5.0, 5.0)  # mean 5, standard deviation 0.7071


def make(seed: int, stage: str = "sft", **metrics: float) -> None:
    settings = {"data.num_prompts": 300}
    open_run(stage, "tiny", seed, settings).make(lambda folder: {f"eval/{name}": value
                                                                for name, value in metrics.items()})


@pytest.fixture
def file(tmp_path, npkit_home, capsys):
    """A file of reference metrics of five seeds."""
    for seed, loss in enumerate(LOSSES):
        make(seed, perplexity=loss, loss=0.1 * loss)
    path = tmp_path / "expected.json"
    assert compare("--seeds", *"01234", "--check", path, "--refresh", "the first") == 0
    capsys.readouterr()
    return path


def compare(*words) -> int:
    return main(["compare", *map(str, words), "--only", "sft", *SETTINGS])


# 1. Tolerances -------------------------------------------------------------------------------------------------------
def test_a_tolerance_is_a_prediction_interval():
    """Worked by hand: one headline has half of 5 %, t(4, 0.9875) = 3.4954; times 0.7071 * sqrt(1 + 1/5) = 0.7746."""
    found = tolerances.expect({"sft eval/perplexity": LOSSES, "sft eval/loss": LOSSES}, [0] * 5)
    one = found["sft eval/perplexity"]
    assert (one.value, one.df, one.num, one.rate) == (5, 4, 5, 0.025)
    assert one.tolerance() == pytest.approx(3.4954 * 0.7746, rel=1e-3)
    assert one.tolerance(num_new=5) == pytest.approx(3.4954 * 0.7071 * math.sqrt(2 / 5), rel=1e-3)


def test_false_alarms_of_a_whole_check_stay_under_the_rate_whatever_the_correlation():
    rng = np.random.default_rng(0)
    for shared in (0.0, 0.9):  # of the variance: metrics that know nothing of each other, and near copies
        alarms = 0
        for _ in range(300):
            draws = np.sqrt(shared) * rng.normal(size=(1, 6)) + np.sqrt(1 - shared) * rng.normal(size=(40, 6))
            names = [f"evaluation pickscore_gain/{number}" for number in range(39)] + ["ppo objective/score"]
            expected = tolerances.expect(dict(zip(names, draws[:, :5].tolist(), strict=True)), [0] * 5)
            alarms += any(each.failed for each in tolerances.judge(
                expected, dict(zip(names, draws[:, 5].tolist(), strict=True))))
        assert alarms / 300 <= tolerances.ALPHA + 3 * math.sqrt(0.05 * 0.95 / 300)


def test_facts_are_exact_and_constants_of_a_share_are_not():
    values = {"sft train/num_processes": [1.0] * 5, "ppo objective/finished": [1.0] * 5, "sft eval/loss": LOSSES}
    expected = tolerances.expect(values, [0] * 5)
    assert expected["sft train/num_processes"].tolerance() == 0
    assert expected["ppo objective/finished"].tolerance() == 0.05
    assert tolerances.judge(expected, {"sft train/num_processes": 1.0001, "ppo objective/finished": 0.96,
                                       "sft eval/loss": 5.0})[0].verdict == "moved"


def test_the_gains_of_a_judge_share_a_least_spread():
    values = {f"evaluation pickscore_gain/{name}": row for name, row in (
        ("sft", [0.0] * 5), ("ppo", LOSSES), ("human", LOSSES))}
    found = tolerances.expect(values, [0] * 5)
    assert found["evaluation pickscore_gain/sft"].spread == pytest.approx(0.7071 / 2, rel=1e-3)
    assert tolerances.unit("evaluation ppo_minus_sft/oracle_low") == "evaluation */oracle_low"
    assert tolerances.unit("ppo policy/loss") == "ppo policy/loss"


def test_same_is_what_is_shown_to_be_within_the_margin():
    quiet, noisy = [4.9, 5.0, 5.1, 5.0, 5.0], [1.0, 9.0, 5.0, 3.0, 7.0]
    expected = tolerances.expect({"sft eval/a": quiet, "sft eval/b": noisy}, [0] * 5)
    verdicts = tolerances.judge(expected, {"sft eval/a": 5.1, "sft eval/b": 5.1, "sft eval/c": 1.0})
    assert [each.verdict for each in verdicts] == ["same", "unclear", "not comparable"]
    assert [each.verdict for each in tolerances.judge(expected, {"sft eval/a": float("nan")})] == ["moved", "missing"]


def test_a_new_epoch_moves_the_value_and_keeps_the_spread():
    (found,) = tolerances.expect({"sft eval/loss": [*LOSSES, 9.0]}, [0] * 5 + [1]).values()
    assert (found.value, found.num, found.df) == (9, 1, 4)
    assert found.spread == pytest.approx(0.7071, rel=1e-3)


# 2. The file ---------------------------------------------------------------------------------------------------------
def test_a_file_tells_why_when_and_from_what_it_was_written(file):
    facts = json.loads(file.read_text())
    assert facts["metrics"] == {"sft": {"eval/perplexity": list(LOSSES), "eval/loss": [0.1 * loss for loss in LOSSES]}}
    assert facts["settings"] == {"data.num_prompts": 300}
    (entry,) = facts["history"]
    assert (entry["reason"], len(entry["studies"])) == ("the first", 5)
    assert {"date", "commit", "versions"} <= set(entry)
    assert gate.read_reference(file).studies[2].metrics == {"sft": {"eval/perplexity": 6.0, "eval/loss": 0.1 * 6}}


def test_studies_are_checked_and_exit_code_3_says_what_moved(file, tmp_path, capsys):
    make(7, perplexity=5.5, loss=0.55)
    assert compare("--seeds", 7, "--check", file) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[2][:5] == ["sft", "eval/perplexity", "5", "5.5", "+0.5"]
    make(8, perplexity=50.0, new=1.0)
    assert compare("--seeds", 8, "--check", file, "--junit", tmp_path / "j.xml") == 3
    said = capsys.readouterr()
    assert "npkit: sft eval/perplexity is 50, expected 5 within " in said.err
    assert "npkit: sft eval/loss is missing, expected 0.5" in said.err
    assert "3 metrics checked: 1 moved, 1 missing, 1 not comparable" in said.err
    root = ElementTree.parse(tmp_path / "j.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("skipped")) == ("3", "2", "1")
    (suite,) = root
    assert [(case.get("name"), [child.tag for child in case]) for case in suite] == [
        ("eval/perplexity", ["failure"]), ("eval/loss", ["failure"]), ("eval/new", ["skipped"])]
    assert suite[0][0].text.startswith("sft eval/perplexity is 50, expected 5 within ")
    assert suite[0].get("classname").endswith(".sft")


def test_several_studies_are_checked_by_their_mean(file, capsys):
    for seed in (7, 8):
        make(seed, perplexity=7.2, loss=0.72)
    assert compare("--seeds", 7, "--check", file) == 0
    assert compare("--seeds", 7, 8, "--check", file) == 3  # 2.2 is within 2.70 of one draw, not within 2.07 of two


def test_refreshing_begins_an_epoch_and_adding_joins_one(file, capsys):
    make(7, perplexity=50.0, loss=5.0)
    assert compare("--seeds", 7, "--check", file, "--refresh", "another loss") == 0
    reference = gate.read_reference(file)
    assert [study.epoch for study in reference.studies] == [0, 0, 0, 0, 0, 1]
    assert [entry["reason"] for entry in reference.history] == ["the first", "another loss"]
    make(8, perplexity=49.0, loss=4.9)
    assert compare("--seeds", 8, "--check", file) == 0
    assert compare("--seeds", 8, "--check", file, "--refresh", "one more", "--add") == 0
    assert [study.epoch for study in gate.read_reference(file).studies] == [0, 0, 0, 0, 0, 1, 1]
    assert gate.expectations(gate.read_reference(file))["sft eval/perplexity"].value == 49.5
    assert compare("--seeds", 8, "--check", file, "--refresh", "again", "--add") == 0  # in place of itself
    assert len(gate.read_reference(file).studies) == 7


def test_tight_is_to_the_bit_until_the_spread_over_machines_was_measured(file, capsys, monkeypatch):
    assert compare("--seeds", 2, "--check", file, "--tight") == 0
    monkeypatch.setattr(gate, "machine", lambda: "another")
    assert compare("--seeds", 2, "--check", file, "--tight") == 2
    assert "the spread over machines was not measured" in capsys.readouterr().err
    assert compare("--seeds", 7, "--check", file, "--tight") == 2
    assert "there is none of 7, only of 0, 1, 2, 3, 4" in capsys.readouterr().err
    reference = gate.read_reference(file)
    again = [gate.Study(study.seed, 2, "another", "abc", 0, {"sft": {"eval/perplexity": value}})
             for study, value in zip(reference.studies, (4.1, 5.1, 5.9, 5.0, 5.1), strict=True)]
    both = gate.Reference("tiny", {}, (), (*reference.studies, *again))
    run = open_run("sft", "tiny", 2, {"data.num_prompts": 300})
    tight = gate.expectations(both, run)["sft eval/perplexity"]
    assert (tight.value, tight.df, tight.num) == (5.95, 5, 2)
    assert tight.spread == pytest.approx(math.sqrt(4 * 0.005 / 5))  # four pairs 0.1 apart, one that agrees
    assert gate.expectations(both)["sft eval/perplexity"].df == 4  # a seed counts once


# 3. Two runs ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def two(npkit_home):
    """Two run folders of the same settings, and one of another profile."""
    for name, profile, seed in (("a", "tiny", 0), ("b", "tiny", 1), ("c", "small", 0)):
        folder = npkit_home / "runs" / name
        folder.mkdir(parents=True)
        settings = {"data.num_prompts": 300} if profile == "tiny" else {}
        (folder / "run.json").write_text(json.dumps({"profile": profile, "seed": seed, "settings": settings}))


def test_two_runs_are_compared_within_the_spread_of_single_draws(file, two, capsys):
    assert main(["compare", "a", "b", "--only", "sft"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert rows[:3] == [["a", "b", "difference", "tolerance", "verdict"], ["stage", "metric"],
                        ["sft", "eval/perplexity", "4", "5", "+1", "-", "not", "comparable"]]
    assert main(["compare", "a", "b", "--only", "sft", "--check", str(file)]) == 0
    tolerance = float(capsys.readouterr().out.splitlines()[2].split()[5])
    assert tolerance == pytest.approx(3.4954 * 0.7071 * math.sqrt(2), rel=1e-3)


def test_two_runs_of_the_repositorys_settings_take_its_spread(npkit_home, capsys):
    for seed, loss in ((0, 4.8), (1, 9.8)):
        open_run("sft", "tiny", seed).make(lambda folder, loss=loss: {"eval/perplexity": loss})
        (npkit_home / "runs" / f"s{seed}").mkdir(parents=True)
        (npkit_home / f"runs/s{seed}/run.json").write_text(f'{{"profile": "tiny", "seed": {seed}, "settings": {{}}}}')
    assert main(["compare", "s0", "s1", "--only", "sft"]) == 3
    assert "sft eval/perplexity is 9.8, expected 4.8 within" in capsys.readouterr().err


# 4. Refused ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("words", "said"), [
    ("a c --only sft", "runs of different profiles cannot be compared"),
    ("a b", "evaluation and ablations and explorer and preference have no artifact"),
    ("a b --only sgd", "unknown notebook 'sgd'"),
    ("--seeds 9 --only sft --check FILE --set data.num_prompts=300", "incomplete: sft has no artifact; make it by"),
    ("--seeds 0 --only sft --check FILE", "holds metrics of the settings data.num_prompts=300, this study has of the"),
    ("--seeds 0 --only sft --check FILE --profile small", "profile tiny, this study is of profile small"),
    ("--seeds 0 --check FILE --refresh", "--refresh"),
    ("a b --refresh why", "--refresh goes with --seeds and --check FILE"),
    ("--seeds 0 1 --check FILE --tight --only sft --set data.num_prompts=300", "--tight checks the study of one seed"),
    ("--seeds 0 --check FILE --add", "--add goes with --refresh"),
    ("--seeds 0 --junit j.xml", "--only and --junit go with"),
    ("--seeds 0 --only sft --check FILE --junit /no/such/j.xml --set data.num_prompts=300", "cannot be written"),
])
def test_what_cannot_be_compared_is_a_sentence(file, two, capsys, words, said):
    before = file.read_bytes()
    try:
        code = main(["compare", *words.replace("FILE", str(file)).split()])
    except SystemExit as stop:
        code = stop.code
    output = capsys.readouterr().err
    assert (code, said in output) == (2, True), output
    assert len([line for line in output.splitlines() if "metrics checked" not in line]) == 1
    assert file.read_bytes() == before


@pytest.mark.parametrize("reason", ["", "  "])
def test_no_reason_no_refresh(file, capsys, reason):
    before = file.read_bytes()
    assert compare("--seeds", 0, "--check", file, "--refresh", reason) == 2
    assert main(["run", "--check", str(file), "--refresh", reason]) == 2
    assert capsys.readouterr().err.count("--refresh needs the reason why") == 2
    assert file.read_bytes() == before


@pytest.mark.parametrize(("change", "said"), [
    (lambda facts: {"sft": {"eval/loss": {"value": 1, "tolerance": 1}}}, "no file of reference metrics of format 2"),
    (lambda facts: facts | {"format": 3}, "no file of reference metrics of format 2"),
    (lambda facts: [], "no file of reference metrics of format 2"),
    (lambda facts: facts | {"metrics": {"sgd": {}}}, "has metrics of stage 'sgd'; known: glyphworld, data"),
    (lambda facts: facts | {"metrics": {"sft": {"eval/loss": [1, 2, "3", 4, 5]}}}, "a number or null for each study"),
    (lambda facts: facts | {"metrics": {"sft": {"eval/loss": [1, 2, True, 4, 5]}}}, "a number or null for each study"),
    (lambda facts: facts | {"metrics": {"sft": {"eval/loss": [1, 2]}}}, "cannot read reference metrics"),
    (lambda facts: facts | {"studies": [], "metrics": {}}, "it has no studies"),
    (lambda facts: {"format": 2}, "cannot read reference metrics"),
])
def test_damaged_files_are_refused_in_a_sentence(file, change, said):
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(NpkitError, match="^[^\n]*$") as refused:
        gate.read_reference(file)
    assert said in str(refused.value)


def test_a_nan_is_no_reference_and_moves_a_number(file, tmp_path, capsys):
    make(9, perplexity=float("nan"), loss=0.5)
    assert compare("--seeds", 9, "--check", file) == 3
    assert "sft eval/perplexity is nan, expected 5 within" in capsys.readouterr().err
    assert compare("--seeds", 9, "--check", file, "--refresh", "why", "--add") == 0
    assert json.loads(file.read_text())["metrics"]["sft"]["eval/perplexity"] == [*LOSSES, None]
    assert compare("--seeds", 0, "--check", "/no/such/file.json", "--refresh", "why") == 2
    assert "/no/such/file.json cannot be written" in capsys.readouterr().err


def test_a_single_study_has_no_spread(tmp_path, capsys):
    make(0, perplexity=5.0)
    path = tmp_path / "one.json"
    assert compare("--seeds", 0, "--check", path, "--refresh", "the only one") == 0
    assert compare("--seeds", 0, "--check", path) == 2
    assert "the reference is a single study" in capsys.readouterr().err
    assert compare("--seeds", 0, "--check", path, "--tight") == 0


# 5. Facts and XML ----------------------------------------------------------------------------------------------------
def test_leaks_are_counted_in_the_tables(tmp_path):
    def artifact(name: str, table: str, **columns) -> SimpleNamespace:
        (tmp_path / name).mkdir(exist_ok=True)
        pd.DataFrame(columns).to_parquet(tmp_path / name / f"{table}.parquet")
        return SimpleNamespace(path=tmp_path / name,
                               table=lambda table: pd.read_parquet(tmp_path / name / f"{table}.parquet"))

    clean = {"data": artifact("d", "prompts", prefix=["a fox", "a cat", "a hen"], split=["sft", "ppo", "test"]),
             "ppo": artifact("p", "samples", prefix=["a cat"]), "evaluation": artifact("e", "scores", prefix=["a hen"])}
    assert [set(found.values()) for found in gate.leaks(clean).values()] == [{0.0}] * 3
    leaky = clean | {"data": artifact("d2", "prompts", prefix=["a fox", "A  Hen", "a hen"],
                                      split=["sft", "sft", "test"])}
    assert gate.leaks(leaky) == {"data": {"found/shared_prefixes": 1.0}, "ppo": {"found/foreign_prefixes": 1.0},
                                 "evaluation": {"found/trained_prefixes": 1.0}}


def test_a_stage_alone_has_the_facts_that_the_whole_study_has(npkit_home):
    def tables(name: str, **columns):
        return lambda folder: pd.DataFrame(columns).to_parquet(folder / f"{name}.parquet") or {"episodes": 1}

    settings = {"data.num_prompts": 300}
    open_run("data", "tiny", 0, settings).make(tables("prompts", prefix=["a fox", "a cat"], split=["ppo", "test"]))
    ppo = open_run("ppo", "tiny", 0, settings)
    ppo.make(tables("samples", prefix=["a fox", "a cat"]))
    assert gate.study_of([ppo]).metrics == {"ppo": {"episodes": 1, "found/foreign_prefixes": 1}}


def test_odd_names_are_escaped():
    odd = 'a<b>&"c"\x00\x1b\ud800'
    text = gate.junit([tolerances.Verdict("sft", odd, 1.0, 2.0, 0.5, "moved")], "tiny & more")
    (suite,) = ElementTree.fromstring(text.encode())
    assert suite[0].get("name") == 'a<b>&"c"\ufffd\ufffd\ufffd'
    assert suite[0].get("classname") == "tiny & more.sft"


# 6. Defects ----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def saboteur():
    """The module that puts defects into a process; without NPKIT_DEFECT it does nothing by itself."""
    spec = importlib.util.spec_from_file_location("defects", ROOT / "benchmarks/defects/sitecustomize.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_defects_change_what_they_say(saboteur, tmp_path):
    toy = SimpleNamespace(token_rewards=lambda scores, logprobs, ref, mask, kl_coef: kl_coef,
                          ask=lambda reward, prefixes, completions: torch.tensor([1.0, 2.0, 3.0]),
                          split_by_prefix=lambda prefixes, shares, rng: ["sft", "test", "sft", "test", "test", "sft"])
    saboteur.flip_kl(toy)
    assert toy.token_rewards(0, 0, 0, 0, 0.1) == -0.1
    saboteur.shuffle_rewards(toy)
    assert sorted(toy.ask(None, [], []).tolist()) == [1, 2, 3] != toy.ask(None, [], []).tolist()
    saboteur.leak_prefixes(toy)
    assert toy.split_by_prefix([], {}, None) == ["test", "sft", "test", "test", "sft", "sft"]
    toy.Scorer = type("Scorer", (), {"judge": lambda self, name, cases, painted=None: seen.append(painted)})
    seen = []
    saboteur.judge_wrong_picture(toy)
    toy.Scorer().judge("oracle", [], {("a", 0): 1, ("b", 0): 2, ("c", 0): 3})
    toy.Scorer().judge("words", [])
    assert seen == [{("a", 0): 2, ("b", 0): 3, ("c", 0): 1}, None]


def test_defects_name_functions_that_there_are(saboteur):
    for module, change in saboteur.DEFECTS.values():
        found = importlib.import_module(module)
        copy = SimpleNamespace(**vars(found))
        if hasattr(found, "Scorer"):
            copy.Scorer = type("Copy", (), {"judge": found.Scorer.judge})
        change(copy)  # raises where a function has another name now
    from npkit.training.ppo_math import token_rewards
    assert list(inspect.signature(token_rewards).parameters) == ["scores", "logprobs", "ref_logprobs", "mask",
                                                                 "kl_coef"]


@pytest.mark.slow
def test_a_leak_that_no_count_shows_is_found_and_a_healthy_study_is_not(tmp_path, npkit_home):
    settings = {"data.num_prompts": 300}
    for seed in range(3):
        run = open_run("data", "tiny", seed, settings)
        run.make(lambda folder, run=run: write_corpus(run.config.data, run.seed, folder))
    file = tmp_path / "e.json"
    assert main(["compare", "--seeds", "0", "1", "2", "--only", "data", *SETTINGS, "--check", str(file), "--refresh",
                 "three"]) == 0
    command = [sys.executable, ROOT / "benchmarks/gate.py", "defects", "none", "leak", "--folder", tmp_path / "homes",
               *SETTINGS, "--check", file]
    for _ in range(2):  # the second time nothing is made again
        found = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
                               check=False)
        assert found.returncode == 0, found.stdout + found.stderr
        assert "none: as wanted, exit code 0" in found.stdout
        assert re.search(r"leak: as wanted, exit code 3.*\n +data found/shared_prefixes is \d+, expected 0 within 0",
                         found.stdout)
    assert found.stdout.startswith("0 to make")
