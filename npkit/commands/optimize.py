"""`npkit optimize`: prompts from the command line or standard input, printed for people or as JSON."""
import argparse
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from npkit.commands.options import Parser, add_profile, add_verb, importing, whole_number
from npkit.errors import NpkitError
from npkit.numbers import read_number
from npkit.text.keywords import CATEGORIES

if TYPE_CHECKING:
    from pandas import DataFrame

    from npkit.optimize import Optimized, Refused
    from npkit.patterns import PatternWishes
    from npkit.scoring.rewards import Scorer
    from npkit.study.artifacts import Run
    from npkit.wishes import Wishes

SUMMARY = """Optimise one prompt, or one a line from standard input.

The phrases of a category and of --exclude are separated by commas, or given by repeating the option; a phrase with a
comma inside stands in double quotes: --exclude '"oil, on canvas", fog'. A --require is one phrase, commas and all.
Of standard input every line answers for itself: one that cannot be taken (empty, too long, not UTF-8) gets an error,
in its place with --json and on standard error without; the others are decoded, and the exit code is 1.
With --json, "prompt" is the prompt as the policy reads it: tidied, without what cannot be seen; where that is another
text than the one that was typed, "typed" has that.
--explain says what each added modifier bought: it is left out, and the pictures with it and without it are compared.
--min-gain X gives your own prompt back where the optimised one's gain by the paid judge does not lie above X.
--exclude-pattern is a regular expression, which matches in any case: what it finds in the completion is excluded, and
the prompt is decoded again. --protect names words of the prompt that must stand in the result exactly as typed.
"""


# 1. Options ----------------------------------------------------------------------------------------------------------
def add(verbs) -> None:
    """Add the verb with its options."""
    verb = add_verb(verbs, "optimize", run, SUMMARY,
                    'npkit optimize "a castle tower" --format "pixel art, oil painting" --exclude 8k --out castle.png')
    verb.add_argument("prompt", metavar="PROMPT", help="the plain prompt; - reads one a line from standard input")
    add_profile(verb, "tiny (default), small or paper")
    verb.add_argument("--policy", default="ppo", metavar="ppo|sft|FOLDER", help="which policy writes (default ppo)")
    add_wishes(verb)
    verb.add_argument("--seed", type=whole_number, default=0, metavar="N",
                      help="0 to 4294967295; draws keywords and pictures (default 0)")
    verb.add_argument("--beam", type=whole_number, metavar="N", help="beam size; the profile's where not given")
    verb.add_argument("--max-new-tokens", type=whole_number, metavar="N", help="length of a completion; the profile's")
    verb.add_argument("--image-model", metavar="MODEL",
                      help="what paints: a folder, a hub id or a module:class; the profile's where not given")
    verb.add_argument("--prices", action="store_true", help="say what each clause costs, by decoding without it")
    verb.add_argument("--out", metavar="FILE", help="save both pictures side by side (.png, .jpg or .webp), and score "
                                                    "them")
    verb.add_argument("--scores", action="store_true", help="score both pictures")
    verb.add_argument("--explain", action="store_true",
                      help="the ledger: what each added modifier bought, by every judge; with --out castle.png also "
                           "castle-ledger.png")
    verb.add_argument("--min-gain", type=number, metavar="X",
                      help="keep your own prompt unless the interval of the gain lies above X, such as 0 (default: "
                           "never keep it)")
    verb.add_argument("--pictures", type=whole_number, metavar="N",
                      help="picture seeds behind an interval of --explain and --min-gain (default 8)")
    verb.add_argument("--json", action="store_true", help="one JSON object a prompt on standard output")


def add_wishes(verb: Parser) -> None:
    """Add the options that say what must and must not be written."""
    for category in CATEGORIES:
        verb.add_argument(f"--{category}", action="append", default=[], metavar="W,W",
                          help=f"wanted {category}: any of these phrases")
    verb.add_argument("--require", action="append", default=[], metavar="PHRASE",
                      help="a phrase that must occur, commas and all; repeated: each of them")
    verb.add_argument("--exclude", action="append", default=[], metavar="W,W", help="phrases that must not occur")
    verb.add_argument("--exclude-pattern", action="append", default=[], metavar="REGEX",
                      help="a regular expression that the optimised prompt must not match; may be repeated")
    verb.add_argument("--protect", action="append", default=[], metavar="W,W",
                      help="words of the prompt that must stay exactly as typed")
    verb.add_argument("--no-defaults", action="store_true", help="no default clause for the categories left open")


def number(text: str) -> float:
    """Return the number of an option."""
    try:
        return read_number(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def phrases(option: str, texts: Iterable[str]) -> list[str]:
    """Return the phrases of an option: split at commas (also full-width ones), but for those in double quotes."""
    found = []
    for text in texts:
        line = " ".join(text.split()).translate({ord("，"): ",", ord("、"): ","})
        try:
            pieces = next(csv.reader([line], skipinitialspace=True, strict=True), [])
        except csv.Error:
            raise NpkitError(f"--{option} {text!r}: double quotes go around a whole phrase, as in "
                             f"--{option} '\"oil, on canvas\", fog'") from None
        found += (kept := [piece.strip() for piece in pieces if piece.strip()])
        if not kept:
            raise NpkitError(f"--{option} {text!r} holds no phrase: a phrase needs at least one word")
    return found


def advice_on_defaults(args: argparse.Namespace) -> str:
    """Return what to do where the clauses do not fit: default ones can be left out, or more tokens written."""
    drawn = [category for category in CATEGORIES if not getattr(args, category)]
    room = "a larger --max-new-tokens gives more room"
    if args.no_defaults or not drawn:
        return f"; {room}"
    return f"; the clauses of {', '.join(drawn)} are default ones, which --no-defaults leaves out, and {room}"


def wishes_of(args: argparse.Namespace, run: "Run") -> "PatternWishes":
    """Return the wishes of the command line."""
    from npkit.patterns import forbid_patterns
    from npkit.wishes import read_wishes
    user = {category: phrases(category, getattr(args, category)) for category in CATEGORIES}
    wishes = read_wishes(run.config, user, args.require, phrases("exclude", args.exclude),
                         seed=None if args.no_defaults else args.seed)
    return forbid_patterns(wishes, args.exclude_pattern)


def protect(lines: Sequence["str | Refused"], args: argparse.Namespace, wishes: "PatternWishes"
            ) -> list["str | Refused"]:
    """Return the lines with a refusal for each in which the words of --protect do not stay; of one prompt it raises."""
    from npkit.optimize import Refused, map_those
    from npkit.patterns import check_protected
    words = phrases("protect", args.protect)

    def one(line: str) -> "str | Refused":
        try:
            check_protected(line, words, wishes.exclude, wishes.patterns)
        except NpkitError as error:
            if args.prompt != "-":
                raise
            return Refused(line, str(error))
        return line

    return map_those(str, lambda taken: list(map(one, taken)), lines)


# 2. The verb ---------------------------------------------------------------------------------------------------------
def run(args: argparse.Namespace) -> int:
    """Optimise the prompts and print them; 1 if a line of standard input could not be taken."""
    with importing():
        import torch
        import transformers

        from npkit import optimize as engine
        from npkit import patterns
    transformers.utils.logging.set_verbosity_error()  # standard error is for sentences, not for progress bars
    transformers.utils.logging.disable_progress_bar()
    study, run = open_runs(args)
    lines = read_lines(sys.stdin.buffer.read()) if args.prompt == "-" else [args.prompt]
    if run.config.runtime.num_threads:  # a small policy: threads that share one prompt mostly wait for each other
        torch.set_num_threads(run.config.runtime.num_threads if len(lines) > 1 else 1)
    out = engine.check_out(args.out, len(lines), args.explain) if args.out is not None else None
    check_pictures(args)
    wishes = wishes_of(args, run)
    lines = protect(lines, args, wishes)
    policy = engine.trained_policy(study, args.policy)
    answer = patterns.optimize_each_without if args.prompt == "-" else patterns.optimize_without
    options = {"policy": policy, "wishes": wishes, "profile": run.config}
    answers = engine.map_those(str, partial(answer, **options, advice=advice_on_defaults(args)), lines)
    if args.prices:
        answers = engine.map_those(engine.Optimized, partial(engine.with_prices, **options), answers)
    scorer = None
    if args.min_gain is not None and any(isinstance(each, engine.Optimized) for each in answers):
        scorer = engine.load_scorer(run.config, run.device)
        answers = decided(answers, args, run, wishes, scorer)
    failed = show(answers, args, run, out, scorer)
    return 1 if failed or any(isinstance(each, engine.Refused) for each in answers) else 0


def decided(answers: Sequence["Optimized | Refused"], args: argparse.Namespace, run: "Run", wishes: "Wishes",
            scorer: "Scorer") -> list["Optimized | Refused"]:
    """Return the answers, each with the user's own prompt where the optimised one is not better (`--min-gain`)."""
    from npkit import optimize as engine
    keep = partial(engine.keep_if_better, scorer=scorer, wishes=wishes, weights=run.config.ppo.weights,
                   min_gain=args.min_gain, seeds=engine.measuring_seeds(args.seed, args.pictures))
    answers = engine.map_those(engine.Optimized, keep, answers)
    if args.prompt != "-" and isinstance(answers[0], engine.Refused):
        raise NpkitError(answers[0].error)
    return answers


def check_pictures(args: argparse.Namespace) -> None:
    """Raise where the number of pictures is too small for an interval, or none is asked for."""
    if args.pictures is not None and not (args.explain or args.min_gain is not None):
        raise NpkitError("--pictures says how many pictures stand behind an interval: it goes with --explain or "
                         "--min-gain")
    if args.pictures is not None and args.pictures < 2:
        raise NpkitError(f"--pictures is {args.pictures}: an interval needs at least 2 pictures of each prompt")


def open_runs(args: argparse.Namespace) -> tuple["Run", "Run"]:
    """Return the run whose policies are read, and the same with the options that change no training."""
    from npkit.study.artifacts import check_seed, open_run
    from npkit.study.profiles import parse_settings
    check_seed(args.seed)
    settings = parse_settings(args.settings)
    decoding = {"neurologic.beam_size": args.beam, "neurologic.max_new_tokens": args.max_new_tokens,
                "images.model": args.image_model}  # of another painter the policies were not trained: they stay
    given = {name: value for name, value in decoding.items() if value is not None}
    return tuple(open_run("neurologic", args.profile, settings=settings | more) for more in ({}, given))


def read_lines(content: bytes) -> list["str | Refused"]:
    """Return the lines of standard input; in place of one that is not UTF-8 why it cannot be taken."""
    from npkit.optimize import Refused
    if not content.strip():
        raise NpkitError("standard input is empty: it holds one prompt a line, such as \"a castle tower\"")
    lines = []
    for line in content.removesuffix(b"\n").split(b"\n"):
        line = line.removesuffix(b"\r")  # of a file from Windows
        try:
            text = line.decode("utf-8")
            lines.append(Refused(text, "the line holds a NUL: text in UTF-8 has none") if "\0" in text else text)
        except UnicodeDecodeError as error:
            lines.append(Refused(line.decode("utf-8", errors="backslashreplace"),
                                 f"the line is not UTF-8: byte 0x{line[error.start]:02x} at {error.start + 1}"))
    return lines


# 3. What is printed --------------------------------------------------------------------------------------------------
def show(answers: Sequence["Optimized | Refused"], args: argparse.Namespace, run: "Run", out: Path | None,
         scorer: "Scorer | None") -> bool:
    """Print the answers, for people before any picture is tried; then score, explain and save what was asked for.

    Returns whether a judge failed on a picture of a ledger.
    """
    from npkit import optimize as engine
    found = [each for each in answers if isinstance(each, engine.Optimized)]
    if not args.json:
        print_words(answers, phrases("protect", args.protect))
    try:
        if found and (out or args.scores or args.explain):
            scorer = scorer or engine.load_scorer(run.config, run.device)
            found = judged(found, args, run, scorer)
            answers = engine.map_those(engine.Optimized, lambda _: found, answers)
    finally:  # whatever becomes of the pictures, the prompts are printed
        if args.json:
            print_json(answers, phrases("protect", args.protect))
    if not found or not scorer:
        return False
    note_truncated(found, scorer)
    if not args.json:
        print_scores(found)
        print_ledgers(found, list(run.config.ppo.weights))
        print_notes(scorer)
    for path in save(found, args, run, out, scorer) if out else ():
        print(f"npkit: saved {path}", file=sys.stderr)
    return tell_failed(answers, is_one=args.prompt != "-")


def judged(found: list["Optimized"], args: argparse.Namespace, run: "Run", scorer: "Scorer") -> list["Optimized"]:
    """Return the optimised prompts with their scores and ledgers, as far as they were asked for."""
    from npkit import optimize as engine
    if args.out is not None or args.scores:
        found = engine.with_scores(found, scorer, args.seed)
    if args.explain:
        found = engine.with_ledgers(found, scorer, run.config, engine.measuring_seeds(args.seed, args.pictures))
    return found


def save(found: Sequence["Optimized"], args: argparse.Namespace, run: "Run", out: Path, scorer: "Scorer") -> list[Path]:
    """Write the pictures, and with `--explain` those of the ledgers beside them; return the paths of what was written.

    Of a ledger without modifiers there is no picture.
    """
    from npkit import optimize as engine
    engine.save_pictures(found, scorer, args.seed, out, run.config.name)
    beside = engine.strip_path(out)
    has_strips = args.explain and engine.save_strips(found, scorer, args.seed, beside, run.config)
    return [out, beside] if has_strips else [out]


def tell_failed(answers: Sequence["Optimized | Refused"], is_one: bool) -> bool:
    """Say on standard error which judges failed on a picture of which ledger; return whether any did."""
    failed = [(number, sentence) for number, each in enumerate(answers, 1) if getattr(each, "ledger", None)
              for sentence in each.ledger.failed.values()]
    for number, sentence in failed:
        print(f"npkit: {'' if is_one else f'line {number}: '}the ledger lacks a judge: {sentence}", file=sys.stderr)
    return bool(failed)


def print_json(answers: Sequence["Optimized | Refused"], protected: Sequence[str] = ()) -> None:
    """Print an object a line, letters as they are where the stream has them all, else escaped as JSON escapes them."""
    from npkit.optimize import Refused
    from npkit.patterns import kept_words
    is_unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    for answer in answers:
        kept = {} if isinstance(answer, Refused) or not protected else {
            "protected": kept_words(protected, answer.optimized)}
        print(json.dumps(answer.to_dict() | kept, ensure_ascii=not is_unicode), flush=True)


def print_words(answers: Sequence["Optimized | Refused"], protected: Sequence[str] = ()) -> None:
    """Print the optimised prompts with their clauses, and on standard error the lines that could not be taken."""
    from npkit.optimize import Refused
    taken = ["\n".join([describe(each), *(f"  {'protected':<12} {word!r} stands as typed" for word in protected)])
             for each in answers if not isinstance(each, Refused)]
    if taken:
        print("\n\n".join(taken), flush=True)
    for number, each in enumerate(answers, 1):
        if isinstance(each, Refused):
            print(f"npkit: line {number}: {each.error}", file=sys.stderr)


def describe(found: "Optimized") -> str:
    """Return the prompt and, a line each, what met every clause and what is absent."""
    lines = [found.optimized]
    for number, clause in enumerate(found.certificate.clauses):
        is_own = clause.end is not None and clause.end <= len(found.prompt)
        origin = ", in your own words" if clause.holds and is_own else ""
        price = f", costs {found.prices[number]:.2f} nats" if found.prices else ""
        words = repr(clause.satisfied_by) if clause.satisfied_by else "nothing, which it allows"
        words = words if clause.holds else "NOT SATISFIED"
        lines.append(f"  {clause.category:<12} {words}{origin}{price} (any of: {', '.join(clause.any_of)})")
    if found.decision:
        lines.insert(1, f"  {'kept your own' if found.decision.kept else 'optimised':<12} {found.decision.why}")
        lines[2:2] = [f"  {'rejected':<12} {found.decision.rejected}"] if found.decision.rejected else []
    return "\n".join(lines + [
        f"  {'excluded':<12} {phrase!r} is {'PRESENT' if phrase in found.certificate.violations else 'absent'}"
        for phrase in found.certificate.excluded])


def print_scores(found: Sequence["Optimized"]) -> None:
    """Print every judge's scores of both pictures, under the plain prompt where there are several."""
    for each in found if found[0].scores else ():
        if len(found) > 1:
            print(f"\nscores of {each.prompt!r}, plain -> optimised")
        for judge, score in each.scores.items():
            plain, optimized = score["prompt"], score["optimized"]
            print(f"  {judge:<12} {plain:.3f} -> {optimized:.3f} ({optimized - plain:+.3f})", flush=True)


def print_ledgers(found: Sequence["Optimized"], paid: Sequence[str]) -> None:
    """Print the ledger of each prompt that has one; `paid` are the judges that PPO was rewarded by."""
    for each in found:
        if each.ledger and not each.ledger.entries:
            print(f"\nledger of {each.prompt!r}: the policy added no modifier", flush=True)
        elif each.ledger:
            table = each.ledger.table().rename(columns={judge: f"{judge} (paid)" for judge in paid})
            print(f"\nledger of {each.written!r}\nwhat each modifier bought: the score with it minus the score without "
                  f"it, mean of {len(each.ledger.seeds)} pictures [95 %]")
            print(left_aligned(table), *(f"  ({note})" for note in each.ledger.notes), sep="\n", flush=True)


def left_aligned(table: "DataFrame") -> str:
    """Return a table of texts as lines, its columns aligned on the left."""
    rows = [list(table), *table.itertuples(index=False)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def print_notes(scorer: "Scorer") -> None:
    """Print what the judges have to say about their scores, such as what the least one means."""
    for name, judge in scorer.judges.items():
        if judge.note:
            print(f"  ({name}: {judge.note})", flush=True)


def note_truncated(found: Sequence["Optimized"], scorer: "Scorer") -> None:
    """Say on standard error how many prompts the text encoder cannot read to the end."""
    from npkit.optimize import num_truncated
    if number := num_truncated(found, scorer):
        print(f"npkit: note: the text encoder reads {scorer.image_model.max_tokens} tokens; the end of {number} of "
              f"{2 * len(found)} prompts is not painted", file=sys.stderr)
