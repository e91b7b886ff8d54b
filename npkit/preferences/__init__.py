"""Preferences: people choose between two pictures; their votes are kept, counted, and taught to a judge."""
