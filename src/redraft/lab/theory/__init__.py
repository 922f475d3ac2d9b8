"""The theory lab: the paper's assumption, lemma, bounds and trade-offs as code that can fail.

It needs NumPy and SciPy, and of our own code only types, errors, select and the kernels.
"""
