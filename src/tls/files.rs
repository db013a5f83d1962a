//! Reading what the parameters name: certificates, private keys, parameters, revocation lists.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Command, Stdio},
};

use openssl::{
    dh::Dh,
    error::ErrorStack,
    pkey::{PKey, Params, Private},
    x509::X509,
};

use super::{finding, read, reason};
use crate::config::{Config, Finding};

/// What `%p` in `ssl_passphrase_command` becomes.
const PROMPT: &str = "Enter PEM pass phrase:";
/// Pass phrases are cut here, as by the original.
const PASSPHRASE_LIMIT: usize = 1024;

/// Whether `ssl_passphrase_command` is run for a key that is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passphrase {
    Ask,
    /// `--check` runs nothing. Such a key counts as good.
    Skip,
}

/// A parameter that names a file of one node or of all.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub config: &'a Config,
    pub name: &'static str,
    pub index: Option<usize>,
    pub path: &'a Path,
}

impl Named<'_> {
    pub fn finding(&self, text: impl Into<String>) -> Finding {
        finding(self.config, self.name, self.index, text)
    }

    fn quoted(&self) -> String {
        format!("\"{}\"", self.path.display())
    }
}

/// A certificate and those that lead to its root, in the order of the file.
pub(super) fn certificates(file: Named<'_>) -> Result<Vec<X509>, Finding> {
    let whose = if file.name == "ssl_cert" {
        "server"
    } else {
        "client"
    };
    let failed = |why: &str| {
        let name = file.quoted();
        file.finding(format!(
            "could not load {whose} certificate file {name}: {why}"
        ))
        .remedy(format!(
            "let {} name a file with a certificate in PEM form that pgpool may read",
            file.name
        ))
    };
    let pem = read(file.path).map_err(|why| failed(&why))?;
    match X509::stack_from_pem(&pem) {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) => Err(failed("no certificate is in it")),
        Err(error) => Err(failed(&reason(&error))),
    }
}

/// A private key. Rights that are too wide are a warning, as in the original.
pub(super) fn private_key(
    file: Named<'_>,
    passphrase: Passphrase,
    findings: &mut Vec<Finding>,
) -> Result<Option<PKey<Private>>, Finding> {
    let name = file.quoted();
    let metadata = fs::metadata(file.path).map_err(|error| {
        let why = crate::sys::errors::message(&error);
        file.finding(format!("could not access private key file {name}: {why}"))
            .remedy(format!("let {} name the key of the certificate", file.name))
    })?;
    if !metadata.is_file() {
        return Err(file.finding(format!("private key file {name} is not a regular file")));
    }
    if is_too_open(metadata.uid(), metadata.permissions().mode()) {
        findings.push(
            file.finding(format!("private key file {name} has group or world access"))
                .remedy("chmod 0600, or 0640 if it belongs to root"),
        );
    }
    let failed = |why: &str| {
        file.finding(format!("could not load private key file {name}: {why}"))
            .remedy(format!(
                "let {} name a private key in PEM form that pgpool may read",
                file.name
            ))
    };
    let pem = read(file.path).map_err(|why| failed(&why))?;
    let command = &file.config.settings.tls.passphrase_command;
    let mut asked = Ok(());
    let mut is_encrypted = false;
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        is_encrypted = true;
        if command.is_empty() || passphrase == Passphrase::Skip {
            return Err(ErrorStack::get());
        }
        match ask(command) {
            Ok(phrase) => {
                let len = phrase.len().min(buffer.len()).min(PASSPHRASE_LIMIT);
                buffer[..len].copy_from_slice(&phrase[..len]);
                Ok(len)
            }
            Err(why) => {
                asked = Err(why);
                Err(ErrorStack::get())
            }
        }
    });
    match (key, asked) {
        (Ok(key), _) => Ok(Some(key)),
        (Err(_), Err(why)) => Err(failed(&why).remedy("run ssl_passphrase_command by hand")),
        (Err(_), Ok(())) if is_encrypted && command.is_empty() => Err(file
            .finding(format!(
                "private key file {name} cannot be reloaded because it requires a passphrase"
            ))
            .remedy("set ssl_passphrase_command, or take the pass phrase off the key")),
        (Err(_), Ok(())) if is_encrypted && passphrase == Passphrase::Skip => Ok(None),
        (Err(error), Ok(())) => Err(failed(&reason(&error))),
    }
}

/// As PostgreSQL judges: nobody else may read a key of ours, and of root's only the group.
fn is_too_open(owner: u32, mode: u32) -> bool {
    let forbidden = if owner == 0 { 0o037 } else { 0o077 };
    mode & forbidden != 0
}

/// The first line of what `ssl_passphrase_command` prints.
fn ask(command: &str) -> Result<Vec<u8>, String> {
    let line = with_prompt(command);
    let output = Command::new("/bin/sh")
        .arg("-c")
        .arg(&line)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| {
            format!(
                "ssl_passphrase_command could not be run: {}",
                crate::sys::errors::message(&error)
            )
        })?;
    if !output.status.success() {
        return Err(format!("ssl_passphrase_command failed: {}", output.status));
    }
    let line = output.stdout.split(|b| *b == b'\n').next();
    match line.map(|line| line.strip_suffix(b"\r").unwrap_or(line)) {
        Some(phrase) if !phrase.is_empty() => Ok(phrase.to_vec()),
        _ => Err("ssl_passphrase_command has printed nothing".to_owned()),
    }
}

/// `%p` becomes the prompt, `%%` a percent sign.
fn with_prompt(command: &str) -> String {
    let mut line = String::with_capacity(command.len());
    let mut chars = command.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('%', Some('p')) => {
                chars.next();
                line.push_str(PROMPT);
            }
            ('%', Some('%')) => {
                chars.next();
                line.push('%');
            }
            _ => line.push(c),
        }
    }
    line
}

/// `ssl_dh_params_file`; what cannot be used is a warning, and the usual group is taken.
pub(super) fn dh_params(
    file: Named<'_>,
    findings: &mut Vec<Finding>,
) -> Result<Dh<Params>, ErrorStack> {
    if !file.path.as_os_str().is_empty() {
        let name = file.quoted();
        let problem = match read(file.path) {
            Err(why) => format!("could not open DH parameters file {name}: {why}"),
            Ok(pem) => match Dh::params_from_pem(&pem) {
                Ok(params) => return Ok(params),
                Err(error) => format!("could not load DH parameters file: {}", reason(&error)),
            },
        };
        findings.push(file.finding(problem).remedy(
            "the group of 2048 bits of RFC 3526 is used; openssl dhparam makes such a file",
        ));
    }
    let prime = openssl::bn::BigNum::get_rfc3526_prime_2048()?;
    Dh::from_pqg(prime, None, openssl::bn::BigNum::from_u32(2)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_root_may_be_read_by_its_group_and_any_other_by_its_owner_alone() {
        assert!(!is_too_open(0, 0o100_640));
        assert!(is_too_open(0, 0o100_644));
        assert!(!is_too_open(107, 0o100_600));
        assert!(is_too_open(107, 0o100_640));
    }

    #[test]
    fn the_passphrase_is_the_first_line_that_the_command_prints() {
        assert_eq!(ask("printf 'one\\r\\ntwo\\n'"), Ok(b"one".to_vec()));
        assert_eq!(
            ask("echo '%p' 100%%"),
            Ok(format!("{PROMPT} 100%").into_bytes())
        );
        assert!(ask("exit 3").unwrap_err().contains("exit status: 3"));
        assert!(ask("true").is_err());
    }
}
