"""Rows that a client outside of all hosts writes through the address of a fleet, and whether they are all there at the end."""

from . import wire
from .witness import Writer

_TABLE = ("CREATE TABLE written(n bigint PRIMARY KEY)", "ALTER TABLE written OWNER TO app")


def prepare(fleet):
    """Makes the table."""
    with fleet.cluster.primary.client() as client:
        for statement in _TABLE:
            client.query(statement).ok()


class FleetWriter(Writer):
    table = "written"

    def __init__(self, fleet, number=0):
        super().__init__(fleet.room, number)
        self.fleet = fleet

    def connect(self):
        held = self.fleet.holders()
        if not held:
            # Only the port of who has it makes it an address.
            raise TimeoutError("no host has the address")
        return wire.Client(host=self.fleet.vip, port=self.fleet.nodes[held[-1]].port, user="app", database="app", timeout=self.patience)

    def missing(self, server):
        """Acknowledged rows that this server does not have. Ends the writer first."""
        self.end()
        return self.lost({int(row[0]) for row in server.rows("SELECT n FROM written")})
