"""Every loss of the library on real images, side by side with cross-entropy: `python -m demo`."""
