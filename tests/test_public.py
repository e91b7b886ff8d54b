"""GlyphWorld's public: its eye, its tastes and its utility, with an eye that is told what to see."""
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from npkit.errors import NpkitError
from npkit.glyphworld.painting.renderer import Scene, render
from npkit.glyphworld.people import eye as eyes
from npkit.glyphworld.people import faith, public, tastes
from npkit.glyphworld.people.category_pairs import worth_of_pairs
from npkit.glyphworld.people.eye import HEADS, Eye, Seen
from npkit.glyphworld.people.pairs import PAIRS
from npkit.glyphworld.vocabulary import CATEGORIES, KIND_OF, KINDS, MODIFIERS, PLACES, SUBJECTS
from npkit.scoring.judges import load_judge
from npkit.study.profiles import JudgeConfig


def seeing(subject: str, *effects: str, colour: str = "none", place: str = "none") -> Seen:
    """What an eye that is sure of everything sees in one picture."""
    def sure(head: str, *names: str) -> np.ndarray:
        return np.array([[float(name in names) for name in HEADS[head]]])

    return Seen(sure("subject", subject), sure("colour", colour), sure("place", place), sure("effects", *effects))


def picture(*modifiers: str, subject: str = "cat", seed: int = 0) -> np.ndarray:
    return render(Scene(subject, modifiers), np.random.default_rng(seed)).pixels[None]


def terms(prefix: str, seen: Seen, population: str = "public") -> dict[str, float]:
    found = public.terms([public.craft_terms(picture()[0])], [prefix], tastes.populations()[population], seen)
    return {name: float(values[0]) for name, values in found.items()}


# 1. Tastes -----------------------------------------------------------------------------------------------------------
def test_every_subject_is_of_one_kind():
    assert sorted(KIND_OF) == sorted(SUBJECTS)
    assert sum(len(subjects) for subjects in KINDS.values()) == len(SUBJECTS)


def test_tastes_are_drawn_once_and_populations_differ():
    first, again, other = tastes.table(), tastes.table(), tastes.table(seed=1)
    assert first.equals(again)
    assert not first["worth"].equals(other["worth"])
    publics = tastes.populations()
    assert abs(np.corrcoef(publics["public"].likes, publics["critics"].likes)[0, 1]) < 0.6
    assert set(first["population"]) == set(publics)
    effects = first[(first["population"] == "public") & (first["about"] == "effect")]
    assert list(effects["name"]) == list(MODIFIERS)
    assert list(effects["worth"]) == list(publics["public"].likes)


def test_what_suits_depends_on_what_was_asked_for():
    one = tastes.populations()["public"]
    best = {tuple(np.argsort(-tastes.liking(one, kind, None))[:6]) for kind in KINDS}
    assert len(best) == len(KINDS)
    assert np.std(one.kind_fits) > np.std(one.likes)  # no constant suffix suits all
    moved = [name for name, fit in zip(MODIFIERS, one.place_fits[list(PLACES).index("at night")], strict=True) if fit]
    assert moved == [name for name in MODIFIERS if name in tastes.CATEGORIES["vibe"]]


# 2. Utility ----------------------------------------------------------------------------------------------------------
def test_a_subject_that_is_not_there_costs():
    assert terms("a cat", seeing("cat"))["subject"] == 0
    assert terms("a cat", seeing("none"))["subject"] == -1
    assert terms("a cat", seeing("cow"))["subject"] == -1
    assert terms("a dragon", seeing("cat"))["subject"] == -math.inf


def test_colour_and_place_count_where_they_are_asked_for():
    plain = terms("a cat", seeing("cat", colour="red", place="at night"))
    assert (plain["colour"], plain["place"]) == (0, 0)
    asked = terms("a red cat at night", seeing("cat", colour="red", place="by the sea"))
    assert (asked["colour"], asked["place"]) == (0, -1)


def test_words_of_the_prompt_are_not_read():
    seen = seeing("cat", "vivid")
    assert terms("a cat", seen) == terms("a cat, vivid, 8k, moody, oil painting", seen)


def test_the_tenth_effect_adds_little_and_dislike_is_not_dampened():
    ones, eyes_on = np.ones(48), np.zeros(48)
    gains = []
    for count in range(11):
        eyes_on[:count] = 1
        gains.append(public.taste(eyes_on, ones * 0.5, plenty=2.5))
    assert gains[0] == 0
    assert gains[1] == pytest.approx(2.5 * (1 - math.exp(-0.2)))
    assert gains[10] - gains[9] < 0.25 * gains[1]
    assert public.taste(eyes_on, -ones, plenty=2.5) == -10


def test_pairs_count_where_both_are_seen():
    (one, other), worth = max(PAIRS.items(), key=lambda item: item[1])
    assert public.seen_pairs(seeing("cat", one, other).effects) == pytest.approx([worth])
    assert public.seen_pairs(seeing("cat", one).effects) == pytest.approx([0])
    half = seeing("cat", one, other).effects * 0.5
    assert public.seen_pairs(half) == pytest.approx([worth / 4])


def test_craft_of_pictures_one_can_judge():
    chess = np.indices((96, 96)).sum(0) // 48 % 2 * 255
    black_and_white = np.repeat(chess[..., None], 3, 2).astype(np.uint8)
    flat = np.full((96, 96, 3), 128, np.uint8)
    sharp, grey = public.craft_terms(black_and_white), public.craft_terms(flat)
    assert sharp["contrast"] == 1 > grey["contrast"] == 0
    assert sharp["lively"] == grey["lively"] == 0
    assert grey["textured"] == pytest.approx(0)
    assert public.craft_terms(picture("8k")[0])["sharp"] > public.craft_terms(picture()[0])["sharp"]
    corner = flat.copy()
    corner[:20, :20] = 255
    assert public.craft_terms(corner)["placed"] < public.craft_terms(picture(subject="heart")[0])["placed"] - 0.5


def test_utility_is_the_normalised_sum_and_has_a_floor(tmp_path):
    torch.manual_seed(0)
    eyes.save_eye(Eye(), tmp_path, {"public": (1.0, 2.0), "critics": (0.0, 1.0)})
    pictures = np.concatenate([picture(), picture("vivid")])
    eye, _ = eyes.load_eye(tmp_path)
    raw = public.raw_utilities(pictures, ["a cat"] * 2, ["public"], eye)["public"]
    assert public.utility(pictures, ["a cat"] * 2, folder=tmp_path) == pytest.approx((raw - 1) / 2)
    assert public.utility(pictures, ["a dragon", ""], folder=tmp_path).tolist() == [public.FLOOR] * 2
    with pytest.raises(NpkitError, match="trains one"):
        eyes.load_eye(tmp_path / "nowhere")


def test_the_oracle_is_a_judge_that_looks_at_painted_pictures(tmp_path):
    torch.manual_seed(0)
    eyes.save_eye(Eye(), tmp_path, {"public": (0.5, 2.0)})
    config = JudgeConfig(name="oracle", kind="picture_function", model="npkit.glyphworld.people.public:oracle",
                         head=str(tmp_path))
    judge, painted = load_judge(config, "cpu"), np.concatenate([picture(), picture("vivid"), picture("8k")])
    scores = judge(["a cat"] * 3, ["a cat", "a cat, vivid", "anything"],
                   torch.from_numpy(painted).permute(0, 3, 1, 2) / 255)
    assert scores.tolist() == pytest.approx(public.utility(painted, ["a cat"] * 3, folder=tmp_path), abs=1e-6)
    assert judge.needs_pictures
    before = judge.fingerprint
    eyes.save_eye(Eye(), tmp_path, {"public": (0.0, 2.0)})
    assert judge.fingerprint != before  # another eye, other scores


def test_votes_follow_bradley_and_terry():
    rng = np.random.default_rng(0)
    share = np.mean([public.vote(1.3, 0.65, rng, noise=0.65) for _ in range(8000)])
    assert share == pytest.approx(1 / (1 + math.exp(-1)), abs=0.02)  # 0.731


# 3. The eye ----------------------------------------------------------------------------------------------------------
def test_of_two_modifiers_of_a_category_the_eye_is_asked_for_the_first():
    answers = eyes.labels([Scene("cow", ("vivid", "pop art", "8k"), "red"), Scene("sun", (), None, "at night")])
    assert [MODIFIERS[index] for index in answers["effects"][0].nonzero().flatten()] == ["pop art", "vivid"]
    named = {head: [HEADS[head][index] for index in answers[head]] for head in ("subject", "colour", "place")}
    assert named == {"subject": ["cow", "sun"], "colour": ["red", "none"], "place": ["none", "at night"]}


def test_wiping_out_hits_the_subject_alone():
    painted = render(Scene("heart", ("vivid",)), np.random.default_rng(0))
    pictures = eyes.to_signed(torch.from_numpy(painted.pixels[None].repeat(4, 0)))
    masks = torch.from_numpy(painted.mask.reshape(24, 4, 24, 4).mean((1, 3))).float()[None].repeat(4, 1, 1)
    wiped = eyes.wipe_out(pictures, masks, torch.arange(4))
    inside = torch.from_numpy(painted.mask > 0.99)
    assert (wiped - pictures).abs()[..., :6, :6].max() < 1e-4
    changes = (wiped - pictures).abs()[..., inside].mean((1, 2))
    assert changes.min() > 0.15
    assert (wiped[1][..., inside] < -0.9).all()  # black


def test_a_wiped_picture_is_asked_for_nothing_on_the_subject():
    answers = eyes.labels([Scene("cow", ("vivid", "caravaggio"))])
    logits = {head: torch.zeros(1, len(names)) for head, names in HEADS.items()}
    there, gone = (eyes.answer_loss(logits, answers, torch.tensor([wiped])) for wiped in (False, True))
    assert gone < there
    logits["subject"][0, -1] = 20  # none
    assert eyes.answer_loss(logits, answers, torch.tensor([True])) < gone
    assert eyes.answer_loss(logits, answers, torch.tensor([False])) > there


def test_the_eye_is_small():
    assert 0.3e6 < sum(parameter.numel() for parameter in Eye().parameters()) < 0.5e6
    seen = eyes.look(Eye().eval(), picture())
    assert seen.subject.sum(1) == pytest.approx([1], abs=1e-5)
    assert seen.effects.shape == (1, 48)
    assert replace(seen, effects=seen.effects * 0).effects.sum() == 0


def test_no_constant_suffix_is_as_good_as_the_best_of_each_prefix():
    one = tastes.populations()["public"]
    worth = np.array([tastes.liking(one, kind, place) for kind in KINDS for place in PLACES])
    groups = [[MODIFIERS.index(name) for name in names] for names in tastes.CATEGORIES.values()]

    def enjoyed(chosen: list[np.ndarray]) -> float:
        seen = np.zeros((len(worth), 48))
        for column in chosen:
            seen[np.arange(len(worth)), column] = 1
        return np.mean([public.taste(*row, one.plenty) for row in zip(seen, worth, strict=True)])

    constant = enjoyed([group[worth[:, group].mean(0).argmax()] for group in groups])
    own = enjoyed([np.array(group)[worth[:, group].argmax(1)] for group in groups])
    assert own > constant + 0.5


@pytest.mark.parametrize(("pictures", "prefixes"), [
    (np.zeros((1, 64, 64, 3), np.uint8), ["a cat"]), (np.zeros((1, 96, 96, 3), np.float32), ["a cat"]),
    (np.zeros((96, 96, 3), np.uint8), ["a cat"]), (np.zeros((1, 96, 96, 4), np.uint8), ["a cat"]),
    (np.zeros((2, 96, 96, 3), np.uint8), ["a cat"]), (np.zeros((1, 96, 96, 3), np.uint8), "c")])
def test_pictures_that_the_public_cannot_look_at_are_refused(pictures, prefixes):
    with pytest.raises(NpkitError, match="96 x 96 pixels for each prefix"):
        public.utility(pictures, prefixes)


def test_no_pictures_have_no_utilities():
    assert public.oracle([], np.zeros((0, 96, 96, 3), np.uint8)).shape == (0,)


# Faith ---------------------------------------------------------------------------------------------------------------
def test_a_subject_is_seen_where_it_is_and_not_where_another_is():
    pictures = np.concatenate([picture(subject=subject) for subject in ("cat", "cat", "moon")])
    assert faith.subject_seen(["a cat", "a moon at night", "the red moon"], pictures).tolist() == [1, 0, 1]
    assert faith.subject_seen(["a bicycle"], pictures[:1]).tolist() == [0], "no subject of GlyphWorld"


def test_pictures_of_another_size_are_refused():
    with pytest.raises(NpkitError, match="96 x 96 pixels for each prefix"):
        faith.subject_seen(["a cat"], np.zeros((1, 64, 64, 3), np.uint8))


def test_pairs_of_words_leave_little_between_their_categories():
    square = worth_of_pairs()
    assert square.equals(square.T) and square.isna().sum().sum() == len(CATEGORIES)
    assert square.loc["style", "perspective"] < 0 < square.loc["booster", "artist"]
    assert square.abs().max(axis=None) < 0.1 < max(PAIRS.values())
