"""Training from edits: one triple, one forward pass; SFT, DPO and the early ensemble as weights of one objective."""
