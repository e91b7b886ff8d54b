"""Optimise: one prompt in; the optimised prompt, its certificate, both pictures and their scores out."""
import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from torch import Tensor

from npkit.errors import MissingArtifact, NpkitError
from npkit.figures import note_profile, picture_sheet
from npkit.neurologic import Certificate, Constraints, default_clauses, find, merge, prices
from npkit.neurologic.published import decode_as_set
from npkit.scoring.images import load_image_model
from npkit.scoring.judges import load_judges
from npkit.study.artifacts import Run, open_run
from npkit.study.profiles import Profile, parse_settings
from npkit.text import keywords
from npkit.text.policy import Policy, encode_prefixes, load_policy


@dataclass(frozen=True)
class Optimized:
    """An optimised prompt with its proof; scores, where asked for, of its picture and of the plain prompt's."""
    prompt: str
    optimized: str
    certificate: Certificate
    logprob: float
    scores: Mapping[str, float] | None = None
    plain_scores: Mapping[str, float] | None = None
    prices: Sequence[float] | None = None  # of each clause, in nats

    def to_dict(self) -> dict:
        """Return the JSON object of the command line; `scores` are those of the optimised prompt."""
        found = self.certificate.to_dict()
        for clause, price in zip(found["clauses"], self.prices or ()):
            clause["price"] = round(price, 4)
        return {"prompt": self.prompt, "optimized": self.optimized, **found, "logprob": round(self.logprob, 4),
                "scores": self.scores}

    def report(self) -> str:
        """Return the prompt and, a line each, what met every clause, what is absent, and both scores."""
        lines = [self.optimized]
        for number, clause in enumerate(self.certificate.clauses):
            is_own = clause.end is not None and clause.end <= len(self.prompt)
            origin = ", in your own words" if clause.holds and is_own else ""
            price = f", costs {self.prices[number]:.2f} nats" if self.prices else ""
            words = repr(clause.satisfied_by) if clause.satisfied_by else "nothing, which it allows"
            words = words if clause.holds else "NOT SATISFIED"
            lines.append(f"  {clause.category:<12} {words}{origin}{price} (any of: {', '.join(clause.any_of)})")
        lines += [f"  {'excluded':<12} {phrase!r} is {'PRESENT' if phrase in self.certificate.violations else 'absent'}"
                  for phrase in self.certificate.excluded]
        for judge, score in (self.scores or {}).items():
            plain = self.plain_scores[judge]
            lines.append(f"  {judge:<12} {plain:.3f} -> {score:.3f} ({score - plain:+.3f})")
        return "\n".join(lines)


def optimize(prompts: Sequence[str], policy: Policy, constraints: Constraints, profile: Profile) -> list[Optimized]:
    """Return every prompt continued by `policy` under `constraints`, without pictures."""
    model, tokenizer = policy
    encode_prefixes(tokenizer, prompts, profile.policy.max_prefix_tokens)  # an empty or too long prompt raises
    return [Optimized(found.prefix, found.prompt, found.certificate, found.logprob)
            for found in decode_as_set(model, tokenizer, prompts, constraints, profile.neurologic)]


def constraints_for(profile: Profile, user: Mapping[str, Sequence[str]], require: Sequence[str] = (),
                    exclude: Sequence[str] = (), *, seed: int | None) -> Constraints:
    """Return the user's wishes over the default clauses drawn with `seed`; no defaults where it is None."""
    config, defaults = profile.neurologic, {}
    words = keywords.load(config.keywords)
    if not config.living_artists:
        own = [*require, *(phrase for phrases in user.values() for phrase in phrases)]
        exclude = [*exclude, *(row.phrase for rows in words.values() for row in rows
                               if row.living_artist and not any(find(row.phrase, phrase) for phrase in own))]
    if seed is not None:
        allowed = keywords.select(words, config.block, config.living_artists)
        defaults = default_clauses(allowed, config.keywords_per_category, np.random.default_rng(seed), exclude)
    return merge(defaults, user, require, exclude)


def paint(found: Sequence[Optimized], profile: Profile, seed: int,
          device: torch.device) -> tuple[list[Optimized], Tensor]:
    """Return `found` with its scores, and the pictures: all plain prompts, then all optimised ones, from one seed."""
    image_model, judges = load_image_model(profile.images, device), load_judges(profile, device)
    plain = [each.prompt for each in found]
    prompts = plain + [each.optimized for each in found]
    pictures = image_model.render(prompts, [seed] * len(prompts))
    if image_model.num_truncated:
        print(f"npkit: note: the text encoder reads {image_model.max_tokens} tokens; the end of "
              f"{image_model.num_truncated} of {len(prompts)} prompts is not painted", file=sys.stderr)
    scores = {name: judge(plain * 2, prompts, pictures).tolist() for name, judge in judges.items()}
    scored = [replace(each, plain_scores={name: round(values[row], 5) for name, values in scores.items()},
                      scores={name: round(values[row + len(found)], 5) for name, values in scores.items()})
              for row, each in enumerate(found)]
    return scored, pictures


def save_pictures(found: Sequence[Optimized], pictures: Tensor, out: Path, profile: str) -> None:
    """Write a PNG with a row a prompt: its picture, the optimised one's, and under each what was painted."""
    rows = [picture for pair in zip(pictures, pictures[len(found):]) for picture in pair]
    titles = [title for each in found for title in (each.prompt, each.optimized)]
    figure = note_profile(picture_sheet(rows, titles, 2, column_titles=("prompt", "optimized"), size=3.2), profile)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        figure.savefig(draft, format="png", dpi=150, bbox_inches="tight")
        os.replace(draft, out)
    finally:
        draft.unlink(missing_ok=True)


# The command line ----------------------------------------------------------------------------------------------------
def run_command(args: argparse.Namespace) -> int:
    """Optimise the prompts of `npkit optimize`, print them, and return the exit code."""
    for library in (transformers, diffusers):  # standard error is for sentences, not for progress bars
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    settings = parse_settings(vars(args).get("settings", ()))
    settings |= {"neurologic.beam_size": args.beam, "neurologic.max_new_tokens": args.max_new_tokens}
    run = open_run("neurologic", args.profile, settings=settings)  # the policies of the study with seed 0
    out, prompts = check_out(args.out), read_prompts(args.prompt)
    if args.seed < 0:
        raise NpkitError(f"--seed is 0 or more, got {args.seed}")
    constraints = constraints_for(run.config, {category: getattr(args, category) for category in keywords.CATEGORIES},
                                  args.require, args.exclude, seed=None if args.no_defaults else args.seed)
    policy = trained_policy(run, args.policy)
    found = optimize(prompts, policy, constraints, run.config)
    if args.prices:
        found = [replace(each, prices=prices(*policy, each.prompt, constraints, run.config.neurologic))
                 for each in found]
    if out or args.scores:
        found, pictures = paint(found, run.config, args.seed, run.device)
    if out:
        save_pictures(found, pictures, out, run.config.name)
        print(f"npkit: saved {out}", file=sys.stderr)
    print("\n".join(json.dumps(each.to_dict(), ensure_ascii=False) for each in found) if args.json else
          "\n\n".join(each.report() for each in found))
    return 0


def read_prompts(prompt: str) -> list[str]:
    """Return the prompt, or for "-" the lines of standard input that are not blank."""
    prompts = [line.strip() for line in (sys.stdin if prompt == "-" else [prompt]) if line.strip()]
    if not prompts:
        raise NpkitError("the prompt is empty: give a few words, such as \"a castle tower\", or - for standard input")
    return prompts


def check_out(out: str | None) -> Path | None:
    """Return the path of the picture, or raise before any work if nothing could be written there."""
    if not out:
        return None
    path = Path(out).expanduser()
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise NpkitError(f"--out {out!r} cannot be written: name a file in a folder that exists")
    return path


def trained_policy(run: Run, name: str) -> Policy:
    """Return the study's policy "ppo" or "sft", or the one in a folder."""
    if name in ("ppo", "sft"):
        try:
            folder = run.input(name).path / "model"
        except MissingArtifact as error:
            raise NpkitError(f"there is no trained {name} policy (profile {run.config.name}): run `make study` first, "
                             "or name a folder with --policy") from error
    elif not (folder := Path(name).expanduser()).is_dir():
        raise NpkitError(f"--policy is ppo, sft or a folder; there is no folder {name!r}")
    model, tokenizer = load_policy(folder)
    return model.to(run.device).eval(), tokenizer
