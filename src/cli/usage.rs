//! The text of `--help`, which also follows every usage error.

use std::path::Path;

use super::{paths, version};
use crate::config::settings::CompatVersion;

/// The usage text with the default paths of this machine, in the form of the original's.
pub fn text(release: CompatVersion) -> String {
    let directory = paths::config_directory();
    let file = |name: &str| directory.join(name).display().to_string();
    let key = paths::default_key_file().unwrap_or_else(|| Path::new("~/.pgpoolkey").to_owned());
    format!(
        "\
{version},
  A generic connection pool/replication/load balance server for PostgreSQL

Usage:
  pgpool [ -f CONFIG_FILE ] [ -F PCP_CONFIG_FILE ] [ -a HBA_CONFIG_FILE ]
         [ -k KEY_FILE ] [ -n ] [ -D ] [ -C ] [ -d ] [ -x ]
  pgpool [ -f CONFIG_FILE ] [ -F PCP_CONFIG_FILE ] [ -a HBA_CONFIG_FILE ]
         [ -m SHUTDOWN-MODE ] stop
  pgpool [ -f CONFIG_FILE ] [ -F PCP_CONFIG_FILE ] [ -a HBA_CONFIG_FILE ] reload
  pgpool [ -f CONFIG_FILE ] [ -F PCP_CONFIG_FILE ] [ -a HBA_CONFIG_FILE ] --check
  pgpool [ -f CONFIG_FILE ] [ -a HBA_CONFIG_FILE ] [ -k KEY_FILE ]
         --check-auth USER DATABASE ADDRESS [ --tls ]
  pgpool [ -f CONFIG_FILE ] --what-if REQUEST
  pgpool [ -f CONFIG_FILE ] events [ -n N ] [ --since TIME ] [ --json ] [ --follow ]

Common options:
  -a, --hba-file=HBA_CONFIG_FILE
                      Set the path to the pool_hba.conf configuration file
                      (default: {hba})
  -f, --config-file=CONFIG_FILE
                      Set the path to the pgpool.conf configuration file
                      (default: {config})
  -k, --key-file=KEY_FILE
                      Set the path to the pgpool key file
                      (default: environment variable PGPOOLKEYFILE,
                      else {key})
  -F, --pcp-file=PCP_CONFIG_FILE
                      Set the path to the pcp.conf configuration file
                      (default: {pcp})
  -v, --version       Print the version
  -h, --help          Print this help

Start options:
  -C, --clear-oidmaps Clear query cache oidmaps when memqcache_method is memcached
                      (If shmem, discards whenever pgpool starts.)
  -n, --dont-detach   Don't run in daemon mode, does not detach control tty
  -x, --debug-assertions   Accepted, without effect
  -D, --discard-status Discard pgpool_status file and do not restore previous status
  -d, --debug         Log at level DEBUG1

Check options:
      --check         Print what is wrong or odd in the configuration files and the
                      release they were written for; start and change nothing
      --check-auth USER DATABASE ADDRESS
                      Print whether this login can work and what to mend if not;
                      ADDRESS is the client's IP address, or \"local\" for a unix socket
      --tls           With --check-auth: the client connects with TLS

Options about the running pgpool:
      --what-if REQUEST
                      Print what \"down N\", \"up N\", \"promote N\" or \"switchover N\" (or several,
                      with \";\" between them) would lead to: commands, new primary node,
                      sessions; change nothing
  events              Print what was done to the cluster, why, and how it ended
  -n, --last=N        With events: the latest N only
      --since=TIME    With events: from then on, as \"2026-11-28 07:23\" or \"2h\" (ago)
      --json          With events: one JSON object on a line
      --follow        With events: go on with those that come

Stop options:
  -m, --mode=SHUTDOWN-MODE
                      Can be \"smart\", \"fast\", or \"immediate\"

Shutdown modes are:
  smart       quit after all clients have disconnected
  fast        quit directly, with proper shutdown
  immediate   the same mode as fast
",
        version = version::line(release),
        hba = file("pool_hba.conf"),
        config = file("pgpool.conf"),
        pcp = file("pcp.conf"),
        key = key.display(),
    )
}
