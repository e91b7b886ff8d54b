"""What the regression gate finds, and how often it errs: `python benchmarks/gate.py VERB`.

    defects   puts four defects into the program, one at a time, and says what the gate finds; "none" is the control
    alarms    false alarms: each reference study left out and checked by the others; and by simulation
    small     makes the reference metrics of the study that `make test` makes: five seeds of it

`defects` needs a finished study in NPKIT_HOME. Each defect lives in a home of its own, to which what it cannot change
is linked; it is a few lines of `benchmarks/defects/sitecustomize.py`, and the package stays as it is. Each result is
a line in FOLDER/defects.jsonl: one that is there is not made again, and a run that was killed goes on.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.stats import t

from npkit.findings import tolerances
from npkit.study import gate
from npkit.study.artifacts import STAGES, home, open_run
from npkit.study.profiles import parse_settings

ROOT = Path(__file__).parents[1]
EXPECTED = ROOT / "tests" / "expected"
MAKE_DATA = ("from npkit.study.artifacts import open_run; from npkit.study.profiles import parse_settings; "
             "from npkit.text.corpus import write_corpus; run = open_run('data', 'tiny', {seed}, "
             "parse_settings({settings})); run.make(lambda folder: write_corpus(run.config.data, run.seed, folder))")
# the stage that a defect changes first, and minutes on two free cores
STAGE = {"none": ("data", 0.5), "leak": ("data", 0.5), "wrong_picture": ("evaluation", 2), "kl_sign": ("ppo", 5),
         "shuffled": ("ppo", 5)}
SEEDS = (0, 1, 2, 3, 4)


# 1. Defects ----------------------------------------------------------------------------------------------------------
def defects(args: argparse.Namespace) -> int:
    """Make the study of every defect up to the stage that it changes, check it, and print what was found."""
    args.folder.mkdir(parents=True, exist_ok=True)
    log = args.folder / "defects.jsonl"
    done = {row["defect"]: row for row in map(json.loads, log.read_text().splitlines())} if log.exists() else {}
    todo = [name for name in args.names or STAGE if name not in done]
    minutes = sum(STAGE[name][1] for name in todo)
    print(f"{len(todo)} to make, about {minutes:.0f} minutes on two free cores", flush=True)
    for name in todo:
        done[name] = find(name, args)
        with open(log, "a", encoding="utf-8") as file:
            file.write(json.dumps(done[name]) + "\n")
    wrong = 0
    for name, row in done.items():
        as_wanted = (row["code"] == 3) == (name != "none")
        wrong += not as_wanted
        print(f"{name}: {'as wanted' if as_wanted else 'NOT AS WANTED'}, exit code {row['code']}, {row['seconds']} s",
              *row["said"][:args.show], sep="\n    ")
    return 1 if wrong else 0


def find(name: str, args: argparse.Namespace) -> dict:
    """Return what the gate says of a study with a defect."""
    stage, start = STAGE[name][0], time.monotonic()
    own = args.folder / name
    for earlier in list(STAGES)[:list(STAGES).index(stage)]:
        link(open_run(earlier, "tiny", args.seed, parse_settings(args.settings)).folder, own)
    options = ["--seed", str(args.seed), *(word for setting in args.settings for word in ("--set", setting))]
    command = {"data": ["-c", MAKE_DATA.format(seed=args.seed, settings=args.settings)],
               "ppo": ["-m", "npkit", "train", "ppo", *options],
               "evaluation": ["-m", "npkit", "run", "--only", "evaluation", *options]}[stage]
    made = python(command, own, "" if name == "none" else name)
    if made.returncode:
        return {"defect": name, "code": made.returncode, "seconds": round(time.monotonic() - start),
                "said": ["it could not even be made: " + (made.stderr.splitlines() or ["no message"])[-1]]}
    options[0] = "--seeds"
    checked = python(["-m", "npkit", "compare", *options, "--only", f"data,{stage}", "--check", str(args.check)], own)
    return {"defect": name, "code": checked.returncode, "seconds": round(time.monotonic() - start),
            "said": [line.removeprefix("npkit: ") for line in checked.stderr.splitlines()]}


def link(folder: Path, own: Path) -> None:
    """Put a healthy artifact into another home, its files linked."""
    target = own / folder.relative_to(home())
    if folder.exists() and not target.exists():
        shutil.copytree(folder, target, copy_function=os.link)


def python(words: Sequence[str], own: Path, defect: str = "") -> subprocess.CompletedProcess:
    """Run Python in a home of its own, with a defect where one is named."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    path = [str(ROOT / "benchmarks" / "defects"), *path] if defect else path
    own.mkdir(parents=True, exist_ok=True)
    variables = {"NPKIT_HOME": str(own), "NPKIT_DEFECT": defect, "PYTHONPATH": os.pathsep.join(path)}
    return subprocess.run([sys.executable, *words], env=os.environ | variables, capture_output=True, text=True,
                          check=False)


# 2. False alarms -----------------------------------------------------------------------------------------------------
def alarms(args: argparse.Namespace) -> int:
    """Print how often a study without a defect is called defective: of the references, and of simulated ones."""
    reference = gate.read_reference(args.check)
    failed = 0
    for left in reference.studies:
        rest = gate.Reference(reference.profile, reference.settings, (),
                              tuple(study for study in reference.studies if study is not left))
        verdicts = gate.check(gate.expectations(rest), [left])
        failed += any(each.failed for each in verdicts)
        print(f"seed {left.seed}, {left.threads} threads, by the {len(rest.studies)} others: {gate.summary(verdicts)}",
              *(str(each) for each in verdicts if each.failed), sep="\n    ")
    print(f"studies left out and called defective: {failed} of {len(reference.studies)}")
    for number in (len(reference.studies), 6, 8, 10):
        head, other = (t.ppf(1 - rate / 2, number - 1) * np.sqrt(1 + 1 / number) for rate in rates(reference))
        print(f"with {number} studies a headline may move by {head:.1f} standard deviations, another by {other:.1f}")
    for share in (0.0, 0.5, 0.9, 0.99):
        print(f"simulated, {share:.0%} of the variance common to all metrics: "
              f"{simulated(reference, share, args.repetitions):.1%} of {args.repetitions} studies")
    return 0


def rates(reference: gate.Reference) -> tuple[float, float]:
    """Return the rate of false alarms that a headline may have, and that any other metric may have."""
    found = sorted({each.rate for each in gate.expectations(reference).values() if each.rate}, reverse=True)
    return found[0], found[-1]


def simulated(reference: gate.Reference, shared: float, repetitions: int) -> float:
    """Return the share of studies with a false alarm where all metrics are normal and share some of their variance."""
    names = [name for name, each in gate.expectations(reference).items() if each.rate and each.spread]
    num, rng, failed = len(reference.studies), np.random.default_rng(0), 0
    for _ in range(repetitions):
        draws = np.sqrt(shared) * rng.normal(size=(1, num + 1)) + np.sqrt(1 - shared) * rng.normal(
            size=(len(names), num + 1))
        expected = tolerances.expect(dict(zip(names, draws[:, :num].tolist(), strict=True)), [0] * num)
        bounds = np.array([each.tolerance() for each in expected.values()])
        failed += bool((np.abs(draws[:, num] - draws[:, :num].mean(1)) > bounds).any())
    return failed / repetitions


# 3. The study of the tests -------------------------------------------------------------------------------------------
def small(args: argparse.Namespace) -> int:
    """Make the study of tests/test_study.py from five seeds, and write its reference metrics."""
    sys.path.insert(0, str(ROOT / "tests"))
    from test_study import OPTIONS
    print(f"{len(SEEDS)} studies of about 2 minutes each on two free cores", flush=True)
    for seed in SEEDS:
        subprocess.run([sys.executable, "-m", "npkit", "run", "--seed", str(seed), *OPTIONS], check=True)
    return subprocess.run([sys.executable, "-m", "npkit", "compare", "--seeds", *map(str, SEEDS), *OPTIONS, "--check",
                           str(EXPECTED / "small.json"), "--refresh", args.reason], check=False).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("defects")
    verb.add_argument("names", nargs="*", help=f"of {', '.join(STAGE)} (default: all)")
    verb.add_argument("--folder", type=Path, required=True, help="where the homes of the defects are")
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--set", action="append", default=[], dest="settings", metavar="a.b=VALUE")
    verb.add_argument("--show", type=int, default=3, help="sentences printed of each")
    verb.set_defaults(function=defects)
    verb = verbs.add_parser("alarms")
    verb.add_argument("--repetitions", type=int, default=1000)
    verb.set_defaults(function=alarms)
    for each in verbs.choices.values():
        each.add_argument("--check", type=Path, default=EXPECTED / "tiny.json")
    verb = verbs.add_parser("small")
    verb.add_argument("reason", help="why the values change; kept beside them")
    verb.set_defaults(function=small)
    args = parser.parse_args()
    unknown = set(getattr(args, "names", [])) - set(STAGE)
    if unknown:
        parser.error(f"unknown defect {min(unknown)!r}; known: {', '.join(STAGE)}")
    return args.function(args)


if __name__ == "__main__":
    sys.exit(main())
