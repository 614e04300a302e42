"""Deskgrid from Python: submit work to the queue, follow its outcomes, read its results.

    import deskgrid

    deskgrid.connect("config.json")
    session = deskgrid.Session("RISK-EOD", business="bu1")
    session.submit(["book.json"])
    session.wait()
    table = session.results()
"""

from ._engine import engine
from ._environment import Environment, connect
from ._errors import DeskgridError
from ._executor import Executor
from ._session import Counts, Outcome, Results, Session, Submitted
from ._spawned import Spawned, attach

__all__ = [
    "Counts",
    "DeskgridError",
    "Environment",
    "Executor",
    "Outcome",
    "Results",
    "Session",
    "Spawned",
    "Submitted",
    "attach",
    "connect",
    "engine",
]
