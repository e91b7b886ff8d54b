"""Corpus: prompts people wrote, read, cleaned, cut into prefix and completion, and split without leakage."""
import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset
from pyarrow import ArrowException, parquet

from npkit.errors import NpkitError
from npkit.study.profiles import DataConfig

SPLITS = ("sft", "ppo", "validation", "test")
NSFW_COLUMNS = ("prompt_nsfw", "image_nsfw")  # DiffusionDB's metadata.parquet; image_nsfw is 2.0 for blurred pictures
PREFIX_RULES = "first_comma, full, random_cut or words:k with k at least 1, such as words:3"


# 1. Read -------------------------------------------------------------------------------------------------------------
def read_lines(path: Path) -> pd.DataFrame:
    """Return a text file's lines as column `prompt`; only line feeds end a line."""
    text = path.read_text(encoding="utf-8-sig").removesuffix("\n")
    return pd.DataFrame({"prompt": text.split("\n") if text else []})


def read_parquet(path: Path) -> pd.DataFrame:
    """Return the prompt and NSFW columns of a parquet file, or its bare column names if it has no prompts."""
    columns = parquet.read_schema(path).names
    wanted = [name for name in ("prompt", *NSFW_COLUMNS) if name in columns]
    return pd.read_parquet(path, columns=wanted) if "prompt" in columns else pd.DataFrame(columns=columns)


READERS = {
    ".jsonl": partial(pd.read_json, lines=True, dtype=False),
    ".csv": partial(pd.read_csv, dtype={"prompt": str}, keep_default_na=False,  # the prompt "null" is a prompt
                    na_values={name: [""] for name in NSFW_COLUMNS}),
    ".parquet": read_parquet,
    ".txt": read_lines,
}


def read_file(source: str) -> pd.DataFrame:
    """Return the table of a corpus file, which has a column `prompt` and at least one row."""
    path = Path(source).expanduser()
    if not path.is_file():
        raise NpkitError(f"corpus file {path} does not exist (data.source; looked in {Path.cwd()})")
    try:
        frame = READERS[path.suffix.lower()](path)
    except (ValueError, OSError, ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise NpkitError(f"corpus file {path} cannot be read as {path.suffix}: {reason}") from error
    if "prompt" not in frame.columns:
        raise NpkitError(f"corpus file {path} has no column 'prompt'; columns found: {', '.join(map(str, frame))}")
    if frame.empty:
        raise NpkitError(f"corpus file {path} is empty: it must hold at least one prompt")
    return frame


def call_function(source: str, num_prompts: int, seed: int) -> pd.DataFrame:
    """Return what `module:function(num_prompts, seed)` generates, as column `prompt`."""
    module, _, function = source.partition(":")
    try:
        generate = getattr(import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise NpkitError(f"data.source {source!r} names no function that can be imported: {error}") from error
    return pd.DataFrame({"prompt": generate(num_prompts, seed)})


def read_prompts(source: str, num_prompts: int, seed: int) -> pd.DataFrame:
    """Return up to `num_prompts` raw prompts, drawn from a corpus file or made by a generator `module:function`."""
    if Path(source).suffix.lower() in READERS:
        frame = read_file(source)
        return frame.sample(min(num_prompts, len(frame)), random_state=seed).sort_index()
    if ":" in source:
        return call_function(source, num_prompts, seed)
    raise NpkitError(f"data.source {source!r} is no corpus: use a file ending in {', '.join(READERS)}, "
                     "or a generator module:function")


# 2. Clean ------------------------------------------------------------------------------------------------------------
def tidy(text: str) -> str:
    """Return `text` without control and format characters and with single spaces; spelling is left as it is."""
    kinds = [(char, unicodedata.category(char)) for char in text] if not text.isprintable() else [(text, "")]
    kept = (" " if kind == "Cc" else char for char, kind in kinds if kind not in ("Cf", "Cs"))
    return " ".join("".join(kept).split())


def fold(text: str) -> str:
    """Return the words of `text` in lower case: prompts with equal folds are the same prompt to us."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded)) or folded.strip()


def drop_reasons(frame: pd.DataFrame, config: DataConfig) -> pd.Series:
    """Return for each row of tidied prompts why it is dropped, "" if it is kept; the first reason counts."""
    prompts, num_words = frame["prompt"], frame["prompt"].str.split().str.len()
    worst_nsfw = frame.reindex(columns=list(NSFW_COLUMNS)).astype(float).max(axis=1)  # NaN without such columns
    tests = {
        "empty": prompts == "",
        "nsfw": worst_nsfw > config.max_nsfw,
        "too few words": num_words < config.min_words,
        "too many characters": prompts.str.len() > config.max_chars,
        "starts with a comma": prompts.str.startswith(","),
    }
    reasons = pd.Series(np.select(list(tests.values()), list(tests), default=""), index=frame.index, dtype=object)
    folded = prompts[reasons == ""].map(fold)
    reasons[folded.index[folded.duplicated()]] = "duplicate"
    return reasons


def clean(frame: pd.DataFrame, config: DataConfig) -> tuple[list[str], dict]:
    """Return the prompts worth keeping and a report: how many were read, tidied, dropped and why, with examples."""
    is_text = frame["prompt"].map(lambda value: isinstance(value, str))
    tidied = frame.assign(prompt=frame["prompt"].where(is_text, "").map(tidy)).reset_index(drop=True)
    reasons = drop_reasons(tidied, config)
    dropped = {
        reason: {"count": len(rows), "examples": [prompt[:100] for prompt in rows["prompt"][:3]]}
        for reason, rows in tidied[reasons != ""].groupby(reasons)
    }
    num_tidied = int((tidied["prompt"].to_numpy() != frame["prompt"].to_numpy())[is_text.to_numpy()].sum())
    kept = tidied["prompt"][reasons == ""].tolist()
    return kept, {"num_read": len(frame), "num_tidied": num_tidied, "num_kept": len(kept), "dropped": dropped}


# 3. Cut --------------------------------------------------------------------------------------------------------------
def first_words(prompt: str, num_words: int) -> str:
    """Return the first words of `prompt`, without the comma that may follow them."""
    return re.match(rf"(?:\s*\S+){{0,{num_words}}}", prompt).group().rstrip(" ,")


def cut_prefix(prompt: str, rule: str, rng: np.random.Generator) -> tuple[str, str]:
    """Return (prefix, completion) of `prompt`: what a plain user writes, and what the expert added.

    Joined they are the prompt again. The paper's rule is `first_comma`; `words:k` and `random_cut` (a uniform number
    of words, at least one and not all) and `full` (an empty completion) are ablations.
    """
    match rule.split(":"):
        case ["first_comma"]:
            prefix = prompt.partition(",")[0].rstrip()
        case ["full"]:
            prefix = prompt
        case ["random_cut"]:
            prefix = first_words(prompt, int(rng.integers(1, max(2, len(prompt.split())))))
        case ["words", count] if count.isdecimal() and int(count) > 0:
            prefix = first_words(prompt, int(count))
        case _:
            raise NpkitError(f"unknown prefix rule {rule!r} (data.prefix_rule): use {PREFIX_RULES}")
    return prefix, prompt[len(prefix):]


# 4. Split ------------------------------------------------------------------------------------------------------------
def split_sizes(num_prefixes: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return how many prefixes each split takes: its share, at least one; `sft` takes the rest."""
    sizes = {name: max(1, round(share * num_prefixes)) for name, share in shares.items()}
    rest = num_prefixes - sum(sizes.values())
    if rest < 1:
        taken = ", ".join(f"{name} {share:g}" for name, share in shares.items())
        raise NpkitError(f"{num_prefixes} distinct prefix(es) cannot be split: {taken} leave nothing for sft "
                         f"(every split needs a prefix of its own, so at least {len(shares) + 1})")
    return {"sft": rest, **sizes}


def split_by_prefix(prefixes: Sequence[str], shares: Mapping[str, float], rng: np.random.Generator) -> list[str]:
    """Return the split of each prefix, so that equal folds share a split; shares are of distinct prefixes."""
    folded = [fold(prefix) for prefix in prefixes]
    distinct = sorted(set(folded))
    sizes = split_sizes(len(distinct), shares)
    names = np.repeat(list(sizes), list(sizes.values()))
    split_of = dict(zip(distinct, rng.permutation(names).tolist()))
    return [split_of[key] for key in folded]


# 5. All of it --------------------------------------------------------------------------------------------------------
def prepare(config: DataConfig, seed: int) -> tuple[Dataset, dict]:
    """Return the corpus as columns prompt, prefix, completion, split, and the report of what was dropped and why."""
    rng = np.random.default_rng(seed)
    prompts, report = clean(read_prompts(config.source, config.num_prompts, seed), config)
    pairs = [cut_prefix(prompt, config.prefix_rule, rng) for prompt in prompts]
    prefixes = [prefix for prefix, _ in pairs]
    shares = {"ppo": config.ppo_share, "validation": config.validation_share, "test": config.test_share}
    try:
        splits = split_by_prefix(prefixes, shares, rng)
    except NpkitError as error:
        raise NpkitError(f"corpus {config.source}, {len(prompts)} prompt(s) after cleaning: {error}") from None
    report |= {"source": config.source, "num_prefixes": len({fold(p) for p in prefixes}),
               "splits": {name: splits.count(name) for name in SPLITS}}
    columns = {"prompt": prompts, "prefix": prefixes, "completion": [completion for _, completion in pairs],
               "split": splits}
    return Dataset.from_dict(columns), report


def write_corpus(config: DataConfig, seed: int, folder: Path) -> dict[str, float]:
    """Prepare the corpus into `folder`/prompts.parquet and report.json; return its metrics."""
    dataset, report = prepare(config, seed)
    dataset.to_parquet(folder / "prompts.parquet")
    (folder / "report.json").write_text(json.dumps(report, indent=1, ensure_ascii=False), encoding="utf-8")
    return {"data/num_prompts": len(dataset), "data/num_prefixes": report["num_prefixes"],
            "data/kept_share": len(dataset) / report["num_read"],
            **{f"data/num_{name}": count for name, count in report["splits"].items()}}
