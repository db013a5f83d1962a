use std::path::PathBuf;

use super::*;
use crate::auth::passwd::Place;

const USER: &str = "app";

fn facts(hba: HbaFacts, kind: Kind, asks: &[Asks]) -> Facts {
    let form = match kind {
        Kind::Nothing => None,
        Kind::Clear => Some(Form::Text),
        Kind::Md5 => Some(Form::Md5),
        Kind::Verifier | Kind::BadVerifier => Some(Form::Verifier),
        Kind::Undecryptable => Some(Form::Aes),
    };
    Facts {
        user: USER.to_owned(),
        database: "shop".to_owned(),
        origin: Origin::Host {
            address: "192.0.2.7".parse().unwrap(),
            tls: false,
        },
        ssl: Ssl::Off,
        ssl_findings: Vec::new(),
        client_ca: false,
        hba,
        allow_clear_text: false,
        passwd: PasswdFacts {
            path: Some("/e/pool_passwd".into()),
            unreadable: None,
            place: form.map(|form| Place { line: 3, form }),
            kind,
            key: Some(KeyFile {
                path: "/e/.pgpoolkey".into(),
                exists: false,
            }),
        },
        auth_query: AuthQueryFacts::Off,
        admin: false,
        backends: asks
            .iter()
            .enumerate()
            .map(|(node, asks)| BackendFacts {
                node,
                address: format!("127.0.0.1:543{node}"),
                state: BackendState::Asks(asks.clone()),
            })
            .collect(),
    }
}

fn record(method: Method) -> HbaFacts {
    HbaFacts::Record {
        path: "/e/pool_hba.conf".into(),
        line: 4,
        text: format!("host all all 0.0.0.0/0 {}", method.word()),
        method,
        hand_on: false,
    }
}

const SCRAM: Asks = Asks::Scram { same_secret: true };

/// The word of a backend in the tables below.
fn asks(word: &str) -> Asks {
    match word {
        "trust" => Asks::Nothing,
        "md5" => Asks::Md5,
        "scram" => SCRAM,
        _ => Asks::Password,
    }
}

/// The lines about one subject.
fn lines<'a>(report: &'a Report, subject: &str) -> Vec<&'a Line> {
    report
        .lines
        .iter()
        .filter(|line| line.subject.starts_with(subject))
        .collect()
}

fn result(report: &Report) -> &Line {
    report.lines.last().unwrap()
}

/// Section 4 of the reference: works with no entry, a clear one, an md5 one.
#[test]
fn the_verdict_is_that_of_the_authentication_matrix() {
    use Method::{Md5, Password, ScramSha256, Trust};
    // Clear text allowed, method, backend, verdicts for none / clear / md5.
    let table = [
        (false, None, "trust", "yyy"),
        (false, None, "md5", "nyy"),
        (false, None, "scram", "nyn"),
        (false, None, "password", "yyn"),
        (true, None, "trust", "yyy"),
        (true, None, "md5", "yyy"),
        (true, None, "scram", "yyn"),
        (true, None, "password", "yyn"),
        (false, Some(Trust), "trust", "yyy"),
        (false, Some(Trust), "md5", "nyy"),
        (true, Some(Trust), "md5", "nyy"),
        (false, Some(Trust), "scram", "nyn"),
        (true, Some(Trust), "scram", "nyn"),
        (false, Some(Trust), "password", "nyn"),
        (true, Some(Trust), "password", "yyn"),
        (false, Some(Md5), "trust", "nyy"),
        (false, Some(Md5), "md5", "nyy"),
        (false, Some(Md5), "scram", "nyn"),
        (false, Some(Md5), "password", "nyn"),
        (true, Some(Md5), "password", "nyn"),
        (false, Some(ScramSha256), "trust", "nyn"),
        (false, Some(ScramSha256), "md5", "nyn"),
        (false, Some(ScramSha256), "scram", "nyn"),
        (true, Some(ScramSha256), "password", "nyn"),
        // With a trusting backend and no entry nobody could judge the password: stock takes any.
        (false, Some(Password), "trust", "nyy"),
        (false, Some(Password), "md5", "yyy"),
        (false, Some(Password), "scram", "yyn"),
        (true, Some(Password), "password", "yyn"),
    ];
    for (allow_clear_text, method, backend, expected) in table {
        let hba = || method.map_or(HbaFacts::Off, record);
        for (kind, expected) in [Kind::Nothing, Kind::Clear, Kind::Md5]
            .into_iter()
            .zip(expected.chars())
        {
            let mut facts = facts(hba(), kind, &[asks(backend), asks(backend)]);
            facts.allow_clear_text = allow_clear_text;
            let report = check(&facts);
            let what = format!("{allow_clear_text} {method:?} {backend} {kind:?}\n{report}");
            assert_eq!(report.works, expected == 'y', "{what}");
            let remedies = report.lines.iter().filter(|l| !l.remedy.is_empty()).count();
            assert_eq!(remedies > 0, !report.works, "{what}");
            assert!(
                result(&report).text.starts_with(if report.works {
                    "the login can work"
                } else {
                    "the login cannot work"
                }),
                "{what}"
            );
        }
    }
}

#[test]
fn an_md5_entry_and_a_scram_backend_are_told_apart_from_the_backend_that_works() {
    let report = check(&facts(record(Method::Md5), Kind::Md5, &[Asks::Md5, SCRAM]));
    assert!(!report.works);
    assert_eq!(
        report.to_string(),
        "client: user \"app\", database \"shop\", from 192.0.2.7, without TLS\n\
         pool_hba: /e/pool_hba.conf:4: host all all 0.0.0.0/0 md5\n\
         pool_passwd: /e/pool_passwd:3: an md5 hash\n\
         client: is asked for md5\n\
         backend 0 (127.0.0.1:5430): asks for md5, answered with what pool_passwd has\n\
         backend 1 (127.0.0.1:5431): asks for scram-sha-256, pool_passwd has an md5 entry: this cannot work\n    \
             remedy: write the entry as TEXT or AES with pg_enc, or use auth_query\n\
         result: the login cannot work; the client reads: ERROR: failed to authenticate with backend using SCRAM: valid password not found\n"
    );
}

#[test]
fn a_good_login_says_who_answers_what() {
    let report = check(&facts(record(Method::ScramSha256), Kind::Clear, &[SCRAM]));
    assert!(report.works);
    assert_eq!(
        report.to_string(),
        "client: user \"app\", database \"shop\", from 192.0.2.7, without TLS\n\
         pool_hba: /e/pool_hba.conf:4: host all all 0.0.0.0/0 scram-sha-256\n\
         pool_passwd: /e/pool_passwd:3: a password in clear (TEXT)\n\
         client: is asked for scram-sha-256\n\
         backend 0 (127.0.0.1:5430): asks for scram-sha-256, answered with what pool_passwd has\n\
         result: the login can work, given the right password\n"
    );
}

#[test]
fn doors_without_a_lock_are_named() {
    for (hba, kind, asks) in [
        (HbaFacts::Off, Kind::Md5, Asks::Nothing),
        (record(Method::Trust), Kind::Clear, SCRAM),
    ] {
        let report = check(&facts(hba, kind, &[asks]));
        assert!(report.works);
        assert_eq!(
            lines(&report, "note")[0].text,
            "no password is asked for: whoever connects from there is let in as \"app\""
        );
        assert_eq!(
            result(&report).text,
            "the login can work, without a password"
        );
    }
}

#[test]
fn the_key_that_is_missing_is_named() {
    let mut closed = facts(record(Method::Md5), Kind::Undecryptable, &[Asks::Md5]);
    let report = check(&closed);
    assert!(!report.works);
    let passwd = lines(&report, "pool_passwd")[0];
    assert!(passwd.text.ends_with("an AES entry that cannot be opened"));
    assert!(
        passwd
            .remedy
            .starts_with("the pool key file /e/.pgpoolkey does not exist")
    );
    closed.passwd.key.as_mut().unwrap().exists = true;
    let report = check(&closed);
    assert!(
        lines(&report, "pool_passwd")[0]
            .remedy
            .starts_with("the key in /e/.pgpoolkey does not open the entry")
    );
    closed.passwd.key = None;
    let report = check(&closed);
    assert!(result(&report).remedy.contains("PGPOOLKEYFILE"));
}

#[test]
fn a_scram_secret_opens_servers_that_have_the_same_one() {
    let report = check(&facts(
        record(Method::ScramSha256),
        Kind::Verifier,
        &[SCRAM],
    ));
    assert!(report.works, "{report}");
    assert!(
        lines(&report, "backend")[0]
            .text
            .ends_with("answered with the key that the client's own SCRAM answer gives")
    );

    let other = Asks::Scram { same_secret: false };
    let report = check(&facts(
        record(Method::ScramSha256),
        Kind::Verifier,
        &[SCRAM, other],
    ));
    assert!(!report.works);
    assert!(
        lines(&report, "backend 1")[0]
            .text
            .contains("another SCRAM secret"),
        "{report}"
    );
    assert!(
        lines(&report, "backend 1")[0]
            .remedy
            .starts_with("copy rolpassword")
    );

    let report = check(&facts(
        record(Method::ScramSha256),
        Kind::Verifier,
        &[Asks::Md5],
    ));
    assert!(!report.works);
    assert!(
        lines(&report, "backend")[0]
            .remedy
            .contains("opens only servers that ask for scram-sha-256")
    );
    assert!(!check(&facts(record(Method::Md5), Kind::BadVerifier, &[SCRAM])).works);
}

#[test]
fn pam_and_ldap_are_a_first_challenge_and_may_be_the_only_one() {
    for method in [Method::Pam, Method::Ldap] {
        if !method.is_built() {
            continue;
        }
        let report = check(&facts(record(method), Kind::Nothing, &[Asks::Nothing]));
        assert!(report.works, "{report}");
        let report = check(&facts(record(method), Kind::Nothing, &[SCRAM]));
        assert!(!report.works, "{report}");
    }
    let handing_on = HbaFacts::Record {
        path: "/e/pool_hba.conf".into(),
        line: 4,
        text: "host all all all ldap".to_owned(),
        method: Method::Ldap,
        hand_on: true,
    };
    if Method::Ldap.is_built() {
        let report = check(&facts(handing_on, Kind::Nothing, &[SCRAM]));
        assert!(report.works, "{report}");
        assert!(
            lines(&report, "backend")[0]
                .text
                .ends_with("answered with the password that the client tells")
        );
        let report = check(&facts(record(Method::Ldap), Kind::Nothing, &[SCRAM]));
        assert!(
            lines(&report, "backend")[0]
                .remedy
                .contains("backend_use_passwd=1"),
            "{report}"
        );
    }
}

#[test]
fn certificates_need_tls_and_a_ca() {
    let mut facts = facts(record(Method::Cert), Kind::Clear, &[SCRAM]);
    let report = check(&facts);
    assert!(!report.works);
    assert!(result(&report).text.contains("CERT authentication failed"));
    assert!(result(&report).remedy.contains("TLS"));
    facts.origin = Origin::Host {
        address: "192.0.2.7".parse().unwrap(),
        tls: true,
    };
    assert!(result(&check(&facts)).remedy.contains("ssl = on"));
    facts.ssl = Ssl::Unusable;
    facts.ssl_findings = vec!["/e/x.conf:1:1: warning: no certificate".to_owned()];
    assert!(result(&check(&facts)).remedy.contains("lines about ssl"));
    facts.ssl = Ssl::On;
    assert!(result(&check(&facts)).remedy.contains("ssl_ca_cert"));
    facts.client_ca = true;
    let report = check(&facts);
    assert!(report.works, "{report}");
    assert!(result(&report).text.contains("certificate"));
}

#[test]
fn pool_hba_that_refuses_is_explained() {
    let near = NearRecord {
        line: 7,
        text: "host shop app 10.0.0.0/8 md5".to_owned(),
        why: vec!["the address is not in 10.0.0.0 with mask 255.0.0.0".to_owned()],
    };
    let path = PathBuf::from("/e/pool_hba.conf");
    let report = check(&facts(
        HbaFacts::NoRecord {
            path: path.clone(),
            near: vec![near],
        },
        Kind::Md5,
        &[Asks::Md5],
    ));
    assert!(!report.works);
    assert_eq!(
        lines(&report, "pool_hba")[0].text,
        "no record of /e/pool_hba.conf matches; the nearest are\n    \
         /e/pool_hba.conf:7: host shop app 10.0.0.0/8 md5\n        \
         the address is not in 10.0.0.0 with mask 255.0.0.0"
    );
    assert!(
        result(&report)
            .text
            .contains("no pool_hba.conf entry for host \"192.0.2.7\"")
    );
    assert_eq!(
        lines(&report, "backend")[0].text,
        "asks for md5",
        "what it asks is told all the same"
    );

    let report = check(&facts(
        HbaFacts::Unusable {
            path,
            errors: Vec::new(),
        },
        Kind::Md5,
        &[Asks::Md5],
    ));
    assert!(result(&report).remedy.starts_with("mend the lines"));
    let report = check(&facts(record(Method::Reject), Kind::Md5, &[Asks::Md5]));
    assert!(result(&report).remedy.contains("before this one"));
}

#[test]
fn what_backends_refuse_has_its_remedy() {
    for (sqlstate, message, remedy) in [
        (
            "28000",
            "no pg_hba.conf entry for host \"10.0.0.1\"",
            "pg_hba.conf of this server",
        ),
        ("28000", "role \"app\" does not exist", "create the role"),
        (
            "3D000",
            "database \"shop\" does not exist",
            "create the database",
        ),
        (
            "53300",
            "sorry, too many clients already",
            "max_connections",
        ),
    ] {
        let refused = Asks::Refused(Refusal {
            sqlstate: sqlstate.to_owned(),
            message: message.to_owned(),
        });
        let report = check(&facts(HbaFacts::Off, Kind::Clear, &[SCRAM, refused]));
        assert!(!report.works);
        let line = lines(&report, "backend 1")[0];
        assert!(line.text.contains(message));
        assert!(line.remedy.contains(remedy), "{line:?}");
        assert!(result(&report).text.contains("backend 1 refuses it"));
    }
    let report = check(&facts(HbaFacts::Off, Kind::Clear, &[Asks::Other(7)]));
    assert!(!report.works);
    assert!(lines(&report, "backend")[0].text.contains("GSSAPI"));
    assert!(
        lines(&report, "backend")[0]
            .remedy
            .contains("scram-sha-256")
    );
}

#[test]
fn backends_that_cannot_be_asked_are_left_out() {
    let mut facts = facts(HbaFacts::Off, Kind::Clear, &[SCRAM, Asks::Other(7), SCRAM]);
    facts.backends[1].state = BackendState::Unreachable("Connection refused".to_owned());
    facts.backends[2].state = BackendState::Down;
    let report = check(&facts);
    assert!(report.works, "{report}");
    facts.backends[0].state = BackendState::Down;
    let report = check(&facts);
    assert!(!report.works);
    assert!(result(&report).text.contains("no backend"));
}

#[test]
fn the_admin_database_needs_no_backend() {
    let mut facts = facts(HbaFacts::Off, Kind::Nothing, &[]);
    facts.admin = true;
    let report = check(&facts);
    assert!(!report.works);
    assert!(
        result(&report)
            .remedy
            .contains("add \"app\" to pool_passwd")
    );
    facts.passwd.kind = Kind::Md5;
    facts.passwd.place = Some(Place {
        line: 1,
        form: Form::Md5,
    });
    assert!(check(&facts).works);
}

#[test]
fn without_an_entry_the_ways_out_fit_the_setting() {
    let remedy = |hba, asks| {
        let report = check(&facts(hba, Kind::Nothing, &[asks]));
        lines(&report, "backend")[0].remedy.clone()
    };
    let off = remedy(HbaFacts::Off, Asks::Md5);
    assert!(off.contains("allow_clear_text_frontend_auth = on"), "{off}");
    assert!(off.contains("pg_md5"));
    let trust = remedy(record(Method::Trust), SCRAM);
    assert!(trust.contains("auth_query") && trust.contains("hostssl"));
    assert!(!trust.contains("pg_md5"), "md5 would not help: {trust}");
}

#[test]
fn auth_query_stands_in_for_an_entry() {
    let with = |auth_query, asks| {
        let mut facts = facts(record(Method::ScramSha256), Kind::Nothing, &[asks]);
        facts.auth_query = auth_query;
        check(&facts)
    };
    let report = with(AuthQueryFacts::Gives(Kind::Verifier), SCRAM);
    assert!(report.works, "{report}");
    assert_eq!(lines(&report, "auth_query")[0].text, "gives a SCRAM secret");

    let report = with(AuthQueryFacts::Gives(Kind::Md5), SCRAM);
    assert!(!report.works);
    assert!(result(&report).remedy.contains("TEXT or AES"), "{report}");
    let report = with(AuthQueryFacts::Gives(Kind::Nothing), SCRAM);
    assert!(!report.works);
    let report = with(AuthQueryFacts::Failed("node 0: no".to_owned()), SCRAM);
    assert!(!report.works);
    assert!(lines(&report, "auth_query")[0].remedy.contains("auth_user"));

    let mut trusting = facts(record(Method::Trust), Kind::Nothing, &[SCRAM]);
    trusting.auth_query = AuthQueryFacts::Gives(Kind::Md5);
    let report = check(&trusting);
    assert!(
        lines(&report, "backend")[0]
            .text
            .contains("auth_query has an md5 entry"),
        "{report}"
    );
    assert!(
        lines(&report, "backend")[0]
            .remedy
            .contains("password_encryption")
    );
}

#[test]
fn whatever_cannot_work_has_a_remedy() {
    let kinds = [
        Kind::Nothing,
        Kind::Clear,
        Kind::Md5,
        Kind::Verifier,
        Kind::BadVerifier,
        Kind::Undecryptable,
    ];
    let methods = [
        "trust",
        "md5",
        "scram-sha-256",
        "password",
        "cert",
        "pam",
        "ldap",
        "reject",
    ];
    let hbas = methods
        .into_iter()
        .map(|word| record(method_of(word)))
        .chain([HbaFacts::Off]);
    let requests = [
        Asks::Nothing,
        Asks::Password,
        Asks::Md5,
        SCRAM,
        Asks::Scram { same_secret: false },
        Asks::Other(9),
    ];
    for hba in hbas {
        for (kind, asks) in kinds
            .iter()
            .flat_map(|k| requests.iter().map(move |a| (k, a)))
        {
            for (clear, tls) in [(false, false), (true, false), (false, true)] {
                let mut facts = facts(hba.clone(), *kind, std::slice::from_ref(asks));
                facts.allow_clear_text = clear;
                if tls {
                    facts.ssl = Ssl::On;
                    facts.client_ca = true;
                    facts.origin = Origin::Host {
                        address: "192.0.2.7".parse().unwrap(),
                        tls: true,
                    };
                }
                let report = check(&facts);
                let remedies = report.lines.iter().filter(|l| !l.remedy.is_empty());
                assert!(
                    report.works || remedies.count() > 0,
                    "{asks:?} {kind:?} {clear}\n{report}"
                );
            }
        }
    }
}

fn method_of(word: &str) -> Method {
    [
        Method::Trust,
        Method::Reject,
        Method::Md5,
        Method::ScramSha256,
        Method::Password,
        Method::Cert,
        Method::Pam,
        Method::Ldap,
    ]
    .into_iter()
    .find(|method| method.word() == word)
    .unwrap()
}
