"""Frozen networks: find the weights, fingerprint them, share one copy per process."""
