"""Analysis of votes: numbers by hand, the truth of simulated worlds found again, judges and raters compared."""
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from npkit.errors import NpkitError
from npkit.preferences import analysis, simulated, votes
from npkit.preferences.pairs import Pair

WORLD = {"prefix": 0.0, "sft": 0.5, "ppo": 1.0}
FAIR = simulated.Crowd("public")


def table(rows: list[tuple]) -> pd.DataFrame:
    """Return votes of (rater, prefix, first, second, left, choice)."""
    found = []
    for rater, prefix, first, second, left, choice in rows:
        pair = Pair(prefix, 0, first, second, f"{prefix}, {first}", f"{prefix}, {second}")
        vote = votes.Vote(rater, pair.name, "prettier", left, choice, 2.0, "v", "2026-11-29T10:00:00Z")
        found.append(asdict(vote) | asdict(pair))
    return pd.DataFrame(found)


def world(seed: int, num_prefixes: int = 40, num_raters: int = 12, pairs_per_rater: int = 60,
          crowd: simulated.Crowd = FAIR) -> pd.DataFrame:
    """Return the votes of a simulated world."""
    pairs, worth = simulated.draw_world(WORLD, num_prefixes, 0.8, seed, ("prettier",))
    return votes.table_of(simulated.simulate(pairs, worth, crowd, num_raters, pairs_per_rater, seed), pairs)


def test_points_whatever_the_side_and_the_order_of_the_pair():
    found = analysis.with_points(table([
        ("Ada", "a", "sft", "ppo", "ppo", "left"), ("Ada", "b", "ppo", "sft", "sft", "left"),
        ("Ada", "c", "sft", "ppo", "sft", "right"), ("Ada", "d", "ppo", "sft", "ppo", "tie")]), ["sft", "ppo"])
    assert set(zip(found["first"], found["second"])) == {("ppo", "sft")}
    assert list(found["points"]) == [1, 0, 1, 0.5]
    assert list(found["first_prompt"]) == ["a, ppo", "b, ppo", "c, ppo", "d, ppo"]


def test_independent_votes_have_wilsons_interval():
    points = [1.0] * 70 + [0.0] * 30
    share = analysis.clustered_share(points, range(100))
    exact = stats.binomtest(70, 100).proportion_ci(method="wilson")
    assert analysis.wilson(0.7, 100, stats.norm.ppf(0.975)) == pytest.approx(exact)
    assert share[:3] == pytest.approx((0.7, *exact), abs=0.003)  # Student's t for the normal quantile
    assert (share.num_votes, share.num_clusters) == (100, 100)


def test_the_same_votes_in_few_clusters_are_less_certain():
    points = np.array([1.0] * 70 + [0.0] * 30)
    alone, together = (analysis.clustered_share(points, np.arange(100) // size) for size in (1, 10))
    assert together.high - together.low > 2 * (alone.high - alone.low)
    one = analysis.clustered_share(points, np.zeros(100))
    assert np.isnan(one.low) and analysis.verdict(one) == "open"
    unanimous = analysis.clustered_share(np.ones(100), np.arange(100) // 10)
    assert unanimous[:3] == pytest.approx((1, *analysis.wilson(1, 10, stats.t.ppf(0.975, 9))))


def test_true_order_of_variants_is_recovered_and_strengths_are_log_odds():
    found = analysis.strengths(world(0), np.random.default_rng(0), 100, list(WORLD)).set_index("variant")
    assert list(found["strength"].sort_values().index) == list(WORLD)
    assert found["strength"].sum() == pytest.approx(0)
    assert (found["low"] < found["strength"]).all() and (found["strength"] < found["high"]).all()
    three = table([(f"r{number}", "a", "ppo", "sft", "ppo", "left" if number else "right") for number in range(4)])
    log_odds = analysis.strengths(three, np.random.default_rng(0), 5, over="rater")["strength"]
    assert log_odds[0] - log_odds[1] == pytest.approx(np.log(3), abs=0.03)


def test_a_variant_that_wins_always_has_a_finite_strength():
    always = table([(f"r{number}", "a", "ppo", "sft", "ppo", "left") for number in range(4)])
    found = analysis.strengths(always, np.random.default_rng(0), 5, over="rater")
    assert np.isfinite(found[["strength", "low", "high"]]).all(axis=None)


def test_intervals_of_simulated_worlds_hold_the_truth():
    """A wide band: benchmarks/votes.py measures the coverage on a thousand worlds."""
    held, names = [], list(WORLD)
    for seed in range(30):
        rates = analysis.win_rates(world(seed), names).set_index("meeting")
        for first, second in (("ppo", "sft"), ("ppo", "prefix"), ("sft", "prefix")):
            truth = simulated.true_rate(FAIR, WORLD[first] - WORLD[second], 0.8)
            row = rates.loc[f"{first} - {second}"]
            held.append(row["low"] <= truth <= row["high"])
    assert 0.88 <= np.mean(held) < 1


def test_over_raters_it_does_not_matter_which_pairs_a_rater_has_seen():
    """One rater saw the easy pairs, the other the hard ones; on the same pair they always agree."""
    points, pairs = pd.Series([1.0, 1, 1, 1, 0, 0, 0, 0]), pd.Series(list("aabbccdd"))
    adjusted = analysis.about_the_same(points, pairs)
    assert adjusted == pytest.approx([0.5] * 8)
    disagreeing = analysis.about_the_same(pd.Series([1.0, 0, 1, 0, 1]), pd.Series(list("aabbc")))
    assert disagreeing == pytest.approx([0.6 + 0.5 * 2**0.5, 0.6 - 0.5 * 2**0.5] * 2 + [1])


def test_missing_votes_are_none_many_or_infinite():
    clear = analysis.clustered_share([1.0] * 90 + [0.0] * 10, range(100))
    close = analysis.clustered_share([1.0] * 54 + [0.0] * 46, range(100))
    even = analysis.clustered_share([1.0] * 50 + [0.0] * 50, range(100))
    assert analysis.missing_votes(clear) == 0
    assert analysis.missing_votes(close) == pytest.approx(1220 - 100, rel=0.03)  # (2.80 / 0.04)^2 * 0.2484
    assert analysis.missing_votes(even) == np.inf


def test_lean_to_the_left_is_found_and_changes_no_win_rate():
    leaning = world(0, crowd=simulated.Crowd("public", lean=0.8))
    (row,) = analysis.biases(leaning).itertuples()
    assert row.left_low > 0.55
    (fair,) = analysis.biases(world(0)).itertuples()
    assert fair.left_low < 0.5 < fair.left_high
    assert 0.02 < fair.ties < 0.3
    rates = analysis.win_rates(leaning, list(WORLD))
    assert list(rates["meeting"]) == ["ppo - sft", "ppo - prefix", "sft - prefix"]
    assert (rates["rate"] > 0.5).all()


def test_alpha_is_one_for_equals_and_about_zero_for_coins():
    rng = np.random.default_rng(0)
    same = table([(f"r{rater}", f"a {number}", "ppo", "sft", "ppo", ("left", "right")[number % 2])
                  for rater in range(3) for number in range(20)])
    coins = table([(f"r{rater}", f"a {number}", "ppo", "sft", "ppo", ("left", "right")[rng.integers(2)])
                   for rater in range(5) for number in range(60)])
    assert analysis.alpha(same, rng, 5)["alpha"][0] == 1
    (row,) = analysis.alpha(coins, rng, 100).itertuples()
    assert row.low < 0 < row.high and abs(row.alpha) < 0.1
    alone = analysis.alpha(same[same["rater"] == "r0"], rng, 5)
    assert np.isnan(alone["alpha"][0]) and alone["pairs"][0] == 0


def test_judges_and_raters_agree_as_by_hand():
    cast = table([("Ada", "a", "ppo", "sft", "ppo", "left"), ("Bob", "a", "ppo", "sft", "sft", "right"),
                  ("Cem", "a", "ppo", "sft", "ppo", "tie"), ("Ada", "b", "ppo", "sft", "ppo", "right")])
    scores = pd.DataFrame([(prefix, variant, 0, "judge", score) for prefix in "ab"
                           for variant, score in (("ppo", 2.0), ("sft", 1.0))],
                          columns=["prefix", "variant", "seed", "judge", "score"])
    found = analysis.judge_agreement(cast, scores).set_index("judge")
    assert found["agreement"]["judge"] == (1 + 1 + 0.5 + 0) / 4
    assert found["agreement"]["another rater"] == pytest.approx((0.75 + 0.75 + 0.5) / 3)
    assert found["votes"]["another rater"] == 3
    with pytest.raises(NpkitError, match="has no score for 1 of 4 votes"):
        analysis.judge_agreement(cast, scores[scores["prefix"] == "a"])


def test_simulated_raters_say_so_and_vote_as_they_should():
    crowd = simulated.Crowd("critics", tie=0.3)
    pairs, worth = simulated.draw_world(WORLD, 10, 0.5, 0)
    cast = simulated.simulate(pairs, worth, crowd, 4, 20, 0)
    assert len(cast) == 4 * 20 * 2
    assert {vote.rater for vote in cast} == {f"simulated critics {number:02}" for number in (1, 2, 3, 4)}
    assert {vote.versions for vote in cast} == {"simulated"}
    assert cast == simulated.simulate(pairs, worth, crowd, 4, 20, 0)
    assert crowd.chances(np.array([0.0, 1.0])).sum(-1) == pytest.approx([1, 1])
    assert crowd.expected(np.array([0.0, 50.0])) == pytest.approx([0.5, 1])
    seen = {vote.rater: {each.pair for each in cast if each.rater == vote.rater} for vote in cast}
    assert {len(each) for each in seen.values()} == {20}
    with pytest.raises(NpkitError, match="sees 1 to 30 of 30 pairs"):
        simulated.simulate(pairs, worth, crowd, 4, 31, 0)


def test_no_votes_and_unknown_clusters_are_a_sentence():
    with pytest.raises(NpkitError, match="no votes to analyse"):
        analysis.win_rates(world(0)[:0])
    with pytest.raises(NpkitError, match="over prefix or rater, got 'pair'"):
        analysis.win_rates(world(0), over="pair")
