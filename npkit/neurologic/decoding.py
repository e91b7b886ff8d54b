"""NeuroLogic decoding: a beam search whose every output satisfies its clauses and avoids its banned phrases.

A hypothesis ranks by its log-probability plus a bonus for the largest share written of a phrase of an unmet clause (Lu
et al., 2021, with the sign of the paper), and for every clause met: inside a group that changes nothing, but of groups
those further on are heard first. The paper's lambda is one number, to be found for each model and list of words; here
it is `partial_weight` times what the model expects the clause to cost. The state of a hypothesis is two integers: a
node of the automaton and the set of clauses met. Judged is the prompt, prefix and completion together, because the
image model gets it whole:

* a clause may be met by the user's own words, or by a phrase that begins in the prefix and ends in the completion;
* a banned phrase may not be completed across the border either, and a prefix that contains one is refused;
* no letter is glued to the user's last word, no line is broken, and no two spaces follow one another.
"""
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from npkit.errors import NpkitError, PrefixTooLong
from npkit.neurologic.automaton import FAR, Automaton, stack
from npkit.neurologic.beam import Beam, Rules, shaken, take_turns
from npkit.neurologic.clauses import Certificate, Constraints, certify, find
from npkit.neurologic.compiling import compile_constraints, lay_out, solve
from npkit.neurologic.costs import phrase_costs
from npkit.neurologic.published import BEHAVIOURS, decode_published
from npkit.neurologic.reader import Reader, no_keys_and_values
from npkit.neurologic.trie import BAN
from npkit.neurologic.vocabulary import WORD, Vocabulary, read_vocabulary
from npkit.study.profiles import NeurologicConfig
from npkit.text.policy import batches, evaluating, is_recurrent, max_tokens


@dataclass(frozen=True)
class Decoded:
    """A completion, its log-probability in nats (with EOS, where it ended before the limit), and its certificate."""
    prefix: str
    completion: str
    logprob: float
    num_tokens: int  # that the log-probability is of
    certificate: Certificate

    @property
    def prompt(self) -> str:
        return self.prefix + self.completion


@dataclass(frozen=True, eq=False)
class Job:
    """A prefix ready to decode: its tokens, its automaton, and where in it the prefix ends."""
    prefix: str
    prefix_ids: list[int]
    constraints: Constraints
    automaton: Automaton
    node: int
    met: int
    in_word: bool  # the prefix ends in a word: a letter next would change it
    need: int      # tokens that the clauses need at least, one after another


def decode(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
           constraints: Constraints | Sequence[Constraints], config: NeurologicConfig, batch_size: int = 64,
           generator: torch.Generator | None = None) -> list[Decoded]:
    """Return the best completion of each prefix under `constraints` (one set for all, or one a prefix).

    Contradictions, clauses that do not fit into `max_new_tokens` and prefixes with a banned phrase raise beforehand.
    `generator` draws the noise of a sampled beam (`beam_temperature` above 0); None is one seeded with 0.
    """
    best = decode_best(model, tokenizer, prefixes, constraints, config, 1, batch_size, generator)
    return [found[0] for found in best]


def decode_best(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
                constraints: Constraints | Sequence[Constraints], config: NeurologicConfig, num_best: int,
                batch_size: int = 64, generator: torch.Generator | None = None) -> list[list[Decoded]]:
    """Return the best different completions of each prefix, at most `num_best`, best first; otherwise as `decode`."""
    generator = generator or torch.Generator().manual_seed(0)
    sets = _one_each(constraints, prefixes)
    if config.compat:
        if num_best > 1:
            raise NpkitError(f"neurologic.compat gives one completion a prefix, as published, not {num_best}")
        return [[found] for found in _as_published(model, tokenizer, prefixes, sets, config, batch_size)]
    vocabulary, jobs = plan(model, tokenizer, prefixes, sets, config)
    decoded: dict[int, list[Decoded]] = {}
    for batch in batches(_by_length([job.prefix_ids for job in jobs]), batch_size):
        beam = search(model, vocabulary, [jobs[index] for index in batch], config, num_best, generator)
        decoded |= zip(batch, read_out(beam, vocabulary, [jobs[index] for index in batch]))
    return [decoded[index] for index in range(len(jobs))]


def _as_published(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
                  sets: Sequence[Constraints], config: NeurologicConfig, batch_size: int) -> list[Decoded]:
    """Return what the published code would: completions whose certificates may fail."""
    ids = [tokenizer.encode(prefix, add_special_tokens=False) for prefix in prefixes]
    decoded: dict[int, Decoded] = {}
    for batch in batches(_by_length(ids), batch_size):
        tokens, lengths, logprobs = decode_published(model, tokenizer, [ids[index] for index in batch],
                                                     [sets[index] for index in batch], BEHAVIOURS[config.compat],
                                                     config.beam_size, config.max_new_tokens)
        completions = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for index, completion, logprob, num_tokens in zip(batch, completions, logprobs, lengths.tolist()):
            decoded[index] = Decoded(prefixes[index], completion, logprob, num_tokens,
                                     certify(sets[index], prefixes[index] + completion))
    return [decoded[index] for index in range(len(ids))]


def plan(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
         constraints: Constraints | Sequence[Constraints], config: NeurologicConfig) -> tuple[Vocabulary, list[Job]]:
    """Return the vocabulary and a job for each prefix."""
    vocabulary = read_vocabulary(tokenizer, model.config.vocab_size)
    room = max_tokens(model) - config.max_new_tokens
    jobs = [prepare(prefix, wanted, vocabulary, config.max_new_tokens, room)
            for prefix, wanted in zip(prefixes, _one_each(constraints, prefixes), strict=True)]
    return vocabulary, weigh(model, tokenizer, jobs)


def _by_length(sequences: Sequence[Sequence[int]]) -> list[int]:
    return sorted(range(len(sequences)), key=lambda index: len(sequences[index]))


def _one_each(constraints: Constraints | Sequence[Constraints], prefixes: Sequence[str]) -> Sequence[Constraints]:
    return [constraints] * len(prefixes) if isinstance(constraints, Constraints) else constraints


def prepare(prefix: str, constraints: Constraints, vocabulary: Vocabulary, max_new_tokens: int, room: int,
            prefix_ids: list[int] | None = None) -> Job:
    """Return the job of one prefix, or raise if nothing could satisfy its constraints.

    `prefix_ids` are its tokens, where they are not the tokenizer's own spelling.
    """
    prefix_ids = prefix_ids or vocabulary.tokenizer.encode(prefix, add_special_tokens=False)
    if not prefix.strip():
        raise NpkitError("the prefix is empty: the policy needs at least one word to continue")
    if len(prefix_ids) > room:
        raise PrefixTooLong(f"prefix has {len(prefix_ids)} tokens, the policy takes {room} beside a completion of "
                            f"{max_new_tokens}: {prefix[:60]!r}")
    if banned := next((phrase for phrase in constraints.excluded if find(phrase, prefix)), None):
        raise NpkitError(f"the prefix itself contains the excluded {banned!r}: {prefix[:60]!r}")
    automaton = compile_constraints(constraints, vocabulary)
    node, met = automaton.read_text(prefix)
    if automaton.pending[node] & BAN:  # only by a word the user continues otherwise, such as "text" in "étext"
        node = WORD
    met = int(automaton.at_end(torch.tensor([[met & ~BAN]]), torch.tensor([[node]])))
    need = _need(automaton, node, met)
    if need > max_new_tokens:
        automaton = solve(automaton)
        need = _need(automaton, node, met)
    if need > max_new_tokens:
        raise NpkitError(_why_infeasible(constraints, vocabulary, need, max_new_tokens))
    last = prefix[-1]
    return Job(prefix, prefix_ids, constraints, automaton, node, met, last.isalnum() or last == "_", need)


def weigh(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, jobs: Sequence[Job]) -> list[Job]:
    """Return the jobs with what the model expects the phrases of each bit to cost behind a comma, in nats.

    Of the phrases of a clause the likeliest counts. Like the paper's lambda it only says which hypotheses are heard:
    too small, and clauses are put off to the last tokens; too large, and they are written wherever they fit least.
    """
    if is_recurrent(model):
        raise no_keys_and_values(model)
    layouts = {job.automaton: lay_out([clause for _, clause in job.constraints.wanted]) for job in jobs}
    cost = phrase_costs(model, tokenizer, [phrase for layout in layouts.values() for slot in layout
                                           if not slot.limited for phrase in slot.phrases])
    weighed = {}
    for automaton, layout in layouts.items():
        weight = automaton.weight.clone()
        for bit, slot in enumerate(layout):
            weight[0, bit] = 0 if slot.limited else min(cost[phrase] for phrase in slot.phrases)
        weighed[automaton] = replace(automaton, weight=weight)
    return [replace(job, automaton=weighed[job.automaton]) for job in jobs]


def _need(automaton: Automaton, node: int, met: int) -> int:
    return int(automaton.assess(torch.tensor([[node]]), torch.tensor([[met]]))[0])


def _why_infeasible(constraints: Constraints, vocabulary: Vocabulary, need: int, max_new_tokens: int) -> str:
    if need < FAR:
        return f"the clauses need {need} new tokens, max_new_tokens is {max_new_tokens}"
    for category, clause in constraints.wanted:
        if not any(vocabulary.spell(literal.phrase) for literal in clause):
            phrases = [literal.phrase for literal in clause]
            return f"the vocabulary has no tokens that write any of {phrases} ({category})"
    limits = " or breaking the counts" if any(clause.capped for _, clause in constraints.wanted) else ""
    return (f"the clauses {[category for category, _ in constraints.wanted]} cannot all be written without one of the "
            f"excluded {list(constraints.excluded)}{limits}")


# 1. The search -------------------------------------------------------------------------------------------------------
def search(model: PreTrainedModel, vocabulary: Vocabulary, jobs: Sequence[Job], config: NeurologicConfig,
           num_best: int = 1, generator: torch.Generator | None = None) -> Beam:
    """Return the beam at the end of one search on all jobs at once."""
    with evaluating(model):
        rules, beam, reader = open_search(model, vocabulary, jobs, config, num_best)
        run_search(rules, beam, reader, generator)
    return beam


def run_search(rules: Rules, beam: Beam, reader: Reader, generator: torch.Generator | None) -> None:
    """Repeat the step until nothing alive can beat what is finished."""
    config = rules.config
    while True:
        logprobs = reader.logprobs()
        rules.finish(beam, logprobs)
        if config.look_ahead:
            rules.look_ahead(beam, logprobs)
        candidates = rules.expand(beam, rules.forbid(beam, logprobs))
        rank, met = rules.judge(beam, candidates)
        chosen = take_turns(shaken(rank, config.beam_temperature, generator), met, config.num_rows)
        row, token = beam.follow(candidates, rank, chosen)
        if rules.settled(beam):
            break
        reader.step(row, token)
    rules.finish(beam)


def read_out(beam: Beam, vocabulary: Vocabulary, jobs: Sequence[Job]) -> list[list[Decoded]]:
    """Return the finished hypotheses of each job as texts; of two spellings of one text the likelier stays."""
    eos, limit = vocabulary.tokenizer.eos_token_id, beam.best_tokens.shape[2]
    lengths = ((beam.best_tokens != eos).sum(2) + 1).clamp(max=limit).tolist()  # no EOS at the limit
    found = []
    for job, tokens, logprobs, counts in zip(jobs, beam.best_tokens, beam.best_logprob.tolist(), lengths):
        completions = vocabulary.tokenizer.batch_decode(tokens, skip_special_tokens=True,
                                                        clean_up_tokenization_spaces=False)
        finished: dict[str, tuple[float, int]] = {}
        for completion, logprob, num_tokens in zip(completions, logprobs, counts):
            if logprob > -torch.inf:
                finished.setdefault(completion, (logprob, num_tokens))
        found.append([Decoded(job.prefix, completion, *measured, certify(job.constraints, job.prefix + completion))
                      for completion, measured in finished.items()])
    return found


def open_search(model: PreTrainedModel, vocabulary: Vocabulary, jobs: Sequence[Job], config: NeurologicConfig,
                num_best: int = 1) -> tuple[Rules, Beam, Reader]:
    """Return what a search on `jobs` works with: the rules, the beam before its first token, the model."""
    eos, device = vocabulary.tokenizer.eos_token_id, model.device
    machine = stack([job.automaton for job in jobs], fill_token=eos)
    node, met, in_word = (torch.tensor([getattr(job, name) for job in jobs]) for name in ("node", "met", "in_word"))
    rules = Rules.of(machine, vocabulary, config, in_word.to(device))
    beam = Beam.start((node + machine.root).to(device), met.to(device), config, eos, num_best)
    return rules, beam, Reader(model, [job.prefix_ids for job in jobs], config.num_rows, config.max_new_tokens)
