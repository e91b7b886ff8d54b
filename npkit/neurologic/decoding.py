"""NeuroLogic decoding: a beam search whose every output satisfies its clauses and avoids its banned phrases.

A hypothesis is scored by its log-probability plus `partial_weight` times the largest share written of a phrase of an
unmet clause (Lu et al., 2021, with the sign of the paper). Its state is two integers: a node of the automaton and the
set of clauses met. Judged is the prompt, prefix and completion together, because the image model gets it whole:

* a clause may be met by the user's own words, or by a phrase that begins in the prefix and ends in the completion;
* a banned phrase may not be completed across the border either, and a prefix that contains one is refused;
* no letter is glued to the user's last word, no line is broken, and no two spaces follow one another.
"""
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from npkit.errors import NpkitError, PrefixTooLong
from npkit.neurologic.automaton import FAR, Automaton, stack
from npkit.neurologic.beam import Beam, Rules, shaken, take_turns
from npkit.neurologic.cache import BeamCache
from npkit.neurologic.clauses import Certificate, Constraints, certify, find
from npkit.neurologic.compiling import MAX_EXACT_BITS, compile_constraints, solve
from npkit.neurologic.trie import BAN
from npkit.neurologic.vocabulary import WORD, Vocabulary, read_vocabulary
from npkit.policy import evaluating
from npkit.profiles import NeurologicConfig


@dataclass(frozen=True)
class Decoded:
    """A completion, its log-probability in nats (with EOS, where it ended before the limit), and its certificate."""
    prefix: str
    completion: str
    logprob: float
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
    `generator` draws the noise of a sampled beam (`beam_temperature` above 0).
    """
    best = decode_best(model, tokenizer, prefixes, constraints, config, 1, batch_size, generator)
    return [found[0] for found in best]


def decode_best(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
                constraints: Constraints | Sequence[Constraints], config: NeurologicConfig, num_best: int,
                batch_size: int = 64, generator: torch.Generator | None = None) -> list[list[Decoded]]:
    """Return the best different completions of each prefix, at most `num_best`, best first; otherwise as `decode`."""
    if config.beam_temperature and generator is None:
        raise NpkitError("neurologic.beam_temperature samples the beam: pass a generator to draw from")
    vocabulary, jobs = plan(model, tokenizer, prefixes, constraints, config)
    order = sorted(range(len(jobs)), key=lambda index: len(jobs[index].prefix_ids))
    decoded: dict[int, list[Decoded]] = {}
    for start in range(0, len(order), batch_size):
        batch = order[start:start + batch_size]
        beam = search(model, vocabulary, [jobs[index] for index in batch], config, num_best, generator)
        decoded |= zip(batch, read_out(beam, vocabulary, [jobs[index] for index in batch]))
    return [decoded[index] for index in range(len(jobs))]


def plan(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prefixes: Sequence[str],
         constraints: Constraints | Sequence[Constraints], config: NeurologicConfig) -> tuple[Vocabulary, list[Job]]:
    """Return the vocabulary and a job for each prefix."""
    sets = [constraints] * len(prefixes) if isinstance(constraints, Constraints) else constraints
    vocabulary = read_vocabulary(tokenizer, model.config.vocab_size)
    room = model.config.max_position_embeddings - config.max_new_tokens
    return vocabulary, [prepare(prefix, wanted, vocabulary, config.max_new_tokens, room)
                        for prefix, wanted in zip(prefixes, sets, strict=True)]


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
    if need > max_new_tokens and int(automaton.full).bit_length() <= MAX_EXACT_BITS:
        automaton = solve(automaton)
        need = _need(automaton, node, met)
    if need > max_new_tokens:
        raise NpkitError(_why_infeasible(constraints, vocabulary, need, max_new_tokens))
    last = prefix[-1]
    return Job(prefix, prefix_ids, constraints, automaton, node, met, last.isalnum() or last == "_", need)


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


def run_search(rules: Rules, beam: Beam, reader: "Reader", generator: torch.Generator | None) -> None:
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
    found = []
    for job, tokens, logprobs in zip(jobs, beam.best_tokens, beam.best_logprob.tolist()):
        completions = vocabulary.tokenizer.batch_decode(tokens, skip_special_tokens=True,
                                                        clean_up_tokenization_spaces=False)
        finished: dict[str, float] = {}
        for completion, logprob in zip(completions, logprobs):
            if logprob > -torch.inf:
                finished.setdefault(completion, logprob)
        found.append([Decoded(job.prefix, completion, logprob, certify(job.constraints, job.prefix + completion))
                      for completion, logprob in finished.items()])
    return found


def open_search(model: PreTrainedModel, vocabulary: Vocabulary, jobs: Sequence[Job], config: NeurologicConfig,
                num_best: int = 1) -> tuple[Rules, Beam, "Reader"]:
    """Return what a search on `jobs` works with: the rules, the beam before its first token, the model."""
    eos, device = vocabulary.tokenizer.eos_token_id, model.device
    machine = stack([job.automaton for job in jobs], fill_token=eos)
    node, met, in_word = (torch.tensor([getattr(job, name) for job in jobs]) for name in ("node", "met", "in_word"))
    rules = Rules.of(machine, vocabulary, config, in_word.to(device))
    beam = Beam.start((node + machine.root).to(device), met.to(device), config, eos, num_best)
    return rules, beam, Reader(model, [job.prefix_ids for job in jobs], config, eos)


# 2. The model --------------------------------------------------------------------------------------------------------
class Reader:
    """Runs the model: once on the prefixes, then one token a step for every hypothesis, with its cache."""

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel, prefix_ids: Sequence[list[int]], config: NeurologicConfig, fill: int):
        self.model, self.rows = model, config.num_rows
        longest = max(map(len, prefix_ids))
        ids = torch.tensor([[fill] * (longest - len(row)) + row for row in prefix_ids], device=model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prefix_ids], device=model.device)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        padded = min(map(len, prefix_ids)) < longest
        output = model(input_ids=ids, attention_mask=mask if padded else None, position_ids=position, use_cache=True,
                       logits_to_keep=1)
        self.cache = BeamCache(output.past_key_values, self.rows, config.max_new_tokens)
        self.logits = output.logits[:, -1].repeat_interleave(self.rows, 0)  # (sentences * rows, tokens)
        self.position = position[:, -1:].repeat_interleave(self.rows, 0)
        self.bias = self._bias(mask, config.max_new_tokens) if padded else None

    def _bias(self, mask: Tensor, max_new_tokens: int) -> Tensor:
        """Return what attention adds for each position (sentences * rows, 1, 1, time): nothing, or far too little.

        Given as the 2-D mask, transformers would look into it, and wait for the device, at every step.
        """
        room = pad(mask, (0, max_new_tokens), value=1).repeat_interleave(self.rows, 0)[:, None, None]
        return torch.zeros_like(room, dtype=self.model.dtype).masked_fill(room == 0, torch.finfo(self.model.dtype).min)

    def logprobs(self) -> Tensor:
        """Return the log-probabilities of the next token, (sentences, rows, tokens)."""
        return self.logits.float().log_softmax(-1).view(-1, self.rows, self.logits.shape[-1])

    @torch.no_grad()
    def step(self, row: Tensor, token: Tensor) -> None:
        """Continue hypothesis `row` of each sentence by `token`, both (sentences, rows)."""
        sentence = torch.arange(len(row), device=row.device)[:, None]
        self.cache.reorder((row + sentence * self.rows).flatten())
        self.position = self.position + 1
        bias = None if self.bias is None else self.bias[..., :self.cache.get_seq_length() + 1]
        self.logits = self.model(input_ids=token.reshape(-1, 1), attention_mask=bias, position_ids=self.position,
                                 past_key_values=self.cache, use_cache=True).logits[:, -1]
