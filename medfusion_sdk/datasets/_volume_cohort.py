"""Generated scans with reports: phantoms of a head whose ventricles tell, as arrays or NIfTI."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from medfusion_sdk.exceptions import MissingDependencyError, ParameterError

__all__ = ["make_volume_cohort"]

_GRADES = ("no", "minimal", "mild", "moderate", "marked", "severe")
_TEMPLATES = (
    "{} difficulty with names and dates, daily life {}.",
    "{} forgetfulness reported by the family; lives {}.",
    "The patient shows {} lapses of memory and manages {}.",
)
_HELP = ("without help", "with help")
# How scanners lay voxels out; all mean the same head.
_LAYOUTS = ("RAS", "LAS", "LPS", "PIR")


def make_volume_cohort(
    n_samples: int = 60,
    *,
    size: Sequence[int] = (20, 36, 36),
    signal: float = 1.5,
    missing: float = 0.0,
    n_subjects: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    random_state: int | np.random.Generator | None = None,
) -> Bunch:
    """Make scans and reports of which each tells something of its own.

    A scan is a phantom: an ellipsoid of tissue in a bright skull, with two dark ventricles that
    are wider in the ill. A report grades the lapses of memory, which are worse in the ill. Neither
    tells all; size and place of the head, brightness and noise tell nothing.

    Parameters
    ----------
    n_samples : int, default=60
        Number of rows.
    size : three ints, default=(20, 36, 36)
        Depth, height and width of the scans; depth points up, height back, width left.
    signal : float, default=1.5
        Distance of the classes along the ventricles' width, and along the lapses, in standard
        deviations.
    missing : float, default=0.0
        Share of rows that lack the scan, and the same share the report; no row lacks both.
    n_subjects : int, default=None
        Number of persons; by default each row is one. Sessions of a person have the same class.
    folder : path, optional
        Where to write the scans as NIfTI files under BIDS names, voxels laid out in one of four
        ways; the cells are then paths. By default cells are arrays.
    random_state : int, Generator or None, default=None
        Seed.

    Returns
    -------
    Bunch
        With the entries:

        data : DataFrame of n_samples rows
            Cohort table: ``mri`` (arrays or paths), ``report``, ``subject``, ``session``.
        target : Series of int
            1 for the ill; half of the persons.
        groups : Series
            Person of each row.
        latents : DataFrame
            ``ventricles`` and ``lapses``, in standard deviations.

    Raises
    ------
    ParameterError
        If a number is out of range.
    MissingDependencyError
        If files are to be written and nibabel isn't installed.

    See Also
    --------
    load_nifti_cohort : Reads a folder of such files.

    Examples
    --------
    >>> from medfusion_sdk.datasets import make_volume_cohort
    >>> cohort = make_volume_cohort(4, random_state=0)
    >>> cohort.data["mri"].iloc[0].shape, cohort.target.tolist()
    ((20, 36, 36), [0, 0, 1, 1])
    """
    persons = n_samples if n_subjects is None else n_subjects
    if not 1 <= persons <= n_samples or not 0 <= missing <= 0.5 or min(size) < 8:
        raise ParameterError(
            f"n_samples={n_samples}, n_subjects={n_subjects}, missing={missing}, "
            f"size={tuple(size)}: at least one row for each person, half the rows missing and 8 "
            "voxels along each axis are the limits."
        )
    rng = np.random.default_rng(random_state)
    ill = rng.permutation(np.arange(persons) % 2)
    person = np.sort(np.arange(n_samples) % persons)
    y = ill[person]
    latents = signal * (y[:, None] - 0.5) + rng.standard_normal((n_samples, 2))
    session = pd.Series(person).groupby(person).cumcount().to_numpy() + 1
    names = pd.DataFrame(
        {
            "subject": [f"{number + 1:03d}" for number in person],
            "session": [f"{number:02d}" for number in session],
        }
    )
    scans = pd.Series([_phantom(width, size, rng) for width in latents[:, 0]], dtype=object)
    reports = pd.Series([_report(lapses, rng) for lapses in latents[:, 1]], dtype=object)
    gone = rng.permutation(n_samples)[: 2 * round(missing * n_samples)]
    scans.iloc[gone[::2]] = None
    reports.iloc[gone[1::2]] = None
    if folder is not None:
        scans = _write(scans, names, Path(folder), rng)
    return Bunch(
        data=pd.concat([scans.rename("mri"), reports.rename("report"), names], axis=1),
        target=pd.Series(y, name="target"),
        groups=names["subject"],
        latents=pd.DataFrame(latents, columns=["ventricles", "lapses"]),
    )


def _phantom(widening: float, size: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Draw a head; the ventricles' half-axes grow with `widening`."""
    axes = [np.linspace(-1, 1, length) for length in size]
    place = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) - rng.uniform(-0.06, 0.06, 3)

    def inside(centre: tuple[float, ...], half_axes: np.ndarray) -> np.ndarray:
        return np.square((place - centre) / half_axes).sum(axis=-1) <= 1

    volume = np.zeros(tuple(size))
    head = rng.uniform(0.78, 0.88) * np.array([1.0, 1.0, 0.9])
    volume[inside((0, 0, 0), head)] = 0.9  # skull
    volume[inside((0, 0, 0), 0.9 * head)] = rng.uniform(0.45, 0.6)
    ventricle = 0.16 * np.exp(0.25 * widening) * np.array([1.4, 2.2, 1.0])
    for side in (-0.2, 0.2):
        volume[inside((0.05, 0.0, side), ventricle)] = 0.15
    volume += 0.05 * rng.standard_normal(volume.shape)
    return (1000 * volume.clip(0)).astype(np.float32)


def _report(lapses: float, rng: np.random.Generator) -> str:
    """Grade the lapses in words."""
    grade = _GRADES[int(np.clip(np.floor(1.2 * lapses + 3), 0, len(_GRADES) - 1))]
    text = _TEMPLATES[rng.integers(len(_TEMPLATES))]
    return text.format(grade, _HELP[int(lapses + rng.standard_normal() > 0)]).capitalize()


def _write(
    scans: pd.Series, names: pd.DataFrame, folder: Path, rng: np.random.Generator
) -> pd.Series:
    """Write scans as NIfTI and return their paths."""
    try:
        import nibabel
    except ImportError as cause:
        raise MissingDependencyError(
            "writing NIfTI files needs nibabel: pip install 'medfusion-sdk[imaging]'."
        ) from cause
    from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

    paths = scans.copy()
    for row, scan in scans.items():
        moves = ornt_transform(
            axcodes2ornt("SPL"), axcodes2ornt(_LAYOUTS[rng.integers(len(_LAYOUTS))])
        )
        if scan is None:
            continue
        subject, session = f"sub-{names.loc[row, 'subject']}", f"ses-{names.loc[row, 'session']}"
        path = folder / subject / session / "anat" / f"{subject}_{session}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        # From voxels that point up, back and left, to millimetres right, front and up.
        affine = np.array([[0, 0, -4, 0], [0, -4, 0, 0], [6, 0, 0, 0], [0, 0, 0, 1.0]])
        turned = apply_orientation(scan, moves)
        image = nibabel.Nifti1Image(turned, affine @ inv_ornt_aff(moves, scan.shape))
        nibabel.save(image, path)
        paths.loc[row] = str(path)
    return paths
