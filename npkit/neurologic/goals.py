"""Goals: which clauses hold? On a text the certificate says it; while the text is written, a set of bits does.

A clause is one bit, which any of its phrases sets. A clause that counts its phrases has one bit for each; a phrase that
is both wanted and limited has two: one is set where it surely counts, one where it may stand.
"""
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from npkit.neurologic.constraints import Clause, Constraints, find, find_part, squeeze
from npkit.neurologic.machine import Movable, joined

FAR = 10_000  # more phrases, and more tokens, than any completion has


# 1. On a text: certificates -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class ClauseResult:
    """Whether a clause holds, how many of its phrases occur, and the first of them as written; None where none is."""
    category: str
    any_of: tuple[str, ...]
    holds: bool
    count: int
    satisfied_by: str | None
    start: int | None
    end: int | None


@dataclass(frozen=True)
class Certificate:
    """The proof, read off the text, that a prompt meets its constraints."""
    clauses: tuple[ClauseResult, ...]
    excluded: tuple[str, ...]
    violations: tuple[str, ...]  # the excluded phrases that occur all the same

    @property
    def holds(self) -> bool:
        return not self.violations and all(clause.holds for clause in self.clauses)

    def to_dict(self) -> dict:
        """Return `clauses` and `excluded` as JSON types."""
        return {"clauses": [asdict(clause) for clause in self.clauses], "excluded": list(self.excluded)}


def certify(constraints: Constraints, prompt: str, prefix: str = "") -> Certificate:
    """Return the certificate of `prompt`: the first words that satisfy each clause, and excluded phrases that occur.

    `prefix` is its beginning that the user wrote: whole words of it count wherever they stand, behind it the phrases
    must be parts of their own (if the constraints ask for that). Of ordered clauses each takes the words that end
    first behind those of the clause before it.
    """
    clauses, behind = [], 0
    for category, clause in constraints.wanted:
        spans = [span for literal in clause if (span := occurrence(literal.phrase, prompt, prefix, behind,
                                                                   constraints.own_parts))]
        key = (lambda span: span[1]) if constraints.ordered else (lambda span: (span[0], -span[1]))
        start, end = min(spans, key=key, default=(None, None))
        if constraints.ordered:
            behind = len(prompt) if end is None else end
        words = sum(find(literal.phrase, prompt) is not None for literal in clause)  # too many, in parts or not
        holds = len(spans) >= clause.min_count and not (clause.capped and words > clause.max_count)
        clauses.append(ClauseResult(category, tuple(literal.phrase for literal in clause), holds, len(spans),
                                    None if start is None else prompt[start:end], start, end))
    violations = tuple(phrase for phrase in constraints.excluded if find(phrase, prompt))
    return Certificate(tuple(clauses), constraints.excluded, violations)


def occurrence(phrase: str, prompt: str, prefix: str, behind: int, own_parts: bool) -> tuple[int, int] | None:
    """Return start and end of the first place where `phrase` counts as wanted that ends behind position `behind`."""
    words = find(phrase, prompt, behind)
    if not own_parts or words and words[1] <= len(prefix):
        return words
    return find_part(phrase, prompt, max(behind, len(prefix)))


# 2. What a bit stands for --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Slot:
    """What a bit stands for: phrases of a clause, any of which sets it, wanted or limited."""
    clause: int
    phrases: tuple[str, ...]
    limited: bool = False


def lay_out(constraints: Constraints) -> list[Slot]:
    """Return what each bit stands for: one bit a clause, or, of one that counts, one or two for each phrase."""
    layout = []
    for number, (_, clause) in enumerate(constraints.wanted):
        phrases = [squeeze(literal.phrase) for literal in clause]
        if not clause.counts:
            layout.append(Slot(number, tuple(phrases)))
        else:
            uses = [limited for limited, used in ((False, clause.min_count > 0), (True, clause.capped)) if used]
            layout += [Slot(number, (phrase,), limited) for limited in uses for phrase in phrases]
    return layout


def set_by_prefix(constraints: Constraints, layout: Sequence[Slot], prefix: str) -> int:
    """Return the bits that the user's own words set: whole words of `prefix`, wherever they stand."""
    met, behind = 0, 0
    for bit, slot in enumerate(layout):
        spans = [span for phrase in slot.phrases if (span := occurrence(phrase, prefix, prefix, behind,
                                                                        constraints.own_parts))]
        if spans:
            met |= 1 << bit
        if constraints.ordered and not spans:  # the clauses behind it wait for it
            break
        behind = min(end for _, end in spans) if constraints.ordered else 0
    return met


# 3. Sets of bits -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Counts(Movable):
    """Which bits are phrases of the same clause, and how many of them it takes."""
    wanted: Tensor   # (examples, bits, clauses) 1.0 where the bit is a phrase that the clause wants
    limited: Tensor  # (examples, bits, clauses) 1.0 where it is one that the clause takes only so many of
    cheaper: Tensor  # (examples, bits, bits) 1.0 where the first bit is no dearer than the second, of the same clause
    least: Tensor    # (examples, 1, clauses)
    most: Tensor     # (examples, 1, clauses)


@dataclass(frozen=True, eq=False)
class Goals(Movable):
    """What decoding must collect, for one set of constraints or (`stack_goals`) for a batch."""
    full: Tensor                    # (examples,) all bits
    bit: Tensor                     # (bits,) their numbers
    counts: Counts | None = None    # None: every clause is one bit
    ordered: Tensor | None = None   # (examples,) whether bits count from the lowest up only; None: no example

    def members(self, bits: Tensor) -> Tensor:
        """Return the bits of bit sets: (...) -> (..., bits), True where the bit is in."""
        return (bits[..., None] >> self.bit) & 1 == 1

    def gain(self, met: Tensor, bits: Tensor, pending: Tensor) -> Tensor:
        """Return `met` with the bits set by a token read where `pending` were, all (examples, ...)."""
        if self.ordered is None:
            return met | bits & self.full[:, None]
        met = met | bits & pending & self._turn(met)  # by the token's first byte, before anything else that it sets
        return met | bits & ~pending & self._turn(met)

    def at_end(self, met: Tensor, pending: Tensor) -> Tensor:
        """Return `met` with the bits that the end of the text sets where `pending` are, (examples, ...)."""
        return met | pending & self._turn(met)

    def _turn(self, met: Tensor) -> Tensor:
        """Return the bits that may be set next: of ordered clauses the lowest that is missing only."""
        full = self.full[:, None]
        if self.ordered is None:
            return full
        unmet = full & ~met
        return torch.where(self.ordered[:, None], unmet & -unmet, full)

    def next_in_order(self, met: Tensor, owed: Tensor) -> Tensor:
        """Return the bits of `owed` (examples, ..., bits) that may come first."""
        return owed if self.ordered is None else owed & self.members(self._turn(met))

    def done(self, met: Tensor) -> Tensor:
        """Say for bit sets (examples, ...) whether they satisfy every clause."""
        if self.counts is None:
            return met == self.full[:, None]
        return (self._lacking(met) == 0).all(-1) & ~self.over(met)

    def over(self, met: Tensor) -> Tensor | bool:
        """Say for bit sets (examples, ...) whether a clause has, or with those it lacks will have, too many phrases."""
        if self.counts is None:
            return False
        return (self.members(met).float() @ self.counts.limited + self._lacking(met) > self.counts.most).any(-1)

    def _lacking(self, met: Tensor) -> Tensor:
        return (self.counts.least - self.members(met).float() @ self.counts.wanted).clamp(min=0)

    def num_met(self, met: Tensor) -> Tensor:
        """Return for bit sets (examples, ...) how many of the phrases needed they have."""
        members = self.members(met)
        if self.counts is None:
            return members.sum(-1)
        return torch.minimum(members.float() @ self.counts.wanted, self.counts.least).sum(-1).long()

    def owed(self, met: Tensor) -> Tensor:
        """Return the bits (examples, ..., bits) still to be collected: of each clause the cheapest that it lacks."""
        unmet = self.members(self.full[:, None] & ~met)
        if self.counts is None:
            return unmet
        return unmet & (unmet.float() @ self.counts.cheaper <= self._lacking(met) @ self.counts.wanted.mT)

    def worth(self, met: Tensor, weight: Tensor) -> Tensor:
        """Return what the phrases needed that bit sets (examples, ...) have are worth, at `weight` (examples, bits)."""
        members = self.members(met).float()
        if self.counts is None:
            return (members * weight[:, None]).sum(-1)
        wanted, least = self.counts.wanted, self.counts.least
        cheapest = torch.where(wanted > 0, weight[..., None], torch.inf).amin(1, keepdim=True)
        return (torch.minimum(members @ wanted, least) * cheapest.where(least > 0, 0)).sum(-1)


def goals_of(constraints: Constraints, layout: Sequence[Slot], cost: Tensor) -> Goals:
    """Return the goals of one set of constraints; `cost` (bits,) is the number of tokens that each bit takes."""
    clauses = [clause for _, clause in constraints.wanted]
    counting = any(clauses[slot.clause].counts for slot in layout)
    return Goals(full=torch.tensor([(1 << len(layout)) - 1]), bit=torch.arange(max(1, len(layout))),
                 counts=_count(clauses, layout, cost) if counting else None,
                 ordered=torch.tensor([True]) if constraints.ordered else None)


def _count(clauses: Sequence[Clause], layout: Sequence[Slot], cost: Tensor) -> Counts:
    """Return how the bits count; of equally cheap ones the lower is the cheaper."""
    of_clause = torch.tensor([[slot.clause == number for number in range(len(clauses))] for slot in layout]).float()
    limited = torch.tensor([[slot.limited] for slot in layout]).float()
    wanted = of_clause * (1 - limited)
    order = cost * len(layout) + torch.arange(len(layout))
    cheaper = (wanted @ wanted.T) * (order[:, None] <= order) + torch.diag(limited[:, 0])
    most = [clause.max_count if clause.capped else FAR for clause in clauses]
    return Counts(wanted=wanted[None], limited=(of_clause * limited)[None], cheaper=cheaper[None],
                  least=torch.tensor([[[float(clause.min_count) for clause in clauses]]]),
                  most=torch.tensor([[most]]).float())


def plain_counts(clauses: int) -> Counts:
    """Return the counts of clauses that are one bit each."""
    single, ones = torch.eye(clauses)[None], torch.ones(1, 1, clauses)
    return Counts(wanted=single, limited=0 * single, cheaper=single, least=ones, most=FAR * ones)


# 4. Batches ----------------------------------------------------------------------------------------------------------
def stack_goals(goals: Sequence[Goals], which: Tensor) -> Goals:
    """Return the goals of a batch: example i has those of `goals[which[i]]`."""
    bit = max((each.bit for each in goals), key=len)
    ordered = torch.tensor([each.ordered is not None for each in goals])[which]
    return Goals(full=joined(goals, "full")[which], bit=bit, counts=_stack_counts(goals, len(bit), which),
                 ordered=ordered if ordered.any() else None)


def _stack_counts(goals: Sequence[Goals], bits: int, which: Tensor) -> Counts | None:
    """Return the counts of a batch, a clause that is one bit as a count of one; None where all are."""
    if all(each.counts is None for each in goals):
        return None
    counts = [each.counts or plain_counts(int(each.full).bit_length()) for each in goals]
    clauses = max(each.wanted.shape[2] for each in counts)
    return Counts(
        wanted=joined(counts, "wanted", bits, clauses)[which], limited=joined(counts, "limited", bits, clauses)[which],
        cheaper=joined(counts, "cheaper", bits, bits)[which], least=joined(counts, "least", 1, clauses)[which],
        most=joined(counts, "most", 1, clauses, fill=FAR)[which])
