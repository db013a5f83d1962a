//! The limit of open files: every client, every cached backend connection is one in our one process.

use super::fatal::Fatal;
use crate::{
    config::Settings,
    observe::{Reporter, Severity},
    sys::{
        errors,
        limits::{self, OpenFiles},
    },
};

/// Sockets to listen on, log files, hooks' pipes, PCP, the runtimes.
const FOR_OURSELVES: u64 = 128;
/// Health check, replication check, probes of one node.
const PER_NODE: u64 = 8;
/// What most programs are started with; raising up to here needs no thought.
const USUAL: u64 = 1024;

/// How many files may be open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Every slot with a client and a full cache.
    pub full: u64,
    /// Every slot with a client and one set of backend connections; below that, slots are a lie.
    pub least: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Enough,
    /// Change the limits to these.
    Raise(OpenFiles),
    /// The hard limit is in the way.
    Short {
        possible: u64,
    },
}

impl Need {
    pub fn of(settings: &Settings) -> Need {
        let nodes = number(settings.backends.iter().filter(|b| b.used).count());
        let slots = number(settings.num_init_children);
        let pools = number(settings.max_pool.max(1));
        let ours = nodes.saturating_mul(PER_NODE).saturating_add(FOR_OURSELVES);
        let with_sets = |sets: u64| {
            slots
                .saturating_mul(nodes.saturating_mul(sets).saturating_add(1))
                .saturating_add(ours)
        };
        Need {
            full: with_sets(pools),
            least: with_sets(1),
        }
    }
}

/// Raises the soft limit to what the settings can use, as far as the hard limit allows; root moves that one, too.
///
/// A limit below the full need is a WARNING, since caches are seldom full everywhere. One that
/// does not even hold the clients with one set of backend connections each is an error.
pub fn raise_open_files(settings: &Settings, reporter: &Reporter) -> Result<(), Fatal> {
    let need = Need::of(settings);
    let now = match limits::open_files() {
        Ok(now) => now,
        Err(error) => {
            reporter.warning(format_args!(
                "could not read the limit of open files: {}",
                errors::message(&error)
            ));
            return Ok(());
        }
    };
    let possible = match plan(need, now) {
        Plan::Enough => return Ok(()),
        Plan::Raise(wanted) => match limits::set_open_files(wanted) {
            Ok(()) => {
                reporter.debug1(format_args!(
                    "raised the limit of open files from {} to {}",
                    now.soft, wanted.soft
                ));
                return Ok(());
            }
            Err(_) => now.soft,
        },
        Plan::Short { possible } => {
            // Only a privileged process may move the hard limit.
            let beyond = OpenFiles {
                soft: need.full,
                hard: need.full,
            };
            let reachable = OpenFiles {
                soft: possible,
                hard: possible,
            };
            if limits::set_open_files(beyond).is_ok() {
                return Ok(());
            }
            limits::set_open_files(reachable).map_or(now.soft, |()| possible)
        }
    };
    judge(need, possible, settings, reporter)
}

fn plan(need: Need, now: OpenFiles) -> Plan {
    let wanted = need.full.max(USUAL);
    if now.soft >= need.full {
        Plan::Enough
    } else if now.hard >= need.full {
        Plan::Raise(OpenFiles {
            soft: wanted.min(now.hard),
            hard: now.hard,
        })
    } else {
        Plan::Short { possible: now.hard }
    }
}

fn judge(need: Need, possible: u64, settings: &Settings, reporter: &Reporter) -> Result<(), Fatal> {
    let detail = format!(
        "num_init_children = {}, max_pool = {} and {} backends can use {} files at once, \
         {} with one cached connection per slot; the limit is {possible}",
        settings.num_init_children,
        settings.max_pool,
        settings.backends.iter().filter(|b| b.used).count(),
        need.full,
        need.least,
    );
    let hint = "Raise the limit (LimitNOFILE= in the service unit, ulimit -n), \
                or lower num_init_children or max_pool.";
    if possible < need.least {
        return Err(
            Fatal::new("too few open files allowed for num_init_children")
                .detail(detail)
                .hint(hint),
        );
    }
    reporter.emit(
        Severity::Warning,
        "the limit of open files may not last when all slots are in use",
        &detail,
        hint,
    );
    Ok(())
}

fn number(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: Need = Need {
        full: 5_000,
        least: 2_000,
    };

    fn with(soft: u64, hard: u64) -> Plan {
        plan(NEED, OpenFiles { soft, hard })
    }

    #[test]
    fn only_the_soft_limit_is_raised_and_no_further_than_needed() {
        assert_eq!(with(5_000, 10_000), Plan::Enough);
        assert_eq!(
            with(1_024, 524_288),
            Plan::Raise(OpenFiles {
                soft: 5_000,
                hard: 524_288
            })
        );
    }

    #[test]
    fn a_hard_limit_below_the_need_is_told() {
        assert_eq!(with(1_024, 4_096), Plan::Short { possible: 4_096 });
    }
}
