"""Corpus: prompts people wrote, read, cleaned, cut into prefix and completion, and split without leakage."""
import inspect
import json
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from datasets import Dataset

from npkit.errors import NpkitError
from npkit.study.profiles import DataConfig
from npkit.text.characters import COMMAS, comma_places, fold, tidy
from npkit.text.readers import READERS, read_file

SPLITS = ("sft", "ppo", "validation", "test")
PREFIX_RULES = "first_comma, full, random_cut or words:k with k from 1 to 9999, such as words:3"
GENERATOR = "a generator is a function (num_prompts, seed) that returns a list of texts"


# 1. Read -------------------------------------------------------------------------------------------------------------
def read_prompts(config: DataConfig, seed: int) -> pd.DataFrame:
    """Return up to `num_prompts` raw prompts, drawn from a corpus file or made by a generator `module:function`.

    Columns: `prompt` (None where it is missing), `flagged` (whether any row of the file scores the prompt above
    `max_nsfw`) and `fault` (why a row could not be used, else ""). `attrs["encoding"]` says how a file was read.
    """
    source = config.source
    if re.match(r"\w+://", source):
        raise NpkitError(f"data.source {source!r} is an address, which npkit does not download: save the file, name it")
    if Path(source).suffix.lower() in READERS:
        frame = read_file(source)
        drawn = frame.sample(min(config.num_prompts, len(frame)), random_state=seed).sort_index()
        unsafe = frame["prompt"][frame["nsfw"] > config.max_nsfw]
        return drawn.assign(flagged=is_one_of(drawn["prompt"], unsafe)).drop(columns="nsfw")
    if ":" in source:
        return pd.DataFrame({"prompt": call_generator(source, config.num_prompts, seed), "flagged": False, "fault": ""})
    raise NpkitError(f"data.source {source!r} is no corpus: use a file ending in {', '.join(READERS)}, "
                     "or a generator module:function")


def is_one_of(prompts: pd.Series, unsafe: Iterable[str | None]) -> pd.Series:
    """Return which of `prompts` are the same as an unsafe one, whatever scores their own rows have."""
    folds = {fold(tidy(prompt)) for prompt in unsafe if prompt}
    return prompts.map(lambda prompt: bool(folds and prompt) and fold(tidy(prompt)) in folds).astype(bool)


def find_generator(source: str) -> Callable[[int, int], Iterable[str]]:
    """Return the function that `module:function` names, if it can be called with a number of prompts and a seed."""
    module, _, function = source.partition(":")
    try:
        generate = getattr(import_module(module), function)
        fits = inspect.signature(generate).bind(1, 0) is not None
    except TypeError:
        fits = False  # no function, or one that takes other arguments
    except Exception as error:  # whatever the import of the reader's own module runs into
        raise NpkitError(f"data.source {source!r} names no function that can be imported: {one_line(error)}") from error
    if not fits:
        raise NpkitError(f"data.source {source!r} is no generator of prompts: {GENERATOR}")
    return generate


def one_line(error: Exception) -> str:
    """Return an exception's words in one line of at most 200 characters."""
    return " ".join(str(error).split())[:200]


def call_generator(source: str, num_prompts: int, seed: int) -> list[str]:
    """Return what the generator makes, checked to be texts."""
    generate = find_generator(source)
    try:
        made = generate(num_prompts, seed)
        several = isinstance(made, Iterable) and not isinstance(made, str | bytes | Mapping)
        prompts = list(islice(made, num_prompts)) if several else []
    except NpkitError:
        raise
    except Exception as error:  # the reader's own code
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise NpkitError(f"data.source {source!r} failed in {Path(place.filename).name}, line {place.lineno}: "
                         f"{type(error).__name__}: {one_line(error)}; {GENERATOR}") from error
    strange = next((prompt for prompt in prompts if not isinstance(prompt, str)), None)
    if not prompts or strange is not None:
        what = repr(made if not prompts else strange)[:60]
        raise NpkitError(f"data.source {source!r} is no generator of prompts, it made {what}: {GENERATOR}")
    return prompts


# 2. Clean ------------------------------------------------------------------------------------------------------------
def drop_reasons(frame: pd.DataFrame, config: DataConfig) -> pd.Series:
    """Return for each row of tidied prompts why it is dropped, "" if it is kept; the first reason counts."""
    prompts, num_words = frame["prompt"], frame["prompt"].str.split().str.len()
    tests = {
        "unreadable": frame["fault"] != "",
        "empty": prompts == "",
        "nsfw": frame["flagged"],
        "too few words": num_words < config.min_words,
        "too many characters": prompts.str.len() > config.max_chars,
        "starts with a comma": prompts.str.startswith(tuple(COMMAS)),
    }
    reasons = pd.Series(np.select(list(tests.values()), list(tests), default=""), index=frame.index, dtype=object)
    folded = prompts[reasons == ""].map(fold)
    reasons[folded.index[folded.duplicated()]] = "duplicate"
    return reasons


def clean(frame: pd.DataFrame, config: DataConfig) -> tuple[list[str], dict]:
    """Return the prompts worth keeping and a report: how many were read, tidied, dropped and why, with examples.

    `frame` is the table of `read_prompts`, or any with a column `prompt`.
    """
    raw = [prompt if isinstance(prompt, str) else "" for prompt in frame["prompt"]]
    rows = pd.DataFrame({"prompt": map(tidy, raw), "flagged": False, "fault": ""})
    for name in {"flagged", "fault"} & set(frame):
        rows[name] = frame[name].to_numpy()
    reasons = drop_reasons(rows, config)
    rows["shown"] = rows["fault"].where(rows["fault"] != "", rows["prompt"]).map(tidy).str[:100]
    dropped = {reason: {"count": len(group), "examples": group["shown"].tolist()[:3]}
               for reason, group in rows[reasons != ""].groupby(reasons)}
    kept = rows["prompt"][reasons == ""].tolist()
    num_tidied = sum(tidied != given for tidied, given in zip(rows["prompt"], raw))
    return kept, {"num_read": len(rows), "num_tidied": num_tidied, "num_kept": len(kept), "dropped": dropped}


def unreadable(report: Mapping) -> str:
    """Return the sentence that says how many rows of a file could not be used; `report` is that of `clean`."""
    lost = report["dropped"]["unreadable"]
    return f"{lost['count']} of {report['num_read']} rows cannot be used and are left out: {lost['examples'][0]}"


# 3. Cut --------------------------------------------------------------------------------------------------------------
def first_words(prompt: str, num_words: int) -> str:
    """Return the first words of `prompt`, without the comma that may follow them."""
    return re.match(rf"(?:\s*\S+){{0,{num_words}}}", prompt).group().rstrip(" " + COMMAS)


def cut_prefix(prompt: str, rule: str, rng: np.random.Generator) -> tuple[str, str]:
    """Return (prefix, completion) of `prompt`: what a plain user writes, and what the expert added.

    Joined they are the prompt again. The paper's rule is `first_comma`; `words:k` and `random_cut` (a uniform number
    of words, at least one and not all) and `full` (an empty completion) are ablations.

    A comma between digits (`1,000 year old elf`) or inside brackets (`(a cat, oil:1.2)`) is passed over, and full-width
    commas (`，`, `、`) count.
    """
    match rule.split(":"):
        case ["first_comma"]:
            prefix = prompt[:next(iter(comma_places(prompt)), None)].rstrip()
        case ["full"]:
            prefix = prompt
        case ["random_cut"]:
            prefix = first_words(prompt, int(rng.integers(1, max(2, len(prompt.split())))))
        case ["words", count] if re.fullmatch("[1-9][0-9]{0,3}", count):
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
    raw = read_prompts(config, seed)
    prompts, report = clean(raw, config)
    pairs = [cut_prefix(prompt, config.prefix_rule, rng) for prompt in prompts]
    prefixes = [prefix for prefix, _ in pairs]
    shares = {"ppo": config.ppo_share, "validation": config.validation_share, "test": config.test_share}
    try:
        splits = split_by_prefix(prefixes, shares, rng)
    except NpkitError as error:
        raise NpkitError(f"corpus {config.source}, {len(prompts)} prompt(s) after cleaning: {error}") from None
    report |= {"source": config.source, "encoding": raw.attrs.get("encoding", ""),  # "": not of a file
               "num_prefixes": len(set(map(fold, prefixes))), "splits": {name: splits.count(name) for name in SPLITS}}
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
