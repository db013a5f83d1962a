//! Checks that need the whole configuration, after every setting has been read.
//!
//! Texts of `src/config/pool_config.l` and `src/query_cache/pool_memqcache.c @ V4_3_5`.

use std::{io, path::Path};

use super::{
    Release,
    finding::{Finding, Place},
    flags,
    load::LoadMode,
    parameter::Values,
    paths::Paths,
    source::Read,
};

/// Highest number of a watchdog node.
const LAST_NODE_ID: u32 = 128;

struct Check<'a> {
    values: &'a Values,
    dialect: Release,
    paths: &'a Paths,
    findings: &'a mut Vec<Finding>,
}

pub(super) fn whole(
    values: &Values,
    dialect: Release,
    paths: &Paths,
    mode: LoadMode,
    read: Read<'_>,
    findings: &mut Vec<Finding>,
) {
    let mut check = Check {
        values,
        dialect,
        paths,
        findings,
    };
    check.node_id(mode, read);
    check.recovery_needs_data_directories();
    check.quorum_in_replication_mode();
    check.query_cache_sizes();
    check.spare_children();
    check.backends();
    check.listen_addresses();
    check.routing();
    check.watchdog();
}

impl Check<'_> {
    /// Where one of these was set; the first line where none was, so that errors have a line.
    fn place(&self, names: &[(&str, Option<usize>)]) -> Place {
        names
            .iter()
            .find_map(|(name, index)| self.values.place(name, *index))
            .cloned()
            .unwrap_or_else(|| Place::new(&self.paths.config, 1, 1))
    }

    fn error(&mut self, names: &[(&str, Option<usize>)], text: &str, detail: &str, remedy: &str) {
        let place = self.place(names);
        let finding = Finding::error(place, text);
        self.findings.push(finding.detail(detail).remedy(remedy));
    }

    fn routing(&mut self) {
        let first = Place::new(&self.paths.config, 1, 1);
        let found = super::routing::findings(self.values, self.dialect, &first);
        self.findings.extend(found);
    }

    fn watchdog(&mut self) {
        let first = Place::new(&self.paths.config, 1, 1);
        let found = super::watchdog::findings(self.values, self.dialect, &first);
        self.findings.extend(found);
    }

    fn node_id(&mut self, mode: LoadMode, read: Read<'_>) {
        if !self.values.bool("use_watchdog") {
            return;
        }
        let path = self.paths.node_id();
        // Files of 4.0 and 4.1 need none; but what is there was written for a reason.
        let old = self.dialect < Release::V4_2;
        if old && read(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return;
        }
        let (text, detail) = match read_node_id(&path, read) {
            Ok(_) if old => return,
            Ok(id) => {
                let index = usize::try_from(id).unwrap_or_default();
                if self.values.indexes("wd_port").contains(&index) {
                    return;
                }
                (
                    "invalid watchdog configuration".to_owned(),
                    format!(
                        "no watchdog configuration for local pgpool node, pgpool node id: {id} "
                    ),
                )
            }
            Err(problem) => problem,
        };
        let place = self.place(&[("use_watchdog", None)]);
        let finding = match mode {
            LoadMode::Start => Finding::error(place, text),
            LoadMode::Check => Finding::warning(place, text),
        };
        self.findings.push(finding.detail(detail).remedy(format!(
            "write the number of this node into {}",
            path.display()
        )));
    }

    fn recovery_needs_data_directories(&mut self) {
        let commands = ["recovery_1st_stage_command", "recovery_2nd_stage_command"];
        let set = commands
            .into_iter()
            .find(|name| !self.values.text(name, None).is_empty());
        let Some(set) = set else { return };
        for slot in used_slots(self.values) {
            if self
                .values
                .text("backend_data_directory", Some(slot))
                .is_empty()
            {
                self.error(
                    &[(set, None), ("backend_port", Some(slot))],
                    "invalid configuration, recovery_1st_stage_command and recovery_2nd_stage_command requires backend_data_directory to be set",
                    "",
                    &format!("set backend_data_directory{slot}"),
                );
                return;
            }
        }
    }

    /// The original looks at the old boolean only, so the new mode word passes.
    fn quorum_in_replication_mode(&mut self) {
        if self.values.bool("replication_mode") && self.values.bool("failover_when_quorum_exists") {
            self.error(
                &[("replication_mode", None)],
                "invalid configuration, failover_when_quorum_exists is not allowed in native replication mode",
                "",
                "set failover_when_quorum_exists = off",
            );
        }
    }

    fn query_cache_sizes(&mut self) {
        // Since 4.1 the shared relation cache lives in the same memory, and 4.3 was seen to
        // refuse even with both switched off.
        let used = self.values.bool("memory_cache_enabled") || self.dialect >= Release::V4_1;
        if !used || self.values.word("memqcache_method") != "shmem" {
            return;
        }
        let size = |name| self.values.int(name, None);
        let total = size("memqcache_total_size");
        let block = size("memqcache_cache_block_size");
        let result = size("memqcache_maxcache");
        let text = "invalid memory cache configuration";
        if total < block {
            self.error(
                &[
                    ("memqcache_total_size", None),
                    ("memqcache_cache_block_size", None),
                ],
                text,
                &format!(
                    "memqcache_total_size {total} should be greater or equal to memqcache_cache_block_size {block}"
                ),
                "",
            );
        }
        if block < result {
            self.error(
                &[
                    ("memqcache_maxcache", None),
                    ("memqcache_cache_block_size", None),
                ],
                text,
                &format!(
                    "memqcache_cache_block_size {block} should be greater or equal to memqcache_maxcache {result}"
                ),
                "",
            );
        }
    }

    fn spare_children(&mut self) {
        if self.values.word("process_management_mode") != "dynamic" {
            return;
        }
        let number = |name| self.values.int(name, None);
        let most = number("max_spare_children");
        let least = number("min_spare_children");
        let all = number("num_init_children");
        let names = [("max_spare_children", None), ("min_spare_children", None)];
        let names = [&names[..], &[("process_management_mode", None)]].concat();
        if most <= least {
            self.error(
                &names,
                &format!(
                    "max_spare_children:{most} must be greater than min_spare_children:{least}"
                ),
                "",
                "",
            );
        }
        if most > all {
            self.error(
                &names,
                &format!("max_spare_children:{most} can't be greater than num_init_children:{all}"),
                "",
                "",
            );
        }
    }

    fn backends(&mut self) {
        let used = used_slots(self.values);
        if used.is_empty() {
            let place = Place::whole(&self.paths.config);
            let finding = Finding::warning(place, "no backend is configured");
            self.findings
                .push(finding.remedy("set backend_hostname0 and backend_port0"));
        }
        for slot in self.values.indexes("backend_hostname") {
            if !used.contains(&slot) {
                let place = self.place(&[("backend_hostname", Some(slot))]);
                let text = format!("backend {slot} is not used, for it has no port");
                let finding = Finding::warning(place, text);
                self.findings
                    .push(finding.remedy(format!("set backend_port{slot}")));
            }
        }
        let weights = used
            .iter()
            .map(|slot| self.values.real("backend_weight", Some(*slot)));
        if self.values.bool("load_balance_mode") && !used.is_empty() && weights.sum::<f64>() <= 0.0
        {
            let place = self.place(&[("backend_weight", used.first().copied())]);
            self.findings.push(Finding::info(
                place,
                "no backend has a weight, so load balancing has no node to choose",
            ));
        }
    }

    fn listen_addresses(&mut self) {
        for name in ["listen_addresses", "pcp_listen_addresses"] {
            let items = self.values.list(name);
            let Some(place) = self.values.place(name, None).cloned() else {
                continue;
            };
            if items.len() > 1 && self.dialect < Release::V4_4 {
                let text = format!(
                    "several addresses in {name} are known since 4.4, and understood in this file of {}",
                    self.dialect
                );
                self.findings.push(Finding::warning(place.clone(), text));
            }
            if items.iter().any(|item| item.trim() != item) {
                let text = format!("blanks between the addresses of {name} are left out");
                let finding = Finding::warning(place, text);
                self.findings
                    .push(finding.remedy("the original takes a blank as part of the address"));
            }
        }
    }
}

/// Reads the number of this node. A `wd_port` without index in a file of 4.2 or later is its port.
pub(super) fn place_own_node(values: &mut Values, paths: &Paths, read: Read<'_>) {
    if values.bool("use_watchdog") {
        values.node_id = read_node_id(&paths.node_id(), read).ok();
    }
    let Some(port) = values.own_wd_port.clone() else {
        return;
    };
    let id = read_node_id(&paths.node_id(), read).unwrap_or_default();
    let slot = usize::try_from(id).unwrap_or_default();
    if !values.indexes("wd_port").contains(&slot) {
        let place = values.place("wd_port", None).cloned();
        values.set(("wd_port", Some(slot)), port, place);
    }
}

/// Slots whose port is set, ascending.
pub(super) fn used_slots(values: &Values) -> Vec<usize> {
    let ports = values.indexes("backend_port").into_iter();
    ports
        .filter(|slot| values.int("backend_port", Some(*slot)) != 0)
        .collect()
}

/// `Err`: message and detail of the original.
fn read_node_id(path: &Path, read: Read<'_>) -> Result<u32, (String, String)> {
    let problem = |text: String| (text, String::new());
    let bytes = read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => (
            format!("Pgpool node id file {} does not exist", path.display()),
            "If watchdog is enable, pgpool_node_id file is required".to_owned(),
        ),
        _ => (
            format!("could not open pgpool node id file {}", path.display()),
            error.to_string(),
        ),
    })?;
    // The original reads a line into a buffer of eight.
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let digits = &line[..line.len().min(8)];
    if bytes.is_empty() || digits.is_empty() {
        return Err(problem("pgpool_node_id file is empty".to_owned()));
    }
    let number = std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|text| text.parse::<u32>().ok())
        .ok_or_else(|| problem("pgpool_node_id is not a numeric value".to_owned()))?;
    if number > LAST_NODE_ID {
        return Err(problem(format!(
            "pgpool node id {number} is outside the valid range (0 .. {LAST_NODE_ID})"
        )));
    }
    Ok(number)
}

/// What a backend's flag says; the text has been checked when it was read.
pub(super) fn flag_of(values: &Values, slot: usize) -> super::settings::BackendFlag {
    flags::backend_flag(values.text("backend_flag", Some(slot))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node_id(content: Option<&str>) -> Result<u32, String> {
        read_node_id(Path::new("/etc/pgpool_node_id"), &|_| {
            content
                .map(|text| text.as_bytes().to_vec())
                .ok_or_else(|| io::ErrorKind::NotFound.into())
        })
        .map_err(|(text, _)| text)
    }

    #[test]
    fn the_node_id_is_a_plain_number() {
        assert_eq!(node_id(Some("2\n")), Ok(2));
        assert_eq!(node_id(Some("128")), Ok(128));
        for (content, message) in [
            ("", "pgpool_node_id file is empty"),
            ("\n", "pgpool_node_id file is empty"),
            ("2\r\n", "pgpool_node_id is not a numeric value"),
            (" 2", "pgpool_node_id is not a numeric value"),
            ("two", "pgpool_node_id is not a numeric value"),
            (
                "129",
                "pgpool node id 129 is outside the valid range (0 .. 128)",
            ),
        ] {
            assert_eq!(
                node_id(Some(content)),
                Err(message.to_owned()),
                "{content:?}"
            );
        }
        assert_eq!(
            node_id(None),
            Err("Pgpool node id file /etc/pgpool_node_id does not exist".to_owned())
        );
    }
}
