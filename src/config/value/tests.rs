use super::*;
use crate::config::parameter::find;

fn read(name: &str, index: Option<usize>, text: &str) -> Result<Value, BadValue> {
    read_in(name, index, text, Release::V4_3).map(|p| p.value)
}

fn read_in(
    name: &str,
    index: Option<usize>,
    text: &str,
    dialect: Release,
) -> Result<Parsed, BadValue> {
    parse(find(name).unwrap(), index, text, dialect)
}

fn shown(name: &str, text: &str) -> String {
    let p = find(name).unwrap();
    parse(p, None, text, Release::V4_3)
        .unwrap()
        .value
        .show_in(p, Release::V4_3)
}

fn refusal(name: &str, index: Option<usize>, text: &str) -> (String, String) {
    let bad = read(name, index, text).unwrap_err();
    (bad.message, bad.hint)
}

#[test]
fn booleans_are_words_or_unambiguous_beginnings_in_any_case() {
    for (text, on) in [
        ("on", true),
        ("TRUE", true),
        ("t", true),
        ("y", true),
        ("1", true),
        ("off", false),
        ("of", false),
        ("FAL", false),
        ("n", false),
        ("0", false),
    ] {
        assert_eq!(parse_bool(text), Some(on), "{text}");
    }
    for text in ["o", "", " on", "onn", "2", "maybe", "onno"] {
        assert_eq!(parse_bool(text), None, "{text}");
    }
}

#[test]
fn a_misspelt_boolean_means_on_and_gets_a_remark() {
    for text in ["maybe", "2", "", " on", "o", "3.7"] {
        let parsed = read_in("insert_lock", None, text, Release::V4_3).unwrap();
        assert_eq!(parsed.value, Value::Bool(true), "{text:?}");
        assert_eq!(parsed.remark, Some(Remark::BadBool), "{text:?}");
    }
}

#[test]
fn integers_are_c_numbers() {
    for (text, number) in [
        ("10", 10),
        ("010", 8),
        ("0x10", 16),
        ("+1", 1),
        ("3.6", 4),
        ("2.5", 2),
        ("1e1", 10),
        ("3 ", 3),
        (" 3", 3),
        (".5e1", 5),
        ("0", 0),
    ] {
        assert_eq!(
            read("max_pool", None, text),
            Ok(Value::Int(number)),
            "{text:?}"
        );
    }
}

#[test]
fn what_is_no_number_is_refused_in_the_words_of_the_original() {
    for text in [
        "", "abc", "09", "3 x", "99 99", "9999s", "-", ".", "0x", "\n",
    ] {
        let (message, hint) = refusal("max_pool", None, text);
        assert_eq!(
            message,
            format!("invalid value for parameter \"max_pool\": \"{text}\"")
        );
        assert_eq!(hint, "", "{text:?}");
    }
    assert_eq!(
        refusal("port", None, "99999999999").1,
        "Value exceeds allowed range."
    );
}

#[test]
fn numbers_out_of_range_name_the_range() {
    assert_eq!(
        refusal("port", None, "80000").0,
        "80000 is outside the valid range for parameter \"port\" (1024 .. 65535)"
    );
    assert_eq!(
        refusal("delay_threshold", None, "-1").0,
        "-1 is outside the valid range for parameter \"delay_threshold\" (0 .. 9223372036854775807)"
    );
    assert_eq!(
        refusal("backend_weight", Some(0), "-1").0,
        "-1.000000 is outside the valid range for parameter \"backend_weight0\" (0.000000 .. 100000000.000000)"
    );
    assert_eq!(
        refusal("backend_port", Some(0), "80").0,
        "80 is outside the valid range for parameter \"backend_port0\" (1024 .. 65535)"
    );
}

#[test]
fn units_are_converted_and_rounded_to_the_unit_of_the_parameter() {
    for (name, text, number) in [
        ("child_life_time", "5min", 300),
        ("child_life_time", "1 min", 60),
        ("child_life_time", "1.5min", 90),
        ("search_primary_node_timeout", "1499ms", 1),
        ("log_rotation_size", "0.5MB", 512),
        ("log_rotation_size", "1.5GB", 1_572_864),
        ("log_rotation_age", "2d", 2880),
        ("connection_life_time", "2d", 172_800),
        ("delay_threshold", "1TB", 1_099_511_627_776),
        ("delay_threshold", "9223372036854775807", i64::MAX),
        ("connect_timeout", "15000", 15_000),
    ] {
        assert_eq!(
            read(name, None, text),
            Ok(Value::Int(number)),
            "{name} = {text}"
        );
    }
    assert_eq!(
        read("health_check_period", Some(0), "30s"),
        Ok(Value::Int(30))
    );
    assert_eq!(
        read("connect_timeout", Some(3), "15s"),
        Ok(Value::Int(15_000))
    );
}

#[test]
fn units_are_case_sensitive_and_belong_to_their_kind() {
    let (_, hint) = refusal("log_rotation_size", None, "1kb");
    assert_eq!(
        hint,
        "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\"."
    );
    let (message, hint) = refusal("child_life_time", None, "10 seconds");
    assert_eq!(
        message,
        "invalid value for parameter \"child_life_time\": \"10 seconds\""
    );
    assert_eq!(
        hint,
        "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."
    );
    for (name, text) in [
        ("log_rotation_size", "2TB"),
        ("child_life_time", "35000d"),
        ("memqcache_cache_block_size", "2GB"),
        ("client_idle_limit", "3600000000s"),
    ] {
        assert_eq!(refusal(name, None, text).1, "Value exceeds allowed range.");
    }
}

#[test]
fn the_index_free_form_of_health_check_takes_no_unit_since_4_2() {
    for name in [
        "health_check_period",
        "health_check_timeout",
        "health_check_retry_delay",
        "connect_timeout",
    ] {
        let (message, hint) = refusal(name, None, "30s");
        assert_eq!(
            message,
            format!("invalid value for parameter \"{name}\": \"30s\"")
        );
        assert_eq!(hint, "");
    }
    let old = read_in("health_check_period", None, "30s", Release::V4_0).unwrap();
    assert_eq!(old.value, Value::Int(30));
}

#[test]
fn a_unit_in_an_old_file_is_understood_with_a_remark() {
    let parsed = read_in("child_life_time", None, "5min", Release::V4_0).unwrap();
    assert_eq!(parsed.value, Value::Int(300));
    assert_eq!(parsed.remark, Some(Remark::UnitBefore4_2));
}

#[test]
fn a_real_that_is_no_number_is_zero_with_a_remark() {
    let parsed = read_in("backend_weight", Some(0), "abc", Release::V4_3).unwrap();
    assert_eq!(parsed.value, Value::Real(0.0));
    assert_eq!(parsed.remark, Some(Remark::BadReal));
    assert_eq!(
        read("backend_weight", Some(0), "0.25"),
        Ok(Value::Real(0.25))
    );
}

#[test]
fn words_are_found_in_any_case_and_hidden_ones_are_taken() {
    assert_eq!(
        read("backend_clustering_mode", None, "RAW"),
        Ok(Value::Enum {
            word: "raw",
            number: 5
        })
    );
    assert_eq!(
        read("log_min_messages", None, "debug"),
        Ok(Value::Enum {
            word: "debug",
            number: 13
        })
    );
    let (message, hint) = refusal("log_min_messages", None, "bogus");
    assert_eq!(
        message,
        "invalid value for parameter \"log_min_messages\": \"bogus\""
    );
    assert_eq!(
        hint,
        "Available values: debug5, debug4, debug3, debug2, debug1, info, notice, warning, error, log, fatal, panic."
    );
}

#[test]
fn a_word_of_another_release_becomes_the_one_of_the_dialect() {
    let parsed = read_in("relcache_query_target", None, "master", Release::V4_3).unwrap();
    assert_eq!(parsed.remark, Some(Remark::ForeignWord));
    assert_eq!(
        parsed.value,
        Value::Enum {
            word: "primary",
            number: 1
        }
    );
}

#[test]
fn times_and_sizes_show_in_the_largest_fitting_unit() {
    for (name, text, want) in [
        ("authentication_timeout", "3600", "1h"),
        ("child_life_time", "86400", "1d"),
        ("client_idle_limit", "5400", "90min"),
        ("client_idle_limit", "350", "350s"),
        ("log_rotation_age", "90", "90min"),
        ("log_rotation_age", "1440", "1d"),
        ("log_rotation_size", "10240", "10MB"),
        ("delay_threshold", "10000000", "10000000B"),
        ("memqcache_total_size", "67108864", "64MB"),
        ("memqcache_total_size", "67108865", "67108865B"),
        ("memqcache_expire", "604800", "7d"),
        ("client_idle_limit_in_recovery", "-1", "-1"),
        ("client_idle_limit", "0", "0"),
        ("health_check_period", "40", "40"),
        ("connect_timeout", "10000", "10000"),
        ("log_file_mode", "0600", "384"),
        ("unix_socket_permissions", "0777", "0777"),
        ("max_pool", "4", "4"),
        ("sr_check_password", "geheim", "*****"),
        (
            "reset_query_list",
            "ABORT; DISCARD ALL;",
            "ABORT; DISCARD ALL;",
        ),
        ("write_function_list", "a, b,", "a, b,"),
        ("load_balance_mode", "yes", "on"),
    ] {
        assert_eq!(shown(name, text), want, "{name} = {text}");
    }
}

#[test]
fn before_4_2_numbers_show_without_units() {
    let p = find("child_life_time").unwrap();
    assert_eq!(Value::Int(300).show_in(p, Release::V4_1), "300");
}

#[test]
fn pool_status_prints_internal_forms() {
    let internal = |name: &str, text: &str| {
        let p = find(name).unwrap();
        parse(p, None, text, Release::V4_4)
            .unwrap()
            .value
            .internal(p)
    };
    assert_eq!(internal("load_balance_mode", "on"), "1");
    assert_eq!(internal("client_min_messages", "notice"), "18");
    assert_eq!(internal("log_min_messages", "warning"), "19");
    assert_eq!(
        internal("disable_load_balance_on_write", "transaction"),
        "2"
    );
    assert_eq!(internal("syslog_facility", "local0"), "LOCAL0");
    assert_eq!(
        internal("reset_query_list", "ABORT;DISCARD ALL;"),
        "ABORT;DISCARD ALL"
    );
    assert_eq!(internal("child_life_time", "5min"), "300");
    assert_eq!(internal("unix_socket_permissions", "0777"), "0777");
    let p = find("database_redirect_preference_list").unwrap();
    assert_eq!(Value::Null.internal(p), "(null)");
    assert_eq!(Value::Null.show(p), "");
}
