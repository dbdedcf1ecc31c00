"""Timings as ratios against a named reference; see README.md in this folder."""
