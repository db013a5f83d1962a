use proptest::prelude::*;

use super::*;

/// A network of a test's own: 192.0.2.5 is `db1.example.com`, 192.0.2.6 lies about its name.
#[derive(Default)]
struct Lab {
    asked: u32,
}

impl Network for Lab {
    fn interfaces(&mut self) -> Vec<Interface> {
        vec![
            Interface {
                address: ip("10.1.2.3"),
                mask: ip("255.255.255.0"),
            },
            Interface {
                address: ip("fd00::3"),
                mask: ip("ffff:ffff:ffff:ffff::"),
            },
        ]
    }

    fn name_of(&mut self, address: IpAddr) -> Option<String> {
        self.asked += 1;
        match address.to_string().as_str() {
            "192.0.2.5" | "192.0.2.6" => Some("db1.Example.com".to_owned()),
            _ => None,
        }
    }

    fn addresses_of(&mut self, name: &str) -> Vec<IpAddr> {
        assert_eq!(name, "db1.Example.com");
        vec![ip("fd00::9"), ip("192.0.2.5")]
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn from(address: &str) -> Origin {
    Origin::Host {
        address: ip(address),
        tls: false,
    }
}

fn method(hba: &Hba, origin: Origin, user: &str, database: &str) -> Option<Method> {
    hba.find_without_lookup(origin, user, database)
        .map(|record| record.method)
}

fn read(text: &str) -> Result<Hba, Vec<HbaError>> {
    Hba::parse(
        Path::new("/etc/pgpool2/pool_hba.conf"),
        text.as_bytes(),
        &mut |_| Err(io::ErrorKind::NotFound.into()),
    )
}

fn line(hba: &Hba, origin: Origin, user: &str, database: &str) -> Option<u32> {
    hba.find(origin, user, database, &mut Lab::default())
        .map(|r| r.line)
}

#[test]
fn the_file_of_the_seed_is_read() {
    let hba = read(
        "local   all         all                               trust\n\
         # IPv4 local connections:\n\
         host     all         all         0.0.0.0/0             md5\n",
    )
    .unwrap();
    assert_eq!(
        method(&hba, Origin::Local, "repmgr", "repmgr"),
        Some(Method::Trust)
    );
    assert_eq!(
        method(&hba, from("192.168.122.10"), "u", "d"),
        Some(Method::Md5)
    );
    assert_eq!(method(&hba, from("::1"), "u", "d"), None);
    assert!(!hba.needs_lookup());
    assert_eq!(hba.unsupported(), []);
}

#[test]
fn the_first_record_that_matches_decides() {
    let hba = read(
        "host all bob 127.0.0.1/32 reject\n\
         host all all 127.0.0.1/32 md5\n\
         host all bob 127.0.0.1/32 trust\n",
    )
    .unwrap();
    assert_eq!(line(&hba, from("127.0.0.1"), "bob", "d"), Some(1));
    assert_eq!(line(&hba, from("127.0.0.1"), "ann", "d"), Some(2));
    assert_eq!(line(&hba, from("127.0.0.2"), "ann", "d"), None);
    assert_eq!(line(&hba, Origin::Local, "ann", "d"), None);
}

#[test]
fn record_types_look_at_socket_and_tls() {
    let hba = read(
        "local all all trust\n\
         hostssl all all all md5\n\
         hostnossl all all all password\n\
         host all all all scram-sha-256\n",
    )
    .unwrap();
    let tls = Origin::Host {
        address: ip("127.0.0.1"),
        tls: true,
    };
    assert_eq!(line(&hba, Origin::Local, "u", "d"), Some(1));
    assert_eq!(line(&hba, tls, "u", "d"), Some(2));
    assert_eq!(line(&hba, from("127.0.0.1"), "u", "d"), Some(3));
    assert_eq!(hba.ssl_lines().collect::<Vec<_>>(), [2]);
}

#[test]
fn keywords_lose_their_meaning_in_quotes() {
    let hba = read(
        "local \"all\" all md5\n\
         local all \"all\" password\n\
         local sameuser all scram-sha-256\n\
         local \"sameuser\",replication all reject\n\
         local all all trust\n",
    )
    .unwrap();
    let find = |user, database| line(&hba, Origin::Local, user, database);
    assert_eq!(find("u", "all"), Some(1));
    assert_eq!(find("all", "d"), Some(2));
    assert_eq!(find("u", "u"), Some(3));
    assert_eq!(find("u", "sameuser"), Some(4));
    assert_eq!(find("u", "replication"), Some(4));
    assert_eq!(find("u", "d"), Some(5));
}

#[test]
fn lists_and_quoted_names_match_each_of_their_names() {
    let hba = read("local a,\"b c\", d  ann,/^re,\"+x\"  md5\n").unwrap();
    for database in ["a", "b c", "d"] {
        assert_eq!(line(&hba, Origin::Local, "ann", database), Some(1));
    }
    assert_eq!(line(&hba, Origin::Local, "+x", "a"), Some(1));
    assert_eq!(
        line(&hba, Origin::Local, "/^re", "a"),
        Some(1),
        "no patterns"
    );
    assert_eq!(line(&hba, Origin::Local, "re", "a"), None);
    assert_eq!(line(&hba, Origin::Local, "ann", "b"), None);
}

#[test]
fn groups_never_match_and_the_search_goes_on() {
    let hba = read(
        "local all ann,+admins,bob md5\n\
         local samegroup,d all password\n\
         local samerole all password\n\
         local all all trust\n",
    )
    .unwrap();
    assert_eq!(
        line(&hba, Origin::Local, "ann", "d"),
        Some(1),
        "before the group"
    );
    assert_eq!(
        line(&hba, Origin::Local, "bob", "d"),
        Some(4),
        "behind the group"
    );
    assert_eq!(line(&hba, Origin::Local, "admins", "d"), Some(4));
}

#[test]
fn addresses_have_all_their_forms() {
    let hba = read(
        "host all all 10.0.0.0/8 md5\n\
         host all all 172.16.0.0 255.240.0.0 md5\n\
         host all all fd00::/16 md5\n\
         host all all ::1/128 md5\n\
         host all all 127.0.0.1/32 md5\n",
    )
    .unwrap();
    for (address, expected) in [
        ("10.255.0.1", Some(1)),
        ("11.0.0.1", None),
        ("172.31.255.255", Some(2)),
        ("172.32.0.0", None),
        ("fd00:1::1", Some(3)),
        ("::1", Some(4)),
        ("::2", None),
        ("127.0.0.1", Some(5)),
        ("::ffff:127.0.0.1", Some(5)),
    ] {
        assert_eq!(line(&hba, from(address), "u", "d"), expected, "{address}");
    }
}

#[test]
fn samehost_and_samenet_are_the_interfaces_of_this_machine() {
    let hba = read("host all all samehost trust\nhost all all samenet md5\n").unwrap();
    assert_eq!(line(&hba, from("10.1.2.3"), "u", "d"), Some(1));
    assert_eq!(line(&hba, from("10.1.2.4"), "u", "d"), Some(2));
    assert_eq!(line(&hba, from("10.1.3.3"), "u", "d"), None);
    assert_eq!(line(&hba, from("fd00::3"), "u", "d"), Some(1));
    assert_eq!(line(&hba, from("fd00::4"), "u", "d"), Some(2));
    let here = read("host all all samehost trust\n").unwrap();
    assert_eq!(
        method(&here, from("127.0.0.1"), "u", "d"),
        Some(Method::Trust)
    );
}

#[test]
fn a_host_name_must_lead_there_and_back() {
    let hba = read(
        "host all all db1.example.COM md5\n\
         host all all .example.com password\n",
    )
    .unwrap();
    assert!(hba.needs_lookup());
    assert_eq!(line(&hba, from("192.0.2.5"), "u", "d"), Some(1));
    assert_eq!(
        line(&hba, from("192.0.2.6"), "u", "d"),
        None,
        "a name that lies"
    );
    assert_eq!(line(&hba, from("192.0.2.7"), "u", "d"), None, "no name");
    let suffix = read("host all all .EXAMPLE.com md5\nhost all all xample.com md5\n").unwrap();
    assert_eq!(line(&suffix, from("192.0.2.5"), "u", "d"), Some(1));
    let mut lab = Lab::default();
    let _ = hba.find(from("192.0.2.7"), "u", "d", &mut lab);
    assert_eq!(lab.asked, 1, "a missing name is asked for once");
}

#[test]
fn without_a_look_up_a_host_name_that_might_match_refuses() {
    let hba = read(
        "host all bad db1.example.com reject\n\
         host all all all trust\n",
    )
    .unwrap();
    assert_eq!(method(&hba, from("192.0.2.5"), "bad", "d"), None);
    assert_eq!(
        method(&hba, from("192.0.2.5"), "good", "d"),
        Some(Method::Trust)
    );
}

#[test]
fn every_bad_line_is_reported_in_the_words_of_the_original() {
    let errors = read(
        "hostgssenc all all all md5\n\
         local,host all all md5\n\
         local\n\
         local all\n\
         host all all\n\
         host all all 127.0.0.1,127.0.0.2 md5\n\
         host all all 127.0.0.1/33 md5\n\
         host all all example.com/32 md5\n\
         host all all 127.0.0.1\n\
         host all all 127.0.0.1 255.0.0.0,255.0.0.0 md5\n\
         host all all 127.0.0.1 md5\n\
         host all all 127.0.0.1 ffff:: md5\n\
         local all all\n\
         local all all md5,trust\n\
         local all all ident\n\
         local all all md5 clientcert\n\
         local all all md5 clientcert=1\n\
         local all all md5 ldapport=1\n\
         host all all all ldap ldapserver=x\n\
         host all all all ldap ldapprefix=a ldapbasedn=b\n\
         host all all ::1%lo/128 md5\n\
         local all all md5 pamservice=x\n\
         local all all trust\n",
    )
    .unwrap_err();
    let got: Vec<String> = errors
        .iter()
        .map(|e| format!("{} {}", e.line, e.message))
        .collect();
    assert_eq!(
        got,
        [
            "1 invalid connection type \"hostgssenc\"",
            "2 multiple values specified for connection type",
            "3 end-of-line before database specification",
            "4 end-of-line before role specification",
            "5 end-of-line before IP address specification",
            "6 multiple values specified for host address",
            "7 invalid CIDR mask in address \"127.0.0.1/33\"",
            "8 specifying both host name and CIDR mask is invalid: \"example.com/32\"",
            "9 end-of-line before netmask specification",
            "10 multiple values specified for netmask",
            "11 invalid IP mask \"md5\": Name or service not known",
            "12 IP address and mask do not match",
            "13 end-of-line before authentication method",
            "14 multiple values specified for authentication type",
            "15 invalid authentication method \"ident\"",
            "16 authentication option not in name=value format: clientcert",
            "17 unrecognized authentication option name: \"clientcert\"",
            "18 authentication option \"ldapport\" is only valid for authentication methods ldap",
            "19 authentication method \"ldap\" requires argument \"ldapbasedn\", \"ldapprefix\", or \"ldapsuffix\" to be set",
            "20 cannot use ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, or ldapurl together with ldapprefix",
            "21 specifying both host name and CIDR mask is invalid: \"::1%lo/128\"",
            "22 pamservice authentication option can only be configured for authentication method \"pam\"",
        ]
    );
    assert_eq!(
        errors[1].hint,
        "Specify exactly one connection type per line."
    );
    assert_eq!(
        errors[0].context(),
        "line 1 of configuration file \"/etc/pgpool2/pool_hba.conf\""
    );
    assert_eq!(
        errors[0].to_string(),
        "/etc/pgpool2/pool_hba.conf:1: invalid connection type \"hostgssenc\""
    );
}

#[test]
fn no_error_shows_a_password() {
    for line in [
        "host all all all ldap ldapbasedn=x ldapbindpasswd=half other-half",
        "host all all all ldap ldapbasedn=x ldapbindpasswd=half other-half=x",
        &format!(
            "host all all all ldap ldapbindpasswd={}",
            "other-half".repeat(30)
        ),
    ] {
        let errors = read(line).unwrap_err();
        assert!(!errors[0].message.contains("other-half"), "{errors:?}");
    }
}

/// Words that lines are made of, so that lines get far into the parser.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "local",
        "host",
        "hostssl",
        "hostnossl",
        "all",
        "sameuser",
        "samerole",
        "+g",
        "@f",
        "samehost",
        "samenet",
        "127.0.0.1",
        "10.0.0.0/8",
        "::1/128",
        "fe80::%1",
        "255.0.0.0",
        ".x.org",
        "md5",
        "trust",
        "reject",
        "cert",
        "pam",
        "ldap",
        "password",
        "ldapurl=ldap://h:1/d?u?one",
        "ldapport=1",
        "ldapprefix=",
        "ldapbasedn=b",
        "ldapbindpasswd=s",
        "pamservice=s",
        "#",
        "\"",
        "\"a b\"",
        "\"\"",
        ",",
        "\\",
        "ä",
    ]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => "[ -~]{0,12}"]
}

fn try_out(text: &[u8]) -> Result<Hba, Vec<HbaError>> {
    // A file that includes itself.
    let read = Hba::parse(Path::new("/f"), text, &mut |_| Ok(b"u,@f \"v\"".to_vec()));
    if let Ok(hba) = &read {
        for origin in [Origin::Local, from("10.1.2.3"), from("fd00::3")] {
            let found = hba.find(origin, "u", "all", &mut Lab::default());
            let explained = hba.explain(origin, "u", "all", &mut Lab::default());
            assert_eq!(found.map(|r| r.line), explained.found.map(|r| r.line));
        }
    }
    read
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = try_out(&text);
    }

    #[test]
    fn any_words_are_read_or_refused_and_each_error_has_its_line(
        lines in prop::collection::vec(prop::collection::vec(word(), 0..9), 1..6)
    ) {
        let text: Vec<String> = lines.iter().map(|line| line.join(" ")).collect();
        match try_out(text.join("\n").as_bytes()) {
            Ok(hba) => {
                for record in &hba.records {
                    prop_assert!((1..=lines.len()).contains(&(record.line as usize)));
                }
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    prop_assert!(error.line as usize <= lines.len());
                }
            }
        }
    }

    /// What is shown of a line means the same as the line; a password is not shown, wherever it stands.
    #[test]
    fn the_text_of_a_record_is_that_record(line in prop::collection::vec(word(), 4..9)) {
        let shown = !line.iter().any(|word| word.starts_with("ldapbindpasswd="));
        if let Some(Ok(hba)) = shown.then(|| try_out(line.join(" ").as_bytes())) {
            let record = &hba.records[0];
            let again = try_out(record.text.as_bytes()).expect("the text is good");
            let again = &again.records[0];
            prop_assert_eq!(&again.databases, &record.databases);
            prop_assert_eq!(&again.users, &record.users);
            prop_assert_eq!(&again.address, &record.address);
            prop_assert_eq!(again.method, record.method);
        }
    }

    #[test]
    fn any_ldap_url_is_read_or_refused(url in "(<|URL:)?[lL]dap[si]?://[ -~]{0,30}") {
        let _ = try_out(format!("host all all all ldap \"ldapurl={url}\"").as_bytes());
    }
}

#[test]
fn a_file_without_records_is_an_error() {
    let errors = read("# nothing\n\n").unwrap_err();
    assert_eq!(
        errors[0].message,
        "configuration file \"/etc/pgpool2/pool_hba.conf\" contains no entries"
    );
    assert_eq!(errors[0].context(), "");
}

#[test]
fn a_missing_file_is_an_error() {
    let errors = Hba::load(Path::new("/nonexistent/pool_hba.conf")).unwrap_err();
    assert_eq!(
        errors[0].message,
        "could not open configuration file \"/nonexistent/pool_hba.conf\": No such file or directory"
    );
}

#[test]
fn methods_with_options_are_read() {
    let hba = read(
        "local all all trust\n\
         host all all all pam pamservice=postgres pam_use_hostname=1\n\
         host all all all cert\n\
         host all all all ldap ldapserver=x ldapprefix=\"cn=\"\n",
    )
    .unwrap();
    let methods: Vec<Method> = hba.records.iter().map(|r| r.method).collect();
    assert_eq!(
        methods,
        [Method::Trust, Method::Pam, Method::Cert, Method::Ldap]
    );
    assert_eq!(hba.records[1].pam.as_ref().unwrap().service, "postgres");
    assert_eq!(hba.records[3].ldap.as_ref().unwrap().prefix, "cn=");
    assert_eq!(hba.records[0].pam, None);
    let built: Vec<(u32, Method)> = [(2, Method::Pam), (4, Method::Ldap)]
        .into_iter()
        .filter(|(_, method)| !method.is_built())
        .collect();
    assert_eq!(hba.unsupported(), built);
}

#[test]
fn a_pam_option_with_another_method_is_a_warning() {
    let hba = read("local all all md5 pamservice=x\n").unwrap();
    assert_eq!(hba.records[0].pam, None);
    assert_eq!(
        hba.warnings()[0].message,
        "pamservice authentication option can only be configured for authentication method \"pam\""
    );
    assert_eq!(hba.warnings()[0].line, 1);
}

#[test]
fn what_keeps_the_nearest_records_from_matching_is_told() {
    let hba = read(
        "local all all trust\n\
         host app ann 10.0.0.0/8 md5\n\
         host all ann,+g,bob all md5\n\
         hostssl all carol all cert\n\
         host other dave db1.example.com md5\n",
    )
    .unwrap();
    let explain = |origin, user: &str, database: &str| {
        let mut lab = Lab::default();
        let explained = hba.explain(origin, user, database, &mut lab);
        let near: Vec<(u32, Vec<String>)> = explained
            .near
            .iter()
            .map(|(r, m)| (r.line, m.iter().map(|m| m.text.clone()).collect()))
            .collect();
        (explained.found.map(|r| r.line), near)
    };
    assert_eq!(explain(from("10.1.1.1"), "ann", "app").0, Some(2));
    let (found, near) = explain(from("192.0.2.9"), "bob", "app");
    assert_eq!(found, None);
    assert_eq!(near[0].0, 3);
    assert!(near[0].1[0].contains("behind a group"), "{near:?}");
    let (_, near) = explain(from("192.0.2.9"), "carol", "app");
    assert_eq!(
        near.iter().find(|n| n.0 == 4).unwrap().1,
        ["hostssl is for clients with TLS"]
    );
    let (_, near) = explain(from("192.0.2.9"), "dave", "app");
    let last = &near.iter().find(|n| n.0 == 5).unwrap().1;
    assert!(last[0].contains("does not match \"db1.example.com\""));
    assert_eq!(last[1], "database \"app\" is not in its list");
    let (found, near) = explain(Origin::Local, "ann", "app");
    assert_eq!((found, near.len()), (Some(1), 0));
}

#[test]
fn the_refusal_names_what_the_client_sent() {
    assert_eq!(
        Hba::rejection(from("192.0.2.1"), "u", "d").detail,
        "no pool_hba.conf entry for host \"192.0.2.1\", user \"u\", database \"d\", SSL off"
    );
    let local = Hba::rejection(Origin::Local, "u", "d");
    assert_eq!(
        (
            local.severity,
            &*local.message,
            &*local.detail,
            &*local.hint
        ),
        (
            "FATAL",
            "client authentication failed",
            "no pool_hba.conf entry for host \"[local]\", user \"u\", database \"d\", SSL off",
            "see pgpool log for details"
        )
    );
    assert_eq!(
        Hba::unusable().detail,
        "missing or erroneous pool_hba.conf file"
    );
}

/// Stock 4.3.5 takes and refuses the same files for the same lines.
#[test]
fn files_of_public_installations_are_read_as_the_original_reads_them() {
    let shared = std::env::var_os("PGPOOL_RS_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let Ok(corpus) = fs::read_dir(shared.join("corpus")) else {
        eprintln!("skipped: no corpus at {}", shared.display());
        return;
    };
    let mut bad = Vec::new();
    for path in corpus.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with("pool_hba.conf")
            && let Err(errors) = Hba::load(&path)
        {
            bad.extend(errors.into_iter().map(|e| {
                let owner = name.split('_').next().unwrap();
                format!("{owner} {} {}", e.line, e.message)
            }));
        }
    }
    bad.sort();
    let masked = "specifying both host name and CIDR mask is invalid: \"xxx.xxx.xxx.xxx/32\"";
    assert_eq!(
        bad,
        [
            format!("ialexander77 69 {masked}"),
            format!("ialexander77 70 {masked}"),
            format!("ialexander77 72 {masked}"),
            "rellik24 10 authentication option not in name=value format: local".to_owned(),
        ]
    );
}
