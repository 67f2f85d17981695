"""Sequences that begin alike, computed as a tree: every shared token once.

`build` lays sequences out as a tree of token ids, `pack` cuts and gathers trees into forward passes, `attention` lets
each token see its ancestors only, `head` gives log-probabilities without holding all logits, `step` runs a model on a
pass, and `support` says which models may be run so.
"""
