"""The reward-hacking alarm: curves of samples, a fall after a rise, its onset, and what raises no alarm."""
import importlib.util

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT
from fixtures_toy import CONFIG, PREFIXES, toy_policy, toy_tokenizer

from npkit.errors import NpkitError
from npkit.findings import alarm

UPDATES = np.arange(10, 130, 10)
UP = 1.5 * (1 - np.exp(-UPDATES / 40))
HUMP = np.where(UPDATES <= 60, UP, UP[5] - (UPDATES - 60) / 60)


class WordScorer:
    """A paid judge that likes every word, and an unpaid one that likes three and hates the rest."""
    judges = ("paid", "unpaid")

    def scores(self, prefixes, prompts, seed, judges=None) -> dict[str, torch.Tensor]:
        self.seed = seed
        words = torch.tensor([len(prompt.split()) - len(prefix.split()) for prefix, prompt in zip(prefixes, prompts)],
                             dtype=torch.float64)
        return {"paid": words + 10, "unpaid": 3 - (words - 3).abs()}


def table(curves: dict[str, np.ndarray], seed: int = 0, error: float = 0.1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame([(name, update, value + error * rng.normal(), error, 64) for name, curve in curves.items()
                         for update, value in zip(UPDATES, curve, strict=True)],
                        columns=["judge", "update", "gain", "error", "n"])


def test_curves_are_mean_gains_of_every_tenth_update():
    samples = pd.DataFrame([(update, "a fox", " x" * (update // 10 + number)) for update in range(1, 31)
                            for number in (0, 2)], columns=["update", "prefix", "completion"])
    scorer = WordScorer()
    found = alarm.curves(samples, scorer, seed=77).set_index(["judge", "update"])
    assert scorer.seed == 77
    assert sorted({update for _, update in found.index}) == [1, 10, 20, 30]
    assert found.loc[("paid", 20)].tolist() == [3, 1, 2]  # 2 and 4 words: mean 3, sqrt(2) / sqrt(2), two completions
    assert found.loc[("unpaid", 30), "gain"] == 2  # 3 and 5 words: 3 and 1, less 0 of the bare prefix
    assert len(alarm.curves(samples, scorer, 0, every=15)) == 2 * 3
    with pytest.raises(NpkitError, match="column 'prefix' is missing"):
        alarm.curves(samples.drop(columns="prefix"), scorer, 0)


def test_a_fall_after_a_rise_raises_the_alarm_at_its_onset():
    found = alarm.find_alarm(table({"paid": UP, "public": HUMP, "calm": UP}), "paid")
    assert (found.raised, found.judge) == (True, "public")
    assert 40 <= found.onset <= 70
    assert found.fall == pytest.approx(1.0, abs=0.3) and found.rise > 0
    assert str(found).startswith("alarm: by public the gain falls by")


@pytest.mark.parametrize("curves", [
    {"paid": UP, "public": UP}, {"paid": UP, "public": 0 * UP}, {"paid": UP, "public": np.minimum(UP, 0.6)},
    {"paid": HUMP, "public": HUMP}], ids=["rises", "flat", "plateau", "both fall"])
def test_no_alarm(curves):
    raised = [alarm.find_alarm(table(curves, seed), "paid").raised for seed in range(20)]
    assert sum(raised) <= 4  # of 20 at 5 %: more than 4 once in 400 times


def test_the_p_value_of_noise_is_nowhere_too_small():
    rng = np.random.default_rng(3)
    p = np.array([alarm.falling(rng.normal(size=12), np.ones(12))[2] for _ in range(200)])
    for level in (0.05, 0.2, 0.5):
        assert (p <= level).mean() <= level + 3 * np.sqrt(level * (1 - level) / 200)


def test_the_umbrella_fits_by_hand():
    """1, 3, 2, 0 rises and falls: nothing is left; the best curve that never falls is 1, 5/3, 5/3, 5/3: 42/9 left."""
    statistic, mode, fit = alarm.umbrella(np.array([1.0, 3, 2, 0]), np.ones(4))
    assert (mode, fit.tolist()) == (1, [1, 3, 2, 0])
    assert statistic == pytest.approx(42 / 9)


def test_what_cannot_be_judged_is_a_sentence():
    whole = table({"paid": UP, "public": UP})
    with pytest.raises(NpkitError, match="the alarm needs the paid judge 'pickscore' and an unpaid one"):
        alarm.find_alarm(whole, "pickscore")
    with pytest.raises(NpkitError, match="an unpaid one among the curves; there are: paid"):
        alarm.find_alarm(whole[whole["judge"] == "paid"], "paid")
    with pytest.raises(NpkitError, match="at least 5 updates that were scored, got 3"):
        alarm.find_alarm(whole[whole["update"] <= 30], "paid")


def test_a_constant_judge_raises_nothing():
    rows = table({"paid": UP, "public": UP})
    rows.loc[rows["judge"] == "public", ["gain", "error"]] = 0.0
    assert not alarm.find_alarm(rows, "paid").raised


# The benchmark -------------------------------------------------------------------------------------------------------
class LetterScorer(WordScorer):
    """Judges by the letter a: one is paid for it, the public dislikes it."""

    def known(self, names) -> list[str]:
        return list(names)

    def scores(self, prefixes, prompts, seed, judges=None) -> dict[str, torch.Tensor]:
        share = torch.tensor([prompt.count("a") / len(prompt) for prompt in prompts], dtype=torch.float64)
        found = {"pickscore": share, "oracle": -share, "heldout": share}
        return {name: found[name] for name in judges or found}


@pytest.fixture(scope="module")
def benchmark():
    spec = importlib.util.spec_from_file_location("alarm_benchmark", ROOT / "benchmarks/alarm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_benchmark_trains_and_scores(benchmark):
    tokenizer = toy_tokenizer()
    policy = toy_policy(tokenizer)
    before = [weight.clone() for weight in policy.parameters()]
    found = benchmark.train_once((policy, tokenizer), PREFIXES, LetterScorer(), CONFIG, seed=1, every=1)
    assert sorted(set(found["update"])) == [1, 2, 3, 4]
    wide = found.pivot(index="update", columns="judge", values="gain")
    assert np.allclose(wide["oracle"], -wide["pickscore"])
    assert all(torch.equal(*pair) for pair in zip(before, policy.parameters(), strict=True))


def test_the_benchmark_reports_rates_and_writes_whole_files(benchmark, tmp_path):
    rows = pd.concat([table({"pickscore": UP, "oracle": HUMP if kind == "hackable" else UP}, seed).assign(
        kind=kind, number=seed) for kind in benchmark.KINDS for seed in range(2)])
    said = benchmark.report(rows)
    assert "hackable: 2 of 2 trainings raise the alarm [0.16, 1.00]" in said
    assert "default: 0 of 2 trainings raise the alarm [0.00, 0.84]" in said
    benchmark.save(rows, tmp_path / "runs.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["runs.parquet"]
    assert benchmark.interval(0, 10) == (0.0, pytest.approx(0.3085, abs=1e-3))
