"""The theory lab: the paper's assumption, lemma, bounds and trade-offs as code that can fail.

It stands beside the rest: NumPy and SciPy, and of ours nothing but types, errors and select.
"""
