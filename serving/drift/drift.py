"""What comparing one feature of a window with its reference gives."""

from dataclasses import dataclass

from serving.drift.psi import Band, band
from streams.wire import ShiftedBin

ALPHA = 0.01
"""The chance that :attr:`Drift.critical` is exceeded where nothing has changed."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The comparison of one feature. Shares are in [0, 1]; chances are p-values of this figure
    alone, for as many events as there are in effect: ``n`` / ``dispersion``.

    Args:
        feature: its name.
        n: events of the window, values missing included.
        n_reference: of training.
        psi: the population stability index over ``bins`` bins that are in use.
        critical: the PSI that chance exceeds with probability :data:`ALPHA`.
        chance: of Pearson's ``chi_squared`` over the same bins, rare ones taken together.
        chi_squared: see there.
        effect: Cramér's V of a category, ``ks`` of a number.
        ks: the Kolmogorov–Smirnov distance of what is not missing; None for a category.
        ks_chance: of it.
        wasserstein: how far values moved on average, in units of the distance between training's
            first and last decile; None for a category and where training has no such distance.
        missing, missing_reference, missing_chance: the share of missing values, and of a change of
            it in either direction; None where the package does not tell.
        new, new_reference, new_chance: the share of texts that training did not know, or of numbers
            outside its range, and of more of them; None where the package does not tell.
        dispersion: φ, by how much more the feature moves by itself than counting noise.
        bins: how many are in use.
        shifted: the bins that add most to the PSI, the largest first.
    """

    feature: str
    n: int
    n_reference: int
    psi: float
    critical: float
    chance: float
    chi_squared: float
    effect: float
    bins: int
    dispersion: float = 1.0
    ks: float | None = None
    ks_chance: float | None = None
    wasserstein: float | None = None
    missing: float | None = None
    missing_reference: float | None = None
    missing_chance: float | None = None
    new: float | None = None
    new_reference: float | None = None
    new_chance: float | None = None
    shifted: tuple[ShiftedBin, ...] = ()

    @property
    def band(self) -> Band:
        """The classic word for the PSI."""
        return band(self.psi)

    @property
    def n_effective(self) -> float:
        """How many independent events say as much."""
        return self.n / self.dispersion

    def alarming(self, threshold: float) -> bool:
        """Return whether the PSI both matters and is beyond what chance gives this one feature."""
        return self.psi >= threshold and self.psi > self.critical
