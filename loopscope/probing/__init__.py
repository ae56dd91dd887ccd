"""Linear probes of loop states: fitted with controls, tested on groups held out, transferred between iterations.

probes = ls.Probes.fit(run, labels)
print(probes), probes.figure(), probes.transfer(run)
"""

from .probes import Probe as Probe
from .probes import Probes as Probes
from .storage import load_probes as load_probes
