"""Optimise: one prompt, or many, in; the optimised prompt, its certificate, both pictures and their scores out."""
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from npkit.errors import ClausesTooLong, MissingArtifact, NpkitError
from npkit.neurologic import Certificate, Constraints, certify, prices
from npkit.neurologic.published import decode_as_set
from npkit.study.artifacts import Run
from npkit.study.contents import user_path
from npkit.study.profiles import Profile
from npkit.text.policy import Policy, encode_prefixes, encode_with_room, load_policy
from npkit.wishes import tidied

if TYPE_CHECKING:
    from npkit.scoring.rewards import Scorer  # imports diffusers: seconds that a prompt without pictures need not wait

PICTURES_AT_ONCE = 2  # a prompt's and the optimised one's; a part of the cache's keys, like the batch of a study
MAX_ROWS = 24  # of a sheet: a WebP file is at most 16,383 pixels high
PICTURE_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@dataclass(frozen=True)
class Optimized:
    """An optimised prompt with its proof; where asked for, its prices and how both pictures score.

    `prompt` is what the policy and the painter read: the typed one tidied. `typed` is "" where that changed nothing.
    """
    prompt: str
    optimized: str
    certificate: Certificate
    logprob: float
    prices: Sequence[float] | None = None  # of each clause, in nats
    scores: Mapping[str, Mapping[str, float]] | None = None  # by judge, then "prompt" and "optimized"
    typed: str = ""

    def to_dict(self) -> dict:
        """Return the JSON object of the command line."""
        found = self.certificate.to_dict()
        for clause, price in zip(found["clauses"], self.prices or ()):
            clause["price"] = round(price, 4)
        return {**as_typed(self), "optimized": self.optimized, **found, "logprob": round(self.logprob, 4),
                "scores": self.scores}


@dataclass(frozen=True)
class Refused:
    """A prompt that cannot be taken, and why; `typed` as in `Optimized`."""
    prompt: str
    error: str
    typed: str = ""

    def to_dict(self) -> dict:
        """Return the JSON object of the command line."""
        return {**as_typed(self), "error": self.error}


def as_typed(answer: "Optimized | Refused") -> dict[str, str]:
    """Return the prompt of an answer as JSON, with what was typed where it is another text."""
    return {"prompt": answer.prompt} | ({"typed": answer.typed} if answer.typed else {})


# 1. Prompts ----------------------------------------------------------------------------------------------------------
def optimize(prompts: Sequence[str], policy: Policy, wishes: Callable[[str], Constraints], profile: Profile,
             advice: str = "") -> list[Optimized]:
    """Return every prompt continued by `policy` under its constraints, without pictures; one not to be taken raises.

    `wishes` returns a prompt's constraints, such as `npkit.wishes.Wishes`; `advice` is added to what is said where the
    clauses do not fit into the new tokens.
    """
    model, tokenizer = policy
    texts = list(map(tidied, prompts))
    check_lengths(texts, policy, profile)
    try:
        decoded = decode_as_set(model, tokenizer, texts, list(map(wishes, texts)), profile.neurologic)
    except ClausesTooLong as error:
        raise ClausesTooLong(f"{error}{advice}") from error
    return [Optimized(text, found.prompt, found.certificate, found.logprob, typed=differing(typed, text))
            for typed, text, found in zip(prompts, texts, decoded, strict=True)]


def differing(typed: str, text: str) -> str:
    """Return what was typed if it is another text, else ""."""
    return typed if typed != text else ""


def check_lengths(texts: Sequence[str], policy: Policy, profile: Profile) -> None:
    """Raise where a prompt is empty, longer than the profile's limit, or leaves the policy no room to complete it."""
    model, tokenizer = policy
    encode_prefixes(tokenizer, texts, profile.policy.max_prefix_tokens)
    encode_with_room(model, tokenizer, texts, profile.neurologic.max_new_tokens)


def optimize_each(prompts: Sequence[str], policy: Policy, wishes: Callable[[str], Constraints], profile: Profile,
                  advice: str = "") -> list[Optimized | Refused]:
    """Return what `optimize` does, and why for each prompt that it does not take; the others are decoded in batches."""
    checked = [check(prompt, policy, wishes, profile) for prompt in prompts]
    return map_those(str, lambda taken: _halving(taken, policy, wishes, profile, advice), checked)


def map_those(kind: type, function: Callable[[list], Sequence], items: Sequence) -> list:
    """Return `items` with those of one kind replaced by what `function` makes of all of them together."""
    chosen = [item for item in items if isinstance(item, kind)]
    made = iter(function(chosen) if chosen else ())
    return [next(made) if isinstance(item, kind) else item for item in items]


def check(prompt: str, policy: Policy, wishes: Callable[[str], Constraints], profile: Profile) -> str | Refused:
    """Return the prompt as it was typed, or why it cannot be taken, as far as that is known before decoding."""
    try:
        text = tidied(prompt)
    except NpkitError as error:
        return Refused(prompt, str(error))
    try:
        check_lengths([text], policy, profile)
    except NpkitError as error:
        return Refused(text, str(error), differing(prompt, text))
    present = certify(wishes(text), text).violations
    return Refused(text, f"the prompt itself contains the excluded {present[0]!r}", differing(prompt, text)
                   ) if present else prompt


def _halving(prompts: list[str], *arguments) -> list[Optimized | Refused]:
    """Return the answer to each prompt, halving the list until those that decoding refuses stand alone."""
    try:
        return optimize(prompts, *arguments)
    except NpkitError as error:
        if len(prompts) == 1:
            text = tidied(prompts[0])
            return [Refused(text, str(error), differing(prompts[0], text))]
    middle = len(prompts) // 2
    return _halving(prompts[:middle], *arguments) + _halving(prompts[middle:], *arguments)


def with_prices(found: Sequence[Optimized], policy: Policy, wishes: Callable[[str], Constraints],
                profile: Profile) -> list[Optimized]:
    """Return `found` with what each clause costs, by decoding without it."""
    return [replace(each, prices=prices(*policy, each.prompt, wishes(each.prompt), profile.neurologic))
            for each in found]


def trained_policy(run: Run, name: str) -> Policy:
    """Return the study's policy "ppo" or "sft", or the one in a folder."""
    if name in ("ppo", "sft"):
        try:
            folder = run.input(name).path / "model"
        except MissingArtifact as error:
            raise NpkitError(f"there is no trained {name} policy (profile {run.config.name}): make it by "
                             f"{run.command(name)}, or name a folder with --policy") from error
    elif not os.path.isdir(folder := user_path(name)):
        raise NpkitError(f"--policy is ppo, sft or a folder; there is no folder {name!r}")
    model, tokenizer = load_policy(folder)
    return model.to(run.device).eval(), tokenizer


# 2. Pictures ---------------------------------------------------------------------------------------------------------
def load_scorer(profile: Profile, device: torch.device) -> "Scorer":
    """Return the judges with the shared score cache, painting two pictures at once: a prompt's own pair.

    A picture changes with the batch it is painted in, by one of 256 steps in some pixels of 100,000. So the batch is
    part of a score's key, and with pairs no prompt's scores depend on which others were asked for.
    """
    from npkit.scoring.cache import shared_cache
    from npkit.scoring.images import load_image_model
    from npkit.scoring.judges import load_judges
    from npkit.scoring.rewards import Scorer
    from npkit.study.artifacts import set_threads
    set_threads(profile)
    images = replace(profile.images, batch_size=min(PICTURES_AT_ONCE, profile.images.batch_size))
    return Scorer(load_image_model(images, device), load_judges(profile, device), shared_cache(), keep_pictures=True)


def with_scores(found: Sequence[Optimized], scorer: "Scorer", seed: int) -> list[Optimized]:
    """Return `found` with every judge's scores of the prompt's picture and of the optimised one's, from one seed."""
    pairs = [text for each in found for text in (each.prompt, each.optimized)]
    scores = scorer.scores([each.prompt for each in found for _ in range(2)], pairs, seed)
    rounded = {judge: [round(value, 5) for value in values.tolist()] for judge, values in scores.items()}
    return [replace(each, scores={judge: {"prompt": values[2 * row], "optimized": values[2 * row + 1]}
                                  for judge, values in rounded.items()}) for row, each in enumerate(found)]


def num_truncated(found: Sequence[Optimized], scorer: "Scorer") -> int:
    """Return how many of the prompts and optimised prompts the text encoder cannot read to the end."""
    model = scorer.image_model
    texts = [text for each in found for text in (each.prompt, each.optimized)]
    return sum(length > model.max_tokens for length in model.num_tokens(texts))


def check_out(out: str, num_prompts: int = 1) -> Path:
    """Return the path of the picture, or raise before any work if nothing could be written there."""
    if num_prompts > MAX_ROWS:
        raise NpkitError(f"--out shows at most {MAX_ROWS} prompts, standard input holds {num_prompts}: --scores takes "
                         "any number")
    path = user_path(out)
    if path.suffix.lower() not in PICTURE_FORMATS:
        raise NpkitError(f"--out {out!r} names no picture: end it in {', '.join(PICTURE_FORMATS)}")
    if not can_be_written(path):
        raise NpkitError(f"--out {out!r} cannot be written: name a file in a folder that exists")
    return path


def can_be_written(path: Path) -> bool:
    """Say whether a file of this name can be made: in a folder that exists, the name no folder's, and not too long."""
    try:
        os.stat(path)
    except FileNotFoundError:
        pass
    except (OSError, ValueError):
        return False
    return not path.is_dir() and path.parent.is_dir() and os.access(path.parent, os.W_OK)


def save_pictures(found: Sequence[Optimized], scorer: "Scorer", seed: int, out: Path, profile: str) -> None:
    """Write a picture with a row a prompt: its picture, the optimised one's, and under each what was painted."""
    from npkit.figures import note_profile, picture_sheet
    titles = [text for each in found for text in (each.prompt, each.optimized)]
    pictures: Tensor = scorer.pictures(titles, seed)
    sheet = picture_sheet(list(pictures), titles, 2, column_titles=("prompt", "optimized"), size=3.2)
    draft = out.with_name(f".npkit.{os.getpid()}")  # shorter than any name that the disk took
    try:
        note_profile(sheet, profile).savefig(draft, format=PICTURE_FORMATS[out.suffix.lower()], dpi=150,
                                             bbox_inches="tight")
        os.replace(draft, out)
    except OSError as error:
        raise NpkitError(f"--out {str(out)!r} cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
