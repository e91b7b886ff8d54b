"""Study: the notebooks executed in order into one run folder, skipping what is already there."""
import base64
import hashlib
import json
import logging
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from npkit import errors
from npkit.errors import Faults, NotebookFailed, NpkitError
from npkit.study.artifacts import NOTEBOOKS, STAGES, Run, home, open_run, write_whole

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from npkit.study.preflight import Corpus

PARAMETERS = ("profile", "seed", "settings")
LOOKED_AT = ("data.", "policy.", "ppo.episodes_per_update", "ppo.max_new_tokens", "ppo.final_policy",
             "evaluation.num_prefixes", "evaluation.max_new_tokens", "neurologic.max_new_tokens",
             "neurologic.beam_size", "neurologic.keywords", "neurologic.block", "neurologic.living_artists", "images.",
             "judges.")
LOCK_SECONDS = 5  # a killed run lets go at once
USER_ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, NpkitError)}


@dataclass(frozen=True)
class Study:
    """The notebooks of one profile, seed and settings, and the folder their executed copies go to.

    `corpus` is what the plan read of the corpus, None where it did not look.
    """
    runs: tuple[Run, ...]
    folder: Path
    corpus: "Corpus | None" = None

    def executed(self, run: Run) -> Path:
        """Where the executed copy of a notebook is, or will be."""
        return self.folder / source_of(run).name

    @property
    def noise(self) -> Path:
        """Where what kernels say outside their notebook goes: libraries' warnings, a crash's last words."""
        return self.folder / "kernels.log"

    def kept(self, run: Run) -> bool:
        """Say whether the artifact exists and the executed copy is complete and of today's notebook."""
        copy = self.executed(run)
        if not copy.exists() or run.artifact is None:
            return False
        facts = json.loads(copy.read_text(encoding="utf-8"))["metadata"].get("npkit", {})
        return (facts.get("key"), facts.get("source")) == (run.key, digest(source_of(run)))


# 1. Plan: everything that can be refused is refused before anything is written ---------------------------------------
def plan(profile: str, seed: int = 0, settings: Mapping[str, object] | None = None,
         only: Sequence[str] = (), until: str = "") -> Study:
    """Return the study of the chosen notebooks (all when none is named), with settings, inputs and corpus checked.

    Whatever is found wrong is raised together.
    """
    runs = [open_run(stage, profile, seed, settings) for stage in choose(only, until)]
    faults, corpus = Faults(), None
    with faults.noted():
        check_inputs(runs)
        missing = {run.stage: run for run in runs if run.artifact is None}
        if missing and not is_shipped(runs[0]):
            from npkit.study import preflight
            corpus = preflight.check(missing)
    if runs[0].config.runtime.device != "auto":  # another one may not be there
        with faults.noted():
            runs[0].device  # noqa: B018 (raises)
    for run in runs:
        with faults.noted():
            check_notebook(source_of(run))
    faults.tell()
    return Study(tuple(runs), home() / "runs" / f"{profile}-{runs[0].label}", corpus)


def check_inputs(runs: Sequence[Run]) -> None:
    """Raise if a run reads a stage that is neither there nor among the runs."""
    planned = {run.stage for run in runs}
    for run in runs:
        run.need(set(STAGES[run.stage].inputs) - planned)


def choose(only: Sequence[str], until: str) -> list[str]:
    """Return the stages named, in the order of the study; a stage is named by itself or by its notebook."""
    known = {name: stage for stage, facts in STAGES.items() for name in (facts.notebook, stage)}
    unknown = [name for name in [*only, until] if name and name not in known]
    if unknown:
        raise NpkitError(f"unknown notebook {unknown[0]!r}; known: {', '.join(s.notebook for s in STAGES.values())}")
    stages = list(STAGES)
    last = stages.index(known[until]) if until else len(stages)
    chosen = [stage for stage in stages[:last + 1] if not only or stage in [known[name] for name in only]]
    if not chosen:
        raise NpkitError(f"nothing to run: every notebook of --only comes after --until {until}")
    return chosen


def check_notebook(source: Path) -> None:
    """Raise if a notebook is absent or would silently ignore a parameter."""
    import papermill
    if not source.exists():
        raise NpkitError(f"notebook {source} does not exist: npkit run needs the repository, not only the package")
    with quiet_papermill():
        found = papermill.inspect_notebook(source)
    if not set(PARAMETERS) <= set(found):
        raise NpkitError(f"the parameters cell of {source.name} must define {', '.join(PARAMETERS)}, "
                         f"it defines {', '.join(found) or 'none'}")


def is_shipped(run: Run) -> bool:
    """Say whether a study's corpus and limits are those of this package, which its tests run: looking costs seconds."""
    return run.config.name == "tiny" and not any(name.startswith(LOOKED_AT) for name in run.settings)


# 2. Run --------------------------------------------------------------------------------------------------------------
def run_study(study: Study, fresh: bool = False) -> None:
    """Execute the notebooks that are not kept, in order, with one line each on standard error."""
    study.folder.mkdir(parents=True, exist_ok=True)
    with only_one(study.folder):
        save_facts(study)
        for run in study.runs:
            if fresh:
                forget(study, run)
            print(f"{source_of(run).stem:<24}", end="", file=sys.stderr, flush=True)
            start = time.monotonic()
            kept = study.kept(run)
            if not kept:
                execute(study, run)
            print(f"kept {run.key}" if kept else f"done {run.key} {time.monotonic() - start:6.1f} s", file=sys.stderr)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the run folder's lock, or say that another process does."""
    try:
        with FileLock(folder / ".lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise NpkitError(f"another npkit run is at work in {folder}: wait for it, or choose another seed") from None


def save_facts(study: Study) -> None:
    """Write what the report needs to find this study again."""
    run = study.runs[0]
    facts = {"profile": run.config.name, "seed": run.seed, "settings": dict(run.settings)}
    write_whole(study.folder / "run.json", json.dumps(facts, indent=2) + "\n")


def forget(study: Study, run: Run) -> None:
    """Remove a stage's artifact, scratch folder and executed notebook."""
    study.executed(run).unlink(missing_ok=True)
    shutil.rmtree(run.scratch)
    if run.artifact is not None:
        doomed = run.folder.with_name(f".{run.key}.draft")
        shutil.rmtree(doomed, ignore_errors=True)
        os.rename(run.folder, doomed)
        shutil.rmtree(doomed)


def execute(study: Study, run: Run) -> None:
    """Execute one notebook by papermill; its copy appears in the run folder only when every cell is complete."""
    import nbformat
    import papermill
    from traitlets.config import Config
    copy = study.executed(run)
    draft = copy.with_name(f".{copy.name}")
    start = time.monotonic()
    try:
        with environment(kernel_variables(run)), quiet_papermill(), noise_into(study.noise):
            notebook = papermill.execute_notebook(
                source_of(run), draft, {"profile": run.config.name, "seed": run.seed, "settings": dict(run.settings)},
                kernel_name="python3", progress_bar=False, start_timeout=120, iopub_timeout=60,
                execution_timeout=run.config.runtime.cell_timeout, coalesce_streams=True,
                config=Config({"KernelManager": {"transport_encryption": "auto"}}))
    except (papermill.PapermillException, RuntimeError, TimeoutError) as error:
        print("failed", file=sys.stderr)
        raise explain(error, study, run, draft) from None
    problem = hidden_problem(notebook) or ("" if run.artifact else f"it wrote no artifact {run.key}")
    if problem:
        print("failed", file=sys.stderr)
        raise NotebookFailed(f"{copy.stem} failed: {problem}; see {draft.rename(failed_copy(copy))}")
    seconds = round(time.monotonic() - start, 1)
    embed_figures(notebook)
    notebook.metadata["npkit"] = {"key": run.key, "source": digest(source_of(run)), "seconds": seconds}
    write_whole(copy, nbformat.writes(notebook))
    draft.unlink()
    failed_copy(copy).unlink(missing_ok=True)


def embed_figures(notebook: "NotebookNode") -> None:
    """Put the figures that the text shows into the executed copy: it lies elsewhere, and may be sent to others."""
    for cell in notebook.cells:
        for name in re.findall(r"\(\.\./figures/([\w.]+)\)", cell.source) if cell.cell_type == "markdown" else ():
            if (picture := NOTEBOOKS.parent / "figures" / name).is_file():
                content = base64.b64encode(picture.read_bytes()).decode()
                cell.setdefault("attachments", {})[name] = {"image/png": content}
                cell.source = cell.source.replace(f"(../figures/{name})", f"(attachment:{name})")


def kernel_variables(run: Run) -> dict[str, str]:
    """Return the variables of a headless kernel: our folder, our threads, no bars, no debugger warning."""
    threads = str(run.config.runtime.num_threads)
    return {"NPKIT_HOME": str(home()), "TQDM_DISABLE": "1", "TOKENIZERS_PARALLELISM": "false",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1"} | (
                {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads} if threads != "0" else {})


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while: kernels inherit them, and papermill takes none of its own."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def noise_into(log: Path) -> Iterator[None]:
    """Append to `log` what this process and those it starts in the block write on the terminal, past Python's streams.

    A kernel inherits the terminal; its warnings would stand in the middle of a progress line.
    """
    with open(log, "ab") as file:
        sys.stdout.flush()
        sys.stderr.flush()
        saved = {number: os.dup(number) for number in (1, 2)}
        try:
            for number in saved:
                os.dup2(file.fileno(), number)
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in saved.items():
                os.dup2(copy, number)
                os.close(copy)


@contextmanager
def quiet_papermill() -> Iterator[None]:
    """Keep papermill's log off the terminal: what matters comes back as an exception."""
    logger = logging.getLogger("papermill")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


# 3. What went wrong --------------------------------------------------------------------------------------------------
def explain(error: Exception, study: Study, run: Run, draft: Path) -> Exception:
    """Return papermill's error as one of ours: the user's mistake as a sentence, any other with its cell."""
    name = getattr(error, "ename", type(error).__name__)
    message = str(getattr(error, "evalue", error)).strip()
    if name in USER_ERRORS:
        draft.unlink()
        return NpkitError(message)
    place, copy = "before its first cell", study.executed(run)
    sentence = f"{name}: {shorten(message)}"
    if draft.exists():
        place = failing_cell(json.loads(draft.read_text(encoding="utf-8"))["cells"])
        sentence += f"\nsee {draft.rename(failed_copy(copy))}"
    return NotebookFailed(f"{copy.stem} failed {place}\n{sentence}")


def failing_cell(cells: list[dict]) -> str:
    """Return number and first lines of the first code cell that did not complete, papermill's own cells not counted."""
    added = {"injected-parameters", "papermill-error-cell-tag"}
    own = [cell for cell in cells if not added & set(cell["metadata"].get("tags", []))]
    for number, cell in enumerate(own, start=1):
        if cell["cell_type"] == "code" and cell["metadata"].get("papermill", {}).get("status") != "completed":
            lines = [line for line in "".join(cell["source"]).splitlines() if line.strip()]
            return "\n".join([f"in cell {number} of {len(own)}:", *(f"    {line}" for line in lines[:5])])
    return "after its last cell"


def hidden_problem(notebook) -> str:
    """Return what papermill lets pass: a cell never completed, or an error inside a widget's output; "" if nothing."""
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("status") != "completed":
            return f"cell {number} did not complete"
    widgets = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    for model in widgets.values():
        for output in model["state"].get("outputs", []) if model["model_name"] == "OutputModel" else []:
            if output["output_type"] == "error":
                return f"a widget shows {output['ename']}: {shorten(output['evalue'])}"
    return ""


# 4. Files ------------------------------------------------------------------------------------------------------------
def source_of(run: Run) -> Path:
    """Return the committed notebook of a stage."""
    return NOTEBOOKS / f"{STAGES[run.stage].notebook}.ipynb"


def failed_copy(copy: Path) -> Path:
    """Return where the executed copy of a notebook that failed is kept."""
    return copy.with_name(f"{copy.stem}.failed.ipynb")


def digest(notebook: Path) -> str:
    """Return a short SHA-256 of a notebook's cells, which outputs do not change."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:12]


def shorten(text: str, limit: int = 400) -> str:
    """Return the first line that says something, cut to `limit` characters."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no message")
    return line if len(line) <= limit else f"{line[:limit]}..."
