"""Code in the keys: a changed module changes the stages that use it and no others; place, user and process change none.

The package is copied into folders of their own, changed there, and asked for its keys by other processes.
"""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from npkit.study import code
from npkit.study.artifacts import NOTEBOOKS, STAGES
from npkit.study.code import Code, code_of, digest_of_path

ROOT = Path(__file__).parent.parent
KEYS = """
import json, sys
from npkit.study import code
from npkit.study.artifacts import STAGES, open_run

def keys():
    code.code_of.cache_clear()
    found = {stage: open_run(stage, "tiny").key for stage in STAGES}
    scores = {name: code.code_of(f"npkit.scoring.{name}").digest for name in ("images", "judges")}
    return found | scores | {"oracle": code.digest_of_function("npkit.glyphworld.people.public:oracle")}
"""
PRINT = KEYS + "print(json.dumps(keys()))"
EACH = KEYS + """
from pathlib import Path
read, memory = code.read_module.__wrapped__, {}  # the cache, but a changed module is read again
code.read_module = lambda name: memory[name] if name in memory else memory.setdefault(name, read(name))
found = {"": keys()}
for name, changed in json.load(sys.stdin).items():
    path, module = Path(code.ROOT, name), name.removesuffix(".py").replace("/", ".")
    before, kept = path.read_text(), memory.pop(module, None)
    path.write_text(changed)
    found[name] = keys()
    path.write_text(before)
    memory[module] = kept or read(module)
print(json.dumps(found))
"""
AFTER_DATA, AFTER_SFT, AFTER_PPO = (  # notebook 03 reads no other stage
    set(list(STAGES)[list(STAGES).index(name):]) - {"reward"} for name in ("data", "sft", "ppo"))
DECODED, JUDGED = {"neurologic", "evaluation", "ablations", "explorer", "preference"}, AFTER_PPO | {"judges"}
CHANGES = {"npkit/text/corpus.py": AFTER_DATA | {"glyphworld"},
           "npkit/text/policy.py": AFTER_SFT,
           "npkit/training/sft.py": AFTER_SFT,
           "npkit/training/ppo.py": AFTER_PPO,
           "npkit/training/ppo_math.py": AFTER_PPO,
           "npkit/training/grpo.py": AFTER_PPO,
           "npkit/neurologic/decoding.py": DECODED,
           "npkit/text/keywords.py": DECODED,
           "npkit/findings/variants.py": DECODED,
           "npkit/findings/evaluation.py": {"evaluation", "ablations", "explorer", "preference"},
           "npkit/findings/baselines.py": {"evaluation", "preference"},
           "npkit/findings/texts.py": {"evaluation", "preference"},
           "npkit/glyphworld/people/faith.py": DECODED - {"explorer"},  # by the settings of `evaluation`
           "npkit/findings/stats.py": {"glyphworld", "reward", "evaluation", "explorer", "preference"},
           "npkit/scoring/judges.py": JUDGED | {"reward"},
           "npkit/scoring/images.py": JUDGED | {"glyphworld", "reward", "images"},
           "npkit/glyphworld/people/public.py": AFTER_PPO | {"glyphworld", "reward", "oracle"},
           "npkit/glyphworld/corpus.py": {*STAGES, "oracle"},
           "npkit/preferences/analysis.py": {"preference"},
           "npkit/preferences/votes.py": {"preference"},
           "npkit/widgets/voting.py": set(),
           "npkit/wishes.py": DECODED,
           "npkit/optimize.py": {"explorer"},
           "npkit/patterns.py": {"explorer"},
           "npkit/widgets/answers.py": {"explorer"},
           "npkit/widgets/explorer.py": {"explorer"},
           "npkit/glyphworld/measure.py": set(),
           "npkit/scoring/cache.py": set(),
           "npkit/figures/ppo.py": set(),
           "npkit/checks/ppo.py": set(),
           "npkit/study/report.py": set(),
           "npkit/study/runner.py": set(),
           "npkit/__main__.py": set()}


def copy_repository(folder: Path) -> Path:
    """Copy package and notebooks, without outputs of any kind; the weights, which nobody changes, are linked."""
    skipped = shutil.ignore_patterns("__pycache__", "weights", "*.svg", "*.png")
    shutil.copytree(ROOT / "npkit", folder / "npkit", ignore=skipped)
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=skipped)
    (folder / "npkit/glyphworld/weights").symlink_to(ROOT / "npkit/glyphworld/weights")
    (folder / "pyproject.toml").touch()
    return folder


def ask(repository: Path, script: str = PRINT, text: str = "", cwd: Path | None = None, **environment: str) -> dict:
    """Return what `script` prints in a process of its own, which imports the package of `repository`."""
    environment = os.environ | environment | {"PYTHONPATH": str(repository)}
    found = subprocess.run([sys.executable, "-c", script], env=environment, cwd=cwd or repository, input=text,
                           capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-3000:]
    return json.loads(found.stdout)


def change_a_function(text: str) -> str:
    """Return a module's text with one more statement before the first `return`."""
    changed = re.sub(r"^( +)return ", r"\1changed = 1\n\1return ", text, count=1, flags=re.MULTILINE)
    assert changed != text
    return changed


def test_a_changed_function_changes_the_keys_of_its_stages_and_no_others(tmp_path):
    repository = copy_repository(tmp_path)
    texts = {name: change_a_function((repository / name).read_text()) for name in CHANGES}
    found = ask(repository, EACH, json.dumps(texts))
    before = found.pop("")
    changed = {name: {stage for stage in before if keys[stage] != before[stage]} for name, keys in found.items()}
    assert changed == CHANGES


def test_comments_docstrings_layout_and_data_files(tmp_path):
    repository = copy_repository(tmp_path)
    texts = {}
    for name in ("npkit/training/sft.py", "npkit/text/corpus.py"):
        text = (repository / name).read_text()
        texts[name] = re.sub(r'^( +)return ', r'\1# a comment\n\1return \\\n\1    ', text, flags=re.MULTILINE)
        texts[name] = re.sub('"""(.)', r'"""Other words. \1', texts[name])
        assert texts[name] != text
    texts["npkit/glyphworld/keywords.toml"] = (repository / "npkit/glyphworld/keywords.toml").read_text() + "\n# more\n"
    found = ask(repository, EACH, json.dumps(texts))
    before, worded = found.pop(""), found.pop("npkit/glyphworld/keywords.toml")
    assert {name for name in before if worded[name] != before[name]} == {*STAGES, "oracle"}
    assert all(keys == before for keys in found.values())


def test_place_user_process_and_hash_seed_change_no_key(tmp_path):
    here = ask(ROOT)
    elsewhere = copy_repository(tmp_path / "another user" / "repository")
    assert ask(elsewhere, cwd=tmp_path, HOME=str(tmp_path), USER="somebody", PYTHONHASHSEED="7",
               NPKIT_HOME=str(tmp_path / "home")) == here
    assert ask(elsewhere, cwd=elsewhere / "notebooks", PYTHONHASHSEED="8") == here


def test_notebooks_count_by_the_cells_that_decide(tmp_path):
    repository = copy_repository(tmp_path)
    path = repository / "notebooks/02_sft.ipynb"
    before = ask(repository)
    notebook = nbformat.read(path, 4)
    notebook.cells.insert(-2, nbformat.v4.new_markdown_cell("More words."))
    notebook.cells.insert(4, nbformat.v4.new_code_cell("played_with = 1  # an exercise"))
    nbformat.write(notebook, path)
    assert ask(repository) == before
    [cell] = [cell for cell in notebook.cells if "run.make(" in cell.source]
    cell.source = cell.source.replace("every=100", "every=200")
    nbformat.write(notebook, path)
    after = ask(repository)
    assert {stage for stage in before if after[stage] != before[stage]} == AFTER_SFT


def test_every_notebook_shows_what_it_makes():
    for stage in STAGES.values():
        found = code_of(notebook=NOTEBOOKS / f"{stage.notebook}.ipynb")
        assert len(found.modules) > 1, stage.notebook


def test_without_notebooks_the_whole_package_counts(tmp_path):
    found = code_of(notebook=tmp_path / "02_sft.ipynb").modules
    assert {"npkit.training.sft", "npkit.training.ppo", "npkit.text.corpus"} <= set(found)
    assert not [name for name in found if name.startswith(("npkit.study", "npkit.figures", "npkit.checks"))]


PACKAGE = {"__init__.py": "def __getattr__(name):\n    from own_package.lazy import anything\n    return anything\n",
           "main.py": "from . import helper\nimport own_package\nfrom own_package.unused import thing\n\n\n"
                      "def start():\n    return helper.add(1)\n\n\ndef other():\n    return own_package.magic\n",
           "helper.py": "def add(x):\n    from own_package.deep import more\n    return more(open('words.txt'))\n",
           "deep.py": "import numpy\n\n\ndef more(x):\n    return numpy.add(x, 1)\n",
           "lazy.py": "anything = 1\n", "unused.py": "thing = 1\n", "words.txt": "a\n"}


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    """A reader's own package, with all that imports can do."""
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "own_package"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / name).write_text(text)
    return folder


def reached(name: str) -> Code:
    code_of.cache_clear()
    code.read_module.cache_clear()
    return code_of(name)


def test_imports_are_followed_where_they_are_used(own_package):
    found = reached("own_package.main:start")
    assert list(found.modules) == [f"own_package.{name}" for name in ("deep", "helper", "main")]
    assert list(found.files) == ["own_package/words.txt"]
    assert {"numpy", "python"} == set(found.libraries)
    assert list(reached("own_package.main:other").modules) == ["own_package", "own_package.lazy", "own_package.main"]
    in_doubt = reached("own_package.main:nobody_knows_this").modules
    assert {f"own_package.{name}" for name in ("main", "helper", "lazy")} <= set(in_doubt), "all that the module holds"


def test_a_star_stands_for_all_that_its_module_holds(own_package):
    (own_package / "helper.py").write_text("from own_package.starred import *\n\n\ndef add(x):\n    return words(x)\n")
    (own_package / "starred.py").write_text("def words(x):\n    return x\n")
    assert "own_package.starred" in reached("own_package.main:start").modules
    (own_package / "main.py").write_text("import own_package.helper as h\n\n\ndef start():\n    return h.words(1)\n")
    assert "own_package.starred" in reached("own_package.main:start").modules


def test_digests_follow_code_and_files(own_package):
    before = reached("own_package.main:start").digest
    (own_package / "lazy.py").write_text("anything = 2\n")
    assert reached("own_package.main:start").digest == before
    (own_package / "words.txt").write_text("b\n")
    changed = reached("own_package.main:start").digest
    assert changed != before
    (own_package / "deep.py").write_text(PACKAGE["deep.py"].replace("1", "2"))
    assert reached("own_package.main:start").digest != changed


def test_installed_functions_have_a_version():
    assert code.digest_of_function("json:loads") != code.digest_of_function("json:dumps")
    with pytest.raises(ImportError):
        code.digest_of_function("nowhere:function")


def test_linked_folders_count_and_a_circle_of_links_ends(tmp_path):
    model, unet = tmp_path / "model", tmp_path / "blobs" / "unet"
    unet.mkdir(parents=True)
    model.mkdir()
    (unet / "weights").write_text("1")
    (model / "unet").symlink_to(unet)
    (unet / "above").symlink_to(tmp_path / "blobs")
    first = digest_of_path(model)
    (unet / "weights").write_text("2, changed")
    assert digest_of_path(model) != first


def test_a_file_is_read_once_and_again_when_it_changes(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a cat")
    code._read_file.cache_clear()
    first = digest_of_path(path)
    assert (digest_of_path(path), code._read_file.cache_info().misses) == (first, 1)
    path.write_text("a cat, oil painting")
    assert digest_of_path(path) != first
    path.rename(tmp_path / "prompts.csv")
    path.write_text("a cat, oil painting")
    assert digest_of_path(tmp_path / "prompts.csv") != digest_of_path(path), "the suffix says how it is read"
