"""wd_escalation_command and wd_de_escalation_command as scripts, beside the commands of the virtual IP; and trusted_servers."""

import os

from lib import env
from lib.fleet import CLIENTS, CONFIG, VIP, FleetCase
from lib.switch import OUTSIDE
from lib.witness import Watch

#: Records which command it is, on which host, and whether the address is there; then it does what the rest says.
_TOLD = """\
#!/bin/sh
what=$1 host=$2
shift 2
{record} told "$what" "$host" "$(ip -4 address show dev eth0 | grep -c ' {vip}/')"
exec "$@"
"""


class Escalation(FleetCase):
    """In the order of the file, as each test goes on where the one before has ended."""

    fleets = ({"config": {"trusted_servers": CLIENTS}},)
    weight = 60

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        fleet = cls.fleet
        told = os.path.join(fleet.room.home, "told.sh")
        with open(told, "w") as file:
            file.write(_TOLD.format(record=fleet.hook.script, vip=VIP))
        os.chmod(told, 0o755)
        for number, pool in enumerate(fleet.nodes):
            host = f"pgpool{number}"
            pool.write_config(
                # Shell words, which a program that is started directly would not understand.
                wd_escalation_command=f"{told} escalation {host} true && {told} escalated {host} true",
                wd_de_escalation_command=f"{told} de-escalation {host} true && {told} de-escalated {host} true",
                if_up_cmd=f"{told} up {host} {CONFIG['if_up_cmd']}",
                if_down_cmd=f"{told} down {host} {CONFIG['if_down_cmd']}",
            )
        fleet.seen = Watch(fleet)
        fleet.seen.start()
        cls.addClassCleanup(fleet.seen.end)
        fleet.launch()
        fleet.wait_started()
        fleet.leads = fleet.wait_leader()
        fleet.expected = cls.comes(fleet.leads)

    @staticmethod
    def comes(number):
        host = f"pgpool{number}"
        return [[what, host, "0"] for what in ("escalation", "escalated", "up")]

    @staticmethod
    def goes(number):
        host = f"pgpool{number}"
        return [[what, host, "1"] for what in ("de-escalation", "de-escalated", "down")]

    def all_was_told(self, *more):
        """These commands, in this order, have come to those of before, and no others.

        A stock leader that stops says so before its commands run, and the next one need not wait for them: there it is
        the order on each host.
        """
        told = self.fleet.hook.calls("told")
        self.fleet.expected += [call for some in more for call in some]
        if env.SUBJECT == "stock":
            by_host = {"key": lambda call: call[1]}
            self.assertEqual(sorted(told, **by_host), sorted(self.fleet.expected, **by_host), self.fleet.log())
        else:
            self.assertEqual(told, self.fleet.expected, self.fleet.log())
            self.assertEqual(self.fleet.seen.doubled(), 0, f"seconds with two holders of the address: {self.fleet.seen.changes}")

    def another_leads(self):
        before, self.fleet.leads = self.fleet.leads, self.fleet.wait_leader(but=self.fleet.leads)
        return before

    def test_1_the_commands_come_before_the_address_when_it_comes_and_when_it_goes(self):
        fleet = self.fleet
        self.all_was_told()
        fleet.nodes[fleet.leads].stop()
        before = self.another_leads()
        self.all_was_told(self.goes(before), self.comes(fleet.leads))
        fleet.launch(before)
        fleet.wait_started(before)

    def test_2_the_loss_of_the_quorum_and_its_return(self):
        fleet = self.fleet
        others = [number for number in range(3) if number != fleet.leads]
        fleet.wait_listed(fleet.leads, {number: "STANDBY" for number in others})
        fleet.die(*others)
        fleet.wait_quorum(fleet.leads, "QUORUM ABSENT", held=False)
        self.all_was_told(self.goes(fleet.leads))
        fleet.launch(*others)
        fleet.wait_started(*others)
        fleet.wait_quorum(fleet.leads, "QUORUM EXIST", held=True)
        self.assertEqual(fleet.wait_leader(), fleet.leads)
        self.all_was_told(self.comes(fleet.leads))

    def test_3_a_leader_that_cannot_ping_its_trusted_servers_ends_and_another_has_the_address(self):
        fleet = self.fleet
        for pool in fleet.nodes:
            # Without a look at the trusted servers before.
            pool.wait_log("lifecheck started", since=pool.mark, timeout=60)
        host = f"pgpool{fleet.leads}"
        fleet.cable.lose([(host, OUTSIDE), (OUTSIDE, host)])
        status = fleet.nodes[fleet.leads].wait_end(60)
        self.assertEqual(status, 3) if env.SUBJECT == "ours" else self.assertNotEqual(status, 0)
        before = self.another_leads()
        self.assertRegex(fleet.nodes[before].log(since=fleet.nodes[before].mark), "trusted server")
        self.all_was_told(self.goes(before), self.comes(fleet.leads))
        self.assertEqual(sorted(fleet.running()), sorted({0, 1, 2} - {before}), "those that reach them run on")
        self.eventually(fleet.writes_through_address, "a client to write through the address")
