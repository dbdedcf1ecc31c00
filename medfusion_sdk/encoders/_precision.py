"""In which precision an encoder's network computes; an automatic lower one is checked first."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch

from medfusion_sdk.backbones.precision import DTYPES, fast_dtype
from medfusion_sdk.exceptions import EncoderWarning

__all__ = ["Precision"]

_LEAST_COSINE = 0.999
# What the check found, per process: (fingerprint, device) -> dtype.
_verdicts: dict[tuple[str, torch.device], torch.dtype] = {}


class Precision:
    """The dtype of one network on one device.

    Parameters
    ----------
    dtype : {"auto", "float32", "bfloat16", "float16"}
        "auto" is bfloat16 where the hardware has matrix units for it, until a check finds that it
        differs from float32.
    name : str
        The network's, for the warning.
    fingerprint : str
        Its digest.
    device : torch.device
        Where it computes.

    Attributes
    ----------
    dtype : torch.dtype
        The precision.
    unchecked : bool
        Whether :meth:`check` has still to compare it.
    """

    def __init__(self, dtype: str, *, name: str, fingerprint: str, device: torch.device) -> None:
        self._name = name
        self._key = (fingerprint, device)
        self.unchecked = False
        if dtype == "auto":
            verdict = _verdicts.get(self._key)
            self.dtype = verdict or fast_dtype(device)
            self.unchecked = verdict is None and self.dtype is not torch.float32
        else:
            self.dtype = DTYPES[dtype]

    def check(self, embed: Callable[[torch.dtype], torch.Tensor]) -> None:
        """Compare an automatic lower precision with float32, and leave it where they differ.

        Parameters
        ----------
        embed : callable
            Embeds a few items in a precision, to (n, width) in float32; called for both once per
            process, network and device.

        Warns
        -----
        EncoderWarning
            If they differ.
        """
        if not self.unchecked:
            return
        self.unchecked = False
        exact, fast = embed(torch.float32), embed(self.dtype)
        cosine = float(torch.nn.functional.cosine_similarity(exact, fast).min())
        if not cosine >= _LEAST_COSINE:  # also where it is NaN
            warnings.warn(
                f"{self._name!r} in {self.dtype} agrees with float32 only to a cosine of "
                f"{cosine:.4f} (at least {_LEAST_COSINE} is asked for); going on in float32.",
                EncoderWarning,
                stacklevel=3,
            )
            self.dtype = torch.float32
        _verdicts[self._key] = self.dtype
