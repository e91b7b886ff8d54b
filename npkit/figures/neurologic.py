"""Figures of notebook 04_neurologic_decoding: clauses, beams and certificates."""
