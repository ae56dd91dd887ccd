"""Linear probes of loop states: fitted with controls, tested on groups held out, transferred between iterations.

probes = ls.Probes.fit(run, labels)
print(probes), probes.figure(), probes.transfer(run)
ls.probing.which_iteration(run)
ls.probing.fit_pairs(run, pairs, relation)
"""

from .pairs import PairProbes as PairProbes
from .pairs import fit_pairs as fit_pairs
from .probes import Probe as Probe
from .probes import Probes as Probes
from .storage import load_probes as load_probes
from .transfer import Transfer as Transfer
from .transfer import transfer as transfer
from .which import WhichIteration as WhichIteration
from .which import which_iteration as which_iteration
