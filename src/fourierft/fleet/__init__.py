"""The fleet: many adapters of one base model in memory, a different one in every row of a batch."""

from fourierft.fleet.bank import AdapterBank
from fourierft.fleet.model import FleetModel
from fourierft.rows.names import BASE

__all__ = ["BASE", "AdapterBank", "FleetModel"]
