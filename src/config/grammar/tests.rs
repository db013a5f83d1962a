use super::*;

fn pairs(text: &str) -> Vec<(String, String)> {
    let document = parse(text.as_bytes());
    assert_eq!(document.errors, [], "{text:?}");
    document
        .settings
        .into_iter()
        .map(|s| (s.name, s.value))
        .collect()
}

fn pair_of(text: &str) -> (String, String) {
    let mut all = pairs(text);
    assert_eq!(all.len(), 1, "{text:?}: {all:?}");
    all.remove(0)
}

fn error(text: &str) -> (u32, u32, String, u8) {
    let document = parse(text.as_bytes());
    let e = document.errors.first().expect(text).clone();
    (e.at.line, e.at.column, e.text, e.token)
}

#[test]
fn the_equals_sign_may_be_left_out() {
    for text in [
        "max_pool 9\n",
        "max_pool=9\n",
        " max_pool \t= 9 # nine\n",
        "max_pool = 9",
    ] {
        assert_eq!(pair_of(text), ("max_pool".into(), "9".into()));
    }
}

#[test]
fn several_settings_fit_on_one_line() {
    assert_eq!(
        pairs("max_pool = 3 port = 9997"),
        [
            ("max_pool".into(), "3".into()),
            ("port".into(), "9997".into())
        ]
    );
}

#[test]
fn the_line_end_is_the_value_where_none_stands() {
    let document = parse(b"max_pool =\nport = 9999\n");
    assert_eq!(document.settings[0].form, Form::LineEnd);
    assert_eq!(document.settings[0].value, "\n");
    assert_eq!(document.settings[1].value, "9999");
    assert_eq!(parse(b"max_pool").settings[0].form, Form::FileEnd);
}

#[test]
fn unquoted_words_take_host_names_and_paths_behind_a_letter() {
    for value in ["my-host.example.com", "localhost", "a/b:c", "_x", "ä"] {
        assert_eq!(pair_of(&format!("wd_hostname = {value}\n")).1, value);
    }
}

#[test]
fn numbers_keep_their_sign_unit_and_fraction() {
    for value in [
        "10", "-1", "+5", "0x1F", "0600", "10s", "64MB", "0.5", ".5", "-1.5e+3",
    ] {
        assert_eq!(pair_of(&format!("p = {value}\n")).1, value);
    }
    assert_eq!(
        pairs("p = 0.5GB\n").len(),
        2,
        "a fraction carries no unit, so GB is a name"
    );
}

#[test]
fn any_single_character_is_a_value() {
    assert_eq!(pair_of("listen_addresses = *\n").1, "*");
    assert_eq!(
        parse(b"listen_addresses = *").settings[0].form,
        Form::Symbol
    );
}

#[test]
fn syntax_errors_carry_the_token_and_number_of_the_original() {
    assert_eq!(error("max_pool == 3\n"), (1, 13, "3".into(), 2));
    assert_eq!(
        error("listen_addresses = 127.0.0.1\n"),
        (1, 25, ".0".into(), 3)
    );
    assert_eq!(error("\nmax_pool = 3;\n"), (2, 13, ";".into(), 8));
    assert_eq!(error("max-pool = 3\n"), (1, 1, "max-pool".into(), 5));
    assert_eq!(error("max_pool=1e1\n"), (1, 12, "1".into(), 2));
    assert_eq!(error("'x' = 3\n"), (1, 1, "'x'".into(), 4));
    assert_eq!(error("port = 3 = 4\n"), (1, 10, "=".into(), 6));
    assert_eq!(error("x = 'it''s'\n"), (1, 9, "'s'".into(), 4));
}

#[test]
fn a_syntax_error_does_not_show_what_may_be_a_password() {
    for text in [
        "health_check_password = 'sec-ret\n",
        "port = 1\nsr_check_password = sec-ret sec-ret\n",
        "WD_AUTHKEY = 'secret' 'secret'\n",
    ] {
        assert_eq!(error(text).2, "*****", "{text}");
    }
    assert_eq!(error("port = 1 2\n").2, "2");
}

#[test]
fn words_behind_the_unclosed_quote_of_a_password_are_not_shown() {
    let document = parse(b"sr_check_password = 'my secret word\nport = 1\n");
    let shown = format!("{document:?}");
    for word in ["my", "secret", "word\""] {
        assert!(!shown.contains(&format!("\"{word}")), "{shown}");
    }
    assert!(document.settings.iter().any(|s| s.name == "port"));
}

/// The value is `/`; what follows reads as an unquoted word, which is no name.
#[test]
fn a_path_without_quotes_is_a_syntax_error() {
    assert_eq!(
        error("logdir = /var/log/pgpool\n"),
        (1, 11, "var/log/pgpool".into(), 5)
    );
}

#[test]
fn reading_goes_on_at_the_line_behind_an_error() {
    let document = parse(b"max_pool = 3;\nport = 9999\n;;\nssl = on\n");
    assert_eq!(document.errors.len(), 2);
    let names: Vec<&str> = document.settings.iter().map(|s| &*s.name).collect();
    assert_eq!(names, ["max_pool", "port", "ssl"]);
}

#[test]
fn quotes_hide_everything_and_unescape_nothing() {
    assert_eq!(pair_of("p = '%t: # pid %p: '\n").1, "%t: # pid %p: ");
    assert_eq!(pair_of("p = ''\n").1, "");
    assert_eq!(pair_of(r"p = 'it\'s'").1, r"it\'s");
    assert_eq!(pair_of(r"p = 'ab\'").1, r"ab\");
    assert_eq!(pairs(r"p = 'cd\' 'x")[0].1, r"cd\' ");
    assert_eq!(pair_of(r"p = 'a\\'").1, r"a\\");
}

#[test]
fn a_quote_that_is_not_closed_on_its_line_is_a_value_of_its_own() {
    let document = parse(b"log_line_prefix = 'abc\nport = 1\n");
    let got: Vec<(&str, &str)> = document
        .settings
        .iter()
        .map(|s| (&*s.name, &*s.value))
        .collect();
    assert_eq!(
        got,
        [("log_line_prefix", "'"), ("abc", "\n"), ("port", "1")]
    );
}

#[test]
fn double_quotes_mean_nothing() {
    assert_eq!(
        pairs("backend_hostname0 = \"localhost\"\n"),
        [
            ("backend_hostname0".into(), "\"".into()),
            ("localhost".into(), "\"".into())
        ]
    );
}

#[test]
fn carriage_returns_are_blanks() {
    assert_eq!(
        pairs("max_pool = 3\r\n# c\r\nport = 'x'\r\n"),
        [("max_pool".into(), "3".into()), ("port".into(), "x".into())]
    );
}

#[test]
fn a_comment_on_a_last_line_without_line_end_is_taken_and_noted() {
    let document = parse(b"max_pool = 3 # last");
    assert_eq!(document.errors, []);
    assert_eq!(document.settings.len(), 1);
    let at = Position {
        line: 1,
        column: 14,
    };
    assert_eq!(document.oddities, [(at, Oddity::CommentAtFileEnd)]);
    assert_eq!(parse(b"max_pool = 3 # last\n").oddities, []);
}

#[test]
fn a_byte_order_mark_does_not_swallow_the_first_setting() {
    let document = parse(b"\xef\xbb\xbfmax_pool = 3\n");
    assert_eq!(document.settings[0].name, "max_pool");
    assert_eq!(document.settings[0].at.column, 4);
    assert_eq!(document.oddities.len(), 1);
}

#[test]
fn positions_count_lines_and_bytes_from_one() {
    let document = parse(b"# c\n\n  port   =  9999\n");
    let setting = &document.settings[0];
    assert_eq!((setting.at.line, setting.at.column), (3, 3));
    assert_eq!((setting.value_at.line, setting.value_at.column), (3, 13));
}

#[test]
fn settings_commented_out_at_the_start_of_a_line_are_remembered() {
    let text = b"#port = 9999\n # max_pool = 3\n#just words\n# ssl = off\n#work_dir='/tmp'";
    assert_eq!(parse(text).commented_out, ["port", "work_dir"]);
}

#[test]
fn a_zero_byte_ends_a_value() {
    assert_eq!(pair_of("p = 'ab\0cd'\n").1, "ab");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300),
    ) {
        let _ = parse(&bytes);
    }

    #[test]
    fn a_value_stands_behind_its_name(text in "[a-z0-9_'\"#=\\\\ .\\-/\n\r*;x]{0,80}") {
        for setting in &parse(text.as_bytes()).settings {
            proptest::prop_assert!(setting.at < setting.value_at);
        }
    }

    #[test]
    fn what_is_written_is_read_again(
        settings in proptest::collection::vec(
            ("[a-z_][a-z0-9_]{0,12}", "[^'\\\\\n\0]{0,20}"),
            0..8,
        ),
    ) {
        let text: String = settings.iter().map(|(n, v)| format!("{n} = '{v}'\n")).collect();
        proptest::prop_assert_eq!(pairs(&text), settings);
    }
}
