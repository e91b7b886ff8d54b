"""Search: the beam search of a batch, without a loop over hypotheses: first the loop, then its parts in turn."""
from dataclasses import dataclass

import torch
from torch import Tensor

from npkit.neurologic.machine import BAN, HALF
from npkit.neurologic.plans import Tracker
from npkit.neurologic.reader import Reader
from npkit.neurologic.vocabulary import BREAK, INSIDE, LETTER, WORD, Vocabulary
from npkit.study.profiles import NeurologicConfig

NEVER = -1e30  # a log-probability: so low that it counts as none; minus infinity times zero would be no number


def run_search(rules: "Rules", beam: "Beam", reader: Reader, generator: torch.Generator | None) -> None:
    """Repeat the step until no live hypothesis can beat those that have ended."""
    config = rules.config
    while True:
        logprobs = reader.logprobs()
        rules.finish(beam, logprobs)
        if config.look_ahead:
            rules.look_ahead(beam, logprobs)
        candidates = rules.expand(beam, rules.forbid(beam, logprobs))
        rank, met = rules.rank(beam, candidates)
        chosen = take_turns(perturbed(rank, config.beam_temperature, generator), met, config.num_rows)
        row, token = beam.follow(candidates, rank, chosen)
        if rules.may_stop(beam):
            break
        reader.step(row, token)
    rules.finish(beam)


# 1. Hypotheses -------------------------------------------------------------------------------------------------------
@dataclass
class Beam:
    """The live hypotheses of a batch, (sentences, beams), and the best finished ones of each sentence, best first."""
    node: Tensor
    met: Tensor
    scores: Tensor        # log-probability in nats; -inf: no hypothesis
    rank: Tensor          # what they were chosen by
    tokens: Tensor        # (sentences, beams, max_new_tokens)
    best: Tensor          # (sentences, finished) log-probability / length ** length_penalty; -inf: none yet
    best_logprob: Tensor
    best_tokens: Tensor   # (sentences, finished, max_new_tokens), filled up with EOS
    length: int = 0       # new tokens so far

    @classmethod
    def start(cls, node: Tensor, met: Tensor, config: NeurologicConfig, eos: int, num_best: int) -> "Beam":
        """Return the beam before the first token: one hypothesis a sentence, at `node` with the bits `met`."""
        device, shape = node.device, (len(node), config.num_rows)
        scores = torch.full(shape, -torch.inf, device=device)
        scores[:, 0] = 0
        tokens = torch.full((*shape, config.max_new_tokens), eos, device=device)
        best = torch.full((shape[0], num_best), -torch.inf, device=device)
        return cls(node[:, None].repeat(1, shape[1]), met[:, None].repeat(1, shape[1]), scores, scores.clone(),
                   tokens, best, best.clone(), tokens[:, :1].repeat(1, num_best, 1))

    def follow(self, candidates: "Candidates", rank: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Become the chosen candidates; return each one's parent and token, (sentences, beams)."""
        chosen = chosen.gather(1, keep_slots(candidates.row.gather(1, chosen)))
        row, token = candidates.row.gather(1, chosen), candidates.token.gather(1, chosen)
        self.rank = rank.gather(1, chosen)
        self.scores = candidates.score.gather(1, chosen).masked_fill(self.rank == -torch.inf, -torch.inf)
        self.node, self.met = candidates.node.gather(1, chosen), candidates.met.gather(1, chosen)
        self.tokens = self.tokens.gather(1, row[..., None].expand_as(self.tokens))
        self.tokens[:, :, self.length] = token
        self.length += 1
        return row, token


# 2. One step ---------------------------------------------------------------------------------------------------------
@dataclass
class Continuations:
    """Hypotheses of a sentence continued by one token, (sentences, candidates)."""
    row: Tensor    # hypothesis it continues
    token: Tensor
    score: Tensor  # log-probability in nats
    node: Tensor
    met: Tensor
    kept: Tensor   # False: ruled out


@dataclass
class Candidates(Continuations):
    """The likely tokens of all hypotheses of a sentence, and those that spell phrases, (sentences, candidates)."""
    proposed: Tensor  # True: not likely, but spelling a phrase; kept only if it brings an unmet clause nearer
    likely: Tensor    # True: among the `prune_factor` likeliest of the sentence


@dataclass(frozen=True)
class Rules:
    """What a step of the beam obeys: the constraints of every sentence, the vocabulary, the settings."""
    tracker: Tracker
    config: NeurologicConfig
    eos: int
    token_bytes: Tensor  # (tokens, most bytes) what the tokens write
    penalties: Tensor    # (5, tokens) NEVER for tokens that are never written, begin no letter, begin no BREAK,
                         # begin inside a character, begin not inside one; or 0
    in_word: Tensor      # (sentences,) the prefix ends in a word
    need: Tensor         # (sentences,) tokens needed behind the prefix, whose last word none may continue

    @classmethod
    def of(cls, tracker: Tracker, vocabulary: Vocabulary, config: NeurologicConfig, in_word: Tensor,
           need: Tensor) -> "Rules":
        first = vocabulary.first_class
        forbidden = [vocabulary.never, (first != WORD) & (first != LETTER), first != BREAK,
                     first == INSIDE, first != INSIDE]
        device = in_word.device
        return cls(tracker.to(device), config, vocabulary.tokenizer.eos_token_id, vocabulary.token_bytes.to(device),
                   (torch.stack(forbidden) * NEVER).to(device), in_word, need)

    def assess(self, node: Tensor, met: Tensor) -> tuple[Tensor, Tensor]:
        """Return, for hypotheses (sentences, ...), the tokens they still need and what the phrase in hand is worth."""
        tracker = self.tracker
        need, owed = tracker.plans.assess(tracker.goals, tracker.machine.pending[node], node, met)
        return need, tracker.progress.in_hand(node, owed)

    def need_of(self, beam: Beam) -> Tensor:
        """Return the tokens that each hypothesis still needs, (sentences, beams)."""
        if beam.length == 0:
            return self.need[:, None].expand_as(beam.node)
        return self.assess(beam.node, beam.met)[0]

    def met_at_end(self, beam: Beam) -> Tensor:
        """Return the bits of each hypothesis if it ended here."""
        return self.tracker.goals.at_end(beam.met, self.tracker.machine.pending[beam.node])

    def finish(self, beam: Beam, logprobs: Tensor | None = None) -> None:
        """Let every hypothesis that satisfies all clauses end: with EOS as next token, or (None) at the limit."""
        may_end = self.tracker.goals.done(self.met_at_end(beam))
        may_end &= self.tracker.machine.pending[beam.node] & BAN == 0
        last, length = 0, beam.length
        if logprobs is not None:
            last, length = logprobs[..., self.eos], length + 1
        logprob = torch.where(may_end, beam.scores + last, -torch.inf)
        values = torch.cat([beam.best, logprob / length ** self.config.length_penalty], 1)
        best = values.argsort(dim=1, descending=True, stable=True)[:, :beam.best.shape[1]]  # of equals, who was first
        beam.best = values.gather(1, best)
        beam.best_logprob = torch.cat([beam.best_logprob, logprob], 1).gather(1, best)
        tokens = torch.cat([beam.best_tokens, beam.tokens], 1)
        beam.best_tokens = tokens.gather(1, best[..., None].expand(-1, -1, tokens.shape[2]))

    def may_stop(self, beam: Beam) -> bool:
        """Say whether the search is over: at the limit, or where no live hypothesis can beat those that have ended."""
        limit = self.config.max_new_tokens
        reachable = beam.scores.amax(1) / limit ** self.config.length_penalty
        return beam.length == limit or bool((beam.best[:, -1] >= reachable).all())  # a step's only wait for the device

    def look_ahead(self, beam: Beam, logprobs: Tensor) -> None:
        """Of the rows opened, keep `beam_size`: by rank, and by how likely a token comes next that brings a clause
        nearer (A*esque decoding, Lu et al. 2022, with a horizon of the one token that the model has just judged).
        """
        machine, goals, config = self.tracker.machine, self.tracker.goals, self.config
        proposals = machine.proposals[:, None].expand(-1, beam.node.shape[1], -1)
        node, met = (each[..., None].expand_as(proposals).flatten(1) for each in (beam.node, beam.met))
        met = goals.gain(met, machine.next_gains[beam.node].flatten(1), machine.pending[node])
        need, _ = self.assess(machine.next_node[beam.node].flatten(1), met)
        need_before = self.need_of(beam)
        useful = need.view(proposals.shape) < need_before[..., None]
        future = logprobs.gather(2, proposals).masked_fill(~useful, -torch.inf).amax(-1)
        future = torch.where(need_before > 0, future, 0.0)
        kept = take_turns(beam.rank + config.look_ahead * future, self.met_at_end(beam), config.beam_size)
        alive = torch.zeros_like(beam.node, dtype=torch.bool).scatter(1, kept, True)
        beam.scores = beam.scores.masked_fill(~alive, -torch.inf)

    def forbid(self, beam: Beam, logprobs: Tensor) -> Tensor:
        """Lower `logprobs` (sentences, beams, tokens) in place to NEVER and less where a rule forbids the token."""
        # Where a banned phrase is pending, only a letter that makes its last word another one may follow.
        pending = self.tracker.machine.pending[beam.node]
        half = pending & HALF != 0
        banned = (pending & BAN != 0) & ~half
        glued = self.in_word[:, None].expand_as(banned) if beam.length == 0 else torch.zeros_like(banned)
        rules = torch.stack([torch.ones_like(half), banned, glued, ~half, half], -1)
        return logprobs.flatten(0, 1).addmm_(rules.flatten(0, 1).to(logprobs.dtype), self.penalties).view_as(logprobs)

    def expand(self, beam: Beam, logprobs: Tensor) -> Candidates:
        """Return each hypothesis' 2K likeliest tokens and the proposals of its machine; overwrites `logprobs`."""
        machine, config = self.tracker.machine, self.config
        sentences, beams, num_tokens = logprobs.shape
        likeliest, tokens = logprobs.topk(min(2 * config.beam_size, num_tokens))
        floor = self._floor(beam, logprobs)
        node, bits = machine.read(beam.node[..., None].expand_as(tokens), self.token_bytes[tokens])
        proposals = machine.proposals[:, None].expand(-1, beams, -1)
        others = logprobs.scatter_(2, tokens, NEVER).gather(2, proposals)  # none twice

        def both(likely: Tensor, proposed: Tensor) -> Tensor:
            return torch.cat([likely, proposed], 2).flatten(1)

        row = torch.arange(beams, device=tokens.device)[:, None].expand(-1, tokens.shape[2] + proposals.shape[2])
        row = row.flatten().expand(sentences, -1)
        bits, logprob = both(bits, machine.next_gains[beam.node]), both(likeliest, others)
        score = logprob + beam.scores.gather(1, row)
        return Candidates(
            row=row, token=both(tokens, proposals), score=score, node=both(node, machine.next_node[beam.node]),
            met=self.tracker.goals.gain(beam.met.gather(1, row), bits, machine.pending[beam.node].gather(1, row)),
            kept=(logprob > NEVER) & (score > -torch.inf) & (bits & BAN == 0), likely=score >= floor,
            proposed=both(torch.zeros_like(tokens, dtype=torch.bool), torch.ones_like(proposals, dtype=torch.bool)))

    def _floor(self, beam: Beam, logprobs: Tensor) -> Tensor:
        """Return the score (sentences, 1) under which a candidate is not among the `prune_factor` likeliest."""
        if not self.config.prune_factor:
            return beam.scores.new_full((len(beam.scores), 1), -torch.inf)
        scores = (logprobs + beam.scores[..., None]).flatten(1)
        return scores.topk(min(self.config.prune_factor, scores.shape[1])).values[:, -1:]

    def rank(self, beam: Beam, candidates: Candidates) -> tuple[Tensor, Tensor]:
        """Drop candidates that cannot or should not win; return the rank of the others and the bits they meet."""
        tracker, config = self.tracker, self.config
        tokens_left = config.max_new_tokens - beam.length - 1
        need, in_hand = self.assess(candidates.node, candidates.met)
        need_before = self.need_of(beam)
        nearer = need < need_before.gather(1, candidates.row)
        met = tracker.goals.at_end(candidates.met, tracker.machine.pending[candidates.node])
        met_before = self.met_at_end(beam).gather(1, candidates.row)
        useful = nearer | (in_hand > 0) | (met & ~met_before != 0)
        kept = candidates.kept & (need <= tokens_left)  # the promise: whoever is kept can still satisfy every clause
        kept &= (useful | ~candidates.proposed) & (candidates.likely | nearer)
        num_met = tracker.goals.num_met(met)
        most = num_met.masked_fill(~kept, -1).amax(1, keepdim=True)
        kept &= num_met >= most - config.sat_tolerance
        candidates.kept = kept
        worth = tracker.goals.worth(met, tracker.progress.weight)
        rank = candidates.score + config.partial_weight * (worth + in_hand)
        return rank.masked_fill(~kept, -torch.inf), met.masked_fill(~kept, -1)


# 3. Choosing ---------------------------------------------------------------------------------------------------------
def perturbed(rank: Tensor, temperature: float, generator: torch.Generator | None) -> Tensor:
    """Return `rank` with Gumbel noise: the best of them are then a sample without replacement (Kool et al., 2019)."""
    if not temperature:
        return rank
    noise = torch.empty(rank.shape).exponential_(generator=generator).log().neg()
    return rank + temperature * noise.to(rank.device)


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
