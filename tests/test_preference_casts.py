"""Casts and tables: who votes in a study, what pictures are worth to simulated raters, what the artifact holds."""
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from npkit.errors import NpkitError
from npkit.glyphworld.painter import paint
from npkit.glyphworld.people import public, worth
from npkit.preferences import casts, exchange, simulated, tables, votes
from npkit.preferences.pairs import QUESTIONS, make_pairs
from npkit.study.artifacts import Run, open_run
from npkit.study.profiles import load_profile
from npkit.study.reporting.answers import answer

PREFIXES = [f"a {name}" for name in ("cat", "moon", "gear", "star", "heart", "key")]
WORDS = {"prefix": "", "sft": ", moody", "ppo": ", oil painting"}
CONFIG = replace(load_profile("tiny").preference, pairs_per_rater=4, votes_per_pair=2)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    rows = [(prefix, variant, prefix + words, 7, judge, number + len(words))
            for number, judge in enumerate(("pickscore", "oracle", "third")) for prefix in PREFIXES
            for variant, words in WORDS.items()]
    return pd.DataFrame(rows, columns=["prefix", "variant", "prompt", "seed", "judge", "score"])


@pytest.fixture(scope="module")
def pairs(scores) -> list:
    return make_pairs(scores, list(WORDS), 6, 1, 0)


@pytest.fixture(scope="module")
def pictures(pairs) -> np.ndarray:
    return np.stack([[paint(prompt, pair.seed) for prompt in pair.prompts] for pair in pairs])


def test_both_questions_together_are_the_utility(pairs, pictures):
    prefixes, flat = [pair.prefix for pair in pairs], pictures[:, 1]
    for name, found in worth.by_question(prefixes, flat).items():
        whole = public.utility(flat, prefixes, name)
        rest = (found["prettier"] + found["shows"] - whole)[whole > public.FLOOR]
        assert np.ptp(rest) < 1e-5  # the mean that the utility is measured from
        assert (found["shows"] <= 0).all()


def test_a_picture_without_what_was_asked_for_shows_less_of_it(pictures):
    asked, shown = ["a cat", "a cat"], np.stack([paint("a cat", 0), paint("a moon", 0)])
    for found in worth.by_question(asked, shown).values():
        assert found["shows"][0] > found["shows"][1] + 0.5


def test_a_prefix_without_a_subject_of_this_world_is_worth_the_least(pictures):
    for found in worth.by_question(["some dream"] * 2, pictures[0]).values():
        assert list(found["shows"]) == [public.FLOOR] * 2
        assert np.isfinite(found["prettier"]).all()


def test_tastes_of_the_profile_vote_and_are_called_simulated(pairs, pictures, scores):
    found = casts.casts(CONFIG, pairs, pictures, scores, 0)
    assert list(found) == ["simulated public", "simulated critics"]
    for name, each in found.items():
        assert len(each) == 3 * 4 * 2  # raters, pairs of each, questions
        assert all(rater.startswith(name) for rater in each["rater"])
        assert set(each["versions"]) == {"simulated"}


def test_without_a_public_judges_stand_for_raters(pairs, pictures, scores):
    found = casts.casts(replace(CONFIG, raters=""), pairs, pictures, scores, 0)
    assert list(found) == ["simulated pickscore", "simulated oracle"]
    worths = casts.worth_by_judges(pairs, scores, ["oracle"])["oracle"]
    assert (worths["shows"][:, 0] < worths["shows"][:, 1]).all()  # longer prompts score more here
    for wrong in ("nowhere:nothing", "npkit.errors:nothing", "text"):
        with pytest.raises(NpkitError, match="preference.raters is a module:function"):
            casts.worth_of(pairs, pictures, wrong)


def test_people_are_people(pairs, pictures, scores, tmp_path):
    table = casts.casts(CONFIG, pairs, pictures, scores, 0)["simulated critics"]
    file = exchange.file_of(table, tmp_path / "votes.sqlite")
    found = casts.casts(replace(CONFIG, votes=str(file.path)), [], pictures[:0], scores, 0)
    assert list(found) == ["people"]
    pd.testing.assert_frame_equal(found["people"], table)


def test_the_artifact_holds_votes_and_tables_and_the_report_an_answer(scores, tmp_path, monkeypatch):
    drawn, values = simulated.draw_world({"prefix": 0.0, "ppo": 1.0}, 12, 0.5, 0)
    cast = {name: votes.table_of(simulated.simulate(drawn, values, simulated.Crowd("public"), 4, 12, seed), drawn)
            for seed, name in enumerate(("simulated public", "simulated critics"))}
    judged = pd.DataFrame([(pair.prefix, name, pair.seed, "oracle", len(name))
                           for pair in drawn for name in pair.variants],
                          columns=["prefix", "variant", "seed", "judge", "score"])
    found = tables.analyse(cast, judged, ["prefix", "ppo"], 20, 0)
    metrics = tables.save(found, cast, tmp_path)
    assert metrics["num_votes/simulated public"] == 4 * 12 * 2
    assert metrics["win_rate/simulated critics/prettier/ppo - prefix"] > 0.5
    assert {f"alpha/simulated public/{question}" for question in QUESTIONS} <= set(metrics)
    assert len(pd.read_parquet(tmp_path / "votes.parquet")) == 192
    assert set(pd.read_parquet(tmp_path / "win_rates.parquet")["cast"]) == set(cast)
    run = open_run("preference", "tiny")
    taught = {f"{name}/simulated critics": 0.05 for name in ("learnt", "learnt_low", "learnt_high")}
    monkeypatch.setattr(Run, "artifact", type("Made", (), {"metrics": metrics | taught})())
    assert "By 96 votes of simulated critics, ppo makes the prettiest pictures" in answer(run)
