"""Reports: one self-contained HTML page about a run.

>>> import loopscope as ls
>>> ls.report(run).save("report.html")
>>> ls.report("universal-prefix-parity").open()      # a trained entry; records a run first
"""

from .report import Report as Report
from .report import report as report
