"""Options: what the verbs of the command line share: the parser, and how a study is chosen."""
import argparse
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from npkit.numbers import read_whole_number


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence and whose help ends with an example."""

    def __init__(self, *args, **options):
        super().__init__(*args, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options)

    def error(self, message: str):
        self.exit(2, f"npkit: {message}; see {self.prog} --help\n")


def add_verb(verbs, name: str, function: Callable[[argparse.Namespace], int], summary: str, example: str) -> Parser:
    """Add a verb that calls `function` with its summary and its example, which works as typed."""
    verb = verbs.add_parser(name, help=summary.partition("\n")[0], description=summary, epilog=f"example: {example}")
    verb.set_defaults(function=function, parser=verb)
    return verb


def add_choice(verb: Parser) -> None:
    """Add the options that choose a study."""
    add_profile(verb, "tiny (default), small or paper")
    verb.add_argument("--seed", type=whole_number, default=0, metavar="N",
                      help="0 to 4294967295; seeds everything random (default 0)")


def add_profile(verb: Parser, words: str) -> None:
    """Add the options that choose a profile and change its settings."""
    verb.add_argument("--profile", default="tiny", metavar="P", help=words)
    verb.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=VALUE",
                      help="change a setting of the profile, such as ppo.kl_coef=0.1; may be repeated")


def whole_number(text: str) -> int:
    """Return the whole number of an option."""
    try:
        return read_whole_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def names(text: str) -> list[str]:
    """Return the names of a comma-separated list, at least one."""
    if not (found := [name.strip() for name in text.split(",") if name.strip()]):
        raise argparse.ArgumentTypeError(f"{text!r} names nothing")
    return found


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries in the block with less work: what they make lives to the end.

    Searched for garbage on the way and at the exit, those objects cost a second of a command that takes three.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
