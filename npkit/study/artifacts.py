"""Artifacts: what a stage leaves behind, in a directory named by everything that went into it."""
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path

from filelock import FileLock

from npkit import __version__
from npkit.errors import MissingArtifact, NpkitError
from npkit.study import contents, profiles
from npkit.study.code import Code, code_of, short_hash
from npkit.study.contents import PACKAGE, home
from npkit.study.profiles import Profile

FORMAT_VERSION = 1  # raise it when an artifact's layout changes: every key changes with it
MAX_SEED = 2**32 - 1  # numpy's and pandas' generators take no larger one; torch's would
PACKAGES = ("torch", "transformers", "trl", "diffusers", "datasets", "numpy")
NOTEBOOKS = PACKAGE.parent / "notebooks"


@dataclass(frozen=True)
class Stage:
    """One step of the study: its notebook, the stages it reads and the profile's sections that decide its result.

    `models` are those it loads whatever the profile says; `command` is the function by which `npkit train` makes the
    artifact without the notebook.
    """
    notebook: str
    inputs: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    command: str = ""

    @property
    def code(self) -> Code:
        """The code, data files and libraries that the result rests on."""
        return code_of(*filter(None, [self.command]), notebook=NOTEBOOKS / f"{self.notebook}.ipynb")


STAGES = {
    "glyphworld": Stage("00_glyphworld", models=("npkit/glyphworld/weights/eye",)),
    "data": Stage("01_data_and_prefixes", (), ("data",)),
    "sft": Stage("02_sft", ("data",), ("policy", "sft"), command="npkit.training.assembly:write_sft"),
    "reward": Stage("03_reward", models=tuple(f"npkit/glyphworld/weights/{name}" for name in (
        "eye", "aesthetic-tiny", "heldout-tiny", "pickscore-tiny"))),
    "ppo": Stage("04_ppo", ("data", "sft"), ("ppo", "images", "judges"), command="npkit.training.assembly:write_ppo"),
    "neurologic": Stage("05_neurologic_decoding", ("data", "sft", "ppo"), ("neurologic", "evaluation")),
    "evaluation": Stage("06_evaluation", ("data", "sft", "ppo", "neurologic"), ("evaluation", "images", "judges")),
    "ablations": Stage("07_ablations", ("data", "sft", "ppo"),
                       ("ablation", "neurologic", "evaluation", "images", "judges")),
    "explorer": Stage("08_constraint_explorer", ("sft", "ppo"), ("neurologic", "images", "judges")),
    "preference": Stage("09_human_preference", ("evaluation",), ("preference", "images", "judges")),
}
WITHOUT_CORPUS = frozenset({"glyphworld", "reward"})  # stages that read no prompts but those they make themselves


@dataclass(frozen=True)
class Artifact:
    """A finished stage on disk."""
    path: Path
    manifest: dict = field(repr=False)

    @property
    def key(self) -> str:
        return self.manifest["key"]

    @property
    def metrics(self) -> dict[str, float]:
        return self.manifest["metrics"]

    def table(self, name: str):
        """Return `name.parquet` as a pandas table; one whose contents are damaged raises."""
        import pandas
        path = self.path / f"{name}.parquet"
        try:
            return pandas.read_parquet(path)
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:  # pyarrow's own errors are of these two kinds
            raise NpkitError(f"{path} is damaged ({type(error).__name__}): remove its folder, and npkit run makes the "
                             "stage anew") from None

    def dataset(self, name: str):
        """Return `name.parquet` as a `datasets.Dataset`."""
        import datasets
        return datasets.Dataset.from_pandas(self.table(name), preserve_index=False)


@dataclass(frozen=True)
class Run:
    """One notebook at work: its settings, its inputs, and the artifact it makes."""
    stage: str
    config: Profile
    seed: int = 0
    settings: Mapping[str, object] = field(default_factory=dict)
    use_mine: bool = False  # for the lesson's own cells alone: no artifact is made by a student's function

    @cached_property
    def key(self) -> str:
        """Short SHA-256 of all that decides the result, and of nothing that names a place on this machine.

        These are the settings, the seed, the keys of the inputs, the content of the models and corpora named, the code
        and the versions of its libraries. FORMAT_VERSION stands for this package's way of keeping artifacts.
        """
        stage = STAGES[self.stage]
        models = [contents.fingerprint(name) for name in stage.models]
        parts = [FORMAT_VERSION, self.stage, self._config(by_content=True), self.seed, models, stage.code.digest,
                 self.input_keys]
        return short_hash(json.dumps(parts, sort_keys=True))

    @property
    def label(self) -> str:
        """Seed and settings in a few characters, for folder names."""
        settings = short_hash(json.dumps(dict(self.settings), sort_keys=True))[:6]
        return f"seed{self.seed}" + (f"-{settings}" if self.settings else "")

    @property
    def options(self) -> str:
        """The command line options that lead to this run's artifacts, where they are not the default."""
        options = [f" --profile {self.config.name}"] if self.config.name != "tiny" else []
        options += [f" --seed {self.seed}"] if self.seed else []
        settings = {name: str(value).lower() if isinstance(value, bool) else value  # as `--set` reads it
                    for name, value in self.settings.items()}
        return "".join(options + [f" --set {shlex.quote(f'{name}={value}')}" for name, value in settings.items()])

    @cached_property
    def input_keys(self) -> dict[str, str]:
        return {stage: self._other(stage).key for stage in STAGES[self.stage].inputs}

    @cached_property
    def device(self):
        """The torch device of the profile: its own, or the first GPU, or the CPU."""
        import torch
        wanted = self.config.runtime.device
        if wanted.startswith("cuda") and not torch.cuda.is_available():
            raise NpkitError(f"runtime.device is {wanted!r}, but this machine has no CUDA device: use auto or cpu")
        try:
            return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if wanted == "auto" else wanted)
        except RuntimeError:
            raise NpkitError(f"runtime.device is auto, cpu, cuda or one of several such as cuda:1, got {wanted!r}"
                             ) from None

    @property
    def folder(self) -> Path:
        """Where the artifact is, or will be."""
        return home() / "artifacts" / self.config.name / self.stage / self.key

    @property
    def scratch(self) -> Path:
        """A folder for checkpoints and caches; it outlives a killed run and goes when the artifact is whole."""
        folder = self.folder.with_name(f".{self.key}.work")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @property
    def artifact(self) -> Artifact | None:
        """The finished artifact, or None."""
        path = self.folder / "manifest.json"
        if not path.exists():
            return None
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            {name: float(value) for name, value in manifest["metrics"].items()}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NpkitError(f"{path} is damaged ({type(error).__name__}): remove its folder, and npkit run makes the "
                             "stage anew") from None
        return Artifact(self.folder, manifest)

    def input(self, stage: str) -> Artifact:
        """Return the artifact of an earlier stage, or say which command makes it."""
        if stage not in STAGES[self.stage].inputs:
            raise NpkitError(f"{self.stage} reads {', '.join(STAGES[self.stage].inputs) or 'no stage'}, not {stage!r}")
        self.need([stage])
        return self._other(stage).artifact

    def need(self, stages: Iterable[str]) -> None:
        """Raise if one of these earlier stages has no artifact, with the command that makes all that are missing."""
        missing = [stage for stage in STAGES if stage in stages and self._other(stage).artifact is None]
        if missing:
            what, them = (f"artifact of stage {missing[0]}", "it") if len(missing) == 1 else (
                f"artifacts of stages {' and '.join(missing)}", "them")
            raise MissingArtifact(f"{self.stage} needs the {what} (profile {self.config.name}, seed {self.seed}): "
                                  f"make {them} by {self.command(missing[-1])}")

    def command(self, stage: str = "") -> str:
        """Return the command that makes the artifacts up to a stage, or all of them, of these settings."""
        return f"npkit run{f' --until {STAGES[stage].notebook}' if stage else ''}{self.options}"

    def make(self, function: Callable[[Path], dict[str, float]]) -> Artifact:
        """Return the artifact; where there is none, let `function` fill a folder and return its metrics."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_name(f".{self.key}.lock")):  # a killed run's kernel may live a second longer
            if self.artifact is None:
                draft = self.folder.with_name(f".{self.key}.draft")
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir()
                start = time.monotonic()
                metrics = {name: float(value) for name, value in function(draft).items()}
                self._write_manifest(draft, metrics, seconds=round(time.monotonic() - start, 1))
                publish(draft, self.folder)
                shutil.rmtree(self.folder.with_name(f".{self.key}.work"), ignore_errors=True)
        return self.artifact

    def save_figure(self, figure, name: str) -> Path:
        """Write a matplotlib figure as PNG where the report finds it, and return its path."""
        path = home() / "artifacts" / self.config.name / "figures" / self.label / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        figure.savefig(draft, format="png", dpi=110, bbox_inches="tight")
        os.replace(draft, path)
        return path

    def choose(self, mine: Callable, kit: Callable) -> Callable:
        """Return the function that the cells after an exercise use: the student's (`use_mine`), or the kit's.

        Called before it is written, the student's says so.
        """
        @wraps(mine)
        def checked(*arguments, **options):
            try:
                return mine(*arguments, **options)
            except NotImplementedError:
                raise NpkitError(f"{mine.__name__} is not written yet: write it in the exercise above, or set use_mine "
                                 "to False in the second cell and run all cells again") from None
        return checked if self.use_mine else kit

    def summary(self):
        """Return what this run rests on as a small pandas table."""
        import pandas
        import torch
        facts = {"profile": self.config.name, "seed": self.seed, "settings": dict(self.settings) or "none",
                 "stage": self.stage, "key": self.key, "device": str(self.device), "threads": torch.get_num_threads(),
                 "commit": git_commit()} | versions()
        return pandas.DataFrame({"value": [str(value) for value in facts.values()]}, index=list(facts))

    def _other(self, stage: str) -> "Run":
        return Run(stage, self.config, self.seed, self.settings)

    def changed(self) -> list[str]:
        """Return what differs from the newest artifact of this stage, seed and settings; [] where there is none.

        The names are of modules, files, libraries, models and corpora, and stages.
        """
        found = [(path.stat().st_mtime, json.loads(path.read_text(encoding="utf-8")))
                 for path in self.folder.parent.glob("[!.]*/manifest.json")]
        alike = [(made, old) for made, old in found
                 if (old["seed"], old["settings"]) == (self.seed, dict(self.settings))]
        if not alike:
            return []
        _, old = max(alike, key=lambda pair: pair[0])
        code = STAGES[self.stage].code
        before = {name: value for part in ("code", "files", "libraries", "sources", "inputs")
                  for name, value in old.get(part, {}).items()}
        now = code.modules | code.files | code.libraries | self._sources() | self.input_keys
        return [name for name in now if before.get(name) != now[name]]

    def _config(self, by_content: bool = False) -> dict[str, object]:
        """Return the stage's sections as JSON types; by content, what they name is replaced by its fingerprint."""
        sections = {name: getattr(self.config, name) for name in STAGES[self.stage].sections}
        if by_content:
            sections = {name: contents.by_content(name, section) for name, section in sections.items()}
        return {name: [asdict(item) for item in section] if isinstance(section, tuple) else asdict(section)
                for name, section in sections.items()}

    def _sources(self) -> dict[str, str]:
        """Return the fingerprint of every model, corpus and word list that the stage names."""
        stage = STAGES[self.stage]
        named = [*stage.models, *(name for section in stage.sections
                                  for name in contents.named_in(section, getattr(self.config, section)))]
        return {name: contents.fingerprint(name) for name in named}

    def _write_manifest(self, folder: Path, metrics: dict[str, float], seconds: float) -> None:
        code = STAGES[self.stage].code
        manifest = {"stage": self.stage, "key": self.key, "profile": self.config.name, "seed": self.seed,
                    "config": self._config(), "settings": dict(self.settings), "inputs": self.input_keys,
                    "sources": self._sources(), "code": code.modules, "files": code.files, "libraries": code.libraries,
                    "git_commit": git_commit(), "versions": versions(), "seconds": seconds, "metrics": metrics}
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def start(notebook: str, *, profile: str = "tiny", seed: int = 0, settings: Mapping[str, object] | None = None,
          use_mine: bool = False) -> Run:
    """Return the run of `notebook`: settings checked, the profile's CPU threads in force, outputs plain."""
    stages = {stage.notebook: name for name, stage in STAGES.items()}
    if notebook not in stages:
        raise NpkitError(f"unknown notebook {notebook!r}; known: {', '.join(stages)}")
    run = replace(open_run(stages[notebook], profile, seed, settings), use_mine=use_mine)
    set_threads(run.config)
    hide_progress_bars()
    show_dollars()
    return run


def set_threads(config: Profile) -> None:
    """Let torch work in as many CPU threads as the profile says: more, or fewer, round otherwise."""
    if config.runtime.num_threads:
        import torch
        torch.set_num_threads(config.runtime.num_threads)


def hide_progress_bars() -> None:
    """Turn off the libraries' progress bars: an executed notebook keeps them frozen at 0 %."""
    import datasets
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging
    datasets.disable_progress_bars()
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def show_dollars() -> None:
    """Keep Jupyter from reading the dollars of a prompt in a pandas table as a formula."""
    import pandas
    pandas.options.display.html.use_mathjax = False


def open_run(stage: str, profile: str, seed: int = 0, settings: Mapping[str, object] | None = None) -> Run:
    """Return the run of a stage without touching the process: enough to find its artifact."""
    check_seed(seed)
    settings = contents.locate({name: value for name, value in (settings or {}).items() if value is not None})
    return Run(stage, profiles.load_profile(profile, settings), seed, settings)


def check_seed(seed: int) -> None:
    """Raise if not every random generator of a study takes `seed`."""
    if type(seed) is not int or not 0 <= seed <= MAX_SEED:
        raise NpkitError(f"seed is a whole number, 0 or more and at most {MAX_SEED}, got {seed!r}")


def publish(draft: Path, folder: Path) -> None:
    """Flush every file of `draft` to disk, then rename it: `folder` exists whole or not at all."""
    for path in [*sorted(draft.rglob("*")), draft]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    os.rename(draft, folder)


def write_whole(path: Path, text: str) -> None:
    """Write a file beside its place and rename it; of a symbolic link, the file that it leads to."""
    path = Path(os.path.realpath(path))
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def versions() -> dict[str, str]:
    """Return the versions that decide the numbers."""
    return {"python": platform.python_version(), "npkit": __version__} | {
        name: importlib.metadata.version(name) for name in PACKAGES}


def git_commit() -> str:
    """Return the repository's short commit, with a plus sign when files differ from it, or "none"."""
    def git(*words: str) -> str:
        command = ["git", "-C", str(PACKAGE), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    try:
        return git("rev-parse", "--short", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return "none"
