"""Simulated experiments: contexts, one matrix of answers and edits, and statistics on it."""
