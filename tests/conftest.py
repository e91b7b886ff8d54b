"""Fixtures of every test: a home of its own for what a test writes, and the project's shared folder."""
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
REWARDED_FOR_WORDS = ["ppo.reward_judge=oracle", "judges.oracle.kind=text_function", "judges.oracle.head=",
                      "judges.oracle.model=npkit.glyphworld.people.public:liked_words"]  # PPO that needs no pictures


def pytest_collection_modifyitems(items):
    """Files with slow tests first: of the processes of `make test`, one begins with the study and none waits for it."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def npkit_home(tmp_path, monkeypatch) -> Path:
    """A fresh $NPKIT_HOME for each test: no test reads or writes the repository's artifacts."""
    home = tmp_path / "home"
    monkeypatch.setenv("NPKIT_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def own_threads() -> Iterator[None]:
    """Give back the CPU threads that a run's settings put in force: with another number, sums round differently."""
    import torch
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def shell():
    """IPython in this process: a kernel takes ten seconds to start.

    It puts a module of its own in the place of `__main__`, from which later tests could start no process.
    """
    from IPython.core.interactiveshell import InteractiveShell
    before = sys.modules["__main__"]
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = before


@pytest.fixture
def shared() -> Path:
    """The folder of real prompts and weights beside the repository; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no ../shared beside the repository")
    return folder


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 4 MiB; tests that need one skip where nobody may mount it."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
