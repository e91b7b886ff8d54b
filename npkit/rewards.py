"""Rewards: prompts painted, judged and remembered; what PPO is paid is the judge's gain over the plain prefix."""
import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from npkit.errors import NpkitError
from npkit.images import ImageModel, in_full_batches
from npkit.judges import Judge

DECIMALS = 5  # scores are rounded, so that a cached one and a fresh one are the same number
LOCK_SECONDS = 60  # how long a process waits while another one writes scores


class Case(NamedTuple):
    """What a judge looks at: the picture of `prompt` from `seed`, held against `prefix`."""
    prefix: str
    prompt: str
    seed: int


class ScoreCache:
    """Scores on disk (SQLite), safe against a kill and shared by processes: what one put in is there for all."""

    def __init__(self, path: Path | str = ":memory:"):
        self.connection = sqlite3.connect(path, timeout=LOCK_SECONDS)
        self.connection.execute("CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, score REAL)")

    def get(self, key: str) -> float | None:
        """Return the score stored under `key`, None where there is none."""
        row = self.connection.execute("SELECT score FROM scores WHERE key = ?", (key,)).fetchone()
        return row and row[0]

    def put(self, scores: Iterable[tuple[str, float]]) -> None:
        """Store (key, score) pairs, all or none."""
        with self.connection:
            self.connection.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", scores)

    def __len__(self) -> int:
        return self.connection.execute("SELECT COUNT(*) FROM scores").fetchone()[0]


class Scorer:
    """Paints prompts and asks the judges, each distinct picture once, and nothing that the cache knows."""

    def __init__(self, image_model: ImageModel, judges: Mapping[str, Judge], cache: ScoreCache, num_seeds: int = 1):
        self.image_model, self.judges, self.cache, self.num_seeds = image_model, dict(judges), cache, num_seeds
        self.fingerprints = {name: judge.fingerprint for name, judge in self.judges.items()}
        self.image_fingerprint = image_model.fingerprint

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
            painted = dict(zip(part, self.image_model.render(*zip(*part, strict=True)), strict=True))
            for name in names:
                if self.judges[name].needs_pictures:
                    due = [case for other, case in missing if other == name and (case.prompt, case.seed) in painted]
                    self.judge(name, due, painted)

    def judge(self, name: str, cases: list[Case], painted: Mapping[tuple[str, int], Tensor] | None = None) -> None:
        """Ask one judge about some cases and store its scores."""
        def rate(cases: list[Case]) -> Tensor:
            pictures = torch.stack([painted[case.prompt, case.seed] for case in cases]) if painted else None
            return self.judges[name]([case.prefix for case in cases], [case.prompt for case in cases], pictures)

        if cases:
            scores = in_full_batches(rate, self.image_model.config.batch_size, cases) if painted else rate(cases)
            values = [round(score, DECIMALS) for score in scores.tolist()]
            self.cache.put((self.key(name, case), value) for case, value in zip(cases, values, strict=True))

    def key(self, name: str, case: Case) -> str:
        """Return the cache key: a hash of everything the score depends on."""
        facts = [self.fingerprints[name], case.prompt]
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


def gain_over_prefix(scorer: Scorer, judge_name: str, seed: int) -> Callable[[list[str], list[str]], Tensor]:
    """Return the reward S(x, image(y)) - S(x, image(x)) of prompt y = prefix x + completion, from the same seeds."""
    def reward(prefixes: list[str], completions: list[str]) -> Tensor:
        prompts = [prefix + completion for prefix, completion in zip(prefixes, completions, strict=True)]
        ours, plain = (scorer.scores(prefixes, texts, seed, [judge_name])[judge_name] for texts in (prompts, prefixes))
        return ours - plain

    return reward
