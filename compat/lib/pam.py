"""A PAM stack of the tests' own: service files and users that only one pgpool sees.

The pgpool runs in a mount namespace of its own in which private folders and
files lie over /etc/pam.d, /etc/passwd and /etc/shadow; the machine's own are
neither changed nor asked. Making a namespace needs root.
"""

import os

from . import env, proc

#: Modules of Debian's libpam-modules by the way the service is called in the tests.
SERVICES = {
    # The default service, asked when pool_hba.conf names none: a script judges user and password.
    "pgpool": "auth required pam_exec.so quiet expose_authtok {check}\naccount required pam_permit.so\n",
    "permit": "auth required pam_permit.so\naccount required pam_permit.so\n",
    "deny": "auth required pam_deny.so\naccount required pam_permit.so\n",
    "locked": "auth required pam_exec.so quiet expose_authtok {check}\naccount required pam_deny.so\n",
    "unix": "auth required pam_unix.so nodelay\naccount required pam_unix.so\n",
    "slow": "auth required pam_exec.so quiet expose_authtok {slow}\naccount required pam_permit.so\n",
    "delayed": "auth optional pam_faildelay.so delay=8000000\nauth required pam_exec.so quiet expose_authtok {check}\naccount required pam_permit.so\n",
    "seen": "auth required pam_exec.so quiet expose_authtok {seen}\naccount required pam_permit.so\n",
    "other": "auth required pam_deny.so\naccount required pam_deny.so\n",
}

_CHECK = """\
#!/bin/sh
# Lets in whoever sends "pam-" and the name of the user.
password=$(tr -d '\\000')
[ "$password" = "pam-$PAM_USER" ]
"""

_SLOW = """\
#!/bin/sh
# A module that hangs as long as a file lies there.
password=$(tr -d '\\000')
while [ -e {hang} ]; do sleep 0.1; done
[ "$password" = "pam-$PAM_USER" ]
"""

_SEEN = """\
#!/bin/sh
# Writes down what the application told PAM.
printf 'service=%s user=%s rhost=%s ruser=%s tty=%s type=%s\\n' "$PAM_SERVICE" "$PAM_USER" "$PAM_RHOST" "$PAM_RUSER" "$PAM_TTY" "$PAM_TYPE" >>{notes}
"""


def available():
    return os.geteuid() == 0


class Namespace:
    """What a pgpool finds in /etc/pam.d, /etc/passwd and /etc/shadow.

    `users` are accounts of pam_unix with their crypt(3) hashes; `nameserver` is asked instead of
    the machine's.
    """

    def __init__(self, home, users=None, nameserver=None):
        self.home = os.path.join(home, "pam")
        self.services = os.path.join(self.home, "pam.d")
        self.hang = os.path.join(self.home, "hang")
        self.notes = os.path.join(self.home, "notes")
        os.makedirs(self.services)
        for folder in (self.home, self.services):
            os.chmod(folder, 0o755)
            env.hand_over(folder)
        scripts = {}
        for name, text in (("check", _CHECK), ("slow", _SLOW), ("seen", _SEEN)):
            scripts[name] = self._write(f"{name}.sh", text.replace("{hang}", self.hang).replace("{notes}", self.notes), 0o755)
        for name, text in SERVICES.items():
            self._write(os.path.join("pam.d", name), text.format(**scripts))
        with open("/etc/passwd") as passwd:
            accounts = passwd.read()
        shadow = ""
        for number, (user, hashed) in enumerate((users or {}).items()):
            accounts += f"{user}:x:{40000 + number}:{40000 + number}:a user of the tests:/nonexistent:/bin/false\n"
            shadow += f"{user}:{hashed}:19000:0:99999:7:::\n"
        self.passwd = self._write("passwd", accounts)
        # Readable for the pgpool, as an operator makes it who puts the account into the group shadow.
        self.shadow = self._write("shadow", shadow, 0o600)
        self.mounts = [(self.services, "/etc/pam.d"), (self.passwd, "/etc/passwd"), (self.shadow, "/etc/shadow")]
        if nameserver:
            self.mounts.append((self._write("resolv.conf", f"nameserver {nameserver}\noptions timeout:1 attempts:1\n"), "/etc/resolv.conf"))

    def _write(self, name, text, mode=0o644):
        path = os.path.join(self.home, name)
        with open(path, "w") as out:
            out.write(text)
        os.chmod(path, mode)
        env.hand_over(path)
        return path

    def noted(self):
        """Lines that the service "seen" has written."""
        try:
            with open(self.notes) as notes:
                return notes.read().splitlines()
        except OSError:
            return []

    def wrap(self, argv):
        """The same process, inside the namespace and as the servers' account."""
        mounts = " && ".join(f"mount --bind {source} {target}" for source, target in self.mounts)
        drop = f"exec setpriv --reuid={env.ACCOUNT} --regid={env.ACCOUNT} --init-groups --pdeathsig=SIGINT"
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'{mounts} && {drop} -- "$@"', "sh", *argv]


def crypt(password):
    """A hash for the shadow file."""
    done = proc.run(["openssl", "passwd", "-6", "-stdin"], stdin=password + "\n")
    if done.code != 0:
        raise AssertionError(repr(done))
    return done.out.strip()
