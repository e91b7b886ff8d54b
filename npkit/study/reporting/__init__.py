"""Reporting: the parts of the report: lessons as pages, answers, examples, and the sections of the index."""
