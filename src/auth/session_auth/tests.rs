use proptest::prelude::*;

use super::{
    sim::{Backend, Entry, PASSWORD, Setting, USER, fresh, mixed, reused, standalone},
    *,
};

const OFF: HbaVerdict = HbaVerdict::Off;
const TRUST: HbaVerdict = HbaVerdict::Method(Method::Trust);
const MD5: HbaVerdict = HbaVerdict::Method(Method::Md5);
const SCRAM: HbaVerdict = HbaVerdict::Method(Method::ScramSha256);
const PASSWD: HbaVerdict = HbaVerdict::Method(Method::Password);

/// What a new connection gives for a user without an entry, with one in clear text, with an md5 one.
type Row = (HbaVerdict, bool, Backend, [&'static str; 3]);

/// Measured on Debian's 4.3.5. `!` marks cells where any password will do, because pool_hba.conf
/// says trust, or is off and the servers say trust. E7 is ours: under pool_hba `password` the
/// original lets any password in when the server trusts and pool_passwd has no entry.
const FRESH: [Row; 40] = {
    use Backend::{Md5, Password, Scram, Trust};
    const IN: &str = "10,11,12,0";
    [
        (OFF, false, Trust, ["0!", "0!", "0!"]),
        (OFF, false, Md5, ["E1", "5,0", "5,0"]),
        (OFF, false, Scram, ["E2", IN, "E2"]),
        (OFF, false, Password, ["3,0", "3,0", "3 E3"]),
        (OFF, true, Trust, ["0!", "0!", "0!"]),
        (OFF, true, Md5, ["3,0", "5,0", "5,0"]),
        (OFF, true, Scram, ["3,0", IN, "E2"]),
        (OFF, true, Password, ["3,0", "3,0", "3 E3"]),
        (TRUST, false, Trust, ["0!", "0!", "0!"]),
        (TRUST, false, Md5, ["E1", "0!", "0!"]),
        (TRUST, false, Scram, ["E2", "0!", "E2"]),
        (TRUST, false, Password, ["E3", "0!", "E3"]),
        (TRUST, true, Trust, ["0!", "0!", "0!"]),
        (TRUST, true, Md5, ["E1", "0!", "0!"]),
        (TRUST, true, Scram, ["E2", "0!", "E2"]),
        (TRUST, true, Password, ["3,0", "3,0", "3 E3"]),
        (MD5, false, Trust, ["E4", "5,0", "5,0"]),
        (MD5, false, Md5, ["E4", "5,0", "5,0"]),
        (MD5, false, Scram, ["E4", "5,0", "5 E2"]),
        (MD5, false, Password, ["E4", "5,0", "5 E3"]),
        (MD5, true, Trust, ["E4", "5,0", "5,0"]),
        (MD5, true, Md5, ["E4", "5,0", "5,0"]),
        (MD5, true, Scram, ["E4", "5,0", "5 E2"]),
        (MD5, true, Password, ["E4", "5,3,0", "5,3 E3"]),
        (SCRAM, false, Trust, ["E5", IN, "E6"]),
        (SCRAM, false, Md5, ["E5", IN, "E6"]),
        (SCRAM, false, Scram, ["E5", IN, "E6"]),
        (SCRAM, false, Password, ["E5", IN, "E6"]),
        (SCRAM, true, Trust, ["E5", IN, "E6"]),
        (SCRAM, true, Md5, ["E5", IN, "E6"]),
        (SCRAM, true, Scram, ["E5", IN, "E6"]),
        (SCRAM, true, Password, ["E5", "10,11,12,3,0", "E6"]),
        (PASSWD, false, Trust, ["3 E7", "3,0", "3,0"]),
        (PASSWD, false, Md5, ["3,0", "3,0", "3,0"]),
        (PASSWD, false, Scram, ["3,0", "3,0", "3 E2"]),
        (PASSWD, false, Password, ["3,0", "3,0", "3 E3"]),
        (PASSWD, true, Trust, ["3 E7", "3,0", "3,0"]),
        (PASSWD, true, Md5, ["3,0", "3,0", "3,0"]),
        (PASSWD, true, Scram, ["3,0", "3,0", "3 E2"]),
        (PASSWD, true, Password, ["3,0", "3,0", "3 E3"]),
    ]
};

/// The codes on a cached connection, where they are not those of the new one.
const REUSED: [Row; 8] = {
    use Backend::{Md5, Password, Scram};
    [
        (OFF, true, Md5, ["5,0", "5,0", "5,0"]),
        (OFF, true, Scram, ["10,11,12,0", "10,11,12,0", ""]),
        (MD5, true, Password, ["", "5,0", ""]),
        (SCRAM, true, Password, ["", "10,11,12,0", ""]),
        (PASSWD, false, Md5, ["3,5,0", "3,0", "3,0"]),
        (PASSWD, false, Scram, ["3,10,11,12,0", "3,0", ""]),
        (PASSWD, true, Md5, ["3,5,0", "3,0", "3,0"]),
        (PASSWD, true, Scram, ["3,10,11,12,0", "3,0", ""]),
    ]
};

const ENTRIES: [Entry; 3] = [Entry::None, Entry::Clear, Entry::Md5];

fn wrong_passwords() -> [String; 6] {
    [
        String::new(),
        "wrong".to_owned(),
        "secre".to_owned(),
        "secretx".to_owned(),
        "Secret".to_owned(),
        "s".repeat(1100),
    ]
}

fn cells() -> impl Iterator<Item = (Setting, Backend, &'static str)> {
    FRESH.into_iter().flat_map(|(hba, clear, backend, cells)| {
        ENTRIES.into_iter().zip(cells).map(move |(entry, cell)| {
            let setting = Setting::new(hba, clear, entry);
            (setting, backend, cell)
        })
    })
}

#[test]
fn new_connections_ask_for_what_the_original_asks_for() {
    for (setting, backend, cell) in cells() {
        let outcome = fresh(setting, backend, PASSWORD);
        assert_eq!(
            outcome.text(),
            cell.trim_end_matches('!'),
            "{setting:?} {backend:?}"
        );
        assert_eq!(outcome.done.is_some(), outcome.error.is_none());
    }
}

#[test]
fn wrong_passwords_get_nobody_in() {
    for (setting, backend, cell) in cells() {
        for typed in wrong_passwords() {
            let outcome = fresh(setting, backend, &typed);
            let any = cell.ends_with('!') && (typed.len() < 1000 || !cell.starts_with('3'));
            assert_eq!(
                outcome.done.is_some(),
                any,
                "{setting:?} {backend:?} {typed:.8?}"
            );
            assert_eq!(outcome.error.is_some(), !any);
        }
    }
}

#[test]
fn cached_connections_ask_for_what_the_original_asks_for_and_never_for_less_than_new_ones() {
    for (setting, backend, cell) in cells() {
        let Some(remembered) = fresh(setting, backend, PASSWORD).done else {
            continue;
        };
        let own = REUSED.iter().find(|(hba, clear, kind, _)| {
            (*hba, *clear, *kind) == (setting.hba, setting.allow_clear_text, backend)
        });
        let column = ENTRIES.iter().position(|e| *e == setting.entry).unwrap();
        let expected = own.map_or(cell.trim_end_matches('!'), |row| row.3[column]);

        let outcome = reused(setting, &remembered, PASSWORD);
        assert_eq!(outcome.text(), expected, "{setting:?} {backend:?}");
        assert_eq!(
            outcome.done,
            Some(remembered.clone()),
            "what is remembered stays"
        );

        for typed in wrong_passwords() {
            let outcome = reused(setting, &remembered, &typed);
            let any = cell.ends_with('!') && (typed.len() < 1000 || !cell.starts_with('3'));
            assert_eq!(
                outcome.done.is_some(),
                any,
                "{setting:?} {backend:?} {typed:.8?}"
            );
        }
    }
}

/// The connection was made for one client; another comes by a record that says trust. On a new
/// connection it would be asked or refused, so it is on a cached one.
#[test]
fn trust_does_not_reach_a_connection_that_another_clients_password_opened() {
    for backend in [Backend::Md5, Backend::Scram, Backend::Password] {
        for allow_clear_text in [false, true] {
            let maker = Setting::new(PASSWD, allow_clear_text, Entry::None);
            let remembered = fresh(maker, backend, PASSWORD).done.unwrap();
            let trusted = Setting {
                hba: TRUST,
                ..maker
            };
            assert!(reused(trusted, &remembered, "wrong").done.is_none());
            assert!(reused(trusted, &remembered, PASSWORD).done.is_some());
        }
    }
}

#[test]
fn errors_are_those_of_the_original() {
    let text = |hba, clear, entry, backend, typed: &str| {
        let setting = Setting::new(hba, clear, entry);
        let error = fresh(setting, backend, typed).error.unwrap();
        format!(
            "{} {} {}/{}",
            error.severity, error.sqlstate, error.message, error.detail
        )
    };
    for (got, expected) in [
        (
            text(MD5, false, Entry::Clear, Backend::Trust, "wrong"),
            "ERROR XX000 md5 authentication failed/password does not match",
        ),
        (
            text(SCRAM, false, Entry::Clear, Backend::Trust, "wrong"),
            "ERROR XX000 authentication failed/username \"alice\" or password does not exist in backend",
        ),
        (
            text(PASSWD, false, Entry::Md5, Backend::Trust, "wrong"),
            "ERROR XX000 clear text authentication failed/password does not match",
        ),
        (
            text(OFF, false, Entry::None, Backend::Password, "wrong"),
            "ERROR XX000 authentication failed/password authentication failed for user \"alice\"",
        ),
        (
            text(OFF, true, Entry::None, Backend::Scram, "wrong"),
            "ERROR XX000 authentication failed/password authentication failed for user \"alice\"",
        ),
        (
            text(MD5, false, Entry::None, Backend::Trust, ""),
            "FATAL XX000 md5 authentication failed/pool_passwd file does not contain an entry for \"alice\"",
        ),
        (
            text(SCRAM, false, Entry::Md5, Backend::Trust, ""),
            "FATAL XX000 SCRAM authentication failed/pool_passwd file does not contain valid SCRAM entry for \"alice\"",
        ),
        (
            text(PASSWD, false, Entry::None, Backend::Trust, PASSWORD),
            "FATAL XX000 clear text authentication failed/pool_passwd file does not contain an entry for \"alice\"",
        ),
        (
            text(
                OFF,
                false,
                Entry::None,
                Backend::Password,
                &"x".repeat(1099),
            ),
            "ERROR XX000 authentication failed/invalid authentication packet. password is too long. password length is 1100",
        ),
        (
            text(HbaVerdict::NoRecord, false, Entry::None, Backend::Trust, ""),
            "FATAL XX000 client authentication failed/no pool_hba.conf entry for host \"[local]\", user \"alice\", database \"postgres\", SSL off",
        ),
        (
            text(HbaVerdict::Unusable, false, Entry::None, Backend::Trust, ""),
            "FATAL XX000 client authentication failed/missing or erroneous pool_hba.conf file",
        ),
    ] {
        assert_eq!(got, expected);
    }
}

#[test]
fn the_wrong_password_on_a_cached_connection_tells_nothing_about_the_right_one() {
    let setting = Setting::new(OFF, false, Entry::None);
    let remembered = fresh(setting, Backend::Password, PASSWORD).done.unwrap();
    for typed in ["short", "longer password", "secreT"] {
        let error = reused(setting, &remembered, typed).error.unwrap();
        assert_eq!(error.message, "clear text password authentication failed");
        assert_eq!(error.detail, "password does not match");
    }
}

#[test]
fn backends_may_ask_for_different_things() {
    use Backend::{Md5, Password, Scram, Trust};
    for (backends, clear, entry, expected) in [
        (&[Trust, Scram][..], false, Entry::Clear, "10,11,12,0"),
        (&[Md5, Scram], false, Entry::Clear, "10,11,12,0"),
        (&[Scram, Md5], false, Entry::Clear, "10,11,12,0"),
        (&[Md5, Trust, Password], false, Entry::Clear, "3,0"),
        (&[Md5, Password], false, Entry::None, "3,0"),
        (&[Scram, Md5, Trust], true, Entry::None, "3,0"),
        (&[Trust, Md5], false, Entry::None, "E1"),
        (&[Scram, Md5], false, Entry::Md5, "E2"),
    ] {
        let setting = Setting::new(OFF, clear, entry);
        assert_eq!(
            mixed(setting, backends, PASSWORD).text(),
            expected,
            "{backends:?} {entry:?}"
        );
        assert!(mixed(setting, backends, "wrong").done.is_none());
    }
}

#[test]
fn nodes_with_the_same_salt_share_one_derived_key() {
    let setting = Setting::new(TRUST, false, Entry::Clear);
    let outcome = mixed(setting, &[Backend::Scram; 5], "");
    assert!(outcome.done.is_some());
    assert_eq!(outcome.derived, 1);
}

#[test]
fn without_a_backend_the_client_must_be_known_to_the_proxy() {
    for (hba, entry, expected) in [
        (OFF, Entry::Clear, "10,11,12,0"),
        (OFF, Entry::Verifier, "10,11,12,0"),
        (OFF, Entry::Md5, "5,0"),
        (MD5, Entry::Md5, "5,0"),
        (SCRAM, Entry::Clear, "10,11,12,0"),
        (PASSWD, Entry::Clear, "3,0"),
    ] {
        let setting = Setting::new(hba, false, entry);
        assert_eq!(standalone(setting, PASSWORD).text(), expected, "{hba:?}");
        assert!(standalone(setting, "wrong").done.is_none(), "{hba:?}");
    }
    for hba in [OFF, MD5, SCRAM, PASSWD] {
        let unknown = Setting::new(hba, true, Entry::None);
        assert!(standalone(unknown, PASSWORD).done.is_none(), "{hba:?}");
    }
}

#[test]
fn a_node_that_is_given_up_does_not_hold_the_others() {
    let setting = Setting::new(TRUST, false, Entry::None);
    let mut session = setting.session();
    assert_eq!(session.start(), [Action::Passed]);
    assert_eq!(session.connect(&[0, 1], None), []);
    let ok = 0_i32.to_be_bytes();
    assert_eq!(
        session.on_backend_message(0, b'R', &ok),
        [Action::BackendReady(0)]
    );
    assert!(matches!(session.drop_node(1)[..], [_, Action::Done(_)]));

    let mut session = setting.session();
    let _ = session.start();
    let _ = session.connect(&[0], None);
    assert!(
        matches!(session.drop_node(0)[..], [Action::Fail(_)]),
        "nobody is let in without a backend"
    );
}

#[test]
fn an_error_of_a_backend_before_authentication_is_forwarded_as_it_is() {
    let setting = Setting::new(TRUST, false, Entry::None);
    let mut session = setting.session();
    let _ = session.start();
    let _ = session.connect(&[0], None);
    let body = b"SFATAL\0C3D000\0Mdatabase \"x\" does not exist\0\0";
    assert_eq!(
        session.on_backend_message(0, b'E', body),
        [Action::ForwardError(0, body.to_vec())]
    );
    assert_eq!(session.on_backend_message(0, b'R', &[0; 4]), []);
}

#[test]
fn events_out_of_turn_fail_and_open_nothing() {
    let setting = Setting::new(MD5, false, Entry::Clear);
    let mut session = setting.session();
    let _ = session.start();
    assert!(matches!(session.connect(&[0], None)[..], [Action::Fail(_)]));
    assert_eq!(session.on_backend_message(0, b'R', &[0; 4]), []);
    assert_eq!(session.standalone(), []);
    assert!(!session.wants_client());

    let mut session = setting.session();
    let _ = session.start();
    assert_eq!(session.on_backend_message(0, b'R', &[0; 4]), []);
    assert!(session.wants_client());
}

#[test]
fn neither_passwords_nor_random_numbers_are_printed() {
    let setting = Setting::new(SCRAM, false, Entry::Clear);
    let mut session = setting.session();
    let actions = session.start();
    let printed = format!("{session:?} {actions:?}");
    assert!(!printed.contains(PASSWORD), "{printed}");
    let hash = "7c53eaf86052083b816bfc7c7a6edf5d".to_owned();
    assert_eq!(format!("{:?}", Credential::Md5(hash)), "Md5(...)");
}

/// A client that knows everything but the password.
fn hostile_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        Just(b"\0".to_vec()),
        Just(b"SCRAM-SHA-256\0\0\0\0\x09n,,n=,r=a".to_vec()),
        Just(b"SCRAM-SHA-256\0\0\0\0\x09y,,n=,r=a".to_vec()),
        Just(b"SCRAM-SHA-256\0\xff\xff\xff\xff".to_vec()),
        Just(b"c=biws,r=a,p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_vec()),
        Just(format!("{USER}\0").into_bytes()),
        Just(b"md500000000000000000000000000000000\0".to_vec()),
        Just(vec![b'x'; 1025]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_client_that_does_not_know_the_password_never_gets_in(
        hba in prop_oneof![Just(MD5), Just(SCRAM), Just(PASSWD), Just(OFF)],
        entry in prop_oneof![Just(Entry::Clear), Just(Entry::Md5), Just(Entry::Verifier)],
        cached in any::<bool>(),
        script in prop::collection::vec(
            (prop_oneof![4 => Just(b'p'), 1 => any::<u8>()], hostile_body()),
            1..6,
        ),
    ) {
        let mut session = Setting::new(hba, true, entry).session();
        let mut todo = session.start();
        let mut script = script.into_iter();
        while let Some(action) = todo.pop() {
            match action {
                Action::Done(_) => prop_assert!(false, "let in"),
                Action::Passed if cached => {
                    let remembered = Remembered {
                        method: RememberedMethod::ScramSha256,
                        password: Some(Password::new("another")),
                    };
                    todo.extend(session.connect(&[], Some(&remembered)));
                }
                Action::Passed => {
                    todo.extend(session.connect(&[0], None));
                    let mut ask = 5_i32.to_be_bytes().to_vec();
                    ask.extend([1, 2, 3, 4]);
                    todo.extend(session.on_backend_message(0, b'R', &ask));
                }
                Action::DeriveKey(id, request) => {
                    todo.extend(session.on_key_derived(id, request.derive()));
                }
                _ => {}
            }
            if todo.is_empty()
                && let Some((kind, body)) = script.next()
            {
                todo.extend(session.on_client_message(kind, &body));
            }
        }
    }

    #[test]
    fn no_message_of_a_backend_makes_us_panic(
        script in prop::collection::vec(
            (
                prop_oneof![6 => Just(b'R'), 1 => Just(b'E'), 1 => any::<u8>()],
                prop_oneof![
                    (0_i32..14, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, rest)| {
                        let mut body = kind.to_be_bytes().to_vec();
                        body.extend(rest);
                        body
                    }),
                    prop::collection::vec(any::<u8>(), 0..40),
                    Just(b"\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec()),
                ],
            ),
            0..8,
        ),
    ) {
        let setting = Setting::new(TRUST, false, Entry::Clear);
        let mut session = setting.session();
        let _ = session.start();
        let _ = session.connect(&[0], None);
        for (kind, body) in script {
            let _ = session.on_backend_message(0, kind, &body);
        }
    }
}
