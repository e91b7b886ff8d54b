"""Findings: evaluation of the variants, and the statistics behind every interval."""
