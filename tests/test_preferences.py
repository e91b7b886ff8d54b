"""Preferences: votes of groups, the small judge on frozen towers, the gain, and the search for a judge's mistakes."""
import numpy as np
import pytest
import torch

from npkit.glyphworld.people.public import FOLDER, utility
from npkit.glyphworld.people.tastes import populations
from npkit.glyphworld.training import preferences
from npkit.glyphworld.training.preferences import SmallJudge, Towers
from npkit.scoring import judges
from npkit.study.profiles import load_profile

AESTHETIC = FOLDER.parent / "aesthetic-tiny"


@pytest.fixture(scope="module")
def towers() -> Towers:
    return Towers(AESTHETIC)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return preferences.paint_all(["a cat", "a cat, anime", "a flower"], [0, 0, 1])


# 1. Votes ------------------------------------------------------------------------------------------------------------
def test_a_pair_of_one_picture_is_no_choice():
    shares = preferences.pair_shares(np.array([[0.0, 0.0, 9.0, -9.0]]), populations()["public"], seed=0)
    assert shares[0].isnan().tolist() == [True, False, False, False, False, False]
    assert shares[0, 1:].tolist() == [0, 1, 0, 1, 1]
    values = torch.tensor([[9.0, 1, 0, 0, 0, 0]])
    assert preferences.group_means(values, shares) == pytest.approx([0.2])
    assert len(preferences.group_means(values, shares * torch.nan)) == 0


def test_agreement_by_hand():
    first, second = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([1.0, 2.0, 0.0])
    shares = torch.tensor([0.75, 0.75, 0.75])
    assert preferences.accuracy(first, second, shares).tolist() == [0.75, 0.25, 0.5]
    assert preferences.rater_agreement(torch.tensor([1.0, 0.5])).tolist() == pytest.approx([1, 2 * 4 * 3 / (8 * 7)])


def test_two_raters_agree_as_often_as_their_shares_say():
    shares = (torch.rand((8, 20_000), generator=torch.Generator().manual_seed(0)) < 0.7).float().mean(0)
    assert preferences.rater_agreement(shares).mean() == pytest.approx(0.7**2 + 0.3**2, abs=0.005)


def test_no_prefix_is_in_two_parts():
    prefixes = [f"a cat {number % 37}" for number in range(100)]
    parts = preferences.split_by_prefix(prefixes, (0.6, 0.15, 0.25), seed=0)
    assert sorted(torch.cat(parts).tolist()) == list(range(100))
    names = [{prefixes[row] for row in rows.tolist()} for rows in parts]
    assert not names[0] & names[1] and not names[0] & names[2] and not names[1] & names[2]
    assert [len(part) for part in names] == [22, 6, 9]


def test_votes_are_gathered_chunk_by_chunk(monkeypatch):
    asked = []

    def make_votes(seed, painter, folder, spread):
        asked.append(seed)
        return preferences.VoteSet([f"a cat {seed}"], ["a cat"] * 4, np.zeros((1, 4, 96, 96, 3), np.uint8),
                                   {"public": np.zeros((1, 4)), "critics": np.ones((1, 4))})

    monkeypatch.setattr(preferences, "make_votes", make_votes)
    votes = preferences.gather_votes(7, 3, FOLDER)
    assert asked == [7, 8, 9]
    assert votes.prefixes == ["a cat 7", "a cat 8", "a cat 9"]
    assert votes.pictures.shape == (3, 4, 96, 96, 3) and votes.utilities["critics"].shape == (3, 4)


def test_reliability_of_a_judge_that_is_right_and_of_one_that_is_too_sure():
    true = torch.linspace(0.3, 0.7, 3000)
    honest, too_sure = preferences.reliability(true, true), preferences.reliability((6 * (true - 0.5)).sigmoid(), true)
    assert honest["predicted"].tolist() == pytest.approx(honest["voted"].tolist())
    assert too_sure["predicted"].iloc[-1] > too_sure["voted"].iloc[-1]
    assert honest["n"].sum() == 3000


# 2. The judge --------------------------------------------------------------------------------------------------------
def test_score_is_the_scaled_cosine():
    texts, pictures = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[3.0, 4.0], [30.0, 40.0]]])
    assert preferences.cosine_score(texts, pictures, 20).tolist() == [[pytest.approx(12), pytest.approx(12)]]


def test_the_judge_begins_as_its_clip_learns_and_is_found_by_the_kit(towers, pictures, tmp_path):
    def kit(folder) -> np.ndarray:
        panel = load_profile("tiny", {"judges.pickscore.model": str(folder)}).judges
        judge = judges.load_judge(panel[0], "cpu")
        return judge(prefixes, prefixes, torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255).numpy()

    prefixes = ["a cat", "a cat", "a cat"]
    judge = SmallJudge(towers)
    before = judge.rate(prefixes, pictures)
    assert before == pytest.approx(kit(AESTHETIC), abs=1e-3)
    judge(towers.texts(prefixes), towers.pictures(pictures))[2].backward()
    kept = judge.snapshot()
    with torch.no_grad():
        for parameter in judge.parameters():
            parameter += 0.1 * parameter.grad
    assert judge.rate(prefixes, pictures)[2] > before[2]
    assert kept.rate(prefixes, pictures) == pytest.approx(before)
    judge.save(tmp_path)
    assert kit(tmp_path) == pytest.approx(judge.rate(prefixes, pictures), abs=0.02)  # stored as float16


# 3. Claims and search ------------------------------------------------------------------------------------------------
def test_gain_judges_both_pictures_against_the_prefix():
    assert preferences.gain(lambda picture, prefix: len(picture[0]) + 100 * (prefix != "a cat"),
                            lambda prompt, seed: (prompt, seed), "a cat", ", moody", 3) == 7


def test_claims_are_gains_of_the_same_noise_in_units_of_votes(pictures):
    found = preferences.claims(["a cat", "a cat"], ["a cat", "a cat, anime"], [0], utility_of_a_cat, FOLDER)
    worth = utility(pictures[:2], ["a cat"] * 2)
    assert found.true[:, 0] == pytest.approx([0, (worth[1] - worth[0]) / populations()["public"].noise])
    assert found.claimed[:, 0] == pytest.approx([0, worth[1] - worth[0]])


def utility_of_a_cat(prefixes, pictures) -> np.ndarray:
    assert len(pictures) == 2, "a prefix is painted once"
    return utility(pictures, list(prefixes))


def test_the_search_looks_at_each_set_of_words_once():
    seen = []

    def value(sets):
        seen.extend(sets)
        return [sum(map(ord, "".join(each))) for each in sets]

    assert preferences.widen([()], "abc", value, 2) == [("c",), ("b",)]
    seen.clear()
    assert preferences.widen([("c",), ("b",)], "abc", value, 1) == [("b", "c")]
    assert seen == [("a", "b"), ("a", "c"), ("b", "c")]
    assert preferences.prompt_of("a cat", ("moody", "8k")) == "a cat, moody, 8k"
