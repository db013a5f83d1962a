//! pcp.conf: the users of the PCP server, and the check of their login.
//!
//! A line is `user:md5`, the md5 of the bare password as `pg_md5 PASSWORD` prints it. The file is
//! read again at every login, so that edits need no reload.
//!
//! Source: `src/pcp_con/pcp_worker.c @ V4_3_5`.

use std::{fs, io, path::Path};

use super::password::{md5_hex, same_bytes};

/// Longest name and longest hash that the original takes.
const MAX_FIELD: usize = 128;

/// The entries of a pcp.conf, in their order; a user may have several.
#[derive(Debug, Default)]
pub struct PcpConf {
    entries: Vec<Entry>,
    skipped: Vec<String>,
}

struct Entry {
    user: Vec<u8>,
    hash: Vec<u8>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.user))
    }
}

impl PcpConf {
    /// # Errors
    ///
    /// When the file cannot be read. The client is then told `failed to authenticate PCP user`,
    /// detail `could not open <file>. reason: <error>`.
    pub fn load(path: &Path) -> io::Result<PcpConf> {
        Ok(PcpConf::parse(&fs::read(path)?, path))
    }

    /// `path` is for messages only.
    pub fn parse(text: &[u8], path: &Path) -> PcpConf {
        let mut conf = PcpConf::default();
        for (number, line) in (1..).zip(text.split(|&b| b == b'\n')) {
            if line.is_empty() || line.starts_with(b"#") {
                continue;
            }
            match split(line) {
                Ok((user, hash)) => conf.entries.push(Entry {
                    user: user.to_owned(),
                    hash: hash.to_owned(),
                }),
                Err(fault) => conf.skipped.push(format!(
                    "line {number} of file \"{}\" is skipped: {fault}",
                    path.display()
                )),
            }
        }
        conf
    }

    /// One log message for each line that is no entry.
    ///
    /// The original refuses every login at such a line, unless an entry above it fits.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Whether `response` is md5(md5(hash of the password + user) + salt) for an entry of `user`.
    ///
    /// Takes as long for unknown users as for known ones with one entry.
    pub fn verify(&self, user: &[u8], response: &[u8], salt: [u8; 4]) -> bool {
        let mut known = false;
        let mut right = false;
        for entry in self.entries.iter().filter(|e| e.user == user) {
            known = true;
            right |= answers(&entry.hash, user, response, salt);
        }
        if !known {
            let _ = answers(&[b'0'; 32], user, response, salt);
        }
        right
    }
}

fn split(line: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let Some(colon) = line.iter().position(|&b| b == b':') else {
        return Err("it has no colon".to_owned());
    };
    let (user, hash) = (&line[..colon], &line[colon + 1..]);
    if user.len() > MAX_FIELD {
        return Err(format!(
            "the user name is larger than maximum allowed username length [{MAX_FIELD}]"
        ));
    }
    if hash.len() > MAX_FIELD {
        return Err(format!(
            "the password is larger than maximum allowed password length [{MAX_FIELD}]"
        ));
    }
    Ok((user, hash))
}

fn answers(hash: &[u8], user: &[u8], response: &[u8], salt: [u8; 4]) -> bool {
    let with_user = md5_hex(&[hash, user]);
    let expected = md5_hex(&[with_user.as_bytes(), &salt]);
    same_bytes(expected.as_bytes(), response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 4] = [0, 1, 0xfe, 0xff];

    /// What `pcp_node_count` and its like send.
    fn tool_response(password: &str, user: &str, salt: [u8; 4]) -> String {
        let h1 = md5_hex(&[password.as_bytes()]);
        let h2 = md5_hex(&[h1.as_bytes(), user.as_bytes()]);
        md5_hex(&[h2.as_bytes(), &salt])
    }

    fn conf(text: &str) -> PcpConf {
        PcpConf::parse(text.as_bytes(), Path::new("/etc/pgpool2/pcp.conf"))
    }

    fn logs_in(conf: &PcpConf, user: &str, password: &str) -> bool {
        conf.verify(
            user.as_bytes(),
            tool_response(password, user, SALT).as_bytes(),
            SALT,
        )
    }

    #[test]
    fn a_user_logs_in_with_the_password_that_pg_md5_hashed() {
        let conf = conf("# USERID:MD5PASSWD\n\npostgres:5ebe2294ecd0e0f08eab7690d2a6ee69\n");
        assert!(logs_in(&conf, "postgres", "secret"));
        assert!(!logs_in(&conf, "postgres", "Secret"));
        assert!(!logs_in(&conf, "postgres", ""));
        assert!(!logs_in(&conf, "nobody", "secret"));
        assert!(!conf.verify(b"postgres", b"", SALT));
        assert!(
            !conf.verify(
                b"postgres",
                tool_response("secret", "postgres", [9; 4]).as_bytes(),
                SALT
            ),
            "an answer to another salt"
        );
    }

    /// The login of pcp-vectors/attach_after_failed_recovery.json, recorded from `pcp_attach_node` 4.3.5.
    #[test]
    fn a_recorded_login_is_accepted() {
        let conf = conf(&format!("postgres:{}\n", md5_hex(&[b"postgres"])));
        assert!(conf.verify(
            b"postgres",
            b"72b6da8b73ada42daf1adfff1fc705f7",
            [0x0e, 0xa2, 0x17, 0x39]
        ));
    }

    #[test]
    fn each_line_of_a_user_is_tried() {
        let conf = conf(&format!(
            "a:{}\nb:{}\na:{}\n",
            md5_hex(&[b"old"]),
            md5_hex(&[b"bs"]),
            md5_hex(&[b"new"])
        ));
        assert!(logs_in(&conf, "a", "old"));
        assert!(logs_in(&conf, "a", "new"));
        assert!(!logs_in(&conf, "a", "bs"));
    }

    #[test]
    fn the_hash_is_text_blanks_capitals_and_carriage_returns_count() {
        let hash = md5_hex(&[b"secret"]);
        for line in [
            format!("a: {hash}\n"),
            format!("a:{hash} \n"),
            format!("a:{hash}\r\n"),
            format!("a:{}\n", hash.to_uppercase()),
            format!(" a:{hash}\n"),
        ] {
            assert!(!logs_in(&conf(&line), "a", "secret"), "{line:?}");
        }
    }

    #[test]
    fn a_line_without_a_colon_is_skipped_with_a_message_and_stops_nobody() {
        let conf = conf("garbage\na:5ebe2294ecd0e0f08eab7690d2a6ee69");
        assert_eq!(
            conf.skipped(),
            ["line 1 of file \"/etc/pgpool2/pcp.conf\" is skipped: it has no colon"]
        );
        assert!(logs_in(&conf, "a", "secret"));
    }

    #[test]
    fn fields_beyond_the_limit_are_no_entries() {
        let long = "u".repeat(129);
        let conf = conf(&format!(
            "{long}:5ebe2294ecd0e0f08eab7690d2a6ee69\na:{long}\n"
        ));
        assert_eq!(conf.skipped().len(), 2);
        assert!(!logs_in(&conf, &long, "secret"));
    }
}
