"""Preflight: what a later notebook would refuse after minutes or hours, refused before the first one begins."""
import sys
from collections.abc import Mapping
from functools import partial

from datasets import Dataset
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from npkit.errors import NpkitError
from npkit.findings.evaluation import test_prefixes
from npkit.study.artifacts import Run
from npkit.study.profiles import PolicyConfig
from npkit.text import corpus
from npkit.text.policy import early_tokenizer, fits, is_recurrent_kind
from npkit.training.assembly import NUM_SHOWN


def check(runs: Mapping[str, Run]) -> None:
    """Raise where a stage that is to be made (name -> run) cannot be made from these settings and this corpus."""
    run = next(iter(runs.values()))
    if "neurologic" in runs:
        check_architecture(run.config.policy)
    if set(runs) == {"glyphworld"}:
        return
    dataset = find_prompts(run)
    if set(runs) <= {"glyphworld", "data"}:
        return
    tokenizer = find_tokenizer(run, dataset)
    if "sft" in runs and tokenizer:
        check_sft(run, dataset, tokenizer)
    prefixes = []
    if {"neurologic", "evaluation"} & set(runs):
        readable = tokenizer and partial(fits, tokenizer, max_prefix_tokens=run.config.policy.max_prefix_tokens)
        prefixes = test_prefixes(dataset, run.config.evaluation.num_prefixes, run.seed, readable)
    if "ppo" in runs and tokenizer:
        check_ppo(run, dataset, tokenizer)
    if "neurologic" in runs and tokenizer and not run.config.neurologic.compat:
        check_clauses(run, prefixes, tokenizer)


def check_architecture(policy: PolicyConfig) -> None:
    """Raise where the policy carries a state in place of keys and values, without which there is no beam search here.

    A model that is not on this machine yet is not asked: notebook 02 loads it.
    """
    if is_recurrent_kind(policy):
        setting = "policy.pretrained" if policy.pretrained else "policy.architecture"
        raise NpkitError(f"{setting} {policy.pretrained or policy.architecture!r} keeps no keys and values of past "
                         "tokens, which notebook 05 needs: choose gpt2, llama or gpt_neox, or stop before it "
                         "(--until 04_ppo)")


def find_prompts(run: Run) -> Dataset:
    """Return the prompts of the study's artifact, or prepare them, which raises where the corpus is no good.

    Rows that could not be used are told on standard error.
    """
    artifact = Run("data", run.config, run.seed, run.settings).artifact
    if artifact:
        return artifact.dataset("prompts")
    dataset, report = corpus.prepare(run.config.data, run.seed)
    if "unreadable" in report["dropped"]:
        print(f"npkit: {corpus.unreadable(report)}", file=sys.stderr)
    return dataset


def find_tokenizer(run: Run, dataset: Dataset) -> PreTrainedTokenizerBase | None:
    """Return the tokenizer that the policy has or will have; None of a model that is not on this machine yet."""
    artifact = Run("sft", run.config, run.seed, run.settings).artifact
    if artifact:
        return AutoTokenizer.from_pretrained(artifact.path / "model", local_files_only=True)
    prompts = [prompt for prompt, split in zip(dataset["prompt"], dataset["split"]) if split == "sft"]
    return early_tokenizer(run.config.policy, prompts)


def check_sft(run: Run, dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise where no test prefix is short enough for the policy: notebook 02 continues some of them."""
    prefixes = [prefix for prefix, split in zip(dataset["prefix"], dataset["split"]) if split == "test"]
    limit = run.config.policy.max_prefix_tokens
    if not any(fits(tokenizer, prefixes, limit)):
        raise NpkitError(f"none of the {len(prefixes)} test prefixes of this corpus has at most {limit} tokens: raise "
                         "policy.max_prefix_tokens, or cut prefixes by data.prefix_rule=words:5")


def check_ppo(run: Run, dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise where PPO would have too few prefixes, or one that leaves no room for a completion."""
    config, policy = run.config.ppo, run.config.policy
    prefixes = sorted({prefix for prefix, split in zip(dataset["prefix"], dataset["split"]) if split == "ppo"})
    lengths = [len(ids) for ids in tokenizer(prefixes)["input_ids"] if 0 < len(ids) <= policy.max_prefix_tokens]
    if len(lengths) < config.episodes_per_update:
        raise NpkitError(f"PPO needs at least as many prefixes as ppo.episodes_per_update = "
                         f"{config.episodes_per_update}, and this corpus gives it {len(lengths)} of at most "
                         f"{policy.max_prefix_tokens} tokens: lower it, raise data.ppo_share or use a larger corpus")
    validation = {prefix for prefix, split in zip(dataset["prefix"], dataset["split"]) if split == "validation"}
    num_fitting = sum(fits(tokenizer, sorted(validation), policy.max_prefix_tokens)) if validation else 0
    if config.final_policy == "best" and num_fitting <= NUM_SHOWN:
        raise NpkitError(f"ppo.final_policy best needs more than {NUM_SHOWN} validation prefixes (notebook 04 shows "
                         f"those), and this corpus has {num_fitting}: raise data.validation_share, use a larger "
                         "corpus, or take the last policy")
    if max(lengths) + config.max_new_tokens > policy.max_prompt_tokens:
        raise NpkitError(f"ppo.max_new_tokens is {config.max_new_tokens}, and PPO has a prefix of {max(lengths)} "
                         f"tokens: together more than policy.max_prompt_tokens = {policy.max_prompt_tokens}; lower "
                         "ppo.max_new_tokens or policy.max_prefix_tokens, or raise policy.max_prompt_tokens")


def check_clauses(run: Run, prefixes: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise where the study's default clauses cannot be met in a test prefix's completion."""
    from npkit.neurologic.decoding import prepare, read_vocabulary
    from npkit.wishes import constraints_for
    policy, max_new_tokens = run.config.policy, run.config.neurologic.max_new_tokens
    constraints = constraints_for(run.config, {}, seed=run.seed)
    vocabulary = read_vocabulary(tokenizer, len(tokenizer))
    room = (tokenizer.model_max_length if policy.pretrained else policy.max_prompt_tokens) - max_new_tokens
    for prefix in prefixes:
        try:
            prepare(prefix, constraints, vocabulary, max_new_tokens, room)
        except NpkitError as error:
            raise NpkitError(f"notebook 05 cannot decode the test prefix {prefix[:60]!r}: {error} (see "
                             "neurologic.max_new_tokens, neurologic.keywords and neurologic.keywords_per_category)"
                             ) from error
