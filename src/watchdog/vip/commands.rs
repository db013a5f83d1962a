//! Command lines of the virtual IP.

use crate::watchdog::settings::{EscalationSettings, MAX_COMMAND_WORDS};

const PLACEHOLDER: &str = "$_IP_$";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// By `sh -c`, without placeholders.
    Shell(String),
    /// Without a shell. The first of `arguments` is what the program sees as its name.
    Direct {
        program: String,
        arguments: Vec<String>,
    },
}

impl Command {
    /// For the log: what an operator can run by hand.
    pub fn line(&self) -> String {
        match self {
            Command::Shell(line) => line.clone(),
            Command::Direct { program, arguments } => {
                let rest = arguments.iter().skip(1).map(String::as_str);
                let words: Vec<&str> = std::iter::once(program.as_str()).chain(rest).collect();
                words.join(" ")
            }
        }
    }

    /// The programs that a virtual IP needs, each with the parameter that names it.
    pub fn programs(settings: &EscalationSettings, ip: &str) -> Vec<(&'static str, String)> {
        let named = [
            ("if_up_cmd", Command::up(settings, ip)),
            ("if_down_cmd", Command::down(settings, ip)),
            ("arping_cmd", Command::arping(settings, ip)),
            (
                "ping_path",
                (!ip.is_empty()).then(|| Command::ping(settings, ip)),
            ),
        ];
        let program = |(name, command)| match command {
            Some(Command::Direct { program, .. }) => Some((name, program)),
            _ => None,
        };
        named.into_iter().filter_map(program).collect()
    }

    pub(super) fn shell(line: &str) -> Option<Command> {
        (!line.trim().is_empty()).then(|| Command::Shell(line.to_owned()))
    }

    pub(super) fn up(settings: &EscalationSettings, ip: &str) -> Option<Command> {
        direct(settings, &settings.if_up_cmd, &settings.if_cmd_path, ip)
    }

    pub fn down(settings: &EscalationSettings, ip: &str) -> Option<Command> {
        direct(settings, &settings.if_down_cmd, &settings.if_cmd_path, ip)
    }

    pub(super) fn arping(settings: &EscalationSettings, ip: &str) -> Option<Command> {
        direct(settings, &settings.arping_cmd, &settings.arping_path, ip)
    }

    pub(super) fn ping(settings: &EscalationSettings, ip: &str) -> Command {
        let words = ["ping", "-q", "-c3", ip];
        Command::Direct {
            program: format!("{}/ping", settings.ping_path),
            arguments: words.map(str::to_owned).to_vec(),
        }
    }
}

/// Split at blanks, without quotes; `None`: there is no address, or nothing to run.
fn direct(settings: &EscalationSettings, line: &str, path: &str, ip: &str) -> Option<Command> {
    if ip.is_empty() {
        return None;
    }
    let line = line.replace(PLACEHOLDER, ip);
    let words = line.split_ascii_whitespace().take(MAX_COMMAND_WORDS);
    let arguments: Vec<String> = words.map(str::to_owned).collect();
    let first = arguments.first()?;
    let program = if first.starts_with('/') && !settings.always_prefix_path {
        first.clone()
    } else {
        format!("{path}/{first}")
    };
    Some(Command::Direct { program, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::testing;

    fn line(command: Option<Command>) -> (String, String) {
        match command {
            Some(Command::Direct { program, arguments }) => (program, arguments.join(" ")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_plain_word_is_looked_for_in_the_path_setting() {
        let settings = testing::settings(0, 3).escalation;
        assert_eq!(
            line(Command::up(&settings, "1.2.3.4")),
            (
                "/sbin/ip".to_owned(),
                "ip addr add 1.2.3.4/24 dev eth0".to_owned()
            )
        );
        assert_eq!(
            line(Command::arping(&settings, "1.2.3.4")).0,
            "/usr/sbin/arping"
        );
        assert_eq!(
            line(Some(Command::ping(&settings, "1.2.3.4"))),
            ("/bin/ping".to_owned(), "ping -q -c3 1.2.3.4".to_owned())
        );
    }

    #[test]
    fn nothing_is_quoted_and_4_0_prefixes_always() {
        let mut settings = testing::settings(0, 3).escalation;
        settings.if_up_cmd = "/x/up \"a b\" $HOME $_IP_$ $_IP_$".to_owned();
        let command = Command::up(&settings, "::1");
        let Some(Command::Direct { program, arguments }) = command else {
            panic!("a command");
        };
        assert_eq!(program, "/x/up");
        assert_eq!(arguments, ["/x/up", "\"a", "b\"", "$HOME", "::1", "::1"]);
        settings.always_prefix_path = true;
        assert_eq!(line(Command::up(&settings, "::1")).0, "/sbin//x/up");
        assert_eq!(Command::up(&settings, ""), None);
    }
}
