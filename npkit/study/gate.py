"""The regression gate: a study's metrics against those of reference studies, which a file holds.

The file has every metric of every reference study; tolerances are computed from their spread (`npkit.findings.
tolerances`). Nothing in here runs a stage: what a study lacks is said with the command that makes it.
"""
import json
import math
import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from npkit.errors import MissingArtifact, NpkitError
from npkit.study.artifacts import NOTEBOOKS, STAGES, Artifact, Run, git_commit, versions, write_whole
from npkit.study.profiles import load_profile

if TYPE_CHECKING:
    from npkit.findings.tolerances import Expected, Verdict  # for type hints only: --help needs none

FORMAT = 2
Metrics = dict[str, dict[str, float]]  # stage -> metric -> value


@dataclass(frozen=True)
class Study:
    """A reference study. Those of one epoch are of one version of the program."""
    seed: int
    threads: int
    machine: str
    commit: str
    epoch: int
    metrics: Metrics

    @property
    def place(self) -> tuple[int, int, str]:
        """The same as `place_of` says of a run."""
        return self.seed, self.threads, self.machine


@dataclass(frozen=True)
class Reference:
    """The contents of a file of reference metrics; `history` says when, from what and why they were written."""
    profile: str
    settings: dict[str, object]
    history: tuple[dict, ...]
    studies: tuple[Study, ...]

    @property
    def epoch(self) -> int:
        return max(study.epoch for study in self.studies)


# 1. Studies ----------------------------------------------------------------------------------------------------------
def study_of(runs: Sequence[Run], epoch: int = 0) -> Study:
    """Return the metrics of some stages of one study, with facts found in their tables; raise if a stage is missing."""
    missing = [run.stage for run in runs if run.artifact is None]
    if missing:
        raise MissingArtifact(f"the study of profile {runs[0].config.name}, seed {runs[0].seed} is incomplete: "
                              f"{' and '.join(missing)} {'has' if len(missing) == 1 else 'have'} no artifact; make "
                              f"{'it' if len(missing) == 1 else 'them'} by {runs[0].command(missing[-1])}")
    artifacts = {run.stage: run.artifact for run in runs}
    metrics = {stage: dict(artifact.metrics) for stage, artifact in artifacts.items()}
    data = Run("data", runs[0].config, runs[0].seed, runs[0].settings).artifact
    for stage, found in leaks(artifacts | ({"data": data} if data else {})).items():
        metrics.setdefault(stage, {}).update(found)
    metrics = {stage: found for stage, found in metrics.items() if stage in artifacts}
    return Study(*place_of(runs[0]), git_commit(), epoch, metrics)


def place_of(run: Run) -> tuple[int, int, str]:
    """Return what reproduces a study to the bit: its seed, its CPU threads and its machine."""
    return run.seed, run.config.runtime.num_threads, machine()


def machine() -> str:
    """Return the kind of machine, so that nobody takes another one's numbers for this one's."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if os.path.exists("/proc/cpuinfo") else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{platform.system()} {platform.machine()}, {names[0] if names else 'CPU not named'}"


def leaks(artifacts: Mapping[str, Artifact]) -> Metrics:
    """Return how many prefixes stand where they must not, counted in the tables that stages left behind.

    `found/shared_prefixes`: in more than one split. `found/foreign_prefixes`: PPO wrote completions of them, and they
    are of another split than its own. `found/trained_prefixes`: evaluated, and of a split that is trained on.
    """
    def prefixes(stage: str, table: str) -> set[str]:
        path = artifacts[stage].path / f"{table}.parquet" if stage in artifacts else None
        return set(artifacts[stage].table(table)["prefix"].map(fold)) if path and path.exists() else set()

    from npkit.text.corpus import fold
    if "data" not in artifacts or not (artifacts["data"].path / "prompts.parquet").exists():
        return {}
    prompts = artifacts["data"].table("prompts")
    splits = {name: set(rows["prefix"].map(fold)) for name, rows in prompts.groupby("split")}
    found = {"data": {"found/shared_prefixes": float(sum(map(len, splits.values())) - len(set().union(
        *splits.values())))}}
    if paid := prefixes("ppo", "samples"):
        found["ppo"] = {"found/foreign_prefixes": float(len(paid - splits.get("ppo", set())))}
    if evaluated := prefixes("evaluation", "scores"):
        trained = set().union(*(splits.get(name, set()) for name in ("sft", "ppo", "validation")))
        found["evaluation"] = {"found/trained_prefixes": float(len(evaluated & trained))}
    return found


# 2. The file ---------------------------------------------------------------------------------------------------------
def read_reference(path: Path) -> Reference:
    """Return the contents of a file of reference metrics, checked."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise NpkitError(f"{path} is no file of reference metrics of format {FORMAT}: {HOW_TO_WRITE}")
        studies = [Study(**study, metrics={}) for study in facts["studies"]]
        for stage, metrics in facts["metrics"].items():
            check_stage(path, stage)
            for metric, values in metrics.items():
                for study, value in zip(studies, check_values(values, f"{stage} {metric}"), strict=True):
                    if value is not None:
                        study.metrics.setdefault(stage, {})[metric] = float(value)
        if not studies:
            raise ValueError("it has no studies")
        return Reference(facts["profile"], dict(facts["settings"]), tuple(facts["history"]), tuple(studies))
    except NpkitError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise NpkitError(f"cannot read reference metrics from {path}: {type(error).__name__}: "
                         f"{str(error).partition(chr(10))[0]}; {HOW_TO_WRITE}") from None


HOW_TO_WRITE = 'npkit compare --seeds 0 1 2 3 4 --check FILE --refresh "why" writes it'


def check_stage(path: Path, stage: str) -> None:
    """Raise if a file names a stage that the study does not have."""
    if stage not in STAGES:
        raise NpkitError(f"{path} has metrics of stage {stage!r}; known: {', '.join(STAGES)}")


def check_values(values: list, metric: str) -> list:
    """Return a metric's values, a number or None a study; raise for anything else."""
    for value in values:
        if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
            raise ValueError(f"{metric} needs a number or null for each study, got {value!r}")
    return values


def write_reference(path: Path, reference: Reference) -> None:
    """Write a file of reference metrics, a line a metric, whole or not at all."""
    names = {stage: dict.fromkeys(name for study in reference.studies for name in study.metrics.get(stage, ()))
             for stage in STAGES}
    stages = []
    for stage, metrics in names.items():
        values = {name: [number_or_none(study.metrics.get(stage, {}).get(name)) for study in reference.studies]
                  for name in metrics}
        lines = ",\n".join(f"      {json.dumps(name)}: {json.dumps(row)}" for name, row in values.items())
        stages += [f"    {json.dumps(stage)}: {{\n{lines}\n    }}"] if metrics else []
    facts = {"format": FORMAT, "profile": reference.profile, "settings": reference.settings,
             "history": list(reference.history),
             "studies": [{name: value for name, value in asdict(study).items() if name != "metrics"}
                         for study in reference.studies]}
    head = json.dumps(facts, indent=2).removesuffix("\n}")
    text = head + ',\n  "metrics": {\n' + ",\n".join(stages) + "\n  }\n}\n"
    try:
        write_whole(path, text)
    except OSError as error:
        raise NpkitError(f"{path} cannot be written: {error.strerror or error}") from None


def number_or_none(value: float | None) -> float | None:
    """Return a number as JSON holds it: a study whose metric is nan or infinite tells no more than one without it."""
    return value if value is not None and math.isfinite(value) else None


def refresh(path: Path, old: Reference | None, runs: Sequence[Sequence[Run]], reason: str, add: bool = False) -> None:
    """Write the studies made by `runs` into `path`, with the reason, the date, the commit and the versions.

    One study begins a new epoch: its values are expected from now on, within the spread of the studies before it.
    Several replace all that the file has. With `add`, studies join the newest epoch, as those of another machine do.
    """
    check_reason(reason)
    first = runs[0][0]
    lost = {stage for study in (old.studies if old else ()) for stage in study.metrics} - {run.stage for run in runs[0]}
    if lost:
        raise NpkitError(f"{path} has metrics of {', '.join(stage for stage in STAGES if stage in lost)}, which these "
                         "stages alone (--only) would drop: refresh all of them, or write another file")
    epoch = old.epoch + (not add) if old else 0
    new = [study_of(each, epoch) for each in runs]
    places = {study.place for study in new}
    kept = [study for study in old.studies if (study.epoch, study.place) not in {(epoch, place) for place in places}
            ] if old and (add or len(new) == 1) else []
    entry = {"reason": reason.strip(), "date": date.today().isoformat(), "commit": git_commit(),
             "studies": [f"seed {study.seed}, {study.threads} threads" for study in new], "versions": versions()}
    history = (*(old.history if old else ()), entry)
    write_reference(path, Reference(first.config.name, deciding(first.settings), history, (*kept, *new)))


def check_reason(reason: str) -> None:
    """Raise if nothing is said on why reference values change."""
    if not reason.strip():
        raise NpkitError("--refresh needs the reason why the expected values change: --refresh \"...\"; it is kept "
                         "beside them")


def deciding(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the settings that decide a result: not those of the runtime, which are part of no artifact's key."""
    return {name: value for name, value in settings.items() if not name.startswith("runtime.")}


def check_fits(path: Path, reference: Reference, run: Run) -> None:
    """Raise if a study has another profile or other settings than the reference studies."""
    if run.config.name != reference.profile:
        raise NpkitError(f"{path} holds metrics of profile {reference.profile}, this study is of profile "
                         f"{run.config.name}: they cannot be compared")
    if not fits(reference, run):
        raise NpkitError(f"{path} holds metrics of the settings {text_of(reference.settings)}, this study has "
                         f"{text_of(deciding(run.settings))}: they cannot be compared")


def fits(reference: Reference, run: Run) -> bool:
    """Say whether a study has the profile of the reference studies and their settings, those of the runtime apart."""
    ours, theirs = (load_profile(name, deciding(settings)) for name, settings in (
        (run.config.name, run.settings), (reference.profile, reference.settings)))
    return ours == theirs


def text_of(settings: Mapping[str, object]) -> str:
    """Return settings as a user types them."""
    return ", ".join(f"{name}={value}" for name, value in settings.items()) or "of the profile"


def shipped(profile: str) -> Path | None:
    """Return the reference file of a profile that the repository has, None where there is none."""
    path = NOTEBOOKS.parent / "tests" / "expected" / f"{profile}.json"
    return path if path.is_file() else None


# 3. Check ------------------------------------------------------------------------------------------------------------
def expectations(reference: Reference, run: Run | None = None) -> "dict[str, Expected]":
    """Return what is expected of every metric, "stage metric"; with `run`, of that very seed (see `of_own_seed`).

    Of each seed the first study counts, so that no seed counts twice.
    """
    from npkit.findings.tolerances import expect
    if run:
        return of_own_seed(reference, run)
    studies = list({(study.epoch, study.seed): study for study in reversed(reference.studies)}.values())[::-1]
    found = expect(table_of(studies), [study.epoch for study in studies])
    if not any(each.df for each in found.values()):
        raise NpkitError("the reference is a single study, and nobody knows how far metrics may move: add studies of "
                         "other seeds (npkit compare --seeds ... --check FILE --refresh \"why\" --add), or use --tight")
    return found


def of_own_seed(reference: Reference, run: Run) -> "dict[str, Expected]":
    """Return what is expected of a study by those of its own seed, within the spread over machines, if it was measured.

    It is measured where a seed has several studies in the newest epoch. Otherwise a study of the same machine and
    threads is expected to repeat itself to the bit, and of any other nothing is known.
    """
    from npkit.findings.tolerances import expect
    newest = [each for each in reference.studies if each.epoch == reference.epoch]
    own = [each for each in newest if each.seed == run.seed]
    others = [each for each in newest if each.seed != run.seed]
    if not own:
        raise NpkitError(f"--tight compares with reference studies of the same seed: there is none of {run.seed}, only "
                         f"of {', '.join(str(seed) for seed in sorted({each.seed for each in newest}))}")
    if len({each.seed for each in newest}) < len(newest):  # a seed in place of an epoch: spread around its own mean
        return expect(table_of([*others, *own]), [*(each.seed for each in others), *[2**32] * len(own)])
    if own[0].place != place_of(run):
        raise NpkitError(f"--tight: the spread over machines was not measured (no seed has two reference studies), and "
                         f"the one of seed {run.seed} is of another machine: {own[0].threads} threads on "
                         f"{own[0].machine}")
    return {name: each._replace(rate=0.0) for name, each in expect(table_of(own), [0]).items()}


def rows_of(studies: Sequence[Study]) -> dict[str, dict[int, float]]:
    """Return "stage metric" -> number of the study -> value, in the order of the stages."""
    rows: dict[str, dict[int, float]] = {}
    for stage in STAGES:
        for number, study in enumerate(studies):
            for metric, value in study.metrics.get(stage, {}).items():
                rows.setdefault(f"{stage} {metric}", {})[number] = value
    return rows


def table_of(studies: Sequence[Study]) -> dict[str, list[float]]:
    """Return "stage metric" -> one number a study, nan where a study lacks it."""
    return {name: [row.get(number, math.nan) for number in range(len(studies))]
            for name, row in rows_of(studies).items()}


def check(expected: "Mapping[str, Expected]", studies: Sequence[Study]) -> "list[Verdict]":
    """Return a verdict for every metric of the stages that the studies have; of several studies for their mean."""
    from npkit.findings.tolerances import judge
    stages = {stage for study in studies for stage in study.metrics}
    wanted = {name: each for name, each in expected.items() if name.partition(" ")[0] in stages}
    means = {name: math.fsum(row.values()) / len(row) for name, row in rows_of(studies).items()
             if len(row) == len(studies)}  # a metric that one of them lacks is missing
    return judge(wanted, means, len(studies))


def check_two(reference: Reference | None, first: Study, second: Study) -> "list[Verdict]":
    """Return a verdict for every metric of two studies: `expected` is the first one's value, `value` the second's.

    Both are single draws, so that their difference may be larger than that from a mean of many.
    """
    from npkit.findings.tolerances import ALPHA, Expected, judge
    a, b = ({name: row[0] for name, row in rows_of([study]).items()} for study in (first, second))
    known = expectations(reference) if reference else {}
    nothing = Expected(math.nan, 0.0, 0, 1, ALPHA, 0.0)
    return judge({name: known.get(name, nothing)._replace(value=value, num=1) for name, value in a.items()}, b)


def summary(verdicts: "Sequence[Verdict]") -> str:
    """Return in a sentence how many metrics have which verdict."""
    counted = Counter(each.verdict for each in verdicts).most_common()
    return f"{len(verdicts)} metrics checked: " + ", ".join(f"{number} {name}" for name, number in counted)


def verdict_table(verdicts: "Sequence[Verdict]", names: tuple[str, str] = ("expected", "value")) -> str:
    """Return the verdicts as text: a line a metric with both values, difference, tolerance and verdict."""
    import pandas

    def number(value: float, form: str = ".6g") -> str:
        return "-" if math.isnan(value) else f"{value:{form}}"

    rows = [(each.stage, each.metric, number(each.expected), number(each.value),
             number(each.value - each.expected, "+.6g"), number(each.tolerance, ".4g"), each.verdict)
            for each in verdicts]
    columns = ["stage", "metric", *names, "difference", "tolerance", "verdict"]
    return pandas.DataFrame(rows, columns=columns).set_index(columns[:2]).to_string(sparsify=False)


def junit(verdicts: "Sequence[Verdict]", name: str) -> str:
    """Return the verdicts as JUnit XML: a suite a stage, a case a metric, a failure with its sentence."""
    root = ElementTree.Element("testsuites", name=clean(name), **counts(verdicts))
    for stage in dict.fromkeys(each.stage for each in verdicts):
        inside = [each for each in verdicts if each.stage == stage]
        suite = ElementTree.SubElement(root, "testsuite", name=clean(stage), **counts(inside))
        for each in inside:
            case = ElementTree.SubElement(suite, "testcase", classname=clean(f"{name}.{stage}"),
                                          name=clean(each.metric), time="0")
            if each.failed:
                ElementTree.SubElement(case, "failure", message=clean(str(each)), type=each.verdict).text = (
                    clean(str(each)))
            elif each.verdict == "not comparable":
                ElementTree.SubElement(case, "skipped", message=clean(str(each)))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def counts(verdicts: "Sequence[Verdict]") -> dict[str, str]:
    """Return the numbers that a JUnit suite has as attributes."""
    return {"tests": str(len(verdicts)), "failures": str(sum(each.failed for each in verdicts)), "errors": "0",
            "skipped": str(sum(each.verdict == "not comparable" for each in verdicts)), "time": "0"}


def clean(text: str) -> str:
    """Return text without the characters that XML 1.0 cannot hold; ElementTree escapes the others."""
    return "".join(char if char in "\t\n\r" or "\x20" <= char <= "\ud7ff" or "\ue000" <= char <= "\ufffd"
                   or char > "\uffff" else "\ufffd" for char in text)
