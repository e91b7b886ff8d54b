"""Command line: run the study, see where it stands, optimise prompts, compare runs; a module a verb in `commands`."""
import io
import os
import sys
from collections.abc import Sequence
from typing import TextIO

from npkit import __version__
from npkit.commands import ablate, cache, compare, optimize, report, run, status, train
from npkit.commands.options import Parser
from npkit.errors import NotebookFailed, NpkitError

VERBS = (run, train, status, optimize, report, compare, ablate, cache)
CLOSED_PIPE = 141  # what a shell calls a program that lost its reader: 128 + SIGPIPE

# Before torch is imported, here and in the kernels: its threads wait for each other after every operation. Where they
# spin for long instead of giving up their core, other work on the machine makes a training many times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def build_parser() -> Parser:
    """Return the parser of every verb; each sets `function`, which takes the arguments and returns an exit code."""
    parser = Parser(prog="npkit", description="Study kit for NeuroPrompts.", epilog="example: npkit run")
    parser.add_argument("--version", action="version", version=f"npkit {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        verb.add(verbs)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; every error is a sentence on standard error and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a console may lack the letters of a prompt
    args, unknown = build_parser().parse_known_args(arguments)
    if unknown:  # told by the verb's own parser, whose --help lists what there is
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code = args.function(args)
        sys.stdout.flush()  # here, so that a closed pipe is met inside the try
        return code
    except NpkitError as error:
        for sentence in str(error).splitlines():  # a plan says all that it found
            print(f"npkit: {sentence}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nnpkit: interrupted; the same command continues where it stopped", file=sys.stderr)
        return 130
    except NotebookFailed as error:
        print(f"npkit: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        silence(sys.stdout, sys.stderr)
        return CLOSED_PIPE
    except OSError as error:
        if not is_broken(sys.stdout):  # of another file, or of the network
            raise
        silence(sys.stdout)
        print(f"npkit: what was to be printed cannot be written: {error.strerror}", file=sys.stderr)
        return 2


def is_broken(stream: TextIO) -> bool:
    """Say whether nothing can be written to a stream, as on a full disk; it is tried with an empty line."""
    try:
        print(file=stream, flush=True)
    except OSError:
        return True
    return False


def silence(*streams: TextIO) -> None:
    """Let what is written to the streams go nowhere: Python flushes both once more at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        os.dup2(nowhere, stream.fileno())


if __name__ == "__main__":
    sys.exit(main())
