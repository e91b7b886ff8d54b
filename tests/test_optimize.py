"""Optimise: the command line's promises, its JSON, its pictures, and one sentence for every mistake."""
import io
import json
import re
from argparse import Namespace

import fixtures_models as fixtures
import pytest
from PIL import Image

from npkit.__main__ import build_parser, main
from npkit.errors import NpkitError
from npkit.neurologic import Constraints, any_of, certify
from npkit.optimize import Optimized, constraints_for, optimize, run_command
from npkit.study.profiles import PolicyConfig, load_profile
from npkit.text.policy import build_policy, load_policy, save_policy

TEXTS = ["a castle tower, pixel art, moody, highly detailed", "a fox, oil painting, greg rutkowski, close up"] * 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small random policy."""
    folder = tmp_path_factory.mktemp("policy")
    save_policy(*build_policy(PolicyConfig(num_layers=1, hidden_size=16, vocab_size=330), TEXTS, seed=0), folder)
    return str(folder)


def command(folder, *words):
    return main(["optimize", *words, "--policy", folder, "--beam", "2", "--no-defaults"])


def test_json_is_what_the_design_says(folder, capsys):
    assert command(folder, "a castle tower", "--style", "pixel art", "--style", "Pop Art", "--require", "moody",
                   "--exclude", "fox", "--exclude", "8k", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["prompt", "optimized", "clauses", "excluded", "logprob", "scores"]
    assert found["prompt"] == "a castle tower" and found["optimized"].startswith("a castle tower")
    assert found["scores"] is None and found["excluded"] == ["fox", "8k"] and found["logprob"] < 0
    style, require = found["clauses"]
    assert style["category"] == "style" and style["any_of"] == ["pixel art", "Pop Art"]
    assert style["satisfied_by"].lower() in ("pixel art", "pop art") and require["satisfied_by"] == "moody"
    for clause in (style, require):
        assert found["optimized"][clause["start"]:clause["end"]] == clause["satisfied_by"]


def test_words_for_people(folder, capsys):
    assert command(folder, "a moody fox", "--vibe", "moody", "--format", "oil painting", "--exclude", "8k") == 0
    optimized, medium, vibe, absent = capsys.readouterr().out.splitlines()
    assert "oil painting" in optimized and optimized.count("moody") == 1
    assert medium.split() == ["format", "'oil", "painting'", "(any", "of:", "oil", "painting)"]
    assert vibe == "  vibe         'moody', in your own words (any of: moody)"
    assert absent == "  excluded     '8k' is absent"


def test_prices_on_request(folder, capsys):
    assert command(folder, "a moody fox", "--vibe", "moody", "--format", "oil painting", "--prices", "--json") == 0
    medium, vibe = json.loads(capsys.readouterr().out)["clauses"]
    assert medium["price"] > 1 and vibe["price"] == pytest.approx(0, abs=1e-3)
    assert command(folder, "a fox", "--format", "oil painting", "--prices") == 0
    assert re.search(r"'oil painting', costs \d+\.\d\d nats \(any of", capsys.readouterr().out)


def test_living_artists_are_left_out():
    profile = load_profile("tiny", {"neurologic.living_artists": False, "neurologic.block": "^warhol|vivid"})
    constraints = constraints_for(profile, {}, exclude=["8k"], seed=0)
    assert constraints.excluded == ("8k", "greg rutkowski")
    drawn = {literal.phrase for seed in range(20) for _, clause in constraints_for(profile, {}, seed=seed).wanted
             for literal in clause}
    assert "alphonse mucha" in drawn and "andy warhol" in drawn and not {"greg rutkowski", "vivid"} & drawn
    named = constraints_for(profile, {"artist": ["Greg Rutkowski"]}, seed=None)
    assert named.excluded == () and named.wanted[0][0] == "artist"


def test_standard_input_is_decoded_line_by_line(folder, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("a fox\n\n a castle \n"))
    assert command(folder, "-", "--require", "moody", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows] == ["a fox", "a castle"]
    assert command(folder, "a castle", "--require", "moody", "--json") == 0
    assert json.loads(capsys.readouterr().out)["optimized"] == rows[1]["optimized"]


@pytest.mark.parametrize(("words", "sentence"), [
    (["  "], "the prompt is empty"),
    (["a fox " * 40], "tokens, the policy's limit is 32"),
    (["a fox", "--require", "8k", "--exclude", "8K"], "both required (require) and excluded"),
    (["a fox", "--style", "dark fog", "--exclude", "fog"], "contains the excluded 'fog'"),
    (["a fox", "--exclude", "fox"], "the prefix itself contains the excluded 'fox'"),
    (["a fox", "--style", ""], "at least one word"),
    (["a fox", "--require", "moody " * 60], "max_new_tokens is 48"),
    (["a fox", "--seed", "-1"], "--seed is 0 or more"),
    (["a fox", "--beam", "0"], "neurologic.beam_size must be 1 or more"),
    (["a fox", "--profile", "big"], "unknown profile 'big'"),
])
def test_mistakes_are_one_sentence_and_exit_code_2(folder, capsys, tmp_path, words, sentence):
    out = tmp_path / "fox.png"
    assert main(["optimize", *words, "--policy", folder, "--no-defaults", "--out", str(out)]) == 2
    output = capsys.readouterr()
    assert output.out == "" and sentence in output.err and output.err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(("words", "sentence"), [
    (["--policy", "ppo"], "run `make study` first"), (["--policy", "sft"], "no trained sft policy"),
    (["--policy", "nowhere"], "there is no folder 'nowhere'"), (["--out", "nowhere/a.png"], "cannot be written")])
def test_what_is_missing_is_said(capsys, words, sentence):
    assert main(["optimize", "a fox", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_defaults_are_drawn_by_seed_and_own_words_are_allowed():
    profile = load_profile("tiny")
    first, again, other = (constraints_for(profile, {"style": ["my own style"]}, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert [category for category, _ in first.wanted] == ["style", "artist", "format", "perspective", "booster", "vibe"]
    assert [len(clause) for _, clause in first.wanted] == [1, 5, 5, 5, 5, 5]
    assert constraints_for(profile, {}, seed=None).wanted == ()


def test_every_default_clause_is_met_by_any_policy(folder):
    profile = load_profile("tiny", {"neurologic.beam_size": 2})
    constraints = constraints_for(profile, {}, exclude=["8k"], seed=3)
    for found in optimize(["a fox", "two cats on the moon"], load_policy(folder), constraints, profile):
        assert found.certificate.holds and len(found.certificate.clauses) == 6
    with pytest.raises(NpkitError, match="prefix is empty"):
        optimize([" "], load_policy(folder), constraints, profile)


def test_pictures_and_scores(folder, tmp_path, capsys):
    models = fixtures.save_pipeline(tmp_path / "diffusion"), fixtures.save_clip(tmp_path / "clip", size=32)
    head = fixtures.save_head(tmp_path / "head.safetensors")
    settings = [f"images.model={models[0]}", "images.height=32", "images.width=32", "images.num_inference_steps=1",
                "images.batch_size=2", f"judges.aesthetic.head={head}"]
    settings += [f"judges.{judge}.model={models[1]}" for judge in ("pickscore", "aesthetic", "heldout")]
    out = tmp_path / "pictures.png"
    args = build_parser().parse_args(["optimize", "a fox", "--require", "moody", "--policy", folder, "--out", str(out),
                                      "--no-defaults", "--max-new-tokens", "12", "--json"])
    assert run_command(Namespace(**vars(args) | {"settings": settings})) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert list(scores) == ["pickscore", "aesthetic", "heldout", "oracle"]
    width, height = Image.open(out).size
    assert width > 1.5 * height > 600
    assert [path.name for path in out.parent.glob("*.png*")] == ["pictures.png"]


def test_a_clause_that_allows_nothing_is_reported():
    wanted = Constraints((("style", any_of("ink", "oil", min_count=0, max_count=1)),))
    report = Optimized("a fox", "a fox", certify(wanted, "a fox", "a fox"), -1.0).report()
    assert "style        nothing, which it allows (any of: ink, oil)" in report
