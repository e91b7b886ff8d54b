"""NeuroLogic decoding: constraints as clauses, clauses as an automaton, the automaton inside a beam search."""
from npkit.neurologic.clauses import (
    CNF,
    Certificate,
    Clause,
    ClauseResult,
    Constraints,
    Literal,
    absent,
    any_of,
    certify,
    default_clauses,
    find,
    merge,
    satisfied,
)
from npkit.neurologic.decoding import Decoded, decode, decode_best
from npkit.neurologic.generation import neurologic_generate
from npkit.neurologic.price import prices
from npkit.neurologic.table import coverage, tabulate

__all__ = ["CNF", "Certificate", "Clause", "ClauseResult", "Constraints", "Decoded", "Literal", "absent", "any_of",
           "certify", "coverage", "decode", "decode_best", "default_clauses", "find", "merge", "neurologic_generate",
           "prices", "satisfied", "tabulate"]
