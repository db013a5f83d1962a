//! The man page pgpool.conf(5) and the sample file, made from the parameter table.
//!
//! Both are committed; a test compares them. `PGPOOL_RS_WRITE=1 cargo test --lib manual`
//! writes them anew.

use std::fmt::Write as _;

use super::{
    Release,
    parameter::{Context, Indexed, Kind, PARAMETERS, Parameter, Unit},
};

/// Chapters in the order of the page: title, and the groups of the table in them.
const CHAPTERS: [(&str, &[&str]); 13] = [
    ("Connections", &["connection"]),
    ("Pools", &["connection_pool"]),
    ("Logging", &["logging"]),
    ("Files", &["file_location"]),
    ("Clustering mode", &["main_replica", "replication"]),
    ("Load balancing", &["load_balance", "general"]),
    ("Streaming replication check", &["streaming_replication"]),
    ("Health check", &["health_check"]),
    ("Failover", &["failover"]),
    ("Online recovery", &["recovery"]),
    ("Watchdog", &["watchdog", "watchdog_lifecheck"]),
    ("SSL", &["ssl"]),
    ("Query cache and relation cache", &["cache"]),
];

fn rows(groups: &[&str]) -> Vec<&'static Parameter> {
    let mut rows: Vec<&'static Parameter> = PARAMETERS
        .iter()
        .filter(|p| groups.contains(&p.group) && !matches!(p.kind, Kind::Group))
        .collect();
    // What one begins with comes first: names without index, then the rest as in the table.
    rows.sort_by_key(|p| (p.last < Release::V4_7, p.name));
    rows
}

/// `/usr/share/man/man5/pgpool.conf.5`.
pub fn render_man() -> String {
    let mut page = String::from(
        ".\\\" Made from the parameter table; see src/config/manual.rs.\n\
         .TH PGPOOL.CONF 5 \"\" pgpool-rs \"File formats\"\n\
         .SH NAME\n\
         pgpool.conf, pgpool-rs.conf \\- configuration of pgpool\n\
         .SH DESCRIPTION\n\
         A setting is a name, an optional equals sign, and one value; several may stand on a line.\n\
         Everything behind a hash sign is a comment.\n\
         Values that are no plain word and no number stand in single quotes, on one line;\n\
         nothing inside the quotes is special, and double quotes have no meaning.\n\
         Names are case-sensitive. The last setting of a name counts.\n\
         .PP\n\
         .B include = 'file'\n\
         (4.3 and later) reads another file at that place, relative to the including one.\n\
         .PP\n\
         The names and values of all releases of Pgpool-II from 3.7 to 4.7 are known.\n\
         Which release a file was written for is found out from its settings;\n\
         the defaults of that release apply, and names that it does not know have no effect.\n\
         .B pgpool \\-\\-check\n\
         prints the release, the reasons, and everything that is wrong or odd.\n\
         .PP\n\
         Booleans are on, off, true, false, yes, no, 1, 0 or an unambiguous beginning of a word.\n\
         Numbers may be octal (0600) or hexadecimal (0x10). Since 4.2 times take the units\n\
         us, ms, s, min, h and d, and sizes B, kB, MB, GB and TB; a number without a unit is in the\n\
         unit named below. A name that ends in\n\
         .I N\n\
         takes the number of a node there.\n\
         .PP\n\
         A reload (SIGHUP,\n\
         .BR \"pgpool reload\" )\n\
         applies the parameters marked\n\
         .I reload\n\
         or\n\
         .IR session ;\n\
         a client may change the latter for itself by PGPOOL SET. All others need a restart.\n",
    );
    for (title, groups) in CHAPTERS {
        let _ = writeln!(page, ".SH {}", title.to_uppercase());
        for p in rows(groups) {
            man_entry(&mut page, p);
        }
    }
    page.push_str(
        ".SH PGPOOL-RS.CONF\n\
         The optional file pgpool-rs.conf beside pgpool.conf has the same grammar and takes what the\n\
         original does not know, so that pgpool.conf stays valid for it.\n",
    );
    for p in rows(&["pgpool-rs"]) {
        man_entry(&mut page, p);
    }
    page.push_str(".SH NAMES FROM BEFORE 3.7\nThese have no effect in any release since.\n");
    for p in rows(&["legacy"]) {
        let _ = writeln!(page, ".TP\n.B {}\n{}.", p.name, roff(p.help));
    }
    page.push_str(".SH SEE ALSO\n.BR pgpool (8)\n");
    page
}

fn man_entry(page: &mut String, p: &Parameter) {
    let index = if p.indexed == Indexed::No {
        ""
    } else {
        "\\fIN\\fP"
    };
    let _ = writeln!(page, ".TP\n.B {}{index}\n{}.", p.name, roff(p.help));
    let _ = writeln!(page, "{}; {}.", kind(p), context(p));
    if let Some(defaults) = defaults(p) {
        let _ = writeln!(page, "Default {defaults}.");
    }
    if let Some(releases) = releases(p) {
        let _ = writeln!(page, "{releases}");
    }
    if p.indexed == Indexed::Optional {
        page.push_str("Without a number it sets all nodes.\n");
    }
}

/// A line of text must not begin like a request, and a backslash is an escape.
fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) {
        format!("\\&{text}")
    } else {
        text
    }
}

fn kind(p: &Parameter) -> String {
    match p.kind {
        Kind::Bool => "Boolean".to_owned(),
        Kind::Int { min, max, unit } => {
            let unit = match unit {
                Unit::None => "",
                Unit::Milliseconds => " in milliseconds",
                Unit::Seconds => " in seconds",
                Unit::Minutes => " in minutes",
                Unit::Bytes => " in bytes",
                Unit::Kilobytes => " in kilobytes",
                Unit::Mode => ", permission bits",
            };
            let range = match (min, max) {
                (min, max) if max >= i64::from(i32::MAX) => format!("{min} or more"),
                (min, max) if unit.ends_with("bits") => format!("{min} to {max:#o}"),
                (min, max) => format!("{min} to {max}"),
            };
            roff(&format!("Number{unit}, {range}"))
        }
        Kind::Real { min, max } => format!("Number, {min} to {max}"),
        Kind::Text => "Text".to_owned(),
        Kind::List { separator: ';' } => "List, separated by semicolons".to_owned(),
        Kind::List { .. } => "List, separated by commas".to_owned(),
        Kind::Enum(words) => {
            let words = words.iter().map(|(word, _)| *word);
            let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
            format!("One of {}", words.join(", "))
        }
        Kind::Group => String::new(),
    }
}

fn context(p: &Parameter) -> String {
    let word = |context| match context {
        Context::Startup => "restart",
        Context::Reload => "reload",
        Context::Session => "session",
        Context::Internal => "none",
    };
    match p.context_before {
        _ if p.needs_restart(p.last) => word(Context::Startup).to_owned(),
        Some((release, before)) => {
            format!("{} ({} before {release})", word(p.context), word(before))
        }
        None => word(p.context).to_owned(),
    }
}

fn defaults(p: &Parameter) -> Option<String> {
    let spelled = |text: Option<&str>| match (text, p.kind) {
        (None | Some(""), _) => "empty".to_owned(),
        (Some(text), _) => roff(text),
    };
    let mut parts: Vec<String> = Vec::new();
    for (at, (since, text)) in p.defaults.iter().enumerate() {
        parts.push(match at {
            0 => spelled(*text),
            _ => format!("since {since} {}", spelled(*text)),
        });
    }
    if let Some(path) = p.debian_default {
        parts.push(format!("{} for files in /etc/pgpool2", roff(path)));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn releases(p: &Parameter) -> Option<String> {
    if p.ours {
        return None;
    }
    let first = p.first.filter(|first| *first > Release::V3_7);
    let last = Some(p.last).filter(|last| *last < Release::V4_7);
    let mut text = match (first, last) {
        (None, None) => return None,
        (Some(first), None) => format!("Since {first}"),
        (None, Some(last)) => format!("Up to {last}"),
        (Some(first), Some(last)) if first == last => format!("In {first} only"),
        (Some(first), Some(last)) => format!("From {first} to {last}"),
    };
    match (p.counterparts, last) {
        ([], _) => {}
        (others, Some(_)) => {
            let _ = write!(text, "; later {}", others.join(", "));
        }
        (others, None) => {
            let _ = write!(text, "; before that {}", others.join(", "));
        }
    }
    text.push('.');
    Some(text)
}

/// `pgpool.conf.sample`: every parameter of the newest release, commented out with its default.
pub fn render_sample() -> String {
    let mut sample = String::from(
        "# pgpool.conf: all parameters of release 4.7 with their defaults.\n\
         # Remove the hash sign in front of what you change. See pgpool.conf(5).\n\
         #\n\
         # (restart): takes effect at the next start; (session): a client may change it for itself;\n\
         # all others at the next reload.\n",
    );
    for (title, groups) in CHAPTERS {
        let _ = writeln!(
            sample,
            "\n#{}\n# {title}\n#{}",
            "-".repeat(78),
            "-".repeat(78)
        );
        for p in rows(groups) {
            if p.known_in(Release::V4_7) && !p.hidden {
                sample_entry(&mut sample, p);
            }
        }
    }
    sample
}

fn sample_entry(sample: &mut String, p: &Parameter) {
    let mark = match p.context {
        _ if p.needs_restart(p.last) => " (restart)",
        Context::Startup => " (restart)",
        Context::Session => " (session)",
        Context::Reload | Context::Internal => "",
    };
    let _ = writeln!(sample, "\n# {}{mark}", p.help);
    let index = if p.indexed == Indexed::Required {
        "0"
    } else {
        ""
    };
    let default = p.default_in(Release::V4_7, false).flatten().unwrap_or("");
    let quoted = match p.kind {
        Kind::Bool | Kind::Int { .. } | Kind::Real { .. } | Kind::Enum(_) => default.to_owned(),
        _ => format!("'{default}'"),
    };
    let _ = writeln!(sample, "#{}{index} = {quoted}", p.name);
}

#[cfg(test)]
mod tests {
    use std::{env, fs, path::Path};

    use super::*;
    use crate::config::Config;

    fn same_as_committed(path: &str, rendered: &str) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        if env::var_os("PGPOOL_RS_WRITE").is_some() {
            fs::write(&path, rendered).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == rendered,
            "{} is not what the table gives; run PGPOOL_RS_WRITE=1 cargo test --lib manual",
            path.display()
        );
    }

    #[test]
    fn the_man_page_is_the_one_of_the_table() {
        same_as_committed("man/pgpool.conf.5", &render_man());
    }

    #[test]
    fn the_sample_file_is_the_one_of_the_table() {
        same_as_committed("fixtures/config/pgpool.conf.sample", &render_sample());
    }

    #[test]
    fn every_parameter_is_on_the_page() {
        let page = render_man();
        for p in PARAMETERS.iter().filter(|p| !matches!(p.kind, Kind::Group)) {
            assert!(page.contains(&format!(".B {}", p.name)), "{}", p.name);
        }
    }

    #[test]
    fn the_sample_is_a_file_of_the_newest_release_and_changes_nothing() {
        let (config, _) = Config::from_text(&render_sample()).unwrap();
        assert_eq!(config.dialect, Release::V4_7);
        let live = render_sample().replace("\n#", "\n");
        let uncommented: String = live
            .lines()
            .filter(|line| {
                line.contains(" = ") && line.starts_with(|c: char| c.is_ascii_lowercase())
            })
            .filter(|line| !line.contains("_port0") && !line.starts_with("wd_listen_port"))
            .map(|line| format!("{line}\n"))
            .collect();
        let (all_set, findings) = Config::from_text(&uncommented).unwrap();
        assert_eq!(all_set.dialect, Release::V4_7);
        let odd: Vec<String> = findings
            .iter()
            .filter(|f| f.severity > crate::config::FindingSeverity::Info)
            .map(ToString::to_string)
            .filter(|f| !f.contains("backend"))
            .collect();
        assert_eq!(odd, [] as [&str; 0]);
    }
}
