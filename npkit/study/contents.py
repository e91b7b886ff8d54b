"""Contents: what a name in the settings stands for, a model, corpus or word list: where it is and what is in it."""
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from npkit.errors import NpkitError
from npkit.study.code import FUNCTION, digest_of_function, digest_of_path

PACKAGE = Path(__file__).parent.parent
CONTENTS = {"data": ("source",), "policy": ("pretrained",), "images": ("model",), "neurologic": ("keywords",),
            "evaluation": ("faithfulness", "faithfulness_head"), "ablation": ("transfer_to",),
            "preference": ("votes", "raters"),
            "judges": ("model", "head", "processor")}  # settings that name what is told by its content
FILES = ("source", "keywords", "votes")  # those of them that name a file and never a repository of the hub


def user_path(name: str) -> Path:
    """Return the path that a user writes, `~` for the home folder.

    Whether something is there is asked by `os.path`: Path's own methods raise where a name is too long for a file, and
    `expanduser` where there is no such user.
    """
    return Path(os.path.expanduser(name))


def home() -> Path:
    """Return the folder of `artifacts/` and `runs/`: $NPKIT_HOME, else the repository, else ~/.npkit."""
    if os.environ.get("NPKIT_HOME"):
        return user_path(os.environ["NPKIT_HOME"]).resolve()
    repository = PACKAGE.parent
    return repository if (repository / "pyproject.toml").exists() else Path.home() / ".npkit"


def locate(settings: Mapping[str, object]) -> dict[str, object]:
    """Return settings whose paths are absolute, so that they mean the same in every folder; raise where there is none.

    A name is a path if it begins with `/`, `.` or `~`, or if its setting takes files alone.
    """
    return {setting: _located(setting, value) if isinstance(value, str) else value
            for setting, value in settings.items()}


def resolve(name: str) -> str:
    """Return the folder or file of a name that begins with `npkit/` (what the package ships); any other unchanged."""
    return str(PACKAGE / name.removeprefix("npkit/")) if name.startswith("npkit/") else name


def fingerprint(name: str) -> str:
    """Return what identifies the content behind a model or corpus name.

    A file or folder gives a short SHA-256 of its contents, `module:function` one of the code it rests on, with the
    function's name (a module may have several), and a hub id stands for itself.
    """
    path = user_path(resolve(name))
    if os.path.exists(path):
        return digest_of_path(path)
    if not FUNCTION.fullmatch(name):
        return name
    try:
        return f"{digest_of_function(name)}:{name.partition(':')[2]}"
    except ImportError:
        raise NpkitError(f"{name!r} names neither a file nor a Python module:function that can be imported") from None


def named_in(section: str, config) -> list[str]:
    """Return the names in a section (or a tuple of them) that stand for a content: models, corpora, word lists."""
    items = config if isinstance(config, tuple) else (config,)
    return [name for item in items for field in CONTENTS.get(section, ()) if (name := getattr(item, field))]


def by_content(section: str, config):
    """Return a section (or a tuple of them) with each such name replaced by its fingerprint."""
    if isinstance(config, tuple):
        return tuple(by_content(section, item) for item in config)
    names = {field: _located(f"{section}.{field}", getattr(config, field)) for field in CONTENTS.get(section, ())}
    return replace(config, **{field: fingerprint(name) for field, name in names.items() if name})


def find_file(name: str) -> Path | None:
    """Return the absolute path of a file here or, as notebooks run elsewhere, in `home()`; links are not followed."""
    path = user_path(resolve(name))
    return next((place.absolute() for place in (path, home() / path) if os.path.exists(place)), None)


def _located(setting: str, name: str) -> str:
    """Return the name in a setting as an absolute path where it is one by rule; raise where nothing is there."""
    section, field = setting.split(".")[0], setting.split(".")[-1]
    if field not in CONTENTS.get(section, ()) or not name or name.startswith("npkit/") or "://" in name:
        return name
    if FUNCTION.fullmatch(name):
        return name
    found = find_file(name)
    if name.startswith(("/", ".", "~")) or field in FILES:
        if found is None:
            places = "" if name.startswith(("/", "~")) else f"; looked in {Path.cwd()} and {home()}"
            raise NpkitError(f"{name} does not exist ({setting}{places})")
        return str(found)
    if os.path.exists(name):
        raise NpkitError(f"{setting} {name!r} is a folder or file here and would be an id of the hub elsewhere: write "
                         f"./{name} for what is here")
    return name
