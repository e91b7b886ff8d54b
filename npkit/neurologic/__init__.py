"""NeuroLogic decoding: a text that satisfies its clauses and avoids its banned phrases. Read the modules in this order:

1. `constraints`: what is wanted? Clauses over phrases, judged on a text.
2. `vocabulary` and `machine`: where does the text stand? Phrases as an automaton over the bytes that tokens write.
3. `goals`: which clauses hold? Certificates of a text, and bits that phrases set.
4. `plans`: how many tokens are still needed? The bound that makes a promise of a wish.
5. `reader` and `search`: the model, and the beam search: the loop first, then its parts.
6. `decoding`: the front door, `decode`.

On top of them, `published` decodes as two published programs do, defects included; `toy` is a policy whose best text
can be worked out by hand.
"""
from npkit.neurologic.constraints import (
    CNF,
    Clause,
    Constraints,
    Literal,
    absent,
    any_of,
    default_clauses,
    find,
    merge,
    satisfied,
)
from npkit.neurologic.decoding import Decoded, coverage, decode, decode_best, neurologic_generate, prices, tabulate
from npkit.neurologic.goals import Certificate, ClauseResult, certify

__all__ = ["CNF", "Certificate", "Clause", "ClauseResult", "Constraints", "Decoded", "Literal", "absent", "any_of",
           "certify", "coverage", "decode", "decode_best", "default_clauses", "find", "merge", "neurologic_generate",
           "prices", "satisfied", "tabulate"]
