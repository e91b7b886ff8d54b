"""`npkit cache`: how many scores are remembered, and a way to forget them."""
import argparse

from npkit.commands.options import add_verb


def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "cache", run, "Say how many scores are remembered, by judge, and in how many bytes.",
                    "npkit cache")
    verb.add_argument("--clear", action="store_true", help="forget them all: pictures are painted and judged again")


def run(args: argparse.Namespace) -> int:
    """Print what the score cache holds, or empty it."""
    from npkit.scoring.cache import cache_path, shared_cache, size_report
    if not cache_path().exists():
        print(f"no score cache yet: PPO, evaluation and optimize --scores will make {cache_path()}")
        return 0
    scores = shared_cache()
    if args.clear:
        print(f"{scores.clear():,} scores removed")
    print(size_report(scores))
    return 0
