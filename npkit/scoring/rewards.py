"""Rewards: PPO is rewarded by the judge's gain over the plain prefix; every picture is painted and judged once."""
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from npkit.errors import NpkitError
from npkit.scoring.cache import ScoreCache
from npkit.scoring.images import ImageModel, in_full_batches
from npkit.scoring.judges import Judge
from npkit.study.code import code_of

DECIMALS = 5  # scores are rounded before they are stored, so that a stored and a new score are the same number


class Case(NamedTuple):
    """What a judge looks at: the picture of `prompt` from `seed`, held against `prefix`."""
    prefix: str
    prompt: str
    seed: int


class Scorer:
    """Paints prompts and asks the judges, each distinct picture once, and nothing that the cache knows.

    With `keep_pictures` it remembers the pictures too, for someone who wants to see what was judged.
    """

    def __init__(self, image_model: ImageModel, judges: Mapping[str, Judge], cache: ScoreCache, num_seeds: int = 1, *,
                 keep_pictures: bool = False):
        self.image_model, self.judges, self.cache, self.num_seeds = image_model, dict(judges), cache, num_seeds
        self.keep_pictures, self.kept = keep_pictures, {}
        self.fingerprints = {name: judge.fingerprint for name, judge in self.judges.items()}
        self.image_fingerprint = image_model.fingerprint
        self.code = code_of(f"{__name__}:Scorer").digest  # how a score is asked for and rounded

    def scores(self, prefixes: Sequence[str], prompts: Sequence[str], seed: int, judges: Sequence[str] | None = None
               ) -> dict[str, Tensor]:
        """Return every judge's scores (batch,), each the mean over `num_seeds` pictures."""
        names = self.known(judges)
        seeds = [seed * self.num_seeds + number for number in range(self.num_seeds)]
        cases = [[Case(prefix, prompt, picture_seed) for picture_seed in seeds]
                 for prefix, prompt in zip(prefixes, prompts, strict=True)]
        self.fill(dict.fromkeys(case for row in cases for case in row), names)
        return {name: torch.tensor([[self.cache.get(self.key(name, case)) for case in row] for row in cases]).mean(1)
                for name in names}

    def fill(self, cases: Iterable[Case], names: Sequence[str]) -> None:
        """Compute the scores that the cache lacks, a batch of pictures at a time."""
        missing = [(name, case) for name in names for case in cases if self.cache.get(self.key(name, case)) is None]
        texts = [(name, case) for name, case in missing if not self.judges[name].needs_pictures]
        for name in dict.fromkeys(name for name, _ in texts):
            self.judge(name, [case for other, case in texts if other == name])
        pictures = list(dict.fromkeys((case.prompt, case.seed) for name, case in missing
                                      if self.judges[name].needs_pictures))
        size = self.image_model.config.batch_size
        for part in (pictures[start:start + size] for start in range(0, len(pictures), size)):
            painted = self.paint(part)
            for name in names:
                if self.judges[name].needs_pictures:
                    due = [case for other, case in missing if other == name and (case.prompt, case.seed) in painted]
                    self.judge(name, due, painted)

    def paint(self, wanted: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Tensor]:
        """Return the picture of each (prompt, seed); those kept are not painted again."""
        missing = [each for each in wanted if each not in self.kept]
        pictures = self.image_model.render(*zip(*missing, strict=True)) if missing else ()
        painted = dict(zip(missing, pictures, strict=True))
        if self.keep_pictures:
            self.kept |= painted
        return {each: painted[each] if each in painted else self.kept[each] for each in wanted}

    def pictures(self, prompts: Sequence[str], seed: int) -> Tensor:
        """Return the picture of each prompt (batch, 3, height, width), of several seeds the first that is judged."""
        wanted = [(prompt, seed * self.num_seeds) for prompt in prompts]
        painted = self.paint(list(dict.fromkeys(wanted)))
        return torch.stack([painted[each] for each in wanted])

    def judge(self, name: str, cases: list[Case], painted: Mapping[tuple[str, int], Tensor] | None = None) -> None:
        """Ask one judge about some cases and store its scores."""
        def rate(cases: list[Case]) -> Tensor:
            pictures = torch.stack([painted[case.prompt, case.seed] for case in cases]) if painted else None
            return self.judges[name]([case.prefix for case in cases], [case.prompt for case in cases], pictures)

        if cases:
            scores = in_full_batches(rate, self.image_model.config.batch_size, cases) if painted else rate(cases)
            check_scores(name, cases, scores)
            values = [round(score, DECIMALS) for score in scores.tolist()]
            self.cache.put(name, [(self.key(name, case), value) for case, value in zip(cases, values, strict=True)])

    def key(self, name: str, case: Case) -> str:
        """Return the cache key: a hash of everything the score depends on."""
        facts = [self.code, self.fingerprints[name], case.prompt]
        if self.judges[name].needs_pictures:
            facts += [case.prefix, case.seed, self.image_fingerprint]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def known(self, names: Sequence[str] | None) -> list[str]:
        """Return the judges named (all when none is), or say which there are."""
        names = list(self.judges if names is None else names)
        unknown = [name for name in names if name not in self.judges]
        if unknown:
            raise NpkitError(f"unknown judge {unknown[0]!r}; known: {', '.join(self.judges)}")
        return names


def check_scores(name: str, cases: Sequence[Case], scores: Tensor) -> None:
    """Raise where a judge did not give one finite number for each case: nothing of it may reach the cache."""
    if scores.shape != (len(cases),):
        raise NpkitError(f"the judge {name} must return one score per prompt: {len(cases)} prompts, "
                         f"shape {tuple(scores.shape)}")
    wrong = [case.prompt for case, score in zip(cases, scores, strict=True) if not score.isfinite()]
    if wrong:
        raise NpkitError(f"the judge {name} must return finite numbers: it did not for {len(wrong)} of {len(cases)} "
                         f"prompts, such as {wrong[0]!r}")


def gain_over_prefix(scorer: Scorer, judges: str | Mapping[str, float], seed: int
                     ) -> Callable[[list[str], list[str]], Tensor]:
    """Return the reward S(x, image(y)) - S(x, image(x)) of prompt y = prefix x + completion, from the same seeds.

    `judges` is one judge's name, or weights by name: then the reward is the weighted sum of their gains, each on its
    judge's own scale, and every picture is painted once for all of them.
    """
    weights = {judges: 1.0} if isinstance(judges, str) else dict(judges)
    names = scorer.known(list(weights))
    if not names:
        raise NpkitError(f"a reward needs at least one judge; known: {', '.join(scorer.judges)}")

    def reward(prefixes: list[str], completions: list[str]) -> Tensor:
        prompts = [prefix + completion for prefix, completion in zip(prefixes, completions, strict=True)]
        scores = scorer.scores([*prefixes, *prefixes], [*prompts, *prefixes], seed, names)  # full batches: one call
        gains = {name: values[:len(prompts)] - values[len(prompts):] for name, values in scores.items()}
        return sum(weight * gains[name] for name, weight in weights.items())

    return reward
