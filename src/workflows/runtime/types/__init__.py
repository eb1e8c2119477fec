"""Older import paths that other packages use; nothing in here is needed to write or run a workflow."""
