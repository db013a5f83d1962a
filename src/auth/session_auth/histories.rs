//! Random histories: whatever is configured, remembered and answered, nobody gets in without proof.

use proptest::prelude::*;

use super::{
    sim::{Backend, Entry, PASSWORD, Setting, USER, fresh, fresh_with_key, mixed, reused},
    *,
};

fn any_hba() -> impl Strategy<Value = HbaVerdict> {
    prop_oneof![
        Just(HbaVerdict::Off),
        Just(HbaVerdict::NoRecord),
        Just(HbaVerdict::Unusable),
        prop_oneof![
            Just(Method::Trust),
            Just(Method::Reject),
            Just(Method::Md5),
            Just(Method::ScramSha256),
            Just(Method::Password),
            Just(Method::Cert),
            Just(Method::Pam),
            Just(Method::Ldap),
        ]
        .prop_map(HbaVerdict::Method),
    ]
}

fn any_entry() -> impl Strategy<Value = Entry> {
    prop_oneof![
        Just(Entry::None),
        Just(Entry::Clear),
        Just(Entry::Md5),
        Just(Entry::Verifier),
    ]
}

fn any_backend() -> impl Strategy<Value = Backend> {
    prop_oneof![
        Just(Backend::Trust),
        Just(Backend::Md5),
        Just(Backend::Scram),
        Just(Backend::ScramVerifier),
        Just(Backend::Password),
    ]
}

fn any_setting() -> impl Strategy<Value = Setting> {
    (
        any_hba(),
        any::<bool>(),
        any_entry(),
        prop::option::of(any_entry()),
        prop_oneof![Just(None), Just(Some(USER)), Just(Some("somebody else"))],
        prop_oneof![Just(None), Just(Some(["ours", "theirs"]))],
        any::<bool>(),
    )
        .prop_map(
            |(hba, allow_clear_text, entry, auth_query, client_name, end_points, hand_on)| {
                Setting {
                    hand_on,
                    auth_query,
                    client_name,
                    end_points,
                    ..Setting::new(hba, allow_clear_text, entry)
                }
            },
        )
}

fn wrong_password() -> impl Strategy<Value = String> {
    prop_oneof![
        Just(String::new()),
        "[a-z]{1,8}",
        Just(format!("{PASSWORD}x")),
        Just(PASSWORD[..PASSWORD.len() - 1].to_owned()),
        Just("s".repeat(1100)),
    ]
    .prop_filter("it is the right one", |typed| typed != PASSWORD)
}

/// Whether the operator's words let a client in that knows no password: trust, or a certificate
/// with its name, in pool_hba.conf; or pool_hba.conf is off and all servers say trust.
fn needs_no_password(setting: Setting, backends: &[Backend]) -> bool {
    match setting.hba {
        HbaVerdict::Method(Method::Trust) => true,
        HbaVerdict::Method(Method::Cert) => setting.client_name == Some(USER),
        HbaVerdict::Off => backends.iter().all(|b| *b == Backend::Trust),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// One client makes the connections with the right password, under one configuration; another
    /// comes under a second one, without knowing the password.
    #[test]
    fn nobody_gets_in_without_proof(
        maker in any_setting(),
        taker in any_setting(),
        backends in prop::collection::vec(any_backend(), 1..4),
        wrong in wrong_password(),
        reloaded in any::<bool>(),
    ) {
        let taker = if reloaded { taker } else { maker };
        let made = mixed(maker, &backends, PASSWORD);
        prop_assert_eq!(made.done.is_some(), made.error.is_none());

        let on_new = mixed(taker, &backends, &wrong);
        prop_assert!(
            on_new.done.is_none() || needs_no_password(taker, &backends),
            "a new connection: {:?} {:?}", taker, backends
        );
        prop_assert!(on_new.key.is_none());

        if let Some(remembered) = &made.done {
            let on_cached = reused(taker, remembered, &wrong);
            prop_assert!(
                on_cached.done.is_none() || needs_no_password(taker, &backends),
                "a cached connection: {:?} {:?} {:?}", taker, backends, remembered
            );
        }
    }

    /// A cached connection is no shorter way in than a new one: who types nothing useful and gets
    /// in on it would have got in on a new one.
    #[test]
    fn a_cached_connection_is_no_shorter_way_in(
        maker in any_setting(),
        taker in any_setting(),
        backend in any_backend(),
        wrong in wrong_password(),
    ) {
        if let Some(remembered) = fresh(maker, backend, PASSWORD).done {
            let on_cached = reused(taker, &remembered, &wrong).done.is_some();
            let on_new = fresh(taker, backend, &wrong).done.is_some();
            prop_assert!(!on_cached || on_new, "{:?} {:?} {:?}", maker, taker, backend);
        }
    }

    /// What one login has shown helps nobody who has not been made sure of.
    #[test]
    fn a_key_in_memory_opens_no_door(
        setting in any_setting(),
        backend in any_backend(),
        wrong in wrong_password(),
    ) {
        let scram = HbaVerdict::Method(Method::ScramSha256);
        let login = Setting::new(scram, false, Entry::Verifier);
        let key = fresh(login, Backend::ScramVerifier, PASSWORD).key;
        prop_assert!(key.is_some());
        let outcome = fresh_with_key(setting, backend, &wrong, key);
        prop_assert!(
            outcome.done.is_none() || needs_no_password(setting, &[backend]),
            "{:?} {:?}", setting, backend
        );
    }
}
