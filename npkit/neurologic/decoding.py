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
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from npkit.errors import NpkitError, PrefixTooLong
from npkit.neurologic.automaton import (
    BAN,
    BREAK,
    FAR,
    WORD,
    Automaton,
    Vocabulary,
    compile_constraints,
    read_vocabulary,
    stack,
)
from npkit.neurologic.cache import BeamCache
from npkit.neurologic.clauses import Certificate, Constraints, certify, find
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
    node, bits = automaton.read_text(prefix)
    pending = automaton.pending[node]
    met = (bits | pending) & automaton.full[0]
    if pending & BAN:  # only by a word the user continues otherwise, such as "text" in "étext"
        node = torch.tensor(WORD)
    need = int(automaton.assess(node[None, None], met[None, None])[0])
    if need > max_new_tokens:
        raise NpkitError(_why_infeasible(constraints, need, max_new_tokens))
    last = prefix[-1]
    return Job(prefix, prefix_ids, constraints, automaton, int(node), int(met), last.isalnum() or last == "_", need)


def _why_infeasible(constraints: Constraints, need: int, max_new_tokens: int) -> str:
    if need < FAR:
        return f"the clauses need {need} new tokens, max_new_tokens is {max_new_tokens}"
    return (f"the clauses {[category for category, _ in constraints.wanted]} cannot all be written without one of the "
            f"excluded {list(constraints.excluded)}")


# 1. The search -------------------------------------------------------------------------------------------------------
@dataclass
class Beam:
    """The live hypotheses of a batch, (sentences, beams), and the best finished ones of each sentence, best first."""
    node: Tensor
    met: Tensor
    scores: Tensor        # log-probability in nats; -inf: no hypothesis
    tokens: Tensor        # (sentences, beams, max_new_tokens)
    best: Tensor          # (sentences, finished) log-probability / length ** length_penalty; -inf: none yet
    best_logprob: Tensor
    best_tokens: Tensor   # (sentences, finished, max_new_tokens), filled up with EOS
    length: int = 0       # new tokens so far

    @classmethod
    def start(cls, jobs: Sequence[Job], machine: Automaton, config: NeurologicConfig, eos: int,
              num_best: int) -> "Beam":
        device, shape = machine.root.device, (len(jobs), config.beam_size)
        node = torch.tensor([job.node for job in jobs], device=device) + machine.root
        met = torch.tensor([job.met for job in jobs], device=device)
        scores = torch.full(shape, -torch.inf, device=device)
        scores[:, 0] = 0
        tokens = torch.full((*shape, config.max_new_tokens), eos, device=device)
        best = torch.full((shape[0], num_best), -torch.inf, device=device)
        return cls(node[:, None].repeat(1, shape[1]), met[:, None].repeat(1, shape[1]), scores, tokens, best,
                   best.clone(), tokens[:, :1].repeat(1, num_best, 1))

    def follow(self, candidates: "Candidates", chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Become the chosen candidates; return each one's parent and token, (sentences, beams)."""
        chosen = chosen.gather(1, keep_slots(candidates.row.gather(1, chosen)))
        row, token = candidates.row.gather(1, chosen), candidates.token.gather(1, chosen)
        kept = candidates.kept.gather(1, chosen)
        self.scores = candidates.score.gather(1, chosen).masked_fill(~kept, -torch.inf)
        self.node, self.met = candidates.node.gather(1, chosen), candidates.met.gather(1, chosen)
        self.tokens = self.tokens.gather(1, row[..., None].expand_as(self.tokens))
        self.tokens[:, :, self.length] = token
        self.length += 1
        return row, token


def search(model: PreTrainedModel, vocabulary: Vocabulary, jobs: Sequence[Job], config: NeurologicConfig,
           num_best: int = 1, generator: torch.Generator | None = None) -> Beam:
    """Return the beam at the end of one search on all jobs at once."""
    with evaluating(model):
        rules, beam, reader = open_search(model, vocabulary, jobs, config, num_best)
        run_search(rules, beam, reader, generator)
    return beam


def run_search(rules: "Rules", beam: Beam, reader: "Reader", generator: torch.Generator | None) -> None:
    """Repeat the step until nothing alive can beat what is finished."""
    while True:
        logprobs = reader.logprobs()
        rules.finish(beam, logprobs)
        totals = rules.forbid(beam, logprobs)
        candidates = rules.expand(beam, totals)
        rank, clauses = rules.judge(beam, candidates, totals)
        chosen = take_turns(shaken(rank, rules.config.beam_temperature, generator), clauses, rules.config.beam_size)
        row, token = beam.follow(candidates, chosen)
        if rules.settled(beam):
            break
        reader.step(row, token)
    rules.finish(beam)


def shaken(rank: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Return `rank` with Gumbel noise: the best of them are then a sample without replacement (Kool et al., 2019)."""
    if not temperature:
        return rank
    noise = torch.empty(rank.shape).exponential_(generator=generator).log().neg()
    return rank + temperature * noise.to(rank.device)


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
                num_best: int = 1) -> tuple["Rules", Beam, "Reader"]:
    """Return what a search on `jobs` works with: the rules, the beam before its first token, the model."""
    eos = vocabulary.tokenizer.eos_token_id
    machine = stack([job.automaton for job in jobs], fill_token=eos).to(model.device)
    in_word = torch.tensor([job.in_word for job in jobs], device=model.device)
    rules = Rules(machine, vocabulary.to(model.device), config, in_word)
    beam = Beam.start(jobs, machine, config, eos, num_best)
    return rules, beam, Reader(model, [job.prefix_ids for job in jobs], config, eos)


# 2. One step ---------------------------------------------------------------------------------------------------------
@dataclass
class Candidates:
    """Possible next tokens of all hypotheses of a sentence, (sentences, candidates)."""
    row: Tensor     # hypothesis it continues
    token: Tensor
    score: Tensor
    node: Tensor
    met: Tensor
    kept: Tensor    # False: ruled out
    proposed: Tensor  # True: not likely, but spelling a phrase; kept only if it brings an unmet clause nearer


@dataclass(frozen=True)
class Rules:
    """What a step of the beam obeys: the automata, the vocabulary, the settings."""
    machine: Automaton
    vocabulary: Vocabulary
    config: NeurologicConfig
    in_word: Tensor  # (sentences,) the prefix ends in a word

    def finish(self, beam: Beam, logprobs: Tensor | None = None) -> None:
        """Let every hypothesis that satisfies all clauses end: with EOS as next token, or (None) at the limit."""
        may_end = (beam.met | self.machine.pending[beam.node]) == self.machine.full[:, None]
        last, length = 0, beam.length
        if logprobs is not None:
            last, length = logprobs[..., self.vocabulary.tokenizer.eos_token_id], length + 1
        logprob = torch.where(may_end, beam.scores + last, -torch.inf)
        values = torch.cat([beam.best, logprob / length ** self.config.length_penalty], 1)
        best = values.argsort(dim=1, descending=True, stable=True)[:, :beam.best.shape[1]]  # of equals, who was first
        beam.best = values.gather(1, best)
        beam.best_logprob = torch.cat([beam.best_logprob, logprob], 1).gather(1, best)
        tokens = torch.cat([beam.best_tokens, beam.tokens], 1)
        beam.best_tokens = tokens.gather(1, best[..., None].expand(-1, -1, tokens.shape[2]))

    def settled(self, beam: Beam) -> bool:
        """Say whether the search is over: at the limit, or where nothing alive can beat what is finished."""
        limit = self.config.max_new_tokens
        reachable = beam.scores.amax(1) / limit ** self.config.length_penalty
        return beam.length == limit or bool((beam.best[:, -1] >= reachable).all())

    def forbid(self, beam: Beam, logprobs: Tensor) -> Tensor:
        """Return the log-probability of every continuation (sentences, beams, tokens), -inf where a rule forbids it."""
        first = self.vocabulary.first_class
        totals = (logprobs + beam.scores[..., None]).masked_fill_(self.vocabulary.never, -torch.inf)
        banned = self.machine.pending[beam.node] & BAN != 0   # a banned phrase ends here unless its last word goes on
        totals.masked_fill_(banned[..., None] & (first != WORD), -torch.inf)
        if beam.length == 0:
            totals.masked_fill_(self.in_word[:, None, None] & (first != BREAK), -torch.inf)
        return totals

    def expand(self, beam: Beam, totals: Tensor) -> Candidates:
        """Return each hypothesis' 2K likeliest tokens and the proposals of its automaton."""
        machine, proposals = self.machine, self.machine.proposals
        sentences, beams, num_tokens = totals.shape
        scores, tokens = totals.topk(min(2 * beams, num_tokens))
        node, bits = machine.read(beam.node[..., None].expand_as(tokens), self.vocabulary.token_bytes[tokens])
        proposals = proposals[:, None].expand(-1, beams, -1)
        proposal_scores = totals.scatter(2, tokens, -torch.inf).gather(2, proposals)  # none twice

        def both(likely: Tensor, proposed: Tensor) -> Tensor:
            return torch.cat([likely, proposed], 2).flatten(1)

        bits = both(bits, machine.next_gains[beam.node])
        row = torch.arange(beams, device=tokens.device)[:, None].expand(-1, tokens.shape[2] + proposals.shape[2])
        score = both(scores, proposal_scores)
        row = row.flatten().expand(sentences, -1)
        return Candidates(
            row=row, token=both(tokens, proposals), score=score, node=both(node, machine.next_node[beam.node]),
            met=beam.met.gather(1, row) | bits & machine.full[:, None], kept=(score > -torch.inf) & (bits & BAN == 0),
            proposed=both(torch.zeros_like(tokens, dtype=torch.bool), torch.ones_like(proposals, dtype=torch.bool)))

    def judge(self, beam: Beam, candidates: Candidates, totals: Tensor) -> tuple[Tensor, Tensor]:
        """Drop candidates that cannot or should not win; return the rank of the others and the clauses they meet."""
        machine, config = self.machine, self.config
        tokens_left = config.max_new_tokens - beam.length - 1
        need, share = machine.assess(candidates.node, candidates.met)
        need_before, _ = machine.assess(beam.node, beam.met)
        nearer = need < need_before.gather(1, candidates.row)
        clauses = (candidates.met | machine.pending[candidates.node]) & machine.full[:, None]
        clauses_before = (beam.met | machine.pending[beam.node]).gather(1, candidates.row)
        useful = nearer | (share > 0) | (clauses & ~clauses_before != 0)
        kept = candidates.kept & (need <= tokens_left) & (useful | ~candidates.proposed)
        num_satisfied = machine.members(clauses).sum(-1)
        most = num_satisfied.masked_fill(~kept, -1).amax(1, keepdim=True)
        kept &= num_satisfied >= most - config.sat_tolerance
        if config.prune_factor:
            worst = totals.flatten(1).topk(min(config.prune_factor, totals[0].numel())).values[:, -1:]
            kept &= (candidates.score >= worst) | nearer
        candidates.kept = kept
        rank = candidates.score + config.partial_weight * share
        return rank.masked_fill(~kept, -torch.inf), clauses.masked_fill(~kept, -1)


def take_turns(rank: Tensor, group: Tensor, count: int) -> Tensor:
    """Return `count` candidates (sentences, count): the best of every group, then every second best, and so on.

    Each round goes by rank. A rank of -inf comes last, whatever its group.
    """
    by_rank = rank.argsort(dim=1, descending=True, stable=True)
    sorted_group = group.gather(1, by_rank)
    by_group = sorted_group.argsort(dim=1, stable=True)
    runs = sorted_group.gather(1, by_group)
    place = torch.arange(rank.shape[1], device=rank.device).expand_as(rank)
    begins = torch.cat([torch.ones_like(runs[:, :1], dtype=torch.bool), runs[:, 1:] != runs[:, :-1]], 1)
    turn = place - torch.where(begins, place, 0).cummax(1).values
    turn = torch.empty_like(turn).scatter_(1, by_group, turn)
    turn = turn.masked_fill(rank.gather(1, by_rank) == -torch.inf, rank.shape[1])
    return by_rank.gather(1, turn.argsort(dim=1, stable=True)[:, :count])


def keep_slots(parent: Tensor) -> Tensor:
    """Return the permutation (sentences, beams) that leaves each parent's first child in its slot, to copy less."""
    beams = torch.arange(parent.shape[1], device=parent.device)
    first = (parent[..., None] == beams) & ((parent[..., None] == beams).long().cumsum(1) == 1)
    is_first, is_taken = first.any(2), first.any(1)
    free_slots = torch.where(is_taken, beams + len(beams), beams).argsort(dim=1)
    nth_other = ((~is_first).long().cumsum(1) - 1).clamp(min=0)
    return torch.where(is_first, parent, free_slots.gather(1, nth_other)).argsort(dim=1)


# 3. The model --------------------------------------------------------------------------------------------------------
class Reader:
    """Runs the model: once on the prefixes, then one token a step for every hypothesis, with its cache."""

    @torch.no_grad()
    def __init__(self, model: PreTrainedModel, prefix_ids: Sequence[list[int]], config: NeurologicConfig, fill: int):
        self.model, self.beam_size = model, config.beam_size
        longest = max(map(len, prefix_ids))
        ids = torch.tensor([[fill] * (longest - len(row)) + row for row in prefix_ids], device=model.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in prefix_ids], device=model.device)
        position = (mask.cumsum(1) - 1).clamp(min=0)
        output = model(input_ids=ids, attention_mask=mask, position_ids=position, use_cache=True, logits_to_keep=1)
        self.cache = BeamCache(output.past_key_values, self.beam_size, config.max_new_tokens)
        self.logits = output.logits[:, -1].repeat_interleave(self.beam_size, 0)  # (sentences * beams, tokens)
        self.mask, self.position = (each.repeat_interleave(self.beam_size, 0) for each in (mask, position[:, -1:]))

    def logprobs(self) -> Tensor:
        """Return the log-probabilities of the next token, (sentences, beams, tokens)."""
        return self.logits.float().log_softmax(-1).view(-1, self.beam_size, self.logits.shape[-1])

    @torch.no_grad()
    def step(self, row: Tensor, token: Tensor) -> None:
        """Continue hypothesis `row` of each sentence by `token`, both (sentences, beams)."""
        sentence = torch.arange(len(row), device=row.device)[:, None]
        self.cache.reorder((row + sentence * self.beam_size).flatten())
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
        self.position = self.position + 1
        self.logits = self.model(input_ids=token.reshape(-1, 1), attention_mask=self.mask, position_ids=self.position,
                                 past_key_values=self.cache, use_cache=True).logits[:, -1]
