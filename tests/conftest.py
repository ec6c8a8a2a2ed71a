"""Settings shared by the whole test run."""

import os

import hypothesis
import torch

torch.set_num_threads(1)

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=60)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
