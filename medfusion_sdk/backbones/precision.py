"""Which number format a device computes fast in."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

import torch

__all__ = ["DTYPES", "fast_dtype", "has_bfloat16_units"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# As Linux names them: AMX tiles and AVX-512 dot products on x86, the BF16 extension on ARM.
_CPU_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
_AMPERE = (8, 0)


def fast_dtype(device: torch.device) -> torch.dtype:
    """Return bfloat16 where the device has matrix units for it, else float32.

    Parameters
    ----------
    device : torch.device
        A resolved device.

    Returns
    -------
    torch.dtype
        Emulated bfloat16 is slower than float32, so it never comes out here.

    Examples
    --------
    >>> fast_dtype(torch.device("cpu")) in (torch.float32, torch.bfloat16)
    True
    """
    return torch.bfloat16 if has_bfloat16_units(device) else torch.float32


def has_bfloat16_units(device: torch.device) -> bool:
    """Tell whether a device multiplies bfloat16 matrices in hardware.

    Parameters
    ----------
    device : torch.device
        A resolved device.

    Returns
    -------
    bool
        False where it can't be known (Metal, CPUs outside Linux).
    """
    if device.type == "cuda":
        return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= _AMPERE
    return device.type == "cpu" and bool(_cpu_flags() & _CPU_FLAGS)


@lru_cache(maxsize=1)
def _cpu_flags() -> frozenset[str]:
    description = Path("/proc/cpuinfo")
    if platform.system() != "Linux" or not description.is_file():
        return frozenset()
    for line in description.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()
