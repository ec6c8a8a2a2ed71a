"""Adapters to trainers, one module each; import the one whose library is installed.

- `imbalanced_losses.integrations.lightning`, with `pip install "imbalanced-losses[lightning]"`;
- `imbalanced_losses.integrations.transformers`, with
  `pip install "imbalanced-losses[transformers]"`;
- `imbalanced_losses.integrations.torchmetrics`, with `pip install ".[torchmetrics]"` in a clone.

Accelerate and `torchrun` need no adapter: the losses find the process group by themselves.
"""
