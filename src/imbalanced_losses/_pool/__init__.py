"""From a batch to the pool of rows that a ranking loss reads."""
