//! Settings whose part of the program does not exist yet. None of them is ignored in silence.

use super::{
    Config,
    finding::{Finding, Place},
    parameter::{Value, find_in},
    settings::ClusteringMode,
};

/// What has no effect yet (warnings, one per part), and what would be dangerous to ignore
/// (errors: the start is refused, although the file is good).
pub fn not_built(config: &Config) -> Vec<Finding> {
    let look = Look { config };
    [
        look.replication_mode(),
        look.query_cache(),
        look.process_management(),
        look.messages(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

struct Look<'a> {
    config: &'a Config,
}

impl Look<'_> {
    fn place(&self, name: &str) -> Place {
        match self.config.values.place(name, None) {
            Some(place) => place.clone(),
            None => Place::whole(&self.config.path),
        }
    }

    fn on(&self, name: &str) -> bool {
        self.config.values.get(name, None) == Some(&Value::Bool(true))
    }

    fn word(&self, name: &str) -> &str {
        match self.config.values.get(name, None) {
            Some(Value::Enum { word, .. }) => word,
            _ => "",
        }
    }

    /// Names among these that the file sets, with index where there is one.
    fn set(&self, names: &[&str]) -> Vec<String> {
        let places = &self.config.values.places;
        let mut found = Vec::new();
        for wanted in names {
            for (name, index) in places.keys().filter(|(name, _)| name == wanted) {
                found.push(match index {
                    Some(index) => format!("{name}{index}"),
                    None => (*name).to_owned(),
                });
            }
        }
        found
    }

    fn set_in_group(&self, groups: &[&str]) -> Vec<String> {
        let mut names: Vec<&str> = Vec::new();
        for (name, _) in self.config.values.places.keys() {
            let group = find_in(name, self.config.dialect).map_or("", |p| p.group);
            if groups.contains(&group) && !names.contains(name) {
                names.push(name);
            }
        }
        self.set(&names)
    }

    /// One warning for a part; `names` are the settings that it would read.
    fn warning(&self, at: &str, part: &str, names: &[String]) -> Option<Finding> {
        let text = format!("{} no effect yet: {part}", has(names));
        Some(Finding::warning(self.place(at), text))
    }

    fn replication_mode(&self) -> Option<Finding> {
        let words = match self.config.settings.clustering_mode {
            ClusteringMode::NativeReplication => "native replication",
            ClusteringMode::SnapshotIsolation => "snapshot isolation mode",
            _ => return None,
        };
        let name = if self
            .config
            .values
            .place("backend_clustering_mode", None)
            .is_some()
        {
            "backend_clustering_mode"
        } else {
            "replication_mode"
        };
        Some(
            Finding::error(
                self.place(name),
                format!(
                    "{name}: {words} is not supported yet, and writes would reach one node only"
                ),
            )
            .remedy(format!("use another mode ({name}), or the original")),
        )
    }

    fn query_cache(&self) -> Option<Finding> {
        if !self.on("memory_cache_enabled") {
            return None;
        }
        let names = self.set_in_group(&["cache"]);
        self.warning("memory_cache_enabled", "no result is cached", &names)
    }

    fn process_management(&self) -> Option<Finding> {
        if self.word("process_management_mode") != "dynamic" {
            return None;
        }
        let names = self.set(&[
            "process_management_mode",
            "process_management_strategy",
            "min_spare_children",
            "max_spare_children",
        ]);
        self.warning(
            "process_management_mode",
            "there are always num_init_children slots",
            &names,
        )
    }

    fn messages(&self) -> Option<Finding> {
        let mut names = Vec::new();
        if self.on("log_pcp_processes") {
            names.extend(self.set(&["log_pcp_processes"]));
        }
        if !matches!(self.word("log_backend_messages"), "" | "none") {
            names.extend(self.set(&["log_backend_messages"]));
        }
        let first = names.first()?.clone();
        self.warning(&first, "such messages are not written", &names)
    }
}

fn has(names: &[String]) -> String {
    match names {
        [one] => format!("{one} has"),
        all => format!("{} have", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(text: &str) -> Vec<Finding> {
        not_built(&Config::from_text(text).unwrap().0)
    }

    #[test]
    fn each_part_gets_one_warning_with_its_settings_and_a_place() {
        let findings = look(
            "master_slave_mode = on\nuse_watchdog = on\nwd_hostname = 'a'\nother_pgpool_hostname0 = 'b'\n\
             follow_master_command = '/x'\nmemory_cache_enabled = on\nrecovery_1st_stage_command = 'y'\n\
             load_balance_mode = on\n",
        );
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "/etc/pgpool.conf:6:1: warning: memory_cache_enabled has no effect yet: no result is cached",
            ]
        );
    }

    #[test]
    fn replication_modes_refuse_the_start_at_their_line() {
        for (text, line) in [
            (
                "port = 9999\nreplication_mode = on\nmaster_slave_sub_mode = stream\n",
                2,
            ),
            (
                "backend_clustering_mode = native_replication\nload_balance_mode = off\n",
                1,
            ),
            (
                "load_balance_mode = off\nbackend_clustering_mode = 'snapshot_isolation'\n",
                2,
            ),
        ] {
            let findings = look(text);
            assert_eq!(findings.len(), 1, "{findings:?}");
            assert!(findings[0].is_error());
            assert_eq!(findings[0].place.line, line, "{text}");
        }
    }

    #[test]
    fn dynamic_process_management_is_named() {
        let findings = look(
            "process_management_mode = dynamic\nload_balance_mode = off\nmin_spare_children = 3\n",
        );
        assert!(
            findings[0]
                .text
                .starts_with("process_management_mode, min_spare_children have no effect yet")
        );
    }
}
