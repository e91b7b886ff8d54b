"""Installation: environment.yml, pyproject.toml and requirements.lock say the same, and nothing of one machine."""
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().splitlines()
            if not line.startswith("#"))


def declared() -> list[str]:
    """Return the names of all dependencies of pyproject.toml, those for development included."""
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return [Requirement(text).name for requirements in lists for text in requirements]


def test_environment_lists_what_pyproject_lists():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    assert [name for name in pip if not name.startswith("--")] == declared()
    assert [name for name in pip if name.startswith("--")] == ["--constraint requirements.lock", "--editable ."]
    assert "python=3.11" in environment
    assert PROJECT["requires-python"] == ">=3.11"


def test_lock_pins_every_dependency_exactly():
    assert {canonicalize_name(name) for name in declared()} <= set(LOCK)
    assert all(re.fullmatch(r"\d[\w.]*", version) for version in LOCK.values())
    assert LOCK["torch"] == "2.13.0"
    assert not [name for name in LOCK if name.startswith("nvidia") or name == "torchvision"]


def test_lock_is_what_is_installed():
    from importlib.metadata import version
    wrong = {name: (version(name), wanted) for name, wanted in LOCK.items() if version(name).split("+")[0] != wanted}
    assert not wrong


@pytest.mark.parametrize("name", ["pyproject.toml", "environment.yml", "requirements.lock", "Makefile", ".ci/run"])
def test_no_path_or_address_of_a_machine(name):
    assert not re.search(r"https?://|file://|(?<![\w.])/(work|tmp|root|home|opt)/", (ROOT / name).read_text())


def test_what_the_package_reads_is_shipped():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["npkit"]
    shipped = {path for pattern in patterns for path in (ROOT / "npkit").glob(pattern) if path.is_file()}
    read = ("*.toml", "*.safetensors", "*.json", "*.j2", "*.css")
    needed = {path for suffix in read for path in (ROOT / "npkit").rglob(suffix)}
    assert needed
    assert needed <= shipped


def test_unsupported_python_is_refused_with_a_sentence():
    check = re.search(r"\$\(PYTHON\) -c '(.*?)'\n", (ROOT / "Makefile").read_text(), re.DOTALL)[1]
    check = check.replace("\\\n", "").replace("$(PYTHON)", "p")
    old = "import sys; sys.version_info, sys.version = (3, 10, 2), '3.10.2 (main)'\n"
    found = subprocess.run([sys.executable, "-c", old + check], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert found.stderr == ("npkit needs Python 3.11 or newer, p is 3.10.2: "
                            "name another, as in make study PYTHON=python3.11\n")
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
