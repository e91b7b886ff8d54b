"""Preferences: a small judge learns from the public's votes on frozen CLIP towers, and is then searched for mistakes.

`judges` trains the judges that the kit ships, every weight of them; this module serves lesson 03, where a judge is
trained within seconds: the towers' outputs are computed once, and the two projections and the logit scale learn.
"""
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPModel, CLIPTokenizer

from npkit.glyphworld.painter import paint
from npkit.glyphworld.people.eye import to_signed
from npkit.glyphworld.people.public import utilities as utilities_of
from npkit.glyphworld.people.tastes import Population, populations
from npkit.glyphworld.people.votes import GROUP, POPULATIONS, VoteSet, make_votes
from npkit.glyphworld.training.diffusion import encode_text
from npkit.glyphworld.training.judges import ask, save_judge

FIRST, SECOND = (list(side) for side in zip(*combinations(range(GROUP), 2), strict=True))  # the pairs of a group


# 1. Votes ------------------------------------------------------------------------------------------------------------
def gather_votes(first_seed: int, num_chunks: int, eye_folder: Path, spread: Callable = map) -> VoteSet:
    """Chunks of groups of rendered pictures with what they are worth; `spread` is `map`, or that of a pool."""
    chunks = [make_votes(first_seed + number, None, eye_folder, spread) for number in range(num_chunks)]
    return VoteSet([prefix for chunk in chunks for prefix in chunk.prefixes],
                   [prompt for chunk in chunks for prompt in chunk.prompts],
                   np.concatenate([chunk.pictures for chunk in chunks]),
                   {name: np.concatenate([chunk.utilities[name] for chunk in chunks]) for name in POPULATIONS})


def pair_shares(utilities: np.ndarray, people: Population, seed: int) -> Tensor:
    """Shares (groups, 6) of eight raters who prefer the first picture of each pair of a group; nan where both are one.

    Two prompts of a group may have no modifiers: they paint one picture, and nobody can choose.
    """
    worth = torch.from_numpy(utilities).float() / people.noise
    shares = ask(worth[:, FIRST], worth[:, SECOND], torch.Generator().manual_seed(seed))
    return shares.masked_fill(worth[:, FIRST] == worth[:, SECOND], torch.nan)


def accuracy(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """How often scores (...) of pairs agree with a rater: the share on their side, one half where they are equal."""
    return torch.where(first > second, shares, torch.where(first < second, 1 - shares, torch.full_like(shares, 0.5)))


def group_means(values: Tensor, shares: Tensor) -> np.ndarray:
    """The mean of `values` (groups, 6) over the pairs of each group that are a choice; groups without one left out."""
    means = values.masked_fill(shares.isnan(), torch.nan).nanmean(1)
    return means[~means.isnan()].numpy()


def reliability(predicted: Tensor, voted: Tensor, num_bins: int = 5) -> pd.DataFrame:
    """Pairs in bins by the share predicted for the favourite: means of both shares, the error of the second, and n.

    The favourite is the picture for which a share above one half is predicted; bins with few pairs are left out.
    """
    table = pd.DataFrame({"predicted": torch.maximum(predicted, 1 - predicted).numpy(),
                          "voted": torch.where(predicted > 0.5, voted, 1 - voted).numpy()})
    bins = table.groupby(((2 * table["predicted"] - 1) * num_bins).astype(int).clip(upper=num_bins - 1))
    found = bins.mean().assign(error=1.96 * bins["voted"].sem(), n=bins.size())
    return found[found["n"] >= 10].reset_index(drop=True)


def rater_agreement(shares: Tensor, num_raters: int = 8) -> Tensor:
    """How often two different raters of each pair agree, of whom a share preferred the first picture."""
    first = shares * num_raters
    others = num_raters - first
    return (first * (first - 1) + others * (others - 1)) / (num_raters * (num_raters - 1))


def split_by_prefix(prefixes: Sequence[str], parts: Sequence[float], seed: int) -> list[Tensor]:
    """Rows of the groups, shared out in these shares; the groups of one prefix stay together."""
    names = sorted(set(prefixes))
    order = np.random.default_rng(seed).permutation(len(names))
    bounds = (np.cumsum(parts[:-1]) * len(names)).round().astype(int)
    owner = {names[index]: part for part, rows in enumerate(np.split(order, bounds)) for index in rows}
    owners = torch.tensor([owner[prefix] for prefix in prefixes])
    return [(owners == part).nonzero().flatten() for part in range(len(parts))]


# 2. The judge --------------------------------------------------------------------------------------------------------
def cosine_score(texts: Tensor, pictures: Tensor, logit_scale: Tensor | float) -> Tensor:
    """CLIP's and PickScore's score (...): the logit scale times the cosine of embeddings (..., width)."""
    return logit_scale * (normalize(texts, dim=-1) * normalize(pictures, dim=-1)).sum(-1)


class Towers:
    """A frozen CLIP: what its two towers say of pictures and texts before their projections."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.clip = CLIPModel.from_pretrained(folder).eval().requires_grad_(False)
        self.tokenizer = CLIPTokenizer.from_pretrained(folder)

    def pictures(self, pictures: np.ndarray) -> Tensor:
        """Features (n, 128) of pictures (n, 96, 96, 3) uint8."""
        parts = torch.tensor(pictures).split(100)  # a copy: painted arrays may not be written to
        return torch.cat([self.clip.vision_model(pixel_values=to_signed(part)).pooler_output for part in parts])

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Features (n, 128) of texts."""
        return self.clip.text_model(encode_text(self.tokenizer, list(texts))).pooler_output


class SmallJudge(nn.Module):
    """What learns from votes: a projection a tower and the logarithm of the logit scale, at first the CLIP's."""

    def __init__(self, towers: Towers, score: Callable = cosine_score):
        super().__init__()
        self.towers, self.score = towers, score
        self.text_projection = deepcopy(towers.clip.text_projection).requires_grad_(True)
        self.picture_projection = deepcopy(towers.clip.visual_projection).requires_grad_(True)
        self.log_scale = nn.Parameter(towers.clip.logit_scale.clone())

    def forward(self, texts: Tensor, pictures: Tensor) -> Tensor:
        """Scores (...) of the towers' features (..., 128)."""
        return self.score(self.text_projection(texts), self.picture_projection(pictures), self.log_scale.exp())

    @torch.no_grad()
    def rate(self, prefixes: Sequence[str], pictures: np.ndarray) -> np.ndarray:
        """Scores (n,) of pictures (n, 96, 96, 3) uint8, each against its prefix."""
        names = list(dict.fromkeys(prefixes))
        texts = self.towers.texts(names)[[names.index(prefix) for prefix in prefixes]]
        return self(texts, self.towers.pictures(pictures)).numpy()

    def snapshot(self) -> "SmallJudge":
        """A copy of the judge as it is now, which does not learn any more."""
        copy = SmallJudge(self.towers, self.score)
        copy.load_state_dict(self.state_dict())
        return copy.requires_grad_(False)

    def save(self, folder: Path) -> None:
        """Write the judge as a CLIP that the kit loads as a judge of kind pickscore."""
        clip = deepcopy(self.towers.clip)
        clip.text_projection.load_state_dict(self.text_projection.state_dict())
        clip.visual_projection.load_state_dict(self.picture_projection.state_dict())
        clip.logit_scale.data = self.log_scale.data.clone()
        save_judge(clip, self.towers.tokenizer, folder)


# 3. What the judge claims and what is true ---------------------------------------------------------------------------
class Claims(NamedTuple):
    """Gains (prompts, seeds) in units of votes: their logistic is the share of raters who prefer the prompt's picture.

    One is what a judge claims, the other what is true of the public: utility over the raters' noise.
    """
    claimed: np.ndarray
    true: np.ndarray


def gain(judge: Callable, painter: Callable, prefix: str, completion: str, seed: int) -> float:
    """S(I(y, z), x) - S(I(x, z), x), S being `judge(picture, prefix)`: same noise, both judged against the prefix."""
    return judge(painter(prefix + completion, seed), prefix) - judge(painter(prefix, seed), prefix)


def paint_all(prompts: Sequence[str], seeds: Sequence[int], spread: Callable = map) -> np.ndarray:
    """The ideal painter's pictures (n, 96, 96, 3) uint8, each of its prompt and seed."""
    return np.stack(list(spread(paint, prompts, seeds)))


def claims(prefixes: Sequence[str], prompts: Sequence[str], seeds: Sequence[int], rate: Callable, eye_folder: Path,
           spread: Callable = map) -> Claims:
    """Claimed and true gains of prompts over their prefixes for each picture seed; `rate(prefixes, pictures)` claims.

    Judge and public look at the same pictures; a prefix is painted once.
    """
    cases = list(dict.fromkeys((prefix, text, seed) for prefix, prompt in zip(prefixes, prompts, strict=True)
                               for text in (prefix, prompt) for seed in seeds))
    asked, texts, noises = zip(*cases, strict=True)
    pictures = paint_all(texts, noises, spread)
    worth = utilities_of(pictures, asked, ("public",), eye_folder, spread)["public"] / populations()["public"].noise
    return Claims(*(np.array([[value[prefix, prompt, seed] - value[prefix, prefix, seed] for seed in seeds]
                              for prefix, prompt in zip(prefixes, prompts, strict=True)])
                    for value in (dict(zip(cases, values, strict=True)) for values in (rate(asked, pictures), worth))))


def prompt_of(prefix: str, words: Sequence[str]) -> str:
    """The prefix and the words, with commas between them."""
    return ", ".join([prefix, *words])


def widen(kept: Sequence[tuple[str, ...]], words: Sequence[str], value: Callable, width: int) -> list[tuple[str, ...]]:
    """One step of a search: the `width` best by `value` of all sets of words that hold one word more than one kept.

    A set of words is a sorted tuple, so that no set is looked at twice. `value` takes a list of them.
    """
    longer = sorted({tuple(sorted((*each, word))) for each in kept for word in words if word not in each})
    ranked = sorted(zip(value(longer), longer, strict=True), reverse=True)
    return [each for _, each in ranked[:width]]
