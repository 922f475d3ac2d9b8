"""The laboratory: simulated users, the benchmark, its reports and the theory. Nothing in the product imports it."""
