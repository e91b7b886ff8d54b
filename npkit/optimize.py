"""Optimise: one prompt, or many, in; the optimised prompt, its certificate, both pictures and their scores out."""
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from npkit.errors import ClausesTooLong, MissingArtifact, NpkitError
from npkit.neurologic import Certificate, Constraints, certify, prices
from npkit.neurologic.published import decode_as_set
from npkit.study.artifacts import Run
from npkit.study.contents import user_path
from npkit.study.profiles import Profile
from npkit.text import keywords
from npkit.text.policy import Policy, encode_prefixes, encode_with_room, load_policy
from npkit.wishes import Wishes, tidied

if TYPE_CHECKING:  # these import diffusers, scipy and pandas: seconds that a prompt without pictures need not wait
    from npkit.figures.base import Figure
    from npkit.findings.ledger import Ledger
    from npkit.findings.stats import Interval
    from npkit.scoring.rewards import Scorer

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
    logprob: float | None  # None where the user's own prompt was kept: nothing was written
    prices: Sequence[float] | None = None  # of each clause, in nats
    scores: Mapping[str, Mapping[str, float]] | None = None  # by judge, then "prompt" and "optimized"
    typed: str = ""
    decision: "Decision | None" = None  # of keep-if-better
    ledger: "Ledger | None" = None

    @property
    def written(self) -> str:
        """What the policy wrote, whether it was kept or not."""
        return self.decision.rejected or self.optimized if self.decision else self.optimized

    def to_dict(self) -> dict:
        """Return the JSON object of the command line."""
        found = self.certificate.to_dict()
        for clause, price in zip(found["clauses"], self.prices or ()):
            clause["price"] = round(price, 4)
        logprob = None if self.logprob is None else round(self.logprob, 4)
        more = {name: part.to_dict() for name, part in (("decision", self.decision), ("ledger", self.ledger)) if part}
        return {**as_typed(self), "optimized": self.optimized, **found, "logprob": logprob, "scores": self.scores,
                **more}


@dataclass(frozen=True)
class Decision:
    """Whether the user's own prompt was kept in place of the optimised one, and why.

    `gain` is that of the optimised prompt by the paid judge, over picture seeds that no training was paid on.
    `rejected` is the optimised prompt where the user's own was kept in its place, else "".
    """
    kept: bool
    why: str
    judge: str
    gain: "Interval"
    min_gain: float
    rejected: str = ""

    def to_dict(self) -> dict:
        """Return the decision as JSON types."""
        from npkit.findings.ledger import interval_as_json
        return {"kept": self.kept, "why": self.why, "judge": self.judge, "gain": interval_as_json(self.gain),
                "min_gain": self.min_gain, "rejected": self.rejected or None}


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


def with_ledgers(found: Sequence[Optimized], scorer: "Scorer", profile: Profile, seeds: Sequence[int]
                 ) -> list[Optimized]:
    """Return `found`, each with the ledger of what the policy wrote, whether it was kept or not."""
    from npkit.findings.ledger import make_ledger
    words = keywords.load(profile.neurologic.keywords)
    explained = []
    for each in found:
        with forgetting(scorer):
            explained.append(replace(each, ledger=make_ledger(scorer, each.prompt, each.written, words, seeds)))
    return explained


@contextmanager
def forgetting(scorer: "Scorer") -> Iterator[None]:
    """Let the scorer keep no picture beyond the block: those of many prompts from many seeds would fill the memory."""
    kept = dict(scorer.kept)
    try:
        yield
    finally:
        scorer.kept = kept


def keep_if_better(found: Sequence[Optimized], scorer: "Scorer", wishes: Wishes, weights: Mapping[str, float], *,
                   min_gain: float, seeds: Sequence[int]) -> list[Optimized | Refused]:
    """Return `found`, with the user's own prompt where the gain by the paid judge does not lie above `min_gain`.

    `weights` are those of the paid judges. The gain lies above where its whole 95 % interval over the pictures of
    `seeds` does. Where a judge fails there is no decision, and the prompt is refused.
    """
    from npkit.findings.ledger import gain_over_prefix, paid_name
    from npkit.findings.stats import Interval
    answers: list[Optimized | Refused] = []
    for each in found:
        if each.optimized == each.prompt:
            nothing = Interval(0.0, 0.0, 0.0, len(seeds))
            answers.append(replace(each, decision=Decision(True, "the policy added nothing", paid_name(weights),
                                                           nothing, min_gain)))
            continue
        try:
            with forgetting(scorer):
                gain = gain_over_prefix(scorer, each.prompt, each.optimized, weights, seeds)
        except NpkitError as error:
            answers.append(Refused(each.prompt, f"whether the optimised prompt is better cannot be said: {error}",
                                   each.typed))
        else:
            answers.append(decide(each, gain, min_gain, paid_name(weights), wishes))
    return answers


def decide(found: Optimized, gain: "Interval", min_gain: float, judge: str, wishes: Wishes) -> Optimized:
    """Return an optimised prompt, or the user's own, with the decision.

    A prompt that lacks a phrase which the user demanded is not gone back to; default clauses bind nobody. Of a prompt
    that is kept, the certificate says which clauses it happens to meet.
    """
    from npkit.findings.ledger import readable
    why = f"{judge} gains {readable(gain)} over {gain.n} pictures, {'' if gain.low > min_gain else 'not '}above "
    decision = Decision(False, f"{why}{min_gain:g}", judge, gain, min_gain)
    if gain.low > min_gain:
        return replace(found, decision=decision)
    demanded = certify(replace(wishes, seed=None)(found.prompt), found.prompt, found.prompt).clauses
    if lacking := [clause.category for clause in demanded if not clause.holds]:
        but = f"{decision.why}; but your own prompt lacks what you demanded ({', '.join(lacking)})"
        return replace(found, decision=replace(decision, why=but))
    return replace(found, optimized=found.prompt, certificate=certify(wishes(found.prompt), found.prompt, found.prompt),
                   logprob=None, prices=None, decision=replace(decision, kept=True, rejected=found.optimized))


def measuring_seeds(seed: int, num_pictures: int | None) -> list[int]:
    """Return the picture seeds of ledgers and decisions, as evaluation's far from those that PPO was paid on.

    A policy may have learnt what the noise of its own pictures likes.
    """
    from npkit.findings.evaluation import picture_seeds  # it imports datasets, which takes a second
    from npkit.findings.ledger import NUM_PICTURES
    return picture_seeds(seed, num_pictures or NUM_PICTURES)


def num_truncated(found: Sequence[Optimized], scorer: "Scorer") -> int:
    """Return how many of the prompts and optimised prompts the text encoder cannot read to the end."""
    model = scorer.image_model
    texts = [text for each in found for text in (each.prompt, each.optimized)]
    return sum(length > model.max_tokens for length in model.num_tokens(texts))


def check_out(out: str, num_prompts: int = 1, explain: bool = False) -> Path:
    """Return the path of the picture, or raise before any work if nothing could be written there.

    With `explain` the same goes for the pictures of the ledger beside it.
    """
    if num_prompts > MAX_ROWS:
        raise NpkitError(f"--out shows at most {MAX_ROWS} prompts, standard input holds {num_prompts}: --scores takes "
                         "any number")
    path = user_path(out)
    if path.suffix.lower() not in PICTURE_FORMATS:
        raise NpkitError(f"--out {out!r} names no picture: end it in {', '.join(PICTURE_FORMATS)}")
    if not can_be_written(path):
        raise NpkitError(f"--out {out!r} cannot be written: name a file in a folder that exists")
    if explain and not can_be_written(strip_path(path)):
        raise NpkitError(f"--out {out!r} with --explain writes {strip_path(path).name} beside it, which cannot be "
                         "written")
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
    from npkit.figures import picture_sheet
    texts = [text for each in found for text in (each.prompt, each.written)]
    titles = [text for each in found for text in (each.prompt, rejected_or_not(each))]
    save_sheet(picture_sheet(list(scorer.pictures(texts, seed)), titles, 2, column_titles=("prompt", "optimized"),
                             size=3.2), out, profile)


def rejected_or_not(found: Optimized) -> str:
    """Return what the policy wrote as the words under its picture, which say so where it was rejected."""
    return f"rejected: {found.written}" if found.decision and found.decision.kept else found.written


def save_strips(found: Sequence[Optimized], scorer: "Scorer", seed: int, out: Path, profile: Profile) -> bool:
    """Write a picture with a row a prompt: its picture, the optimised one's, and that without each modifier.

    Under each of those stands the gain of its modifier by the paid judge. Prompts without modifiers have no row; where
    none has one, nothing is written. Returns whether something was.
    """
    from npkit.figures import picture_sheet
    strips = [strip(each, profile) for each in found if each.ledger.entries]
    if not strips:
        return False
    columns = max(map(len, strips))
    cells = [cell for row in strips for cell in row + [None] * (columns - len(row))]
    pictures = iter(scorer.pictures([cell[0] for cell in cells if cell], seed))
    sheet = picture_sheet([next(pictures) if cell else None for cell in cells],
                          [cell[1] if cell else "" for cell in cells], columns, column_titles=("prompt", "optimized"))
    save_sheet(sheet, out, profile.name)
    return True


def strip(found: Optimized, profile: Profile) -> list[tuple[str, str]]:
    """Return what is painted for one ledger, and the words under each picture."""
    from npkit.findings.ledger import readable
    judges = [judge for judge in profile.ppo.weights if judge in found.ledger.total]
    return [(found.prompt, found.prompt), (found.written, rejected_or_not(found)),
            *((entry.without, ", ".join([f"without {entry.modifier.label}", *(
                f"which bought {readable(entry.gains[judge])} by {judge}" for judge in judges)]))
              for entry in found.ledger.entries)]


def strip_path(out: Path) -> Path:
    """Return where the ledger's pictures go: beside the picture, `castle-ledger.png` for `castle.png`."""
    return out.with_name(f"{out.stem}-ledger{out.suffix}")


def save_sheet(sheet: "Figure", out: Path, profile: str) -> None:
    """Write a sheet of pictures, whole or not at all."""
    from npkit.figures import note_profile
    draft = out.with_name(f".npkit.{os.getpid()}")  # shorter than any name that the disk took
    try:
        note_profile(sheet, profile).savefig(draft, format=PICTURE_FORMATS[out.suffix.lower()], dpi=150,
                                             bbox_inches="tight")
        os.replace(draft, out)
    except OSError as error:
        raise NpkitError(f"--out {str(out)!r} cannot be written: {error}") from error
    finally:
        draft.unlink(missing_ok=True)
