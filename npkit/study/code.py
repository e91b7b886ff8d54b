"""Code: the modules, data files and libraries that decide a result, found by following what its code imports and uses.

A definition leads to the definitions that it names, in its own module or an imported one; a module that is reached
counts whole, without comments, docstrings and layout. Reached is also what a module does when it is imported.
"""
import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from npkit.study.syntax import (
    DEFINITIONS,
    Imports,
    deciding_statements,
    dotted_names,
    imports_of,
    is_import,
    names_at_import,
    names_bound,
    parse,
)

ROOT = Path(__file__).parents[2]
# What decides no result: the frame of a study, for which settings and FORMAT_VERSION stand, what shows, what checks
# an exercise, and the memory of scores, which are stored under keys of their own.
APART = ("npkit.study", "npkit.figures", "npkit.checks", "npkit.errors", "npkit.scoring.cache", "npkit.commands",
        "npkit.__main__")
LIBRARIES = ("torch", "transformers", "tokenizers", "trl", "accelerate", "diffusers", "datasets", "numpy", "scipy",
             "pandas", "pyarrow", "pillow", "matplotlib")  # those whose version may move a number
COMPANIONS = {"transformers": ("tokenizers", "accelerate"), "PIL": ("pillow",)}  # behind what we import
FUNCTION = re.compile(r"[^\W\d][\w.]*:[^\W\d]\w*")  # module:function
SHORT = 12  # hexadecimal digits of a digest


@dataclass(frozen=True)
class Code:
    """What a result rests on: modules and data files with their digests, and the versions of libraries."""
    modules: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    libraries: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Short SHA-256 of all of it."""
        return short_hash(json.dumps([self.modules, self.files, self.libraries], sort_keys=True))


# 1. What a result rests on -------------------------------------------------------------------------------------------
@cache
def code_of(*names: str, notebook: Path | None = None) -> Code:
    """Return what `module:function` names (a bare module: all of it) and a notebook's `run.make` rest on.

    A notebook that is not there (an installed package has none) may be anything: then the whole package counts.
    """
    search = Search(asked={name.partition(":")[0] for name in names})
    for name in names:
        module, _, function = name.partition(":")
        search.reach(module, (function,) if function else ())
    own = {}
    if notebook and notebook.exists():
        statements = deciding_statements(notebook)
        search.follow_notebook(statements)
        own = {notebook.name: digest_of_code(each for each in statements if not is_import(each))}
    elif notebook:
        for path in sorted((ROOT / "npkit").rglob("*.py")):
            search.reach(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    modules = {name: read_module(name).digest for name in sorted(search.modules)}
    files = {name: digest_of_path(path) for name, path in sorted(search.files.items())}
    return Code(own | modules, files, library_versions(search.libraries))


def digest_of_function(name: str) -> str:
    """Return the digest of what `module:function` rests on; of an installed package, its version and its file."""
    module, top = name.partition(":")[0], name.partition(".")[0].partition(":")[0]
    if find_source(module):
        return code_of(name).digest
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ImportError(f"there is no module {module}")
    installed = importlib.metadata.packages_distributions().get(top, ())
    versions = [importlib.metadata.version(each) for each in installed] or [sys.version]
    file = Path(spec.origin or "")
    return short_hash(json.dumps([name, versions, digest_of_file(file) if file.is_file() else ""]))


def library_versions(imported: Iterable[str]) -> dict[str, str]:
    """Return the versions of `LIBRARIES` among the packages imported and their companions, and Python's."""
    wanted = {library for name in imported for library in (name, *COMPANIONS.get(name, ()))}
    return {"python": f"{sys.version_info.major}.{sys.version_info.minor}"} | {
        name: importlib.metadata.version(name) for name in LIBRARIES if name in wanted}


class Search:
    """Follows names from definition to definition and remembers the modules, data files and libraries it meets."""

    def __init__(self, asked: set[str]):
        self.asked = asked  # they count, wherever they are
        self.modules: set[str] = set()
        self.files: dict[str, Path] = {}
        self.libraries: set[str] = set()
        self.followed: set[tuple[str, int]] = set()  # (module, statement): each is followed once

    def reach(self, name: str, attributes: tuple[str, ...] = ()) -> None:
        """Follow an attribute of a module, or where none is named all that the module holds."""
        if name not in self.asked and any(f"{name}.".startswith(f"{apart}.") for apart in APART):
            return
        module = read_module(name)
        if module is None:
            self.libraries.add(name.partition(".")[0])
            return
        first = attributes[0] if attributes else ""
        if first and first not in module.bound and first not in module.imports and read_module(f"{name}.{first}"):
            self.reach(f"{name}.{first}", attributes[1:])
            return
        self.enter(module)
        self.reach_imported(module.imports, attributes)
        for number in module.numbers_of(first):
            self.follow(module, number)

    def reach_imported(self, imports: "Imports", names: tuple[str, ...]) -> None:
        """Follow a dotted name to where it was imported from, if it was."""
        for target, attribute in imports.get(names[0], ()) if names else ():
            self.reach(target, (attribute, *names[1:]) if attribute else names[1:])

    def enter(self, module: "Module") -> None:
        """Note a module, its data files and libraries, and follow what it does when it is imported."""
        if module.name in self.modules:
            return
        self.modules.add(module.name)
        self.files |= module.files
        self.libraries |= {target.partition(".")[0] for targets in module.imports.values() for target, _ in targets}
        for target, _ in module.imports.get("*", ()):
            self.reach(target)
        for number, statement in enumerate(module.statements):
            if isinstance(statement, DEFINITIONS):
                self.follow_names(module, names_at_import(statement))
            elif not is_import(statement):
                self.follow(module, number)

    def follow(self, module: "Module", number: int) -> None:
        """Follow the names in one statement of a module."""
        if (module.name, number) not in self.followed:
            self.followed.add((module.name, number))
            self.follow_names(module, dotted_names(module.statements[number]))

    def follow_names(self, module: "Module", names: Iterable[tuple[str, ...]]) -> None:
        for dotted in names:
            if dotted[0] in module.bound or dotted[0] in module.imports:
                self.reach(module.name, dotted)

    def follow_notebook(self, statements: list[ast.stmt]) -> None:
        """Follow the imported names and the data files of a notebook's deciding statements."""
        imports = imports_of(statements)
        names = {name for each in statements if not is_import(each) for name in dotted_names(each)} | {("*",)}
        for dotted in sorted(names):
            self.reach_imported(imports, dotted)
        self.files |= files_named(statements)


# 2. Modules ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Module:
    """A module as it was when this process first looked: its digest, its statements, and who binds which name."""
    name: str
    digest: str
    statements: list[ast.stmt]
    bound: dict[str, list[int]]  # name -> the numbers of the statements that bind it
    imports: Imports             # of every scope: a name that two functions import stands for both
    files: dict[str, Path]       # data files named in it

    def numbers_of(self, name: str) -> Iterable[int]:
        """Return the statements that bind `name`; all of them where it is "" or nobody knows how it comes to be."""
        if name in self.bound or name in self.imports:
            return self.bound.get(name, ())
        return (name and self.bound.get("__getattr__")) or range(len(self.statements))


@cache
def read_module(name: str) -> Module | None:
    """Return a module of this package or of the reader's own; None for the standard library and installed packages."""
    path = find_source(name)
    if path is None:
        return None
    statements = parse(path.read_text(encoding="utf-8"))
    bound: dict[str, list[int]] = {}
    for number, statement in enumerate(statements):
        for each in names_bound(statement) if not is_import(statement) else ():
            bound.setdefault(each, []).append(number)
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return Module(name, digest_of_code(statements), statements, bound, imports_of(statements, package),
                  files_named(statements, path.parent, package))


def find_source(name: str) -> Path | None:
    """Return the file of a module written in Python that no package manager installed; None for any other."""
    top, *rest = name.split(".")
    try:
        folder = ROOT / "npkit" if top == "npkit" else _folder_of(top)
    except (ImportError, ValueError):
        return None
    if folder is None:
        return None
    places = (folder.joinpath(*rest, "__init__.py"), folder.joinpath(*rest).with_suffix(".py"))
    return next((place for place in places if place.is_file()), None)


def _folder_of(top: str) -> Path | None:
    """Return the folder of a top-level package, or the path of a single module without its suffix, if it is local."""
    spec = importlib.util.find_spec(top)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    installed = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    if any(path.is_relative_to(folder) for folder in installed):
        return None
    return path.parent if path.name == "__init__.py" else path.with_suffix("")


def files_named(statements: Iterable[ast.stmt], folder: Path | None = None, package: str = "") -> dict[str, Path]:
    """Return the data a string names: a file or folder `npkit/...` of ours, or a file in the module's `folder`."""
    found = {}
    for node in (node for statement in statements for node in ast.walk(statement)):
        text = node.value if isinstance(node, ast.Constant) else None
        if not isinstance(text, str) or not re.fullmatch(r"\w[\w./-]{,200}", text):
            continue
        if text.startswith("npkit/") and (ROOT / text).exists():
            found[text] = ROOT / text
        elif folder and "." in text and (folder / text).is_file():
            found[f"{package}/{text}"] = folder / text
    return {name: path for name, path in found.items() if path.suffix != ".py"}


# 3. Digests ----------------------------------------------------------------------------------------------------------
def short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:SHORT]


def digest_of_code(statements: Iterable[ast.stmt]) -> str:
    """Return the digest of parsed statements, which know no comments, layout or place."""
    return short_hash("\n".join(map(ast.dump, statements)))


def digest_of_path(path: Path) -> str:
    """Return a short SHA-256 of a file (content and suffix, by which it is read) or of a folder's files and names.

    A model card (.md) may change without changing the model.
    """
    if path.is_file():
        return short_hash(f"{path.suffix} {digest_of_file(path)}")
    files = sorted(file for file in files_below(path) if file.suffix != ".md")
    return short_hash("\n".join(f"{file.relative_to(path).as_posix()} {digest_of_file(file)}" for file in files))


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and its subfolders, linked ones too; a link to a folder above itself ends there."""
    for place, subfolders, names in os.walk(folder, followlinks=True):
        above = {os.path.realpath(each) for each in (place, *Path(place).parents)}
        subfolders[:] = [name for name in subfolders if os.path.realpath(os.path.join(place, name)) not in above]
        yield from (path for name in names if (path := Path(place, name)).is_file())


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file, read once a process as long as it stays as it is."""
    facts = path.stat()
    return _read_file(path, facts.st_mtime_ns, facts.st_size)


@cache
def _read_file(path: Path, modified: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
