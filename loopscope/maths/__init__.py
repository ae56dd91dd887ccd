"""Pure functions of tensors and numbers: they know no model and no run."""

from typing import TYPE_CHECKING

from ..common.lazy_names import lazy_names

if TYPE_CHECKING:
    from .attention import causal as causal
    from .attention import concentration as concentration
    from .attention import mixing as mixing
    from .attention import received as received
    from .attention import residual_entropy as residual_entropy
    from .attention import sink_rate as sink_rate
    from .bootstrap_slope import Slope as Slope
    from .bootstrap_slope import slope as slope
    from .changepoints import Dated as Dated
    from .changepoints import crossing as crossing
    from .changepoints import transitions as transitions
    from .cohen_kappa import kappa as kappa
    from .contraction_rate import Rate as Rate
    from .contraction_rate import contraction as contraction
    from .dimension import effective_rank as effective_rank
    from .dimension import participation_ratio as participation_ratio
    from .fixed_point import solve as solve
    from .fourier import Power as Power
    from .fourier import along_sums as along_sums
    from .fourier import excluded_loss as excluded_loss
    from .fourier import gini as gini
    from .fourier import key_frequencies as key_frequencies
    from .fourier import power as power
    from .fourier import restricted_loss as restricted_loss
    from .jacobian import jacobian as jacobian
    from .jacobian import jvp as jvp
    from .jacobian import vjp as vjp
    from .kind_thresholds import Thresholds as Thresholds
    from .lyapunov import Exponents as Exponents
    from .lyapunov import backward_gain as backward_gain
    from .lyapunov import exponents as exponents
    from .lyapunov import lyapunov as lyapunov
    from .period import Period as Period
    from .period import period as period
    from .point_clusters import cluster as cluster
    from .recurrence import Recurrence as Recurrence
    from .recurrence import recurrence as recurrence
    from .sensitivity import sensitivity as sensitivity
    from .similarity import cka as cka
    from .similarity import cka_map as cka_map
    from .similarity import cosine_map as cosine_map
    from .similarity import distance_map as distance_map
    from .singular_values import singular_value as singular_value
    from .slowest_mode import mode as mode
    from .solution import Ending as Ending
    from .solution import Solution as Solution
    from .spectrum import Spectrum as Spectrum
    from .spectrum import eigenvalues as eigenvalues
    from .spectrum import spectral_radius as spectral_radius
    from .spectrum import spectrum as spectrum
    from .trajectory_kind import KINDS as KINDS
    from .trajectory_kind import Kind as Kind
    from .trajectory_kind import Limits as Limits
    from .trajectory_kind import limits as limits
    from .trajectory_kind import stream as stream
else:
    lazy_names(__name__)
