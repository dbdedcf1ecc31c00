"""What :class:`SignalEncoder` asks of the backbone that it names."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medfusion_sdk.encoders._signal_view import SignalView
from medfusion_sdk.exceptions import ParameterError
from medfusion_sdk.readers.beats import LOWEST_FS, RHYTHM

if TYPE_CHECKING:
    from medfusion_sdk.encoders.signal import SignalEncoder

__all__ = ["SignalEmbedder", "SignalNetwork", "learn_biases", "signal_network"]

_DEFAULT_FS = 100.0
# A kernel has nine taps.
_SHORTEST = 9


class SignalEmbedder(NamedTuple):
    """Maps ``(n, channels, samples)`` to ``(n, features)``, so many signals at once."""

    embed: Callable[[np.ndarray], np.ndarray]
    rows_at_once: int


class SignalNetwork(ABC):
    """A backbone under the parameters of one encoder, resolved when they are used."""

    def __init__(self, encoder: SignalEncoder) -> None:
        self.encoder = encoder

    @property
    @abstractmethod
    def fs(self) -> float | None:
        """Samples per second of what it sees; None for those of the signals."""

    @property
    @abstractmethod
    def n_features(self) -> int:
        """Width of an embedding."""

    @abstractmethod
    def check(self) -> None:
        """Refuse parameters that don't go together with this backbone."""

    @abstractmethod
    def view(self) -> SignalView:
        """Say how cells are read."""

    @abstractmethod
    def configuration(self) -> dict[str, Any]:
        """Everything but weights and shape that decides a vector."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Digest of the weights."""

    @abstractmethod
    def embedder(self, shape: tuple[int, ...]) -> SignalEmbedder:
        """Make the network ready for signals of a shape."""

    def _view(self, **options: Any) -> SignalView:
        encoder = self.encoder
        return SignalView(
            view=encoder.view,
            fs=self.fs,
            duration=encoder.duration,
            source_fs=encoder.source_fs,
            max_gap=encoder.max_gap,
            expected=getattr(encoder, "signal_shape_", None),
            **options,
        )

    def _options(self, *names: str) -> dict[str, Any]:
        return {name: getattr(self.encoder, name) for name in names}


def signal_network(encoder: SignalEncoder) -> SignalNetwork:
    """Choose by the backbone's name."""
    return _StMem(encoder) if encoder.backbone == "st-mem" else _Drawn(encoder)


def learn_biases(signals: np.ndarray, n_features: int, seed: int) -> np.ndarray:
    """Take MiniRocket's biases from signals of shape (n, channels, samples)."""
    from medfusion_sdk.backbones.minirocket import make_layout
    from medfusion_sdk.backbones.minirocket_biases import fit_biases

    layout = make_layout(signals.shape[1], signals.shape[2], n_features, seed)
    return fit_biases(signals, layout, seed)


class _Drawn(SignalNetwork):
    """MiniRocket and the stand-in: drawn from a seed, for signals of any one shape."""

    @property
    def fs(self) -> float | None:
        fs = self.encoder.fs
        return _DEFAULT_FS if fs == "auto" else fs  # type: ignore[return-value]

    @property
    def n_features(self) -> int:
        from medfusion_sdk.backbones.signal_networks import count_features

        beside = len(RHYTHM) if self.encoder.view == "beats" else 0
        return count_features(self.encoder.backbone, self.encoder.n_features) + beside

    def check(self) -> None:
        if self.encoder.view == "beats" and (self.fs is None or self.fs < LOWEST_FS):
            raise ParameterError(
                f"SignalEncoder: fs must be a number >= {LOWEST_FS:g} for view='beats', "
                f"got {self.encoder.fs!r}."
            )

    def view(self) -> SignalView:
        return self._view(leads=self.encoder.leads, shortest=_SHORTEST, standardised=True)

    def configuration(self) -> dict[str, Any]:
        leads = self.encoder.leads
        names = ("backbone", "view", "duration", "source_fs", "max_gap", "random_state")
        return {
            **self._options(*names),
            "fs": self.fs,
            "leads": None if leads is None else list(leads),
            "width": self.n_features,
        }

    def fingerprint(self) -> str:
        if self.encoder.fit_biases:
            return hashlib.blake2b(self.encoder.biases_.tobytes(), digest_size=32).hexdigest()
        # Everything else follows from the configuration; to be raised when the drawing changes.
        return "drawn 1"

    def embedder(self, shape: tuple[int, ...]) -> SignalEmbedder:
        from medfusion_sdk.backbones.devices import resolve_device
        from medfusion_sdk.backbones.signal_networks import embed, make_network, rows_at_once

        encoder = self.encoder
        device = resolve_device(encoder.device)
        network = make_network(
            encoder.backbone,
            (shape[0], shape[1]),
            encoder.n_features,
            encoder.random_state,
            encoder.biases_ if encoder.fit_biases else None,
        ).to(device)
        return SignalEmbedder(
            lambda signals: embed(network, signals, device), rows_at_once(shape[1], device)
        )


class _StMem(SignalNetwork):
    """ST-MEM: trained on the twelve standard leads at 250 Hz, pieces of 9 s."""

    @property
    def fs(self) -> float:
        from medfusion_sdk.backbones.st_mem_signals import FS

        return FS

    @property
    def n_features(self) -> int:
        return self._source().width

    @property
    def leads(self) -> list[int]:
        """Positions among the standard leads."""
        from medfusion_sdk.backbones.st_mem_signals import STANDARD_LEADS

        folded = [name.casefold() for name in STANDARD_LEADS]
        given = STANDARD_LEADS if self.encoder.leads is None else self.encoder.leads
        positions = [
            lead if not isinstance(lead, str) else _find(folded, lead.casefold()) for lead in given
        ]
        known = all(position in range(len(folded)) for position in positions)
        if not positions or not known or len(set(positions)) < len(positions):
            raise ParameterError(
                "SignalEncoder: backbone='st-mem' knows the leads "
                f"{', '.join(STANDARD_LEADS)} (or 0 to 11), each once; got leads={given!r}."
            )
        return positions

    def check(self) -> None:
        encoder = self.encoder
        if encoder.view != "full" or encoder.fit_biases or encoder.fs not in ("auto", self.fs):
            raise ParameterError(
                "SignalEncoder: backbone='st-mem' takes view='full', fs='auto' and "
                f"fit_biases=False, got {encoder.view!r}, {encoder.fs!r} and "
                f"{encoder.fit_biases!r}. The rate of arrays is source_fs."
            )
        self.leads  # noqa: B018  raises

    def view(self) -> SignalView:
        from medfusion_sdk.backbones.st_mem_signals import CROP, STANDARD_LEADS

        return self._view(
            leads=[STANDARD_LEADS[lead] for lead in self.leads],
            source_leads=STANDARD_LEADS,
            resampling="fourier",
            shortest=CROP,
            standardised=False,
            is_ecg=True,
        )

    def configuration(self) -> dict[str, Any]:
        names = ("backbone", "duration", "source_fs", "max_gap")
        return {**self._options(*names), "leads": self.leads}

    def fingerprint(self) -> str:
        return self._source().fingerprint

    def embedder(self, shape: tuple[int, ...]) -> SignalEmbedder:
        from medfusion_sdk.backbones.devices import limit_threads, resolve_device
        from medfusion_sdk.backbones.signal_networks import embed
        from medfusion_sdk.backbones.st_mem import borrow_st_mem, signals_at_once
        from medfusion_sdk.backbones.st_mem_signals import prepare

        device, leads = resolve_device(self.encoder.device), self.leads
        network = borrow_st_mem(self.encoder._borrower, self._source(), device)

        def embed_signals(signals: np.ndarray) -> np.ndarray:
            crops = prepare(signals)
            with limit_threads():
                flat = embed(lambda X: network(X, leads), np.concatenate(crops), device)
            return flat.reshape(*crops.shape[:2], -1).mean(axis=1)

        return SignalEmbedder(embed_signals, signals_at_once(len(leads), device))

    def _source(self) -> Any:
        from medfusion_sdk.backbones.st_mem import find_st_mem

        return find_st_mem(self.encoder.weights)


def _find(names: list[str], name: str) -> int:
    return names.index(name) if name in names else -1
