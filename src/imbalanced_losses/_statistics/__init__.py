"""Per-class and per-cell statistics: a pool or logits in, values and validity out."""
