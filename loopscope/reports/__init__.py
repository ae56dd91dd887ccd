"""Reports: one self-contained HTML page about a run, a training or several runs.

>>> import loopscope as ls
>>> ls.report(run).save("report.html")
>>> ls.report("universal-prefix-parity").open()      # a trained entry; records a run first
"""

from .document import Report as Report
from .report import report as report
