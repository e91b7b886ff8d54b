"""`npkit optimize --explain` and `--min-gain`: tables, JSON, pictures, decisions, and a sentence for each mistake."""
import io
import json
import re
import zlib
from types import SimpleNamespace

import fixtures_models as fixtures
import pytest
import torch
from PIL import Image

from npkit.__main__ import main
from npkit.findings.stats import Interval
from npkit.neurologic import certify
from npkit.optimize import Optimized, decide, with_ledgers, with_scores
from npkit.scoring.cache import ScoreCache
from npkit.scoring.rewards import Scorer
from npkit.study.profiles import load_profile
from npkit.wishes import read_wishes

ASKED = ["--require", "moody", "--require", "bokeh"]


class Painter:
    """An image model that paints noise, from prompt and seed; it costs nothing."""
    config, fingerprint, max_tokens = SimpleNamespace(batch_size=2), "noise", 77

    def num_tokens(self, prompts):
        return [5] * len(prompts)

    def render(self, prompts, seeds):
        drawn = [torch.Generator().manual_seed(zlib.crc32(f"{prompt}{seed}".encode()))
                 for prompt, seed in zip(prompts, seeds, strict=True)]
        return torch.stack([torch.rand(3, 32, 32, generator=generator) for generator in drawn])


class Watcher:
    """A judge that gives a picture its mean brightness; nothing to one whose prompt `fails` says true of."""
    needs_pictures, note = True, ""

    def __init__(self, name, fails=lambda prompt: False):
        self.fingerprint, self.fails = name, fails

    def __call__(self, prefixes, prompts, pictures):
        wrong = torch.tensor([self.fails(prompt) for prompt in prompts])
        return pictures.mean((1, 2, 3)).masked_fill(wrong, torch.nan)


@pytest.fixture
def judges(monkeypatch):
    """The judges of `optimize`, which may be replaced; whatever the profile says, no model is loaded."""
    found = {name: Watcher(name) for name in ("pickscore", "aesthetic", "heldout", "oracle")}
    monkeypatch.setattr("npkit.optimize.load_scorer", lambda *_: Scorer(Painter(), found, ScoreCache(),
                                                                         keep_pictures=True))
    return found


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    """The options of a small random policy, which without clauses writes nothing."""
    folder = fixtures.save_random_policy(tmp_path_factory.mktemp("policy"))
    return ["--policy", folder, "--beam", "2", "--no-defaults", "--max-new-tokens", "12"]


@pytest.fixture
def options(policy, judges):
    """The same, with pictures that cost nothing."""
    return [*policy, "--pictures", "2"]


@pytest.fixture
def talkative(monkeypatch):
    """Let the policy add ", bokeh, moody" to every prompt, whatever is asked."""
    monkeypatch.setattr("npkit.optimize.optimize", lambda prompts, policy, wishes, *_, **__: [
        Optimized(text, f"{text}, bokeh, moody", certify(wishes(text), f"{text}, bokeh, moody", text), -9.0)
        for text in prompts])


def ask(*words) -> int:
    return main(["optimize", *words])


def gaining(monkeypatch, low: float) -> None:
    """Let every optimised prompt gain 1, with an interval that begins at `low`."""
    monkeypatch.setattr("npkit.findings.ledger.gain_over_prefix", lambda *arguments: Interval(1.0, low, 2.0 - low, 8))


HEAD = r"^  modifier +category +pickscore \(paid\) +aesthetic +heldout +oracle$"
ROW = r"^  (.*?) +(\S+)(?: +[+-]\d\.\d\d \[-?\d\.\d\d, -?\d\.\d\d\]){4}$"


def test_a_ledger_is_printed_and_its_pictures_lie_beside(options, capsys, tmp_path):
    assert ask("a fox", *ASKED, *options, "--explain", "--out", str(tmp_path / "fox.png")) == 0
    printed = capsys.readouterr()
    assert re.search(HEAD, printed.out, re.MULTILINE)
    assert {("moody", "vibe"), ("bokeh", "perspective")} <= set(re.findall(ROW, printed.out, re.MULTILINE))
    assert "mean of 2 pictures [95 %]" in printed.out and "  all together " in printed.out
    with Image.open(tmp_path / "fox.png") as pair, Image.open(tmp_path / "fox-ledger.png") as strip:
        assert strip.width > 2 * strip.height and pair.width < 2 * pair.height
    assert printed.err == f"npkit: saved {tmp_path / 'fox.png'}\nnpkit: saved {tmp_path / 'fox-ledger.png'}\n"


def test_every_line_has_a_ledger_of_its_own(options, talkative, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a fox\n\na cat\n")))
    assert ask("-", *options, "--explain", "--json") == 1
    fox, blank, cat = map(json.loads, capsys.readouterr().out.splitlines())
    assert list(blank) == ["prompt", "error"] and list(fox)[-2:] == ["scores", "ledger"]
    assert [row["without"] for row in cat["ledger"]["modifiers"]] == ["a cat, moody", "a cat, bokeh"]
    assert cat["ledger"]["prompt"] == cat["optimized"] and cat["ledger"]["picture_seeds"] == [1_000_000, 1_010_000]
    assert fox["ledger"]["total"] != cat["ledger"]["total"]
    assert ask("a cat", *options, "--explain", "--json") == 0
    assert json.loads(capsys.readouterr().out) == cat


def test_a_ledger_as_json(options, talkative, capsys):
    assert ask("a fox", *options, "--explain", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["ledger"]) == ["prompt", "picture_seeds", "modifiers", "total", "interaction", "notes", "failed"]
    _, moody = found["ledger"]["modifiers"]
    assert (moody["modifier"], moody["category"], moody["count"]) == ("moody", "vibe", 1)
    assert list(moody["gain"]) == ["pickscore", "aesthetic", "heldout", "oracle"]
    assert list(moody["gain"]["pickscore"]) == ["mean", "low", "high", "n"]
    assert found["scores"] is None and found["ledger"]["failed"] == {}


def test_a_judge_that_fails_on_one_picture_costs_no_other(options, talkative, judges, capsys):
    judges["heldout"] = Watcher("unsure", lambda prompt: prompt == "a fox, moody")
    assert ask("a fox", *options, "--explain") == 1
    printed = capsys.readouterr()
    assert re.search(HEAD.replace(" +heldout", ""), printed.out, re.MULTILINE)
    assert re.fullmatch(r"npkit: the ledger lacks a judge: the judge heldout must return finite numbers: it did not "
                        r"for \d+ of \d+ prompts, such as 'a fox, moody'\n", printed.err)


def test_an_empty_ledger_is_said(options, capsys, tmp_path):
    assert ask("a fox", *options, "--explain", "--out", str(tmp_path / "fox.png")) == 0
    assert "\nledger of 'a fox': the policy added no modifier\n" in capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("fox*")] == ["fox.png"]


@pytest.mark.parametrize(("low", "kept"), [(-0.1, True), (0.0, True), (0.2, False)])
def test_the_users_prompt_is_kept_unless_the_interval_lies_above(options, talkative, capsys, monkeypatch, low, kept):
    gaining(monkeypatch, low)
    assert ask("a fox", *options, "--min-gain", "0", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optimized"] == ("a fox" if kept else "a fox, bokeh, moody")
    assert found["logprob"] == (None if kept else -9.0)
    assert found["decision"] == {
        "kept": kept, "why": f"pickscore gains +1.00 [{low:.2f}, {2 - low:.2f}] over 8 pictures, "
                             f"{'not ' if kept else ''}above 0",
        "judge": "pickscore", "gain": {"mean": 1.0, "low": low, "high": 2.0 - low, "n": 8}, "min_gain": 0.0,
        "rejected": "a fox, bokeh, moody" if kept else None}


def test_a_decision_in_words_with_ledger_and_pictures_of_what_was_rejected(options, talkative, capsys, tmp_path):
    assert ask("a fox", *options, "--min-gain", "100", "--explain", "--scores", "--out", str(tmp_path / "a.png")) == 0
    printed = capsys.readouterr().out
    first, kept, rejected = printed.splitlines()[:3]
    assert first == "a fox" and rejected == "  rejected     a fox, bokeh, moody"
    assert re.fullmatch(r"  kept your own pickscore gains .* over 2 pictures, not above 100", kept)
    assert "\nledger of 'a fox, bokeh, moody'\n" in printed and "(+0.000)" in printed
    assert (tmp_path / "a-ledger.png").exists()


def test_pictures_of_many_seeds_are_not_kept(options, talkative):
    scorer = Scorer(Painter(), {"pickscore": Watcher("a")}, ScoreCache(), keep_pictures=True)
    found = [Optimized("a fox", "a fox, moody", None, -1.0)]
    with_scores(found, scorer, 0)
    with_ledgers(found, scorer, load_profile("tiny"), range(3))
    assert list(scorer.kept) == [("a fox", 0), ("a fox, moody", 0)]


def test_a_policy_that_adds_nothing_is_not_painted(options, judges, capsys):
    judges["pickscore"] = Watcher("blind", lambda prompt: True)
    assert ask("a fox", *options, "--min-gain", "0") == 0
    assert capsys.readouterr().out == "a fox\n  kept your own the policy added nothing\n"


def test_what_the_user_demanded_is_never_given_up(options, capsys, monkeypatch):
    gaining(monkeypatch, -0.5)
    assert ask("a fox", "--style", "cubism", "--require", "moody", *options, "--min-gain", "0", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert "cubism" in found["optimized"] and found["decision"]["kept"] is False
    assert found["decision"]["why"].endswith(
        "not above 0; but your own prompt lacks what you demanded (style, require)")
    assert ask("a moody fox", "--require", "moody", *options, "--min-gain", "0", "--json") == 0
    assert json.loads(capsys.readouterr().out)["optimized"] == "a moody fox"


def test_default_clauses_bind_nobody():
    wishes = read_wishes(load_profile("tiny"), seed=0)
    found = Optimized("a fox", "a fox, moody", None, -3.0)
    answer = decide(found, Interval(0.0, -1.0, 1.0, 8), 0.0, "pickscore", wishes)
    assert answer.optimized == "a fox" and len(answer.certificate.clauses) == 6 and not answer.certificate.holds


def test_a_paid_judge_that_fails_decides_nothing(options, talkative, judges, capsys, monkeypatch):
    judges["pickscore"] = Watcher("unsure", lambda prompt: "cat" in prompt)
    assert ask("a cat", *options, "--min-gain", "0") == 2
    sentence = ("whether the optimised prompt is better cannot be said: the judge pickscore must return finite "
                "numbers: it did not for 2 of 2 prompts, such as 'a cat'\n")
    assert capsys.readouterr().err == f"npkit: {sentence}"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a fox\na cat\n")))
    assert ask("-", *options, "--min-gain", "-5") == 1
    printed = capsys.readouterr()
    assert printed.err == f"npkit: line 2: {sentence}" and printed.out.startswith("a fox, bokeh, moody\n  optimised ")


@pytest.mark.parametrize(("words", "sentence"), [
    (["--min-gain", "much"], "argument --min-gain: 'much' is no number, such as 0.25"),
    (["--min-gain", "nan"], "argument --min-gain: 'nan' is no number"),
    (["--min-gain", "0", "--pictures", "1"], "--pictures is 1: an interval needs at least 2 pictures"),
    (["--pictures", "4"], "it goes with --explain or --min-gain"),
    (["--explain", "--out", f"{'a' * 245}.png"], "writes " + "a" * 245 + "-ledger.png beside it, which cannot")])
def test_mistakes_are_one_sentence(capsys, monkeypatch, tmp_path, words, sentence):
    monkeypatch.chdir(tmp_path)
    try:
        code = ask("a fox", "--policy", str(tmp_path), *words)
    except SystemExit as error:  # of the parser
        code = error.code
    printed = capsys.readouterr()
    assert code == 2 and sentence in printed.err and printed.err.count("\n") == 1 and printed.out == ""


def test_a_full_disk_keeps_what_was_printed(options, talkative, capsys, small_disk):
    (small_disk / "full").write_bytes(bytes(4 * 2**20 - 40_000))
    assert ask("a fox", *options, "--explain", "--out", str(small_disk / "fox.png")) == 2
    printed = capsys.readouterr()
    assert "  all together " in printed.out and "cannot be written" in printed.err
    assert not list(small_disk.glob(".npkit*"))
