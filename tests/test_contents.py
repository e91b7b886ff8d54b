"""Contents: names in settings are told by what is behind them; a path means the same in every folder."""
import pytest

from npkit.errors import NpkitError
from npkit.study.contents import fingerprint, locate, resolve
from npkit.study.profiles import load_profile, parse_settings


def test_resolve_knows_what_the_package_ships():
    assert resolve("npkit/study/profiles.toml").endswith("profiles.toml")
    assert resolve("openai-community/gpt2") == "openai-community/gpt2"


def test_fingerprint_follows_content_not_time_or_model_card(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    before = fingerprint(str(tmp_path))
    (tmp_path / "README.md").write_text("a card")
    assert fingerprint(str(tmp_path)) == before
    (tmp_path / "model" / "weights").write_text("2")
    assert fingerprint(str(tmp_path)) != before


def test_fingerprint_of_code_and_hub():
    assert fingerprint("npkit.text.corpus:prepare") != fingerprint("npkit.text.keywords:load")
    assert fingerprint("openai-community/gpt2") == "openai-community/gpt2"
    with pytest.raises(NpkitError, match="neither a file nor a Python module:function"):
        fingerprint("npkit.nowhere:function")


@pytest.mark.parametrize(("setting", "name"), [
    ("data.source", "prompts.txt"), ("data.source", "./prompts.txt"), ("neurologic.keywords", "prompts.txt"),
    ("policy.pretrained", "./model"), ("judges.pickscore.model", "./model"), ("images.model", "~/model"),
])
def test_paths_in_settings_become_absolute(tmp_path, monkeypatch, setting, name):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    (tmp_path / "prompts.txt").touch()
    wanted = str(tmp_path / name.strip("./~"))
    assert parse_settings([f"{setting}={name}"]) == locate({setting: name}) == {setting: wanted}
    monkeypatch.chdir("/")
    assert parse_settings([f"{setting}={wanted}"]) == {setting: wanted}


def test_a_link_keeps_the_name_that_was_typed(tmp_path, monkeypatch):
    (tmp_path / "blob").write_text("a cat")
    (tmp_path / "metadata.parquet").symlink_to(tmp_path / "blob")
    monkeypatch.chdir(tmp_path)
    assert load_profile("small").data.source == str(tmp_path / "metadata.parquet")


def test_a_file_is_looked_for_here_and_in_the_home_of_npkit(tmp_path, npkit_home, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_profile("small").data.source == "metadata.parquet", "nobody has asked for it yet"
    npkit_home.mkdir()
    (npkit_home / "metadata.parquet").touch()
    assert load_profile("small").data.source == str(npkit_home / "metadata.parquet")
    (tmp_path / "metadata.parquet").touch()
    assert load_profile("small").data.source == str(tmp_path / "metadata.parquet")


@pytest.mark.parametrize(("setting", "words"), [
    ("data.source=nowhere.jsonl", "nowhere.jsonl does not exist (data.source; looked in "),
    ("policy.pretrained=./nowhere", "./nowhere does not exist (policy.pretrained; looked in "),
    ("images.model=/nowhere/model", "/nowhere/model does not exist (images.model)"),
    ("judges.aesthetic.head=~/nowhere.pth", "~/nowhere.pth does not exist (judges.aesthetic.head)"),
    ("policy.pretrained=org/model", "'org/model' is a folder or file here and would be an id of the hub elsewhere"),
])
def test_paths_that_lead_nowhere_and_names_that_may_be_paths_are_refused(tmp_path, monkeypatch, setting, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "model").mkdir(parents=True)
    with pytest.raises(NpkitError) as caught:
        parse_settings([setting])
    assert words in str(caught.value)


def test_hub_ids_functions_and_addresses_are_no_paths():
    settings = {"policy.pretrained": "org/model", "judges.aesthetic.head": "org/model:head.pth", "ppo.kl_coef": 0.1,
                "data.source": "npkit.glyphworld.corpus:generate", "policy.architecture": "./gpt2",
                "sft.max_steps": None}
    assert locate(settings) == settings
