"""`npkit status`: what there is, and what to do next."""
import argparse

from npkit.commands.options import add_choice, add_verb


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
    missing = [each for each in runs if each.artifact is None]
    print("\nnext: " + (f"npkit run --until {STAGES[missing[0].stage].notebook}{missing[0].options}" if missing else
                        f"all artifacts are there; npkit run{runs[0].options} shows the table and writes the report"))
    return 0
