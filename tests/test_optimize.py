"""Optimise: the command line's promises, its JSON, its pictures, and one sentence for every mistake."""
import io
import json
import random
import re
from functools import partial
from types import SimpleNamespace

import fixtures_models as fixtures
import pytest
from PIL import Image

from npkit import optimize as engine
from npkit.__main__ import main
from npkit.commands.optimize import describe, phrases
from npkit.errors import NpkitError
from npkit.glyphworld.corpus import generate
from npkit.neurologic import Constraints, any_of, certify, decode
from npkit.optimize import Optimized, Refused, optimize, optimize_each
from npkit.scoring.images import ImageModel
from npkit.study.profiles import load_profile
from npkit.text.characters import tidy
from npkit.text.policy import fits, load_policy, train_tokenizer
from npkit.wishes import read_wishes, tidied


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a small random policy."""
    return fixtures.save_random_policy(tmp_path_factory.mktemp("policy"))


def command(folder, *words):
    return main(["optimize", *words, "--policy", folder, "--beam", "2", "--no-defaults"])


def test_json_is_what_the_design_says(folder, capsys):
    assert command(folder, "a castle tower", "--style", "pixel art", "--style", "Pop Art", "--require", "moody",
                   "--exclude", "fox, 8k", "--json") == 0
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
    constraints = read_wishes(profile, exclude=["8k"], seed=0)("a fox")
    assert constraints.excluded == ("8k", "greg rutkowski")
    drawn = {literal.phrase for seed in range(20) for _, clause in read_wishes(profile, seed=seed)("a fox").wanted
             for literal in clause}
    assert "alphonse mucha" in drawn and "andy warhol" in drawn and not {"greg rutkowski", "vivid"} & drawn
    named = read_wishes(profile, {"artist": ["Greg Rutkowski"]}, seed=None)("a fox")
    assert named.excluded == () and named.wanted[0][0] == "artist"


def type_in(monkeypatch, content: bytes) -> None:
    """Let standard input hold `content`."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8"))


LINES = [b"a fox", b"", b"\xff\xfea castle", "\ufeffa castle\r".encode(), b"a fox " * 100, b"a\0cat", b"a red bottle",
         "\u200ba castle\u3000".encode(), "ｔｗｏ ｃａｔｓ".encode()]


def test_every_line_of_standard_input_answers_for_itself(folder, capsys, monkeypatch):
    type_in(monkeypatch, b"\n".join(LINES) + b"\n")
    assert command(folder, "-", "--require", "moody", "--exclude", "Red Bottle", "--json") == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["prompt"] for row in rows if "optimized" in row] == ["a fox", "a castle", "a castle", "two cats"]
    assert {number: row["typed"] for number, row in enumerate(rows, 1) if "typed" in row} == {
        4: "\ufeffa castle", 5: "a fox " * 100, 8: "\u200ba castle\u3000", 9: "ｔｗｏ ｃａｔｓ"}
    assert {number: row["error"].partition(":")[0] for number, row in enumerate(rows, 1) if "error" in row} == {
        2: "the prefix is empty", 3: "the line is not UTF-8", 6: "the line holds a NUL",
        5: "prefix has 299 tokens, the policy's limit is 128 (policy.max_prefix_tokens; shorten the prefix)",
        7: "the prompt itself contains the excluded 'Red Bottle'"}
    assert [list(row) for row in rows if "error" in row] == [["prompt", "error"]] * 2 + [
        ["prompt", "typed", "error"]] + [["prompt", "error"]] * 2
    assert list(rows[3])[:3] == ["prompt", "typed", "optimized"]
    assert command(folder, "a castle", "--require", "moody", "--exclude", "Red Bottle", "--json") == 0
    assert json.loads(capsys.readouterr().out)["optimized"] == rows[3]["optimized"] == rows[7]["optimized"]


def test_lines_of_a_file_from_windows_are_as_typed(folder, capsys, monkeypatch):
    type_in(monkeypatch, b"a fox\r\na  castle\r\n")
    assert command(folder, "-", "--json") == 0
    fox, castle = map(json.loads, capsys.readouterr().out.splitlines())
    assert "typed" not in fox and (castle["prompt"], castle["typed"]) == ("a castle", "a  castle")


@pytest.mark.parametrize(("max_new_tokens", "sentence"), [
    (100, "prefix has 119 tokens, the policy's limit is 92 (its 192 positions (n_positions) less 100 of max_new"),
    (192, "max_new_tokens is 192, and the policy's 192 positions (n_positions) leave no room for a prefix")])
def test_the_limit_of_a_prompt_is_explained(folder, capsys, max_new_tokens, sentence):
    assert command(folder, "a fox " * 40, "--max-new-tokens", str(max_new_tokens)) == 2
    assert sentence in capsys.readouterr().err


def test_clauses_that_do_not_fit_say_which_are_default_ones(folder, capsys, monkeypatch):
    short = ["--policy", folder, "--beam", "2", "--max-new-tokens", "3"]
    assert main(["optimize", "a fox", "--style", "ink", *short]) == 2
    advice = ("max_new_tokens is 3; the clauses of artist, format, perspective, booster, vibe are default ones, which "
              "--no-defaults leaves out, and a larger --max-new-tokens gives more room\n")
    assert capsys.readouterr().err.endswith(advice)
    type_in(monkeypatch, b"a fox\na cat\n")
    assert main(["optimize", "-", "--style", "ink", *short]) == 1
    assert capsys.readouterr().err.count(advice) == 2
    assert main(["optimize", "a fox", "--require", "fog, rain", "--exclude", ", rain", "--no-defaults", *short]) == 2
    assert "gives more room" not in capsys.readouterr().err
    assert main(["optimize", "a fox", "--require", "moody moody moody", "--no-defaults", *short]) == 2
    assert capsys.readouterr().err.endswith("max_new_tokens is 3; a larger --max-new-tokens gives more room\n")


def test_lines_that_cannot_be_taken_are_told_by_number(folder, capsys, monkeypatch):
    type_in(monkeypatch, b"a fox\n\na castle\n\xc3\x28")
    assert command(folder, "-", "--require", "moody") == 1
    output = capsys.readouterr()
    assert re.findall(r"^a (\w+)", output.out, re.MULTILINE) == ["fox", "castle"]
    assert output.err == ("npkit: line 2: the prefix is empty: the policy needs at least one word to continue\n"
                          "npkit: line 4: the line is not UTF-8: byte 0xc3 at 1\n")
    type_in(monkeypatch, b"\n \n")
    assert command(folder, "-") == 2
    assert "standard input is empty" in capsys.readouterr().err


def test_one_prompt_that_decoding_refuses_costs_no_other(folder, monkeypatch):
    sizes = []

    def decode_good(model, tokenizer, prefixes, constraints, config):
        if bad := next((prefix for prefix in prefixes if "bad" in prefix), None):
            raise NpkitError(f"no text for {bad}")
        sizes.append(len(prefixes))
        return decode(model, tokenizer, prefixes, constraints, config)

    monkeypatch.setattr(engine, "decode_as_set", decode_good)
    prompts = [f"a fox {number}" for number in range(8)]
    prompts[2], prompts[7] = "a bad fox", "another bad one"
    profile = load_profile("tiny", {"neurologic.beam_size": 2, "neurologic.max_new_tokens": 4})
    answers = optimize_each(prompts, load_policy(folder), read_wishes(profile, seed=None), profile)
    assert [each.prompt for each in answers] == prompts
    assert [each.error for each in answers if isinstance(each, Refused)] == [f"no text for {prompts[index]}"
                                                                            for index in (2, 7)]
    assert sizes == [2, 1, 2, 1]


@pytest.mark.parametrize(("text", "found"), [
    ("8k, fog, moody", ["8k", "fog", "moody"]), ("8k", ["8k"]), (" pixel  art ,, pop art,", ["pixel  art", "pop art"]),
    ('"oil, on canvas", fog', ["oil, on canvas", "fog"]), ('fog,"a, b"', ["fog", "a, b"]),
    ("雾，夜、雨", ["雾", "夜", "雨"]),
    ('a "quoted" word', ['a "quoted" word']), ('"say ""boo"""', ['say "boo"']), ("fog,\nrain", ["fog", "rain"]),
    ("l'art, 5\" pipe", ["l'art", '5" pipe'])])
def test_commas_separate_phrases_unless_quoted(text, found):
    assert phrases("exclude", [text]) == [" ".join(phrase.split()) for phrase in found]
    assert phrases("exclude", [text, "last"])[-1] == "last"


@pytest.mark.parametrize("text", ['"oil, fog', '"oil" paint, fog', "", " , ", '""'])
def test_a_phrase_is_never_lost(text):
    with pytest.raises(NpkitError, match="--exclude"):
        phrases("exclude", [text])


@pytest.mark.parametrize(("text", "found"), [
    ("\ufeffa fox", "a fox"), ("a\u200b fo\u00adx", "a fox"), ("rene\u0301", "rené"), ("８ｋ　Ａrt", "8k Art"),
    ("  a\tfox\r\n", "a fox"), ("一只猫，50％", "一只猫，50％"), ("m² ½ ﬁ", "m² ½ ﬁ")])
def test_prompts_and_phrases_are_tidied_alike(text, found):
    assert tidied(text) == found
    if found:
        profile = load_profile("tiny")
        constraints = read_wishes(profile, {"style": [text]}, [text + " one"], [text + " two"], seed=None)("")
        assert constraints.wanted[0][1].literals[0].phrase == found
        assert constraints.wanted[1][1].literals[0].phrase == found + " one"
        assert constraints.excluded == (found + " two",)
        assert certify(constraints, f"{found} two").violations


def test_a_string_is_one_phrase():
    constraints = read_wishes(load_profile("tiny"), {"style": "pixel art"}, "two cats", "8k", seed=None)("")
    assert [[literal.phrase for literal in clause] for _, clause in constraints.wanted] == [["pixel art"], ["two cats"]]
    assert constraints.excluded == ("8k",)


def test_bytes_that_are_no_text_are_refused(folder, capsys):
    assert command(folder, "a fo\udcffx") == 2
    assert "the text is not valid UTF-8 at character 5" in capsys.readouterr().err
    assert command(folder, "a fox", "--exclude", "fo\udcffg") == 2
    assert "not valid UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(("encoding", "letter"), [("ascii", "\\xe9"), ("cp1252", "é"), ("utf-8", "é")])
def test_a_console_without_the_letters_prints_all_the_same(folder, monkeypatch, encoding, letter):
    written = []
    for options in ([], ["--json"]):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr("sys.stdout", stream)
        assert command(folder, "rené 画", *options) == 0
        written.append(stream.buffer.getvalue().decode(encoding))
    assert written[0].startswith(f"ren{letter} " + ("画" if encoding == "utf-8" else "\\u753b"))
    assert json.loads(written[1])["prompt"] == "rené 画"


@pytest.mark.parametrize(("words", "sentence"), [
    (["  "], "the prefix is empty"),
    (["a fox " * 100], "tokens, the policy's limit is 128"),
    (["a fox", "--require", "8k", "--exclude", "8K"], "both required (require) and excluded"),
    (["a fox", "--style", "dark fog", "--exclude", "fog"], "contains the excluded 'fog'"),
    (["a fox", "--exclude", "8k, ｆｏｘ"], "contains the excluded 'fox'"),
    (["a fox", "--exclude", "8k, \"fox"], "double quotes go around a whole phrase"),
    (["a fox", "--style", ""], "at least one word"),
    (["a fox", "--require", "moody " * 60], "max_new_tokens is 48"),
    (["a fox", "--seed", "-1"], "seed is a whole number, 0 or more"),
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
    (["--policy", "ppo"], "make it by npkit run --until 04_ppo, or name a folder with --policy"),
    (["--policy", "sft", "--profile", "small", "--set", "data.source=my prompts.txt", "--beam", "3"],
     "make it by npkit run --until 02_sft --profile small --set 'data.source=my prompts.txt', or name"),
    (["--policy", "nowhere"], "there is no folder 'nowhere'"), (["--out", "nowhere/a.png"], "cannot be written"),
    (["--out", ""], "'' names no picture: end it in"),
    (["--out", "picture"], "names no picture: end it in .png, .jpg, .jpeg, .webp"),
    (["--out", "fox.gif"], "names no picture: end it in .png, .jpg, .jpeg, .webp")])
def test_what_is_missing_is_said(capsys, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my prompts.txt").write_text("a fox\n")
    sentence = sentence.replace("my prompts.txt", f"{tmp_path / 'my prompts.txt'}")
    assert main(["optimize", "a fox", *words]) == 2
    assert sentence in capsys.readouterr().err


def test_defaults_are_drawn_by_seed_and_prompt_and_own_words_are_allowed():
    profile = load_profile("tiny")
    first, again, other = (read_wishes(profile, {"style": ["my own style"]}, seed=seed)("a fox") for seed in (0, 0, 1))
    assert first == again != other
    assert read_wishes(profile, {"style": ["my own style"]}, seed=0)("a cat") != first
    assert [category for category, _ in first.wanted] == ["style", "artist", "format", "perspective", "booster", "vibe"]
    assert [len(clause) for _, clause in first.wanted] == [1, 5, 5, 5, 5, 5]
    assert read_wishes(profile, seed=None)("a fox").wanted == ()


def test_every_default_clause_is_met_by_any_policy(folder):
    profile = load_profile("tiny", {"neurologic.beam_size": 2})
    wishes = read_wishes(profile, exclude=["8k"], seed=3)
    for found in optimize(["a fox", "two cats on the moon"], load_policy(folder), wishes, profile):
        assert found.certificate.holds and len(found.certificate.clauses) == 6
    with pytest.raises(NpkitError, match="prefix is empty"):
        optimize([" "], load_policy(folder), wishes, profile)


@pytest.fixture(scope="module")
def painting(tmp_path_factory):
    """The options that let `optimize` paint and judge with small random models."""
    return fixtures.painting_options(tmp_path_factory.mktemp("models"))


@pytest.fixture
def painted(monkeypatch):
    """The number of pictures of every call of the image model."""
    calls, render = [], ImageModel._render
    monkeypatch.setattr(ImageModel, "_render",
                        lambda self, prompts, seeds: calls.append(len(prompts)) or render(self, prompts, seeds))
    return calls


def test_both_pictures_are_scored_and_none_is_painted_twice(folder, painting, painted, tmp_path, capsys):
    ask = partial(command, folder, "a fox", "--require", "moody", *painting, "--json")
    assert ask("--out", str(tmp_path / "fox.png")) == 0
    found = json.loads(capsys.readouterr().out)
    assert painted == [2]
    assert list(found["scores"]) == ["pickscore", "aesthetic", "heldout", "oracle"]
    assert all(list(pair) == ["prompt", "optimized"] for pair in found["scores"].values())
    assert found["scores"]["aesthetic"]["prompt"] != found["scores"]["aesthetic"]["optimized"]
    assert ask("--scores") == 0
    assert json.loads(capsys.readouterr().out) == found
    assert painted == [2]  # the cache knew


def test_scores_do_not_depend_on_the_other_prompts(folder, painting, painted, tmp_path, capsys, monkeypatch):
    options = [*painting, "--require", "moody", "--json", "--scores"]
    assert command(folder, "a fox", *options) == 0
    alone = json.loads(capsys.readouterr().out)["scores"]
    monkeypatch.setenv("NPKIT_HOME", str(tmp_path / "another"))
    type_in(monkeypatch, b"two cats on the moon\n\na fox\n")
    assert command(folder, "-", *options, "--out", str(tmp_path / "all.png")) == 1
    first, blank, fox = map(json.loads, capsys.readouterr().out.splitlines())
    assert fox["scores"] == alone != first["scores"]
    assert list(blank) == ["prompt", "error"]
    assert painted == [2, 2, 2]


def test_scores_name_each_prompt_once_and_say_what_the_oracle_means(folder, painting, capsys, monkeypatch):
    type_in(monkeypatch, b"a fox\na castle\n")
    assert command(folder, "-", *painting, "--require", "moody", "--scores") == 0
    printed = capsys.readouterr().out
    optimized = [line for line in printed.splitlines() if "moody" in line and line.startswith("a ")]
    assert len(optimized) == 2 and all(printed.count(line) == 1 for line in optimized)
    assert re.findall(r"^scores of (.*), plain -> optimised$", printed, re.MULTILINE) == ["'a fox'", "'a castle'"]
    assert re.search(r"oracle +-4\.000 -> ", printed)
    assert printed.splitlines()[-1] == (
        "  (oracle: The simulated public's true utility of each picture; -4 for a prefix that names no subject of "
        "GlyphWorld.)")


@pytest.mark.parametrize(("name", "kind"), [
    ("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.webp", "WEBP")])
def test_a_picture_is_of_the_kind_its_name_says(tmp_path, name, kind):
    found = engine.Optimized("a fox", "a fox, moody", None, -1.0)
    scorer = SimpleNamespace(pictures=lambda prompts, seed: fixtures.torch.rand(len(prompts), 3, 32, 32))
    engine.save_pictures([found], scorer, 0, engine.check_out(str(tmp_path / name)), "tiny")
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind and picture.width > 1.5 * picture.height > 600
    assert [path.name for path in tmp_path.glob("*a.*")] == [name]


def test_a_sheet_has_an_end_and_a_disk_too(folder, capsys, monkeypatch, tmp_path, small_disk):
    type_in(monkeypatch, b"a fox\n" * 25)
    assert command(folder, "-", "--out", str(tmp_path / "all.png")) == 2
    assert "--out shows at most 24 prompts, standard input holds 25" in capsys.readouterr().err
    (small_disk / "full").write_bytes(bytes(4 * 2**20 - 40_000))
    found = [engine.Optimized("a fox", "a fox, moody", None, -1.0)] * 3
    scorer = SimpleNamespace(pictures=lambda prompts, seed: fixtures.torch.rand(len(prompts), 3, 64, 64))
    with pytest.raises(NpkitError, match="cannot be written: .*No space left"):
        engine.save_pictures(found, scorer, 0, small_disk / "fox.png", "tiny")
    assert [path.name for path in small_disk.iterdir()] == ["full"]


@pytest.mark.parametrize("prompt", ["a $5 bill and $x", "a fox 🦊 in 東京"])
def test_the_text_is_printed_before_the_picture_is_tried(folder, painting, capsys, tmp_path, monkeypatch, prompt):
    def fail(*arguments):
        assert capsys.readouterr().out.startswith(prompt)
        raise NpkitError("no picture today")

    monkeypatch.setattr(engine, "load_scorer", fail)
    assert command(folder, prompt, *painting, "--out", str(tmp_path / "a.png")) == 2
    monkeypatch.setattr(engine, "load_scorer", lambda *arguments: fail.wrong)
    with pytest.raises(AttributeError):
        command(folder, prompt, *painting, "--out", str(tmp_path / "a.png"), "--json")
    assert json.loads(capsys.readouterr().out)["scores"] is None


# Real prompts --------------------------------------------------------------------------------------------------------
def real_prompts(shared) -> list[str]:
    with open(shared / "prompts" / "diffusiondb_prompts.jsonl", encoding="utf-8") as file:
        return [tidy(json.loads(line)["prompt"]) for line in file]


def refused_share(prompts: list[str], tokenizer, limit: int) -> float:
    """Return the share of 1,000 different prefixes that are longer than `limit` tokens."""
    prefixes = sorted({prompt.partition(",")[0].rstrip() for prompt in prompts} - {""})
    chosen = random.Random(0).sample(prefixes, 1000)
    return 1 - sum(fits(tokenizer, chosen, limit)) / len(chosen)


def test_tiny_takes_what_people_write(shared):
    config = load_profile("tiny").policy
    tokenizer = train_tokenizer(generate(20_000, 0), config.vocab_size)
    assert refused_share(real_prompts(shared), tokenizer, config.max_prefix_tokens) <= 0.01


@pytest.mark.parametrize("profile", ["small", "paper"])
def test_the_other_profiles_take_what_people_write(shared, profile):
    """GPT-2's own tokenizer is on the hub: in its place one of as many tokens learnt from other prompts than these."""
    prompts, limit = real_prompts(shared), load_profile(profile).policy.max_prefix_tokens
    tokenizer = train_tokenizer(prompts[::2], vocab_size=50_257)
    assert refused_share(prompts[1::2], tokenizer, limit) <= 0.01
    assert sum(len(prompt.partition(",")[0].encode()) > 3 * limit for prompt in prompts) <= 0.01 * len(prompts)


@pytest.mark.parametrize("profile", ["tiny", "small", "paper"])
def test_the_longest_prefix_leaves_room_for_every_completion(profile):
    profile = load_profile(profile)
    longest = max(section.max_new_tokens for section in (profile.ppo, profile.neurologic, profile.evaluation))
    assert profile.policy.max_prefix_tokens + longest <= profile.policy.max_prompt_tokens


def test_a_clause_that_allows_nothing_is_reported():
    wanted = Constraints((("style", any_of("ink", "oil", min_count=0, max_count=1)),))
    text = describe(Optimized("a fox", "a fox", certify(wanted, "a fox", "a fox"), -1.0))
    assert "style        nothing, which it allows (any of: ink, oil)" in text
