"""A switch in a room, with a cable to each host that has a network of its own, and what gets lost on the way.

The switch is a bridge in the room's network, where clients live that are on none of the hosts: they have its
address. It has no way out of the room. What is lost is said by nftables in the family of bridges, from port to
port and in one direction, so that hosts can be cut off silently, from some or from all, one way or both.
"""

import shutil
import subprocess

#: The name of the clients' place in `lose`.
OUTSIDE = "outside"

_TABLE = """\
add table bridge lost
delete table bridge lost
table bridge lost {{
    chain between {{ type filter hook forward priority 0; {forward} }}
    chain to_clients {{ type filter hook input priority 0; {input} }}
    chain from_clients {{ type filter hook output priority 0; {output} }}
}}
"""


def unavailable():
    """Why there can be no switch here (beyond what a room needs); None when there can."""
    if shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin") is None:
        return "not installed: nft (nftables); run compat/setup"
    script = "ip link add switch type bridge && ip link add port type veth peer name eth0 && ip link set port master switch && nft -f -"
    tried = subprocess.run(["unshare", "--net", "sh", "-c", script], input=_TABLE.format(forward="", input="", output=""), capture_output=True, text=True)
    return f"the kernel has no bridges with nftables: {tried.stderr.strip()}" if tried.returncode else None


class Switch:
    """`address` is that of the clients, who have the room's network."""

    def __init__(self, room, address):
        self.room, self.ports = room, {}
        for words in (["link", "add", "switch", "type", "bridge"], ["address", "add", f"{address}/24", "dev", "switch"], ["link", "set", "switch", "up"]):
            room.command(["ip", *words])

    def plug(self, name, pid):
        """Lays a cable to the network of a process, where its end is eth0."""
        port = self.ports[name] = f"port{len(self.ports)}"
        self.room.command(["ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(pid)])
        self.room.command(["ip", "link", "set", port, "master", "switch", "up"])

    def others(self, name):
        return [one for one in (*self.ports, OUTSIDE) if one != name]

    def cut(self, *names, ways=("out", "in")):
        """Silently takes these hosts, together, from all others: what they send (`out`), what is sent to them (`in`)."""
        pairs = [(name, other) for name in names for other in self.others(name) if other not in names]
        self.lose([pair for pair in pairs if "out" in ways] + [(b, a) for a, b in pairs if "in" in ways])

    def lose(self, pairs):
        """From now on this is lost, and nothing else: (from, to), names of hosts or OUTSIDE."""
        rules = {"forward": "", "input": "", "output": ""}
        for sender, receiver in pairs:
            if OUTSIDE == receiver:
                rules["input"] += f"iifname {self.ports[sender]} drop; "
            elif OUTSIDE == sender:
                rules["output"] += f"oifname {self.ports[receiver]} drop; "
            else:
                rules["forward"] += f"iifname {self.ports[sender]} oifname {self.ports[receiver]} drop; "
        self.room.command(["nft", "-f", "-"], stdin=_TABLE.format(**rules))

    def heal(self):
        self.lose([])

    def unplug(self, name):
        """The host sees that its cable is out."""
        self.room.command(["ip", "link", "set", self.ports[name], "down"])

    def plug_in_again(self, name):
        self.room.command(["ip", "link", "set", self.ports[name], "up"])


def holders(hosts, address):
    """The hosts on whose devices the address is at this moment; asks the kernel without starting anything."""
    found = []
    for host in hosts:
        with open(f"/proc/{host.pid}/net/fib_trie") as routes:
            if f" {address}\n" in routes.read():
                found.append(host.name)
    return found
