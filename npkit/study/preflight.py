"""Preflight: what a later notebook would refuse after minutes or hours, refused before the first one begins."""
import json
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from npkit.errors import Faults, NpkitError
from npkit.findings.variants import test_prefixes
from npkit.study.artifacts import WITHOUT_CORPUS, Run
from npkit.text import corpus
from npkit.text.policy import check_name, early_tokenizer, is_recurrent_kind, longest_scored_prefix, num_positions
from npkit.training.assembly import NUM_SHOWN

LEAST_SHOWN = 4     # validation prefixes: notebook 04 draws so many rows of pictures
LEAST_COMPARED = 4  # test prefixes: notebook 06 draws so many, and has a regression line, which needs three
Prefixes = Mapping[str, Mapping[str, int]]  # split -> prefix -> its number of tokens


class Corpus(NamedTuple):
    """The prompts of a study, with their prefixes and splits, and the report on how they were read and cleaned."""
    prompts: Dataset
    report: Mapping[str, object]

    def prefixes(self, split: str) -> list[str]:
        """Return the different prefixes of a split, in alphabetical order."""
        pairs = zip(self.prompts["prefix"], self.prompts["split"], strict=True)
        return sorted({prefix for prefix, name in pairs if name == split})


# 1. All checks -------------------------------------------------------------------------------------------------------
def check(runs: Mapping[str, Run]) -> Corpus | None:
    """Raise where stages that are to be made (name -> run) cannot be made from these settings and this corpus.

    Every fault that is found is a sentence of its own. Returned is the corpus, None where no stage needs one.
    """
    run, faults, found = next(iter(runs.values())), Faults(), None
    for stage, check_settings in (("sft", check_pretrained), ("neurologic", check_architecture),
                                  ("neurologic", check_beam), ("evaluation", check_num_prefixes)):
        if stage in runs:
            with faults.noted():
                check_settings(run)
    if {"ppo", "evaluation"} & set(runs):
        check_scoring(run, faults)
    if not set(runs) <= WITHOUT_CORPUS:
        with faults.noted():
            found = find_corpus(run)
    if found and not set(runs) <= {*WITHOUT_CORPUS, "data"}:
        check_prefixes(runs, found, faults)
    faults.tell()
    return found


def check_prefixes(runs: Mapping[str, Run], found: Corpus, faults: Faults) -> None:
    """Note where the splits have too few prefixes, too long ones, or some that leave no room for the clauses."""
    run, tokenizer = next(iter(runs.values())), None
    with faults.noted():
        tokenizer = find_tokenizer(run, found)
    prefixes = short_prefixes(run, found, tokenizer)
    checks = {"sft": (check_positions, check_sft, check_room), "ppo": (check_ppo, check_shown, check_ppo_room),
              "neurologic": (check_room,), "evaluation": (check_room,)}
    for each in dict.fromkeys(each for stage in runs for each in checks.get(stage, ())):
        with faults.noted():
            each(run, prefixes)
    compared = list(prefixes["test"])
    if {"neurologic", "evaluation"} & set(runs):
        with faults.noted():
            compared = test_prefixes(found.prompts, run.config.evaluation.num_prefixes, run.seed,
                                     lambda texts: [text in prefixes["test"] for text in texts])
    if "neurologic" in runs and tokenizer:
        with faults.noted():
            check_clauses(run, compared, tokenizer)


def check_training(run: Run) -> Corpus:
    """Raise where a training without its notebook would be refused; return the corpus."""
    found, faults = find_corpus(run), Faults()
    prefixes = short_prefixes(run, found, find_tokenizer(run, found))
    for each in (check_ppo, check_ppo_room) if run.stage == "ppo" else (check_positions,):
        with faults.noted():
            each(run, prefixes)
    faults.tell()
    return found


# 2. What is there ----------------------------------------------------------------------------------------------------
def find_corpus(run: Run) -> Corpus:
    """Return the corpus of the study's artifact, or prepare it, which raises where it is no good.

    Rows that could not be used are told on standard error.
    """
    artifact = Run("data", run.config, run.seed, run.settings).artifact
    if artifact:
        report = json.loads((artifact.path / "report.json").read_text(encoding="utf-8"))
        return Corpus(artifact.dataset("prompts"), report)
    dataset, report = corpus.prepare(run.config.data, run.seed)
    if "unreadable" in report["dropped"]:
        print(f"npkit: {corpus.unreadable(report)}", file=sys.stderr)
    return Corpus(dataset, report)


def account(found: Corpus) -> str:
    """Return in lines how many rows were read, kept and dropped, and why, and how many prompts each split has."""
    report = found.report
    reasons = ", ".join(f"{entry['count']:,} {reason}" for reason, entry in report["dropped"].items())
    num_dropped = report["num_read"] - report["num_kept"]
    encoding = f" ({report['encoding']})" if report["encoding"] else ""
    rows = [f"corpus {report['source']}{encoding}",
            f"{'rows read':<14}{report['num_read']:>10,}",
            f"{'kept':<14}{report['num_kept']:>10,}",
            f"{'dropped':<14}{num_dropped:>10,}{f'  ({reasons})' if reasons else ''}"]
    rows += [f"{f'split {name}':<18}{count:>6,}  prompts of {len(found.prefixes(name)):,} different prefixes"
             for name, count in report["splits"].items()]
    return "\n".join(rows)


def find_tokenizer(run: Run, found: Corpus) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that the policy has or will have; None of a model that is not on this machine yet."""
    artifact = Run("sft", run.config, run.seed, run.settings).artifact
    if artifact:
        return AutoTokenizer.from_pretrained(artifact.path / "model", local_files_only=True)
    rows = zip(found.prompts["prompt"], found.prompts["split"], strict=True)
    return early_tokenizer(run.config.policy, [prompt for prompt, split in rows if split == "sft"])


def short_prefixes(run: Run, found: Corpus, tokenizer: PreTrainedTokenizerBase | None) -> Prefixes:
    """Return the different prefixes of each split that the policy takes, with their tokens; all without a tokenizer."""
    limit = run.config.policy.max_prefix_tokens
    short = {}
    for split in ("ppo", "validation", "test"):
        prefixes = found.prefixes(split)
        lengths = map(len, tokenizer(prefixes)["input_ids"]) if prefixes and tokenizer else [1] * len(prefixes)
        short[split] = {prefix: length for prefix, length in zip(prefixes, lengths, strict=True) if 0 < length <= limit}
    return short


# 3. Each check -------------------------------------------------------------------------------------------------------
def check_pretrained(run: Run) -> None:
    """Raise where the name of a pretrained policy can stand for none."""
    check_name(run.config.policy)


def check_scoring(run: Run, faults: Faults) -> None:
    """Note where the image model or a judge cannot be loaded, as far as that shows without loading its weights."""
    from npkit.scoring import images, judges  # diffusers takes seconds to import
    with faults.noted():
        images.check_config(run.config.images)
    for judge in run.config.judges:
        with faults.noted():
            judges.check_config(judge)
    faithful = run.config.faithfulness_judge
    if faithful and faithful not in run.config.judges:
        with faults.noted():
            try:
                judges.check_config(faithful)
            except NpkitError as error:
                raise NpkitError(f"evaluation.faithfulness: {error}") from error


def check_architecture(run: Run) -> None:
    """Raise where the policy carries a state in place of keys and values, without which there is no beam search here.

    A model that is not on this machine yet is not asked: notebook 02 loads it.
    """
    policy = run.config.policy
    if is_recurrent_kind(policy):
        setting = "policy.pretrained" if policy.pretrained else "policy.architecture"
        raise NpkitError(f"{setting} {policy.pretrained or policy.architecture!r} keeps no keys and values of past "
                         "tokens, which notebook 05 needs: choose gpt2, llama or gpt_neox, or stop before it "
                         "(--until 04_ppo)")


def check_beam(run: Run) -> None:
    """Raise where the beam is too narrow for the published decoders, which notebook 05 compares with ours."""
    if run.config.neurologic.beam_size < 2:
        raise NpkitError("neurologic.beam_size is 1, and notebook 05 compares with decoders that need 2 or more: raise "
                         "it, or stop before it (--until 04_ppo)")


def check_num_prefixes(run: Run) -> None:
    """Raise where so few test prefixes are wanted that notebook 06 has nothing to compare."""
    if (wanted := run.config.evaluation.num_prefixes) < LEAST_COMPARED:
        raise NpkitError(f"evaluation.num_prefixes is {wanted}, and notebook 06 needs {LEAST_COMPARED} or more for its "
                         "intervals and pictures: raise it")


def check_positions(run: Run, _: Prefixes) -> None:
    """Raise where a pretrained policy was made for fewer tokens than the settings would give it."""
    policy = run.config.policy
    if (limit := num_positions(policy)) < policy.max_prompt_tokens:
        raise NpkitError(f"policy.max_prompt_tokens is {policy.max_prompt_tokens}, and policy.pretrained "
                         f"{policy.pretrained!r} was made for {limit} (n_positions): lower it to that")


def check_sft(run: Run, prefixes: Prefixes) -> None:
    """Raise where no test prefix is short enough for the policy: notebook 02 continues some of them."""
    limit = longest_scored_prefix(run.config.policy, run.config.evaluation.max_new_tokens)
    if not any(length <= limit for length in prefixes["test"].values()):
        raise NpkitError(f"no test prefix of this corpus has at most {limit} tokens, as notebook 02 needs: raise "
                         "policy.max_prefix_tokens or policy.max_prompt_tokens, or cut prefixes by "
                         "data.prefix_rule=words:5")


def check_ppo(run: Run, prefixes: Prefixes) -> None:
    """Raise where PPO has too few prefixes to train on, or none to choose the best policy by."""
    config, num_prefixes, num_heldout = run.config.ppo, len(prefixes["ppo"]), len(prefixes["validation"])
    if num_prefixes < config.episodes_per_update:
        raise NpkitError(f"PPO needs at least as many prefixes as ppo.episodes_per_update = "
                         f"{config.episodes_per_update}, and this corpus gives it {num_prefixes} of at most "
                         f"{run.config.policy.max_prefix_tokens} tokens: lower it, raise data.ppo_share or use a "
                         "larger corpus")
    if config.final_policy == "best" and num_heldout <= NUM_SHOWN:
        raise NpkitError(f"ppo.final_policy best needs more than {NUM_SHOWN} validation prefixes (notebook 04 shows "
                         f"those), and this corpus has {num_heldout}: raise data.validation_share, use a larger "
                         "corpus, or take the last policy")


def check_shown(run: Run, prefixes: Prefixes) -> None:
    """Raise where notebook 04 has too few validation prefixes to compare the policies on."""
    if (num_prefixes := len(prefixes["validation"])) < LEAST_SHOWN:
        raise NpkitError(f"notebook 04 compares policies on {LEAST_SHOWN} or more validation prefixes, and this corpus "
                         f"has {num_prefixes} of at most {run.config.policy.max_prefix_tokens} tokens: raise "
                         "data.validation_share or use a larger corpus")


def check_ppo_room(run: Run, prefixes: Prefixes) -> None:
    """Raise where a prefix that PPO trains on, or is watched by, leaves no room for a completion."""
    check_length(run, prefixes["ppo"] | prefixes["validation"], "ppo", "PPO")


def check_room(run: Run, prefixes: Prefixes) -> None:
    """Raise where a test prefix leaves no room for a completion."""
    check_length(run, prefixes["test"], "evaluation", "the test split")


def check_length(run: Run, lengths: Mapping[str, int], section: str, where: str) -> None:
    """Raise where a prefix and a completion of a section's `max_new_tokens` are more than the policy takes."""
    max_new_tokens, limit = getattr(run.config, section).max_new_tokens, num_positions(run.config.policy)
    longest = max(lengths.values(), default=0)
    if longest + max_new_tokens > limit:
        setting = "policy.max_prompt_tokens" if limit == run.config.policy.max_prompt_tokens else "policy.pretrained"
        raise NpkitError(f"{section}.max_new_tokens is {max_new_tokens}, and {where} has a prefix of {longest} tokens: "
                         f"together more than the policy's {limit} ({setting}); lower {section}.max_new_tokens or "
                         "policy.max_prefix_tokens, or take a policy of more")


def check_clauses(run: Run, prefixes: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise where the study's default clauses cannot be met in the completion of a prefix."""
    from npkit.neurologic.decoding import prepare, read_vocabulary
    from npkit.wishes import read_wishes
    max_new_tokens = run.config.neurologic.max_new_tokens
    wishes = read_wishes(run.config, seed=run.seed)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    room = num_positions(run.config.policy) - max_new_tokens
    for prefix in prefixes:
        try:
            prepare(prefix, wishes(prefix), vocabulary, max_new_tokens, room)
        except NpkitError as error:
            raise NpkitError(f"notebook 05 cannot decode the test prefix {prefix[:60]!r}: {error} (see "
                             "neurologic.max_new_tokens, neurologic.keywords and neurologic.keywords_per_category)"
                             ) from error
