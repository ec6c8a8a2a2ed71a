"""The machine that measures, in words."""

import os
import platform
from pathlib import Path

import torch


def machine(device: str = "cpu") -> str:
    """Processor, cores, vector instructions and memory; with an accelerator, its name too."""
    vectors = torch.backends.cpu.get_cpu_capability()
    parts = [_processor(), f"{os.cpu_count()} cores", vectors, *_memory()]
    if device == "cuda":
        parts.append(torch.cuda.get_device_name())
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> list[str]:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return []
    return [f"{size / 2**30:.0f} GiB"]
