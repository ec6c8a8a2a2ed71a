"""Adapters to trainers, one module each; import the one whose library is installed.

In a clone of this repository,

- `pip install ".[lightning]"` is for `imbalanced_losses.integrations.lightning`;
- `pip install ".[transformers]"` is for `imbalanced_losses.integrations.transformers`;
- `pip install ".[torchmetrics]"` is for `imbalanced_losses.integrations.torchmetrics`.

Accelerate and `torchrun` need no adapter: the losses find the process group by themselves.
"""
