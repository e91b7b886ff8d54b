"""Learning from votes: a PickScore-type judge goes on from what it was, by its own loss, on votes about two pictures.

The towers of its CLIP stay frozen, so that their outputs are computed once and a training takes seconds; the two
projections and the logit scale learn. The judge that was given is copied, and never written over.
"""
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from npkit.errors import NpkitError
from npkit.preferences.analysis import agreement, points_of_first, with_points
from npkit.preferences.pairs import Pair
from npkit.scoring.judges import Clip, preprocess

BATCH_SIZE = 64  # votes a step; and pictures that a tower looks at together
VALIDATION = 0.15  # share of the prefixes that says when to stop
FOLDS = 5  # every prefix is held out of one of as many trainings


@dataclass(frozen=True)
class Features:
    """What the frozen towers say of n pairs: of their prefixes (n, width) and of their two pictures (n, 2, width)."""
    texts: Tensor
    pictures: Tensor


@dataclass(frozen=True)
class Ballots:
    """Votes as numbers: which pair each is about, and the points of the pair's first picture (1, 1/2 or 0)."""
    pair: Tensor
    points: Tensor


class Projections(nn.Module):
    """What learns: both projections and the logarithm of the logit scale, at first those of the judge that is given."""

    def __init__(self, clip: Clip):
        super().__init__()
        self.text, self.picture = (deepcopy(layer).cpu().requires_grad_(True)
                                   for layer in (clip.model.text_projection, clip.model.visual_projection))
        self.log_scale = nn.Parameter(clip.model.logit_scale.detach().clone().cpu())

    def forward(self, features: Features, rows: Tensor | slice = slice(None)) -> Tensor:
        """Return the scores (rows, 2) of both pictures of some pairs: scale times cosine, as PickScore's."""
        texts = normalize(self.text(features.texts[rows]), dim=-1)[:, None]
        return self.log_scale.exp() * (texts * normalize(self.picture(features.pictures[rows]), dim=-1)).sum(-1)


@dataclass(frozen=True)
class Trained:
    """A training: the projections at the lowest validation loss, the losses on the way, and the step that is kept."""
    projections: Projections
    curve: pd.DataFrame
    kept_step: int


def preference_loss(scores: Tensor, points: Tensor) -> Tensor:
    """Return PickScore's loss: cross-entropy of the points of the first picture with the softmax of both scores."""
    return binary_cross_entropy_with_logits(scores[:, 0] - scores[:, 1], points)


@torch.no_grad()
def look(clip: Clip, pairs: Sequence[Pair], pictures: Tensor) -> Features:
    """Return the towers' outputs for the pictures (pairs, 2, 3, height, width) in [0, 1] and the prefixes of pairs."""
    prefixes = list(dict.fromkeys(pair.prefix for pair in pairs))
    tokens = clip.tokenizer(prefixes, padding="max_length", truncation=True, return_tensors="pt",
                            max_length=clip.model.config.text_config.max_position_embeddings)
    texts = clip.model.text_model(**tokens.to(clip.model.device)).pooler_output
    seen = torch.cat([clip.model.vision_model(pixel_values=preprocess(part.to(clip.model.device), clip.processor)
                                              ).pooler_output for part in pictures.flatten(0, 1).split(BATCH_SIZE)])
    rows = [prefixes.index(pair.prefix) for pair in pairs]
    return Features(texts[rows].cpu(), seen.view(len(pairs), 2, -1).cpu())


def ballots(votes: pd.DataFrame, pairs: Sequence[Pair], question: str) -> Ballots:
    """Return the votes of a table on one question as numbers; of pairs that are not among `pairs` none may be."""
    places = {pair.name: place for place, pair in enumerate(pairs)}
    rows = votes[votes["question"] == question]
    if rows.empty or not set(rows["pair"]) <= set(places):
        raise NpkitError(f"a judge learns from votes on {question!r} about the pairs that are given: there are "
                         f"{len(rows)}, {(~rows['pair'].isin(places)).sum()} of them about others")
    points = [points_of_first(*row) for row in zip(rows["choice"], rows["left"], rows["first"])]
    return Ballots(torch.tensor(rows["pair"].map(places).to_numpy()), torch.tensor(points))


def fine_tune(clip: Clip, features: Features, cast: Ballots, groups: Sequence[str], seed: int, *,
              num_steps: int = 150, learning_rate: float = 1e-3, loss: Callable = preference_loss) -> Trained:
    """Return a judge that has learnt from votes; `groups` has the prefix of each pair.

    A share of the prefixes is kept apart, and the weights with the lowest loss on its votes are returned: those of the
    beginning where no step was better.
    """
    learner, generator = Projections(clip), torch.Generator().manual_seed(seed)
    voted = sorted({groups[pair] for pair in cast.pair.tolist()})
    if len(voted) < 2:
        raise NpkitError(f"a judge learns from votes on at least two prefixes, got {len(voted)}")
    order = np.random.default_rng(seed).permutation(len(voted))[:max(1, round(VALIDATION * len(voted)))]
    apart = torch.tensor([groups[pair] in {voted[place] for place in order} for pair in cast.pair.tolist()])
    training, validation = (~apart).nonzero().flatten(), apart.nonzero().flatten()
    optimizer, curve, best = torch.optim.AdamW(learner.parameters(), lr=learning_rate), [], None
    for step in range(num_steps + 1):
        if step % 10 == 0:
            with torch.no_grad():
                losses = [float(loss(learner(features, cast.pair[rows]), cast.points[rows]))
                          for rows in (training, validation)]
            curve.append((step, *losses))
            if losses[1] <= min(row[2] for row in curve):
                best = step, deepcopy(learner.state_dict())
        rows = training[torch.randint(len(training), (BATCH_SIZE,), generator=generator)]
        optimizer.zero_grad()
        loss(learner(features, cast.pair[rows]), cast.points[rows]).backward()
        optimizer.step()
    learner.load_state_dict(best[1])
    return Trained(learner.requires_grad_(False), pd.DataFrame(curve, columns=["step", "training", "validation"]),
                   best[0])


def held_out_scores(clip: Clip, features: Features, cast: Ballots, groups: Sequence[str], seed: int,
                    **options) -> Tensor:
    """Return the scores (pairs, 2) of judges that learnt from the votes on other prefixes: every one is held out once.
    """
    names = sorted(set(groups))
    fold_of = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % FOLDS, strict=True))
    folds, scores = torch.tensor([fold_of[name] for name in groups]), torch.zeros(len(groups), 2)
    for fold in range(FOLDS):
        there = folds[cast.pair] != fold
        trained = fine_tune(clip, features, Ballots(cast.pair[there], cast.points[there]), groups, seed + fold,
                            **options)
        with torch.no_grad():
            scores[folds == fold] = trained.projections(features, (folds == fold).nonzero().flatten())
    return scores


def agreement_by_prefix(scores: Tensor, cast: Ballots, groups: Sequence[str]) -> pd.Series:
    """Return for each prefix how often the votes on it prefer the picture with the higher score; a tie agrees half."""
    preferred = np.sign((scores[:, 0] - scores[:, 1]).detach().numpy())[cast.pair.numpy()]
    agreed = agreement(preferred, cast.points.numpy())
    return pd.Series(agreed).groupby([groups[pair] for pair in cast.pair.tolist()]).mean()


def expected_rates(scores: Tensor, votes: pd.DataFrame, pairs: Sequence[Pair], order: Sequence[str]) -> pd.Series:
    """Return by meeting "a - b" the share of the votes that a judge with these scores (pairs, 2) expects for a.

    Over the same votes as the win rate, and by Bradley and Terry's model: the logistic function of the difference.
    """
    shares = pd.Series((scores[:, 0] - scores[:, 1]).sigmoid().tolist(), [pair.name for pair in pairs])
    turned, expected = with_points(votes, order), votes["pair"].map(shares)
    expected = expected.where(turned["first"] == votes["first"], 1 - expected)
    return expected.groupby(turned["first"] + " - " + turned["second"]).mean()


def save(clip: Clip, trained: Trained, folder: Path) -> Path:
    """Write the judge as a CLIP that loads as a judge of kind pickscore; never over a folder that holds anything."""
    if folder.exists() and any(folder.iterdir()):
        raise NpkitError(f"{folder} holds a judge or other files already: name another folder, nothing was written")
    model = deepcopy(clip.model)
    model.text_projection.load_state_dict(trained.projections.text.state_dict())
    model.visual_projection.load_state_dict(trained.projections.picture.state_dict())
    model.logit_scale.data = trained.projections.log_scale.detach().clone()
    for part in (model, clip.tokenizer, clip.processor):
        part.save_pretrained(folder)
    return folder
