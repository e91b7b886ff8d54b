"""Decoded prompts as a table with their certificates, and what it says about coverage and bans."""
import json
from collections.abc import Mapping, Sequence

import pandas as pd

from npkit.neurologic.decoding import Decoded


def tabulate(decoded: Mapping[str, Sequence[Decoded]]) -> pd.DataFrame:
    """Return one row per (variant, prefix): completion, log-probability in nats, certificate as JSON."""
    return pd.DataFrame([
        {"prefix": found.prefix, "variant": variant, "completion": found.completion, "logprob": found.logprob,
         "certificate": json.dumps(found.certificate.to_dict(), ensure_ascii=False)}
        for variant, rows in decoded.items() for found in rows])


def coverage(decoded: Mapping[str, Sequence[Decoded]]) -> dict[str, float]:
    """Return the share of clauses satisfied, the number of banned phrases found, and the mean log-probabilities."""
    certificates = [found.certificate for rows in decoded.values() for found in rows]
    met = [clause.holds for certificate in certificates for clause in certificate.clauses]
    logprobs = {f"decode/logprob/{variant}": sum(found.logprob for found in rows) / len(rows)
                for variant, rows in decoded.items()}
    return {"decode/clause_coverage": sum(met) / len(met) if met else 1.0,
            "decode/violations": float(sum(len(certificate.violations) for certificate in certificates)), **logprobs}
