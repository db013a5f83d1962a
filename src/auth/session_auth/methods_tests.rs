//! Methods beyond the measured matrix: SCRAM secrets, auth_query, certificates, PAM and LDAP, channel
//! binding.

use super::{
    sim::{
        Backend, Entry, PASSWORD, Setting, USER, fresh, fresh_with_key, mixed, reused, standalone,
    },
    *,
};

const OFF: HbaVerdict = HbaVerdict::Off;
const TRUST: HbaVerdict = HbaVerdict::Method(Method::Trust);
const MD5: HbaVerdict = HbaVerdict::Method(Method::Md5);
const SCRAM: HbaVerdict = HbaVerdict::Method(Method::ScramSha256);
const PASSWD: HbaVerdict = HbaVerdict::Method(Method::Password);
const CERT: HbaVerdict = HbaVerdict::Method(Method::Cert);
const PAM: HbaVerdict = HbaVerdict::Method(Method::Pam);
const LDAP: HbaVerdict = HbaVerdict::Method(Method::Ldap);

const IN: &str = "10,11,12,0";

/// With a SCRAM secret alone, the client's proof opens the servers; no clear text is anywhere.
#[test]
fn a_scram_secret_is_enough_for_clients_and_for_servers_that_have_the_same() {
    use Backend::{Md5, Password, ScramVerifier, Trust};
    for (hba, clear, backend, expected) in [
        (SCRAM, false, Trust, IN),
        (SCRAM, false, ScramVerifier, IN),
        (SCRAM, false, Md5, "10,11,12 E1"),
        (SCRAM, false, Password, "10,11,12 E3"),
        (SCRAM, true, Password, "10,11,12,3,0"),
        (MD5, false, Trust, IN),
        (MD5, false, ScramVerifier, IN),
        (PASSWD, false, Trust, "3,0"),
        (PASSWD, false, ScramVerifier, "3,0"),
        (PASSWD, false, Md5, "3,0"),
        (PASSWD, false, Password, "3,0"),
        (OFF, false, Trust, "0"),
        (OFF, false, ScramVerifier, IN),
        (OFF, false, Password, "3,0"),
        (OFF, false, Md5, "E1"),
        (OFF, true, Md5, "3,0"),
        (OFF, true, ScramVerifier, IN),
        (TRUST, false, ScramVerifier, IN),
        (TRUST, false, Md5, "E1"),
    ] {
        let setting = Setting::new(hba, clear, Entry::Verifier);
        let outcome = fresh(setting, backend, PASSWORD);
        assert_eq!(outcome.text(), expected, "{hba:?} {clear} {backend:?}");
        let any = expected == "0";
        for typed in ["wrong", ""] {
            let wrong = fresh(setting, backend, typed);
            assert_eq!(wrong.done.is_some(), any, "{hba:?} {backend:?}");
            if let Some(remembered) = &outcome.done {
                let wrong = reused(setting, remembered, typed);
                assert_eq!(wrong.done.is_some(), any, "{hba:?} {backend:?} reused");
            }
        }
        if let Some(remembered) = &outcome.done {
            assert!(reused(setting, remembered, PASSWORD).done.is_some());
        }
    }
}

#[test]
fn a_server_with_another_secret_is_named_with_the_remedy() {
    let setting = Setting::new(SCRAM, false, Entry::Verifier);
    let error = fresh(setting, Backend::Scram, PASSWORD).error.unwrap();
    assert_eq!(
        error.message,
        "failed to authenticate with backend using SCRAM"
    );
    assert_eq!(
        error.detail,
        "the SCRAM secret of user \"alice\" at backend node 0 is not the one that the client has logged in with"
    );
    assert!(error.hint.contains("rolpassword"), "{}", error.hint);
    // With the password itself the salt of the server does not matter.
    let setting = Setting::new(PASSWD, false, Entry::Verifier);
    assert_eq!(fresh(setting, Backend::Scram, PASSWORD).text(), "3,0");
}

#[test]
fn auth_query_is_asked_when_it_is_needed_and_pool_passwd_has_nothing() {
    use Backend::{Md5, Password, Scram, ScramVerifier, Trust};
    for (hba, backend, found, expected, looked_up) in [
        (MD5, Md5, Entry::Md5, "5,0", 1),
        (MD5, ScramVerifier, Entry::Verifier, IN, 1),
        (SCRAM, ScramVerifier, Entry::Verifier, IN, 1),
        (SCRAM, Trust, Entry::Verifier, IN, 1),
        (PASSWD, Md5, Entry::Md5, "3,0", 1),
        (PASSWD, Trust, Entry::Md5, "3,0", 1),
        (OFF, Md5, Entry::Md5, "5,0", 1),
        (OFF, ScramVerifier, Entry::Verifier, IN, 1),
        (OFF, Password, Entry::Verifier, "3,0", 1),
        (OFF, Trust, Entry::Md5, "0", 0),
        (TRUST, Trust, Entry::Md5, "0", 0),
        (TRUST, Md5, Entry::Md5, "0", 1),
        (MD5, Md5, Entry::None, "E4", 1),
        (SCRAM, Scram, Entry::None, "E5", 1),
        (SCRAM, Scram, Entry::Md5, "E6", 1),
        (OFF, Md5, Entry::None, "E1", 1),
        (HbaVerdict::NoRecord, Md5, Entry::Md5, "", 0),
        (HbaVerdict::Method(Method::Reject), Md5, Entry::Md5, "", 0),
    ] {
        let setting = Setting {
            auth_query: Some(found),
            ..Setting::new(hba, false, Entry::None)
        };
        let outcome = fresh(setting, backend, PASSWORD);
        if !expected.is_empty() {
            assert_eq!(outcome.text(), expected, "{hba:?} {backend:?} {found:?}");
        }
        assert_eq!(outcome.looked_up, looked_up, "{hba:?} {backend:?}");
        if expected != "0" && backend != Trust {
            let without = mixed(setting, &[backend], "wrong");
            assert!(hba == TRUST || without.done.is_none(), "{hba:?}");
        }
        if let Some(remembered) = &outcome.done {
            let again = reused(setting, remembered, PASSWORD);
            assert!(again.done.is_some(), "{hba:?} {backend:?}");
        }
    }
}

#[test]
fn an_entry_of_pool_passwd_comes_before_auth_query() {
    let setting = Setting {
        auth_query: Some(Entry::None),
        ..Setting::new(MD5, false, Entry::Md5)
    };
    let outcome = fresh(setting, Backend::Md5, PASSWORD);
    assert_eq!((&*outcome.text(), outcome.looked_up), ("5,0", 0));
}

#[test]
fn auth_query_serves_sessions_without_a_backend() {
    let setting = Setting {
        auth_query: Some(Entry::Verifier),
        ..Setting::new(OFF, false, Entry::None)
    };
    assert_eq!(standalone(setting, PASSWORD).text(), IN);
    assert!(standalone(setting, "wrong").done.is_none());
}

#[test]
fn the_name_of_the_certificate_must_be_that_of_the_user_in_any_case() {
    let with_name = |client_name| Setting {
        client_name,
        ..Setting::new(CERT, false, Entry::Clear)
    };
    for name in [USER, "ALICE", "Alice"] {
        let outcome = fresh(with_name(Some(name)), Backend::Trust, "");
        assert_eq!(outcome.text(), "0");
        assert_eq!(
            outcome.logged,
            ["SSL certificate authentication for user \"alice\" with Pgpool-II is successful"]
        );
    }
    for (name, logged) in [
        (None, None),
        (
            Some("bob"),
            Some("SSL certificate authentication for user \"alice\" failed"),
        ),
        (
            Some("alice "),
            Some("SSL certificate authentication for user \"alice\" failed"),
        ),
        (
            Some(""),
            Some("SSL certificate authentication for user \"alice\" failed"),
        ),
    ] {
        let outcome = fresh(with_name(name), Backend::Trust, PASSWORD);
        let error = outcome.error.unwrap();
        assert_eq!(
            (error.severity, &*error.message, &*error.detail),
            (
                "ERROR",
                "CERT authentication failed",
                "no valid certificate presented"
            )
        );
        assert_eq!(outcome.logged.first().map(String::as_str), logged);
    }
}

#[test]
fn a_certificate_leaves_the_servers_to_pool_passwd() {
    use Backend::{Md5, Password, Scram, ScramVerifier};
    for (backend, clear, entry, expected) in [
        (Md5, false, Entry::Md5, "0"),
        (Md5, false, Entry::None, "E1"),
        (Scram, false, Entry::Clear, "0"),
        (Scram, false, Entry::Md5, "E2"),
        (ScramVerifier, false, Entry::Verifier, IN),
        (Password, false, Entry::Clear, "0"),
        (Password, false, Entry::None, "E3"),
        (Password, true, Entry::Clear, "3,0"),
        (Password, true, Entry::None, "3,0"),
    ] {
        let setting = Setting {
            client_name: Some(USER),
            ..Setting::new(CERT, clear, entry)
        };
        let outcome = fresh(setting, backend, PASSWORD);
        assert_eq!(outcome.text(), expected, "{backend:?} {entry:?}");
        if let Some(remembered) = &outcome.done {
            let again = reused(setting, remembered, PASSWORD);
            assert_eq!(again.text(), expected, "{backend:?} {entry:?} reused");
            let typed = reused(setting, remembered, "wrong");
            assert_eq!(typed.done.is_some(), expected == "0", "{backend:?}");
        }
    }
}

/// A user who has logged in by SCRAM before needs no password when a certificate names it.
#[test]
fn a_key_from_an_earlier_login_serves_a_client_with_a_certificate_and_nobody_else() {
    let scram = Setting::new(SCRAM, false, Entry::Verifier);
    let key = fresh(scram, Backend::ScramVerifier, PASSWORD).key;
    assert!(key.is_some());

    let cert = Setting {
        client_name: Some(USER),
        ..Setting::new(CERT, false, Entry::Verifier)
    };
    let outcome = fresh_with_key(cert, Backend::ScramVerifier, "", key.clone());
    assert_eq!(outcome.text(), "0");
    assert!(
        outcome.key.is_none(),
        "nothing was proven in this login, so nothing is kept anew"
    );

    for hba in [OFF, TRUST, SCRAM, MD5, PASSWD, PAM] {
        let setting = Setting::new(hba, false, Entry::Verifier);
        let outcome = fresh_with_key(setting, Backend::ScramVerifier, "wrong", key.clone());
        assert!(outcome.done.is_none(), "{hba:?}");
        assert!(outcome.key.is_none(), "{hba:?}");
    }
    let stale = Setting {
        client_name: Some(USER),
        ..Setting::new(CERT, false, Entry::Clear)
    };
    assert_eq!(
        fresh_with_key(stale, Backend::Scram, "", key).text(),
        "0",
        "an entry that is no verifier counts alone"
    );
}

/// Second challenges and refusals as in the original.
#[test]
fn pam_and_ldap_make_sure_of_the_client_and_servers_ask_for_what_pool_passwd_holds() {
    use Backend::{Md5, Password, Scram, ScramVerifier, Trust};
    for (backend, entry, expected) in [
        (Trust, Entry::None, "3,0"),
        (Trust, Entry::Md5, "3,0"),
        (Md5, Entry::None, "3 E1"),
        (Md5, Entry::Md5, "3,5,0"),
        (Md5, Entry::Clear, "3,5,0"),
        (Scram, Entry::None, "3 E2"),
        (Scram, Entry::Clear, "3,10,11,12,0"),
        (Scram, Entry::Md5, "3 E2"),
        (ScramVerifier, Entry::Verifier, "3,10,11,12,0"),
        (Password, Entry::None, "3 E3"),
        (Password, Entry::Clear, "3,0"),
        (Password, Entry::Md5, "3 E3"),
    ] {
        for hba in [PAM, LDAP] {
            let setting = Setting::new(hba, false, entry);
            let outcome = fresh(setting, backend, PASSWORD);
            assert_eq!(outcome.text(), expected, "{hba:?} {backend:?} {entry:?}");
            for typed in ["wrong", "", "secretx"] {
                assert!(fresh(setting, backend, typed).done.is_none());
            }
            if let Some(remembered) = &outcome.done {
                assert!(reused(setting, remembered, PASSWORD).done.is_some());
                assert!(reused(setting, remembered, "wrong").done.is_none());
            }
        }
    }
}

/// `backend_use_passwd`: one password for the directory and for the servers.
#[test]
fn a_password_that_ldap_hands_on_is_judged_by_the_servers() {
    use Backend::{Md5, Password, Scram, Trust};
    for backend in [Trust, Md5, Scram, Password] {
        for entry in [Entry::None, Entry::Clear, Entry::Md5, Entry::Verifier] {
            let setting = Setting {
                hand_on: true,
                ..Setting::new(LDAP, false, entry)
            };
            let outcome = fresh(setting, backend, PASSWORD);
            assert_eq!(outcome.text(), "3,0", "{backend:?} {entry:?}");
            let remembered = outcome.done.unwrap();
            assert_eq!(reused(setting, &remembered, PASSWORD).text(), "3,0");
            assert!(reused(setting, &remembered, "wrong").done.is_none());

            let other = Setting {
                outside: "ldap password",
                ..setting
            };
            let refused = fresh(other, backend, "ldap password").done.is_none();
            assert_eq!(refused, backend != Trust);
            let refused = reused(other, &remembered, "ldap password").done.is_none();
            assert_eq!(refused, backend != Trust);
        }
    }
}

/// As in the original: asked once for PAM and once for the servers.
#[test]
fn with_clear_text_allowed_a_server_that_wants_it_makes_us_ask_twice() {
    for entry in [Entry::None, Entry::Clear] {
        let setting = Setting::new(PAM, true, entry);
        let outcome = fresh(setting, Backend::Password, PASSWORD);
        assert_eq!(outcome.text(), "3,3,0", "{entry:?}");
        let remembered = outcome.done.unwrap();
        assert_eq!(reused(setting, &remembered, PASSWORD).text(), "3,3,0");
    }
}

/// What PAM takes for right opens no server whose password is another one.
#[test]
fn a_password_of_pam_is_no_password_of_a_server() {
    use Backend::{Md5, Password, Scram, ScramVerifier};
    for backend in [Md5, Scram, Password, ScramVerifier] {
        for entry in [Entry::None, Entry::Clear, Entry::Md5, Entry::Verifier] {
            let setting = Setting {
                outside: "pam password",
                ..Setting::new(PAM, false, entry)
            };
            let outcome = fresh(setting, backend, "pam password");
            // The operator has put the server's clear-text password into pool_passwd for this user.
            let lent = backend == Password && entry == Entry::Clear;
            assert_eq!(outcome.done.is_some(), lent, "{backend:?} {entry:?}");
        }
    }
}

#[test]
fn a_refusal_by_pam_or_ldap_has_the_words_of_the_original() {
    for (hba, word) in [(PAM, "PAM"), (LDAP, "LDAP")] {
        for typed in ["wrong", ""] {
            let setting = Setting {
                outside: typed,
                ..Setting::new(hba, false, Entry::Clear)
            };
            let typed = if typed.is_empty() { "" } else { "other" };
            let error = fresh(setting, Backend::Trust, typed).error.unwrap();
            assert_eq!(
                (
                    error.severity,
                    &*error.message,
                    &*error.detail,
                    &*error.hint
                ),
                (
                    "FATAL",
                    "client authentication failed",
                    &*format!("{word} authentication with pgpool failed for user \"alice\""),
                    "see pgpool log for details"
                ),
                "an empty password is never right, whatever an LDAP server says"
            );
        }
    }
}

#[test]
fn an_empty_password_in_pool_passwd_is_no_entry() {
    let inputs = Inputs {
        entry: Some(Secret::Clear(String::new())),
        ..Setting::new(MD5, false, Entry::None).inputs()
    };
    assert!(matches!(
        SessionAuth::new(inputs).start()[..],
        [Action::Fail(_)]
    ));
}

#[test]
fn channels_are_bound_on_both_sides_where_there_is_tls() {
    for (hba, entry, backend) in [
        (SCRAM, Entry::Clear, Backend::Scram),
        (OFF, Entry::Clear, Backend::Scram),
        (SCRAM, Entry::Verifier, Backend::ScramVerifier),
    ] {
        let setting = Setting {
            end_points: Some(["certificate of the proxy", "certificate of the server"]),
            ..Setting::new(hba, false, entry)
        };
        assert_eq!(fresh(setting, backend, PASSWORD).text(), IN);
        assert!(fresh(setting, backend, "wrong").done.is_none());
    }
}

/// What takes longer is asked of other threads (keys, auth_query, PAM, LDAP). The shortest of many runs
/// is what the work costs; the others were interrupted.
#[test]
fn no_step_of_a_login_keeps_a_session_thread_for_a_millisecond() {
    for (hba, entry, backend) in [
        (SCRAM, Entry::Clear, Backend::Scram),
        (SCRAM, Entry::Verifier, Backend::ScramVerifier),
        (OFF, Entry::Clear, Backend::Scram),
        (PASSWD, Entry::Verifier, Backend::Scram),
        (MD5, Entry::Md5, Backend::Md5),
    ] {
        let setting = Setting::new(hba, false, entry);
        let longest = (0..30).map(|_| fresh(setting, backend, PASSWORD).longest);
        let work = longest.min().unwrap();
        assert!(work.as_micros() < 1000, "{hba:?} {entry:?}: {work:?}");
    }
}

#[test]
fn a_failure_is_a_guess_unless_the_client_has_proven_itself() {
    for (hba, entry, backend, typed, guess) in [
        (MD5, Entry::Md5, Backend::Md5, "wrong", true),
        (SCRAM, Entry::Clear, Backend::Scram, "wrong", true),
        (MD5, Entry::None, Backend::Md5, "wrong", true),
        (PASSWD, Entry::None, Backend::Password, "wrong", true),
        (PAM, Entry::None, Backend::Trust, "wrong", true),
        (OFF, Entry::Md5, Backend::Md5, "wrong", true),
        (MD5, Entry::Md5, Backend::Scram, PASSWORD, false),
        (HbaVerdict::NoRecord, Entry::Md5, Backend::Md5, "", false),
        (OFF, Entry::None, Backend::Md5, "", false),
    ] {
        let outcome = fresh(Setting::new(hba, false, entry), backend, typed);
        assert!(outcome.error.is_some());
        assert_eq!(outcome.may_be_a_guess, guess, "{hba:?} {entry:?}");
    }
}

#[test]
fn who_comes_in_by_a_remembered_password_is_known_beforehand() {
    let unknown = Setting::new(PASSWD, false, Entry::None);
    let remembered = fresh(unknown, Backend::Md5, PASSWORD).done.unwrap();
    assert!(remembered.password.is_some());
    let relies = |setting: Setting| {
        let mut session = setting.session();
        let _ = session.start();
        session.relies_on(&remembered)
    };
    assert!(relies(unknown));
    assert!(relies(Setting::new(OFF, true, Entry::None)));
    assert!(relies(Setting::new(TRUST, true, Entry::None)));
    assert!(!relies(Setting::new(OFF, true, Entry::Clear)));
    assert!(!relies(Setting::new(MD5, true, Entry::Md5)));
    let mut session = unknown.session();
    let _ = session.start();
    assert!(!session.relies_on(&Remembered::default()));
}
