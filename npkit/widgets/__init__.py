"""Widgets: panels of a notebook, from plain functions; what they show comes from traits, never from print."""
