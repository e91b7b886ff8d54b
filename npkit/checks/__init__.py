"""Checks: one module per notebook; each check takes a student's function and names the slip it shows."""
