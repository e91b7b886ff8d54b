"""Corpus: reading, cleaning, cutting and splitting, with numbers worked by hand."""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from npkit.__main__ import main
from npkit.errors import NpkitError
from npkit.study import contents, profiles
from npkit.study.profiles import DataConfig
from npkit.text import corpus

REAL = Path(__file__).parents[2] / "shared/prompts/diffusiondb_prompts.jsonl"
PROMPTS = [f"a {animal}, {style}, 8 k" for animal in ("cat", "dog", "fox", "owl", "cow") for style in ("ink", "oil")]


def make(num_prompts: int, seed: int) -> list[str]:
    """A generator of prompts, as `data.source` names one."""
    return [f"animal {seed + number}, oil" for number in range(num_prompts)]


def config(**changes) -> DataConfig:
    return DataConfig(**{"source": f"{__name__}:make", "num_prompts": 100, **changes})


def cut(prompt: str, rule: str) -> tuple[str, str]:
    return corpus.cut_prefix(prompt, rule, np.random.default_rng(0))


def write(folder: Path, suffix: str, prompts: list[str]) -> Path:
    """Write `prompts` in the format of `suffix`; tables get a second column."""
    path, frame = folder / f"prompts{suffix}", pd.DataFrame({"prompt": prompts, "seed": range(len(prompts))})
    match suffix:
        case ".jsonl": frame.to_json(path, orient="records", lines=True)
        case ".parquet": frame.to_parquet(path)
        case ".csv": frame.to_csv(path, index=False)
        case ".txt": path.write_text("\n".join(prompts) + "\n")
    return path


@pytest.mark.parametrize("suffix", corpus.READERS)
def test_every_format_gives_the_same_prompts(tmp_path, suffix):
    prompts = [*PROMPTS, "null", "1984", "café, “quoted”, by rené magritte"]
    path = write(tmp_path, suffix, prompts)
    assert corpus.read_prompts(config(source=str(path)), seed=0)["prompt"].tolist() == prompts


def test_a_file_is_sampled_with_the_seed_and_keeps_its_order(tmp_path):
    path = str(write(tmp_path, ".txt", [str(number) for number in range(50)]))
    drawn = config(source=path, num_prompts=10)
    first, again, other = (corpus.read_prompts(drawn, seed)["prompt"].astype(int).tolist() for seed in (1, 1, 2))
    assert first == again == sorted(first) and len(first) == 10 and first != other


def test_a_generator_gets_number_and_seed():
    assert corpus.read_prompts(config(num_prompts=2), seed=5)["prompt"].tolist() == ["animal 5, oil", "animal 6, oil"]


def test_diffusiondb_metadata(tmp_path):
    """The published columns; NSFW is the larger of two scores, and 2.0 marks a blurred picture."""
    frame = pd.DataFrame({"image_name": ["a.png"] * 4, "prompt": ["a cat, oil", "a dog, ink", "a fox, oil", "an owl"],
                          "part_id": 1, "seed": 2, "step": 50, "cfg": 7.0, "sampler": 8, "width": 512, "height": 512,
                          "user_name": "x", "timestamp": pd.Timestamp("2022-08-20", tz="UTC"),
                          "image_nsfw": [0.1, 2.0, 0.5, 0.1], "prompt_nsfw": [0.1, 0.0, 0.5, 0.6]})
    frame.to_parquet(tmp_path / "metadata.parquet")
    study = config(source=str(tmp_path / "metadata.parquet"), max_nsfw=0.5)
    prompts, report = corpus.clean(corpus.read_prompts(study, seed=0), study)
    assert prompts == ["a cat, oil", "a fox, oil"]
    assert report["dropped"] == {"nsfw": {"count": 2, "examples": ["a dog, ink", "an owl"]}}


@pytest.mark.parametrize("name, content, message", [
    ("missing.jsonl", None, "does not exist"),
    ("prompts.json", "[]", "use a file ending in .jsonl, .csv, .parquet, .txt, or a generator module:function"),
    ("broken.jsonl", "{oops", "cannot be read as .jsonl"),
    ("broken.parquet", "no parquet", "cannot be read as .parquet"),
    ("latin.txt", b"caf\xe9\n", "cannot be read as .txt"),
    ("empty.csv", "", "cannot be read as .csv: it is empty"),
    ("empty.txt", "", "is empty"),
    ("header.csv", "prompt\n", "is empty"),
    ("captions.csv", "caption,seed\na cat,1\n", "no column 'prompt'; columns found: caption, seed"),
    ("one.txt", "a cat, oil\n", "1 prompt(s) after cleaning: 1 distinct prefix(es) cannot be split"),
    ("blank.txt", "\n \n", "0 prompt(s) after cleaning"),
])
def test_a_bad_file_is_told_in_one_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(NpkitError) as error:
        corpus.prepare(config(source=str(path)), seed=0)
    assert message in str(error.value) and name in str(error.value) and "\n" not in str(error.value)


def stub(num_prompts: int, seed: int) -> str:
    """Like a generator, but for what it returns."""
    return "a cat, oil"


def numbers(num_prompts: int, seed: int) -> list[int]:
    return [1, 2]


def broken(num_prompts: int, seed: int) -> list[str]:
    raise OSError("no\ndisk")


@pytest.mark.parametrize("source, message", [
    ("no_such_module:make", "names no function"),
    (f"{__name__}:no_such_function", "names no function"),
    (f"{__name__}:PROMPTS", "is no generator of prompts: a generator is a function (num_prompts, seed)"),
    ("json:loads", "is no generator of prompts: a generator is a function (num_prompts, seed)"),
    ("math:comb", "is no generator of prompts, it made 1"),
    (f"{__name__}:stub", "it made 'a cat, oil'"),
    (f"{__name__}:numbers", "it made 1"),
    (f"{__name__}:broken", "failed in test_corpus.py, line"),
    (f"{__name__}:broken", "OSError: no disk; a generator is a function"),
    ("https://example.com/prompts.csv", "is an address, which npkit does not download"),
    ("hf://datasets/prompts.parquet", "is an address, which npkit does not download"),
    ("owner/dataset", "is no corpus"),
])
def test_a_source_that_gives_no_prompts_is_one_sentence(source, message):
    with pytest.raises(NpkitError) as error:
        corpus.prepare(config(source=source), seed=0)
    assert message in str(error.value) and source in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("source", ["json:loads", "https://example.com/prompts.csv"])
def test_a_source_that_gives_no_prompts_is_refused_by_the_plan(source, capsys):
    assert main(["run", "--dry-run", "--only", "01_data_and_prefixes", "--set", f"data.source={source}"]) == 2
    assert source in capsys.readouterr().err


def test_clean_reports_every_reason():
    rows = ["a cat, oil", "A CAT  oil!", None, " ", "cat", "a " + "very " * 30 + "long one", ", oil", "a\tdog, oil"]
    prompts, report = corpus.clean(pd.DataFrame({"prompt": rows}), config(min_words=2, max_chars=50))
    assert prompts == ["a cat, oil", "a dog, oil"]
    assert {reason: entry["count"] for reason, entry in report["dropped"].items()} == {
        "empty": 2, "too few words": 1, "too many characters": 1, "starts with a comma": 1, "duplicate": 1}
    assert report["dropped"]["duplicate"]["examples"] == ["A CAT oil!"]
    assert (report["num_read"], report["num_kept"], report["num_tidied"]) == (8, 2, 3)


@pytest.mark.parametrize("rule, prefix", [
    ("first_comma", "a castle on a hill"),
    ("full", "a castle on a hill , matte painting, 8 k"),
    ("words:2", "a castle"),
    ("words:6", "a castle on a hill"),  # the sixth word is the comma: it opens the completion
    ("words:7", "a castle on a hill , matte"),
    ("words:99", "a castle on a hill , matte painting, 8 k"),
])
def test_prefix_rules(rule, prefix):
    prompt = "a castle on a hill , matte painting, 8 k"
    got, completion = cut(prompt, rule)
    assert got == prefix and got + completion == prompt


def test_a_prompt_without_comma_is_all_prefix():
    assert cut("a castle", "first_comma") == ("a castle", "")


@pytest.mark.parametrize("prompt, prefix", [
    ("a 1,000 year old elf, oil", "a 1,000 year old elf"),
    ("in 1999,8 k", "in 1999,8 k"),
    ("（猫，1，000）的家，油画", "（猫，1，000）的家"),
    ("( a cat, oil:1.2), ink", "( a cat, oil:1.2)"),
    ("a [red, (big] cat, blue) one, oil", "a [red, (big] cat"),  # the round bracket encloses nothing
    ("a cat (big, oil", "a cat (big"),
    ("a cat :), oil (ink, 8 k)", "a cat :)"),
    ("a {cat, dog} ， oil", "a {cat, dog}"),
    ("猫、油絵", "猫"),
    ("قطة، لوحة", "قطة"),
])
def test_commas_in_numbers_and_brackets_divide_nothing_and_full_width_ones_do(prompt, prefix):
    got, completion = cut(prompt, "first_comma")
    assert got == prefix and got + completion == prompt


def test_random_cut_reaches_every_word_and_never_all():
    rng = np.random.default_rng(0)
    prefixes = {corpus.cut_prefix("a red cat sleeps", "random_cut", rng)[0] for _ in range(50)}
    assert prefixes == {"a", "a red", "a red cat"}
    assert cut("cat", "random_cut") == ("cat", "")


@pytest.mark.parametrize("rule", ["comma", "words", "words:0", "words:-1", "words:two", "words:10000", ""])
def test_unknown_prefix_rules_name_the_known_ones(rule):
    with pytest.raises(NpkitError, match="use first_comma, full, random_cut or words:k"):
        cut("a cat", rule)


def test_split_sizes_are_shares_of_distinct_prefixes():
    prefixes = [f"animal {number}" for number in range(20)] * 2 + ["Animal 7!"]
    shares = {"ppo": 0.2, "validation": 0.05, "test": 0.1}
    splits = corpus.split_by_prefix(prefixes, shares, np.random.default_rng(0))
    distinct = dict(zip(prefixes, splits))
    assert [sum(name == split for split in list(distinct.values())[:20]) for name in corpus.SPLITS] == [13, 4, 1, 2]
    assert splits[20:40] == splits[:20] and splits[40] == splits[7]


def test_shares_that_leave_nothing():
    with pytest.raises(NpkitError, match="leave nothing for sft"):
        corpus.split_by_prefix(["a", "b", "c", "d"], {"ppo": 0.5, "test": 0.5}, np.random.default_rng(0))


def test_a_prompt_flagged_in_one_row_is_dropped_from_all_even_where_that_row_is_not_drawn(tmp_path):
    rows = [f"a {number} cat, oil" for number in range(40)]
    frame = pd.DataFrame({"prompt": [*rows, *(row.upper() + "!" for row in rows)],
                          "prompt_nsfw": [None] * 40 + [0.9, 0.1] * 20})
    frame.to_csv(tmp_path / "p.csv", index=False)
    for num_prompts in (80, 20):
        study = config(source=str(tmp_path / "p.csv"), num_prompts=num_prompts)
        raw = corpus.read_prompts(study, seed=0)
        kept, report = corpus.clean(raw, study)
        safe = [int(prompt.split()[1]) % 2 == 1 for prompt in raw["prompt"]]
        assert {int(prompt.split()[1]) % 2 for prompt in kept} == {1}
        assert report["dropped"]["nsfw"]["count"] == safe.count(False)


def test_a_link_has_the_suffix_that_the_user_typed(tmp_path, capsys):
    """The hub's cache links metadata.parquet to a blob without a suffix."""
    blob, link = tmp_path / "0f3a", tmp_path / "metadata.parquet"
    write(tmp_path, ".parquet", PROMPTS).rename(blob)
    link.symlink_to(blob)
    settings = profiles.parse_settings([f"data.source={link}"])
    assert settings == {"data.source": str(link)}
    assert corpus.prepare(config(source=settings["data.source"]), 0)[1]["num_kept"] == len(PROMPTS)
    before = contents.fingerprint(str(link))
    pd.DataFrame({"prompt": PROMPTS[:8]}).to_parquet(blob)
    assert before != contents.fingerprint(str(link)), "the key is of the content, not of the name"
    assert main(["run", "--dry-run", "--only", "01_data_and_prefixes", "--set", f"data.source={link}"]) == 0


def test_prepare_is_repeatable_and_leaks_nothing(tmp_path):
    path = str(write(tmp_path, ".jsonl", PROMPTS))
    dataset, report = corpus.prepare(config(source=path), seed=3)
    assert dataset.column_names == ["prompt", "prefix", "completion", "split"]
    assert dataset[0]["prefix"] == "a cat" and dataset[0]["completion"] == ", ink, 8 k"
    assert dataset["split"][::2] == dataset["split"][1::2]  # both prompts of an animal share its split
    assert report["splits"] == {"sft": 4, "ppo": 2, "validation": 2, "test": 2} and report["num_prefixes"] == 5
    assert corpus.prepare(config(source=path), seed=3)[0].to_dict() == dataset.to_dict()
    assert corpus.prepare(config(source=path), seed=4)[0]["split"] != dataset["split"]


def test_write_corpus(tmp_path):
    metrics = corpus.write_corpus(config(num_prompts=40), 0, tmp_path)
    assert metrics["data/num_prompts"] == 40 == len(pd.read_parquet(tmp_path / "prompts.parquet"))
    assert metrics["data/num_sft"] == 26 and metrics["data/kept_share"] == 1
    assert json.loads((tmp_path / "report.json").read_text())["num_read"] == 40


@pytest.mark.skipif(not REAL.exists(), reason="the workshop's DiffusionDB sample is not here")
def test_real_prompts():
    dataset, report = corpus.prepare(config(source=str(REAL), num_prompts=20_000), seed=0)
    frame = dataset.to_pandas()
    assert report["num_read"] == 16_760 and 15_000 < len(frame) == report["num_kept"]
    first_commas = frame["prompt"].str.partition(",")[0].str.rstrip()
    assert (first_commas != frame["prefix"]).sum() == 33  # 0.2 %, as notebook 01 says
    assert sum(entry["count"] for entry in report["dropped"].values()) == report["num_read"] - len(frame)
    assert frame["prompt"].str.len().max() <= 400 and (frame["prefix"] + frame["completion"] == frame["prompt"]).all()
    assert frame.groupby(frame["prefix"].map(corpus.fold))["split"].nunique().max() == 1
    assert frame["prompt"].str.contains("8 k").any()  # spelled as people spelled it
