"""Linear probes of loop states: fitted with controls, tested on held-out groups, transferred
between iterations.

probes = ls.Probes.fit(run, labels)
print(probes), probes.figure(), probes.transfer(run)
ls.probing.probe_iteration(run)
ls.probing.fit_pairs(run, pairs, relation)
"""

from .iteration_probe import IterationProbe as IterationProbe
from .iteration_probe import probe_iteration as probe_iteration
from .pair_probes import PairProbes as PairProbes
from .pair_probes import fit_pairs as fit_pairs
from .probe_result import Probe as Probe
from .probes import Probes as Probes
from .probes import load_probes as load_probes
from .transfer import Transfer as Transfer
from .transfer import transfer as transfer
