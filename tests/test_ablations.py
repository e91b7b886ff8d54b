"""Ablations: rows that survive a kill and no changed program, the laws, the corrections, the factorial effects."""
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from fixtures_models import save_pipeline

from npkit.__main__ import main
from npkit.ablations import arms, engine, frontier, interactions, laws, payments, policies, records, tables, transfer
from npkit.errors import NpkitError
from npkit.study.profiles import parse_settings
from npkit.text.keywords import CATEGORIES

TOY = arms.Ablation("toy", "Which is larger?", "Nothing.", f"{__name__}:measure_toy", "one",
                    (arms.Arm("one"), arms.Arm("two"), arms.Arm("three", {"ppo.kl_coef": 0.5})), 60)
WORTH = {"one": 0.0, "two": 1.0, "three": -1.0}
CALLS = []


def measure_toy(trial: engine.Trial) -> dict[str, object]:
    CALLS.append((trial.arm.name, trial.seed))
    if trial.arm.name in FAIL:
        raise NpkitError("the judge toy must return finite numbers")
    if trial.arm.name in KILL:
        raise KeyboardInterrupt
    noise = np.random.default_rng(trial.seed).standard_normal(8) / 10
    gain = WORTH[trial.arm.name] + trial.seed / 100 + noise
    return {"gain/paid": gain.tolist(), "gain/oracle": (2 * gain).tolist(), "kl": 1.0}


FAIL, KILL = set(), set()


@pytest.fixture
def toy(monkeypatch) -> arms.Ablation:
    monkeypatch.setitem(arms.ABLATIONS, "toy", TOY)
    for each in (CALLS, FAIL, KILL):
        each.clear()
    return TOY


def trials(seeds: int = 3, **settings) -> list[engine.Trial]:
    return engine.trials_of(TOY, "tiny", range(seeds), settings)


# 1. The engine -------------------------------------------------------------------------------------------------------
def test_only_what_is_missing_is_run(toy):
    assert engine.run_missing(trials(1), print) == []
    assert CALLS == [("one", 0), ("two", 0), ("three", 0)]
    assert engine.run_missing(trials(2), print) == []
    assert CALLS[3:] == [("one", 1), ("two", 1), ("three", 1)], "the rows of seed 0 are kept"
    rows = engine.rows_of(trials(2))
    assert rows[["arm", "seed"]].apply(tuple, axis=1).tolist() == CALLS and rows["key"].is_unique


def test_a_kill_loses_the_run_at_work_and_no_other(toy):
    KILL.add("three")
    with pytest.raises(KeyboardInterrupt):
        engine.run_missing(trials(1), print)
    assert len(engine.rows_of(trials(1))) == 2
    KILL.clear()
    CALLS.clear()
    assert engine.run_missing(trials(1), print) == [] and CALLS == [("three", 0)]


def test_a_run_that_fails_costs_itself(toy):
    FAIL.add("two")
    said = []
    failures = engine.run_missing(trials(1), said.append)
    assert len(failures) == 1 and "two, seed 0: the judge toy must return finite" in failures[0]
    assert set(engine.rows_of(trials(1))["arm"]) == {"one", "three"} and "failed" in said[1]


def test_a_changed_program_or_setting_finds_its_rows_missing(toy, monkeypatch):
    engine.run_missing(trials(1), print)
    assert len(engine.split(trials(1))[1]) == 0
    assert len(engine.split(trials(1, **{"ppo.vf_coef": 0.7}))[1]) == 3
    monkeypatch.setattr(engine, "FORMAT", 2)
    assert len({trial.key for trial in trials(1)} & set(CALLS)) == 0
    with pytest.raises(NpkitError, match=r"another version \(format 1, this program writes 2\).*nothing was changed"):
        engine.rows_of(trials(1))
    monkeypatch.setattr(engine, "FORMAT", 1)
    assert len(engine.rows_of(trials(1))) == 3


def test_other_settings_stand_beside_and_an_older_program_gives_way(toy):
    first = {"arm": "one", "seed": 0, "key": "a", "settings": "{}", "gain/paid": [1.0]}
    rows = engine.added(pd.DataFrame(columns=list(engine.KNOWN)), first)
    rows = engine.added(rows, first | {"key": "b", "settings": '{"ppo.kl_coef": 0.5}'})
    rows = engine.added(rows, first | {"key": "c"})
    assert rows["key"].tolist() == ["b", "c"]


def test_a_file_that_is_no_parquet_is_refused_and_kept(toy):
    path = engine.path_of(TOY, "tiny")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"no parquet")
    with pytest.raises(NpkitError, match="cannot be read as parquet"):
        engine.run_missing(trials(1), print)
    assert path.read_bytes() == b"no parquet" and not CALLS


def test_estimates_are_of_rows_that_are_there(toy):
    assert engine.announcement(trials(2)).endswith("0 of 6 runs done, about 6 minutes to go")
    engine.run_missing(trials(2), print)
    assert engine.announcement(trials(2)) == "toy: 3 arms x 2 seeds, 6 of 6 runs done"
    assert engine.announcement(trials(3)).endswith("6 of 9 runs done, about 0 minutes to go")


def test_the_command(toy, capsys):
    assert main(["ablate", "toy", "--seeds", "2"]) == 0
    out, err = capsys.readouterr()
    assert "Which is larger?" in out and "6 of 6  three, seed 1" in err and "2 seeds, 0 minutes" in out
    FAIL.add("one")
    assert main(["ablate", "toy", "--seeds", "3"]) == 1
    out, err = capsys.readouterr()
    assert "1 of 9 runs are missing" in out and "npkit: one, seed 2: the judge toy" in err


@pytest.mark.parametrize(("words", "sentence"), [
    (["ablate", "toys"], "unknown ablation 'toys'; known: prefix, stages"),
    (["ablate", "reward", "--set", "ppo.kl_coef=0.5"], "ppo.kl_coef is what the ablation reward changes"),
    (["ablate", "reward", "--seeds", "0"], "--seeds is 1 or more, at most 1000, got 0"),
    (["ablate", "reward", "--profile", "huge"], "unknown profile 'huge'"),
    (["ablate", "rewriters", "--set", "ablation.rewriters=sft"], "names what is an arm already"),
    (["ablate", "reward", "--csv", "/nowhere/x.csv"], "--csv '/nowhere/x.csv' cannot be written"),
])
def test_wrong_usage_is_told_in_a_sentence(words, sentence, capsys):
    assert main(words) == 2
    assert sentence in capsys.readouterr().err


def test_the_list_counts_under_the_settings_and_says_which_cannot_be_run(toy, capsys):
    engine.run_missing(trials(1), print)
    assert main(["ablate", "--seeds", "1"]) == 0 and "toy: 3 arms x 1 seed, 3 of 3 runs done" in capsys.readouterr().out
    assert main(["ablate", "--seeds", "1", "--set", "ppo.kl_coef=0.7"]) == 0
    out = capsys.readouterr().out
    assert "toy: ppo.kl_coef is what the ablation toy changes" in out and "Which is larger?" in out


def test_arms_are_told_apart_and_their_settings_exist():
    for each in arms.ABLATIONS.values():
        assert len({arm.name for arm in each.arms}) == len(each.arms) and each.baseline in {a.name for a in each.arms}
        found = engine.trials_of(each, "tiny", [0], {})
        some = [found[0], found[-1], found[len(found) // 2]]
        assert len({trial.key for trial in some}) == len(set(some and [trial.arm.name for trial in some]))


# 2. Tables -----------------------------------------------------------------------------------------------------------
def test_gains_and_differences_by_hand(toy):
    engine.run_missing(trials(3), print)
    table = tables.gain_table(engine.rows_of(trials(3)), "one").set_index(["judge", "arm"])
    two = table.loc["paid", "two"]
    assert two["difference"] == pytest.approx(1.0) and two["difference_high"] == pytest.approx(1.0)
    assert table.loc["oracle", "three"]["difference"] == pytest.approx(-2.0)
    assert np.isnan(table.loc["paid", "one"]["p"]) and two["seeds"] == 3


def test_p_values_are_corrected_by_arm_and_a_single_seed_has_none():
    found = tables.corrected({"a": 0.01, "one seed": math.nan, "b": 0.04})
    assert math.isnan(found.pop("one seed")) and found == pytest.approx({"a": 0.02, "b": 0.04})
    assert math.isnan(tables.p_value([1.0])) and tables.p_value([1.0, 1.0]) == 0 and tables.p_value([0, 0]) == 1


def test_findings_name_what_is_clear(toy):
    engine.run_missing(trials(3), print)
    text = tables.finding(tables.gain_table(engine.rows_of(trials(3)), "one"), "one", "paid")
    assert text == ("By oracle, two (+2.00 [2.00, 2.00]) is clearly above one, and three (-2.00 [-2.00, -2.00]) is "
                    "clearly below it, at 5 % after Holm's correction over 3 seeds. The paid judge, paid, orders the "
                    "arms alike (rank correlation 1.00).")
    single = tables.finding(tables.gain_table(engine.rows_of(trials(1)), "one"), "one", "paid")
    assert single == ("By oracle the highest arm is two (+2.00 against one). This is one seed, which says nothing "
                      "about another training: more seeds decide.")


def test_an_arm_of_a_group_is_compared_within_it():
    assert tables.own_baseline("tastes 1: ppo", "tastes 0: sft") == "tastes 1: sft"
    assert tables.own_baseline("worst of three", "gain") == "gain"
    means = {"a: sft": 1.0, "a: ppo": 2.0, "b: sft": 9.0, "b: ppo": 8.5}
    rows = pd.DataFrame([{"arm": arm, "seed": seed, "gain/oracle": [mean + seed]} for arm, mean in means.items()
                         for seed in range(3)])
    table = tables.gain_table(rows, "a: sft").set_index("arm")
    assert table["difference"].tolist() == [0, 1, 0, -0.5] and table["p"].isna().tolist() == [True, False, True, False]
    text = tables.finding(table.reset_index(), "a: sft", "oracle")
    assert "a: ppo (+1.00" in text and "above the sft of its group, and b: ppo (-0.50" in text


def test_results_are_ours_until_all_arms_are_run(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "OURS", tmp_path)
    table, source = tables.results(TOY, "tiny")
    assert len(table) == 0 and source == "not run yet; npkit ablate toy does it"
    engine.run_missing(trials(3), print)
    mine, source = tables.results(TOY, "tiny")
    assert len(mine) == 6 and source == "3 seeds, run on this machine"
    mine.to_csv(tmp_path / "07_toy.csv", index=False)
    theirs, source = tables.results(TOY, "tiny", num_seeds=4)
    assert theirs["gain"].tolist() == pytest.approx(mine["gain"].tolist()) and source.startswith("our run")


def test_the_report_has_what_there_are_results_of(toy, monkeypatch, tmp_path):
    monkeypatch.setattr(tables, "OURS", tmp_path)
    assert records.records_of("tiny") == []
    engine.run_missing(trials(3), print)
    (record,) = records.records_of("tiny")
    assert record.question == "Which is larger?" and record.answer.startswith("By oracle, two (+2.00")
    assert record.figure.startswith(b"\x89PNG") and record.table.index.tolist() == ["one", "two", "three"]


# 3. Laws -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "peak"), [("best-of-n", 2 / (2 * 0.25)), ("rl", math.exp(2 / 0.25 - 1))])
def test_a_law_is_found_again(kind, peak):
    law = laws.Fit(kind, 2.0, 0.25, math.nan, 0, 0, 0)
    d = np.linspace(0.2, 5, 20)
    fit = laws.fit_law(d ** 2, law.gain(d), kind)
    assert (fit.alpha, fit.beta, fit.peak) == pytest.approx((2.0, 0.25, peak)) and fit.residual < 1e-9
    top = laws.Fit(kind, 2.0, 0.25, peak, 0, 0, 0)
    assert top.gain(peak) > max(top.gain(0.99 * peak), top.gain(1.01 * peak))


def test_a_law_that_never_falls_has_no_peak_and_few_points_are_refused():
    assert math.isnan(laws.fit_law([1.0, 4.0, 9.0], [1.0, 3.0, 6.0], "best-of-n").peak)
    with pytest.raises(NpkitError, match="three points with a KL above 0, got 2"):
        laws.fit_law([0.0, 1.0, 4.0], [0, 1, 2], "rl")


def test_best_of_n_against_every_choice():
    proxy, truth = [0.3, 0.1, 0.9, 0.5], [1.0, 2.0, -1.0, 4.0]
    for n in range(1, 5):
        chosen = [truth[max(choice, key=lambda index: proxy[index])]
                  for choice in itertools.combinations(range(4), n)]
        assert laws.expected_best(proxy, truth, n) == pytest.approx(np.mean(chosen))
    assert laws.best_of_n_kl(1) == 0 and laws.best_of_n_kl(4) == pytest.approx(math.log(4) - 0.75)
    with pytest.raises(NpkitError, match="n is 1 to 4"):
        laws.expected_best(proxy, truth, 5)


def test_the_frontier_reads_curves_and_leaves_out_arms_without():
    kl = [0.5, 1.0, 2.0, 4.0]
    rows = pd.DataFrame([
        {"arm": "gain", "seed": 0, "curve/kl": kl, "curve/oracle": [1.0, 1.3, 1.5, 1.4], "curve/update": [1, 2, 3, 4]},
        {"arm": "best-of-n", "seed": 0, "curve/kl": kl, "curve/oracle": [0.5, 0.8, 1.0, 1.1], "curve/update": None},
        {"arm": "sft", "seed": 0, "curve/kl": None, "curve/oracle": None, "curve/update": None}])
    points = frontier.points(rows)
    assert len(points) == 8 and set(points.columns) == {"kl", "oracle", "arm", "seed"}
    table = frontier.fit_table(frontier.fits(points, "oracle"))
    assert table.index.tolist() == ["rl", "best-of-n"] and table.loc["rl", "largest d measured"] == "2.0"


# 4. Interactions -----------------------------------------------------------------------------------------------------
def factorial(seed: int, pair: float) -> pd.DataFrame:
    """Rows whose gain is 1 for style, -1 for vibe, and `pair` where both are demanded."""
    rows = []
    for arm in arms.CONSTRAINTS:
        chosen = interactions.subset_of(arm.name)
        gain = ("style" in chosen) - 1.0 * ("vibe" in chosen) + pair * ({"style", "vibe"} <= chosen) + seed
        rows.append({"arm": arm.name, "seed": seed, "gain/oracle": [gain - 0.1, gain + 0.1]})
    return pd.DataFrame(rows)


def test_effects_of_a_factorial_are_found_again():
    rows = pd.concat([factorial(0, 0.5), factorial(1, 0.7)])
    found = interactions.effect_table(rows, "oracle").set_index(["one", "other"])["effect"]
    assert found["style", "vibe"] == pytest.approx(0.6) and found["style", "artist"] == pytest.approx(0)
    assert found["style", "style"] == pytest.approx(1 + 0.3) and found["vibe", "vibe"] == pytest.approx(-1 + 0.3)
    assert len(found) == 6 + 15
    square = interactions.matrix(interactions.effect_table(rows, "oracle"))
    assert square.loc["vibe", "style"] == square.loc["style", "vibe"] and square.notna().all(axis=None)


def test_a_fight_is_found_and_a_seed_without_all_subsets_left_out():
    rows = pd.concat([factorial(seed, -0.5 + seed / 100) for seed in range(3)] + [factorial(3, 9.0)[:60]])
    fights = interactions.conflicts(interactions.effect_table(rows, "oracle"))
    assert fights[["one", "other"]].to_numpy().tolist() == [["style", "vibe"]]
    assert len(arms.CONSTRAINTS) == 2 ** len(CATEGORIES)


# 5. Real runs at toy size --------------------------------------------------------------------------------------------
SMALL = ["data.num_prompts=500", "data.ppo_share=0.3", "policy.num_layers=2", "policy.hidden_size=32",
         "policy.num_heads=2", "sft.num_epochs=3", "sft.learning_rate=5e-3", "ablation.num_updates=10",
         "ppo.episodes_per_update=16", "ppo.minibatch_size=8", "ppo.num_ppo_epochs=1", "ppo.max_new_tokens=8",
         "ppo.eval_updates=0", "evaluation.max_new_tokens=8", "neurologic.max_new_tokens=24", "ablation.num_prefixes=6",
         "ablation.best_of=4", "ablation.clause_draws=2", "ablation.prefixes_a_draw=2", "runtime.num_threads=1",
         "runtime.device=cpu", "neurologic.keywords_per_category=2"]


def small_trial(name: str, arm: str) -> engine.Trial:
    ablation = arms.find_ablation(name)
    changed = {setting for each in ablation.arms for setting in each.settings}
    settings = {name: value for name, value in parse_settings(SMALL).items() if name not in changed}
    found = engine.trials_of(ablation, "tiny", [0], settings)
    return next(trial for trial in found if trial.arm.name == arm)


@pytest.mark.slow
def test_arms_are_trained_written_and_judged_at_toy_size():
    row = engine.timed_row(small_trial("algorithm", "rloo"))
    assert len(row["gain/oracle"]) == len(row["prompts"]) == 6 and row["curve/update"] == [1.0, 10.0]
    assert row["episodes"] == 160 and np.isfinite(row["kl"]) and len(row["curve/pickscore"]) == 2
    best = engine.timed_row(small_trial("algorithm", "best-of-n"))
    assert best["curve/kl"] == pytest.approx([0, laws.best_of_n_kl(2), laws.best_of_n_kl(4)])
    assert best["curve/pickscore"] == sorted(best["curve/pickscore"]), "of more the paid judge finds a better one"
    for arm in ("score", "worst of three"):
        trial = small_trial("reward", arm)
        run = policies.ppo_run(trial)
        assert isinstance(run, payments.PaidRun) and run.key != trial.run("ppo").key
        row = policies.measure(trial)
        assert run.artifact and len(row["gain/oracle"]) == 6
    row = policies.measure(small_trial("stages", "base+nl"))
    assert row["kl"] == pytest.approx(0, abs=1e-3) and row["words_added"] > 3
    kit = engine.timed_row(small_trial("decoding", "kit"))
    assert kit["coverage"] == 1 and kit["bans_broken"] == 0
    pair = engine.timed_row(small_trial("constraints", "style + vibe"))
    assert len(pair["gain/oracle"]) == len(pair["price"]) == 4 and pair["coverage"] == 1


def transfer_trial(arm: str, painter: str) -> engine.Trial:
    found = small_trial("transfer", arm)
    settings = {**found.common, "ablation.transfer_to": painter, "images.num_inference_steps": 1}
    return engine.Trial(found.ablation, found.arm, 0, "tiny", settings)


@pytest.mark.slow
def test_transfer_trains_on_one_painter_and_judges_on_both(tmp_path):
    painter = str(save_pipeline(tmp_path / "painter"))
    here, there = (engine.timed_row(transfer_trial(arm, painter)) for arm in ("ppo", "ppo, other painter"))
    assert here["prompts"] != there["prompts"], "the pictures that paid decide what is learned"
    assert len(there["gain/oracle"]) == len(there["gain/oracle, other painter"]) == 6
    people = engine.timed_row(transfer_trial("human", painter))
    assert people["gain/oracle"] != people["gain/oracle, other painter"]
    runs = [transfer.train(transfer_trial(arm, painter)).key for arm in ("ppo", "ppo, other painter", "sft")]
    assert len(set(runs)) == 3
    with pytest.raises(NpkitError, match="ablation.transfer_to is empty: name the folder or hub id of another"):
        transfer.measure(transfer_trial("sft", ""))


def test_a_row_rests_on_the_models_that_the_section_names(tmp_path):
    painter = save_pipeline(tmp_path / "painter")
    before = transfer_trial("sft", str(painter)).key
    assert transfer_trial("sft", str(painter)).key == before
    (painter / "model_index.json").write_text((painter / "model_index.json").read_text() + " ")
    assert transfer_trial("sft", str(painter)).key != before


def test_a_finding_is_told_for_every_painter(toy):
    engine.run_missing(trials(3), print)
    rows = engine.rows_of(trials(3)).assign(**{"gain/oracle, other painter": lambda rows: -1 * rows["gain/oracle"].map(
        np.array)})
    text = tables.finding(tables.gain_table(rows, "one"), "one", "paid")
    assert "By oracle, two (+2.00" in text and "By oracle, other painter, three (+2.00" in text
    assert text.endswith("orders the arms alike (rank correlation 1.00).")


def test_payments_are_what_they_say():
    class Scores:
        calls = 0

        def scores(self, prefixes, prompts, seed):
            self.calls += 1
            lengths = torch.tensor([float(len(prompt)) for prompt in prompts])
            return {name: scale * lengths for name, scale in
                    {"pickscore": 1.0, "pickscore-2": 2.0, "pickscore-3": -1.0}.items()}
    run, scorer = small_trial("reward", "gain").run("ppo"), Scores()
    paid = {how: payments.reward_of(payments.paid_run(run, how), scorer, 0)(["a cat"], [", red"]).tolist()
            for how in payments.PAYMENTS}
    assert paid == {"score": [10.0], "mean": [pytest.approx(10 / 3)], "worst": [-5.0]}
    assert scorer.calls == 3, "all judges at once: a picture is painted once"
    with pytest.raises(NpkitError, match="a payment is one of score, mean, worst, got 'gain'"):
        payments.paid_run(run, "gain")


def test_a_finding_names_the_judge_that_pays():
    assert tables.payer(arms.find_ablation("decoding"), "tiny") == "pickscore"
    assert tables.payer(arms.find_ablation("tastes"), "tiny") == "oracle"
    assert tables.payer(arms.find_ablation("reward"), "tiny") == "", "one of its arms is paid by another judge"
