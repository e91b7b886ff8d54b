"""`npkit status`: what there is, and what to do next."""
import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from npkit.commands.options import add_choice, add_verb

if TYPE_CHECKING:
    from npkit.study.artifacts import Run


def add(verbs) -> None:
    """Add the verb with its options."""
    add_choice(add_verb(verbs, "status", run, "Say versions, device, which artifacts exist and what is next.",
                        "npkit status --profile tiny"))


def run(args: argparse.Namespace) -> int:
    """Print what there is and what to do next."""
    from npkit.study.artifacts import STAGES, home, open_run, versions
    from npkit.study.profiles import parse_settings
    from npkit.study.report import age, headline
    runs = [open_run(stage, args.profile, args.seed, parse_settings(args.settings)) for stage in STAGES]
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"device {runs[0].device}; profile {args.profile}, seed {args.seed}; artifacts in {home() / 'artifacts'}\n")
    for each in runs:
        print(f"{each.stage:<12}{each.key:<14}{age(each):<14}{headline(each)}".rstrip())
    print(f"\n{whats_next(runs)}")
    return 0


def whats_next(runs: Sequence["Run"]) -> str:
    """Return the command to type next, on a line of its own, and what it does.

    First comes what `npkit optimize` asks for, the PPO policy (of seed 0); then the whole study.
    """
    missing = [each.stage for each in runs if each.artifact is None]
    if not missing:
        return f"next: {runs[0].command()}\n      (all artifacts are there: shows the table and writes the report)"
    if "ppo" in missing and not runs[0].seed:
        return (f"next: {runs[0].command('ppo')}\n      (makes the policy that npkit optimize uses; "
                f"{runs[0].command()} makes the whole study)")
    return f"next: {runs[0].command()}\n      (makes {', '.join(missing)}, and the result table)"
