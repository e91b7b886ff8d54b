"""Check: the options of the regression gate, which `npkit run` and `npkit compare` share, and what it says."""
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from npkit.commands.options import Parser
from npkit.errors import NpkitError

if TYPE_CHECKING:
    from npkit.findings.tolerances import Verdict


def add_check(verb: Parser, words: str) -> None:
    """Add the options of a check; `words` say what --check does here."""
    verb.add_argument("--check", type=Path, metavar="FILE", help=words)
    verb.add_argument("--refresh", metavar="REASON",
                      help="write the values into the file of --check, with the reason, date, commit and versions")
    verb.add_argument("--tight", action="store_true",
                      help="expect what the reference study of this seed has: within the spread over machines where "
                           "the file has it, else (same machine and threads) to the bit")
    verb.add_argument("--junit", type=Path, metavar="FILE",
                      help="write the verdicts as JUnit XML too: a case a metric, a suite a stage")


def tell(verdicts: "Sequence[Verdict]", file: Path | None, name: str) -> int:
    """Print a sentence for each metric that failed, and the counts; write JUnit XML; return the exit code, 0 or 3."""
    from npkit.study import gate
    for verdict in verdicts:
        if verdict.failed:
            print(f"npkit: {verdict}", file=sys.stderr)
    print(f"npkit: {gate.summary(verdicts)}", file=sys.stderr)
    if file:
        write_junit(file, gate.junit(verdicts, name))
    return 3 if any(verdict.failed for verdict in verdicts) else 0


def write_junit(file: Path, text: str) -> None:
    """Write JUnit XML, whole or not at all; raise where that cannot be."""
    from npkit.study.artifacts import write_whole
    try:
        write_whole(file, text)
    except (OSError, ValueError) as error:
        raise NpkitError(f"--junit {str(file)!r} cannot be written: {getattr(error, 'strerror', None) or error}"
                         ) from None
