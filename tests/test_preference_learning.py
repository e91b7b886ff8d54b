"""Learning from votes: a judge learns what raters like, is held out fairly, and is never written over."""
import numpy as np
import pandas as pd
import pytest
import torch

from npkit.errors import NpkitError
from npkit.glyphworld.training import judges as training_judges
from npkit.preferences import learning, simulated, votes
from npkit.preferences.pairs import Pair
from npkit.scoring import judges
from npkit.study.contents import PACKAGE, digest_of_path
from npkit.study.profiles import load_profile

SHIPPED = PACKAGE / "glyphworld/weights/pickscore-tiny"
PAIRS = [Pair(f"a fox {number // 2}", number, "sft", "ppo", f"fox {number}", f"{number}, vivid")
         for number in range(80)]
GROUPS = [pair.prefix for pair in PAIRS]


@pytest.fixture(scope="module")
def clip() -> judges.Clip:
    return judges.load_clip(load_profile("tiny").judge("pickscore"), "cpu")


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """Pictures of one colour and some noise."""
    generator = torch.Generator().manual_seed(0)
    colours = torch.rand(len(PAIRS), 2, 3, 1, 1, generator=generator)
    return (colours + 0.1 * torch.rand(len(PAIRS), 2, 3, 96, 96, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="module")
def features(clip, pictures) -> learning.Features:
    return learning.look(clip, PAIRS, pictures)


@pytest.fixture(scope="module")
def cast(pictures) -> pd.DataFrame:
    """The votes of simulated raters who like red."""
    worth = {"prettier": 8 * pictures[:, :, 0].mean((2, 3)).numpy()}
    return votes.table_of(simulated.simulate(PAIRS, worth, simulated.Crowd("red"), 4, 60, 0), PAIRS)


def test_scores_before_learning_are_the_judges_own(clip, pictures, features):
    judge = judges.load_judge(load_profile("tiny").judge("pickscore"), "cpu")
    own = judge(GROUPS, GROUPS, pictures[:, 0])
    assert torch.allclose(learning.Projections(clip)(features)[:, 0], own, atol=1e-4)


def test_the_loss_is_the_one_of_the_lesson():
    scores, points = torch.tensor([[1.0, 0.0], [0.2, 2.0], [1.0, 1.0]]), torch.tensor([1.0, 0.5, 0.0])
    expected = training_judges.preference_loss(scores[:, 0], scores[:, 1], points)
    assert learning.preference_loss(scores, points) == expected


def test_points_are_those_of_the_first_picture(cast):
    found = learning.ballots(cast, PAIRS, "prettier")
    row = next(cast.query("choice != 'tie' and left == 'ppo'").itertuples())
    assert found.points[row.Index] == float(row.choice == "right")
    assert PAIRS[found.pair[row.Index]].name == row.pair
    with pytest.raises(NpkitError, match="there are 0"):
        learning.ballots(cast, PAIRS, "shows")
    with pytest.raises(NpkitError, match="of them about others"):
        learning.ballots(cast, PAIRS[1:], "prettier")


def test_a_judge_learns_a_new_taste_on_prefixes_that_it_has_not_seen(clip, features, cast):
    found = learning.ballots(cast, PAIRS, "prettier")
    with torch.no_grad():
        before = learning.agreement_by_prefix(learning.Projections(clip)(features), found, GROUPS)
    scores = learning.held_out_scores(clip, features, found, GROUPS, 0)
    after = learning.agreement_by_prefix(scores, found, GROUPS)
    assert len(after) == 40
    assert after.mean() > 0.75 > before.mean() + 0.1
    assert torch.equal(scores, learning.held_out_scores(clip, features, found, GROUPS, 0))


def test_held_out_scores_do_not_depend_on_the_votes_about_them(clip, features, cast):
    found = learning.ballots(cast, PAIRS, "prettier")
    one = min(GROUPS)
    about = torch.tensor([GROUPS[pair] == one for pair in found.pair.tolist()])
    turned = learning.Ballots(found.pair, torch.where(about, 1 - found.points, found.points))
    rows = [place for place, name in enumerate(GROUPS) if name == one]
    scores = [learning.held_out_scores(clip, features, each, GROUPS, 0, num_steps=20) for each in (found, turned)]
    assert torch.equal(scores[0][rows], scores[1][rows])
    assert not torch.equal(scores[0], scores[1])


def test_coin_flips_teach_nothing_about_other_prefixes(clip, features, cast):
    coins = cast.assign(choice=np.where(np.random.default_rng(0).random(len(cast)) < 0.5, "left", "right"))
    found = learning.ballots(coins, PAIRS, "prettier")
    scores = learning.held_out_scores(clip, features, found, GROUPS, 0)
    assert 0.4 < learning.agreement_by_prefix(scores, found, GROUPS).mean() < 0.6


def test_what_is_kept_has_the_lowest_validation_loss(clip, features, cast):
    trained = learning.fine_tune(clip, features, learning.ballots(cast, PAIRS, "prettier"), GROUPS, 0)
    losses = trained.curve.set_index("step")["validation"]
    assert losses[trained.kept_step] == losses.min() < losses[0]


def test_the_judge_is_written_beside_the_shipped_one_and_never_over_it(clip, features, cast, tmp_path, pictures):
    before = digest_of_path(SHIPPED)
    trained = learning.fine_tune(clip, features, learning.ballots(cast, PAIRS, "prettier"), GROUPS, 0)
    folder = learning.save(clip, trained, tmp_path / "judge")
    loaded = judges.load_judge(load_profile("tiny", {"judges.pickscore.model": str(folder)}).judge("pickscore"), "cpu")
    assert torch.allclose(loaded(GROUPS, GROUPS, pictures[:, 1]), trained.projections(features)[:, 1], atol=1e-3)
    for taken in (SHIPPED, folder):
        with pytest.raises(NpkitError, match="nothing was written"):
            learning.save(clip, trained, taken)
    assert digest_of_path(SHIPPED) == before
    assert torch.equal(learning.Projections(clip).picture.weight, clip.model.visual_projection.weight)
