//! Every bound and every wait of mail over SMTP, and the test that goes one past it.
//!
//! A constant of these sources whose name ends with `_MAX` or has `_WAIT` in it is a bound. One that is not in
//! the table fails here, as does a row without its constant or its test: who adds a bound writes a test
//! that passes it, and its name here. That the test does what it says is for its reader to see.

use std::collections::BTreeSet;

use xtask::rust::Source;
use xtask::tree::{self, File};

/// Where the bounds are.
const SOURCES: &[&str] = &[
    "crates/smtp/src/",
    "crates/server/src/abuse",
    "crates/server/src/authenticate",
    "crates/server/src/dns",
    "crates/server/src/drive",
    "crates/server/src/limits",
    "crates/server/src/login",
    "crates/server/src/memory",
    "crates/server/src/proxy",
    "crates/server/src/queue",
    "crates/server/src/rates",
    "crates/server/src/sasl",
    "crates/server/src/submission",
    "crates/server/src/transport",
];

/// Of each file the bounds, each with the test that goes one past it.
const PROVED: &[(&str, &[(&str, &str)])] = &[
    (
        "crates/server/src/abuse.rs",
        &[(
            "ACCOUNTS_MAX",
            "one_account_past_the_bound_makes_those_forgotten_that_were_seen_longest_ago",
        )],
    ),
    (
        "crates/server/src/abuse/abroad.rs",
        &[
            ("FILE_OCTETS_MAX", "a_file_one_octet_past_the_bound_is_not_read"),
            ("ACCOUNTS_MAX", "one_past_each_limit_forgets_what_is_oldest"),
            ("COUNTRIES_MAX", "one_past_each_limit_forgets_what_is_oldest"),
        ],
    ),
    (
        "crates/server/src/abuse/countries.rs",
        &[("NETWORKS_MAX", "one_network_past_the_limit_is_refused")],
    ),
    (
        "crates/server/src/authenticate.rs",
        &[
            (
                "ANSWERS_WAIT",
                "without_an_answer_in_time_a_message_is_taken_and_nothing_is_said_for_it",
            ),
            ("ASKING_MAX", "one_message_past_those_that_are_asked_about_is_put_off"),
            ("ASKING_KIB_MAX", "one_octet_past_the_messages_that_are_asked_about_is_put_off"),
            ("DKIM_SIGNATURES_MAX", "one_signature_or_author_past_the_bound_is_not_looked_into"),
            ("ARC_SETS_MAX", "one_signature_or_author_past_the_bound_is_not_looked_into"),
            ("AUTHORS_MAX", "one_signature_or_author_past_the_bound_is_not_looked_into"),
        ],
    ),
    (
        "crates/server/src/drive.rs",
        &[
            ("HANDSHAKE_WAIT", "a_peer_that_begins_no_handshake_is_given_up_after_its_time"),
            (
                "WRITE_WAIT",
                "a_peer_that_takes_nothing_of_what_is_written_is_given_up_after_its_time",
            ),
        ],
    ),
    (
        "crates/server/src/login.rs",
        &[(
            "REMEMBERED_MAX",
            "a_password_is_remembered_for_its_time_and_one_too_many_makes_others_forgotten",
        )],
    ),
    (
        "crates/server/src/login/guesses.rs",
        &[
            ("DELAY_MAX", "delays_double_up_to_eight_seconds"),
            (
                "FAILING_MAX",
                "one_past_the_bounds_makes_those_forgotten_who_failed_least_or_came_longest_ago",
            ),
            (
                "HOMES_MAX",
                "one_past_the_bounds_makes_those_forgotten_who_failed_least_or_came_longest_ago",
            ),
        ],
    ),
    (
        "crates/server/src/login/homes.rs",
        &[("OCTETS_MAX", "a_file_one_octet_past_the_bound_is_not_read")],
    ),
    (
        "crates/server/src/memory.rs",
        &[
            ("WORK_KIB_MAX", "one_message_of_strangers_past_their_part_waits_and_our_users_do_not"),
            (
                "STRANGERS_KIB_MAX",
                "one_message_of_strangers_past_their_part_waits_and_our_users_do_not",
            ),
        ],
    ),
    (
        "crates/server/src/proxy.rs",
        &[
            ("HEADER_OCTETS_MAX", "what_is_no_header_and_one_octet_past_the_bound"),
            (
                "HEADER_WAIT",
                "a_balancer_that_says_nothing_or_half_of_it_is_given_up_after_its_time",
            ),
        ],
    ),
    (
        "crates/server/src/queue.rs",
        &[
            ("JOBS_IN_MEMORY_MAX", "one_job_past_the_bound_stays_on_disk_until_there_is_room"),
            ("STEP_OCTETS_MAX", "one_octet_past_the_room_is_left_for_later_and_looked_for_again"),
        ],
    ),
    (
        "crates/server/src/rates.rs",
        &[("SUBJECTS_MAX", "one_subject_past_the_bound_makes_those_forgotten_who_sent_least")],
    ),
    (
        "crates/server/src/rates/kept.rs",
        &[("OCTETS_MAX", "a_file_one_octet_past_the_bound_is_not_read")],
    ),
    (
        "crates/server/src/sasl.rs",
        &[("LOGIN_OCTETS_MAX", "a_user_name_one_octet_past_its_bound_is_not_looked_up")],
    ),
    (
        "crates/server/src/submission/recipients.rs",
        &[(
            "RECIPIENTS_OCTETS_MAX",
            "a_hundred_of_the_longest_recipients_are_taken_and_one_octet_past_the_bound_is_not",
        )],
    ),
    (
        "crates/server/src/submission/waits.rs",
        &[
            ("IDLE_WAIT", "who_has_signed_in_is_left_after_the_wait_of_the_rfc"),
            (
                "IDLE_WAIT_BEFORE_LOGIN",
                "who_has_said_nothing_is_left_after_the_short_wait_on_each_door",
            ),
            ("LOGIN_WAIT", "who_does_not_sign_in_is_left_however_much_it_says"),
            (
                "STRANGER_WAIT",
                "another_host_that_takes_too_long_is_left_with_its_message_and_however_much_it_says",
            ),
        ],
    ),
    (
        "crates/server/src/transport.rs",
        &[("MESSAGES_MAX", "a_connection_carries_one_message_after_another_up_to_its_bound")],
    ),
    (
        "crates/server/src/transport/chores.rs",
        &[("ABREAST_MAX", "what_never_ends_holds_up_nobody_for_ever")],
    ),
    (
        "crates/server/src/transport/lane.rs",
        &[
            (
                "WINDOW_MAX",
                "concurrency_grows_with_success_and_shrinks_with_failure_within_its_bounds",
            ),
            ("LANES_MAX", "one_destination_past_the_bound_makes_the_idle_ones_forgotten"),
            (
                "HOLD_MAX",
                "concurrency_grows_with_success_and_shrinks_with_failure_within_its_bounds",
            ),
        ],
    ),
    (
        "crates/server/src/transport/names.rs",
        &[
            ("DNS_WAIT", "a_question_has_its_time_and_no_more"),
            ("ALIASES_MAX", "aliases_are_followed_from_the_name_that_was_asked_and_not_for_ever"),
        ],
    ),
    (
        "crates/server/src/transport/opening.rs",
        &[("WAY_WAIT", "a_host_and_a_way_have_their_time_and_no_more")],
    ),
    (
        "crates/server/src/transport/outcome.rs",
        &[(
            "REASON_OCTETS_MAX",
            "one_octet_of_a_reason_past_the_bound_is_cut_off_and_no_character_in_two",
        )],
    ),
    (
        "crates/server/src/transport/peer.rs",
        &[
            ("CONNECT_WAIT", "a_host_that_does_not_take_the_connection_is_left_after_its_time"),
            ("OPEN_WAIT", "a_host_and_a_way_have_their_time_and_no_more"),
            ("HANDSHAKE_WAIT", "a_host_that_begins_no_handshake_is_left_after_its_time"),
            (
                "LAST_WORDS_WAIT",
                "a_host_that_takes_no_block_is_left_after_its_time_and_that_for_its_last_words",
            ),
        ],
    ),
    (
        "crates/server/src/transport/places.rs",
        &[
            (
                "CONNECTIONS_MAX",
                "one_ordinary_connection_past_the_half_is_refused_and_certified_mail_has_the_rest",
            ),
            (
                "ORDINARY_CONNECTIONS_MAX",
                "one_ordinary_connection_past_the_half_is_refused_and_certified_mail_has_the_rest",
            ),
        ],
    ),
    (
        "crates/server/src/transport/policies.rs",
        &[
            ("POLICIES_MAX", "of_one_policy_too_many_the_one_that_ends_first_goes"),
            ("FILE_OCTETS_MAX", "a_file_that_cannot_be_read_takes_no_other_with_it"),
            ("FAILED_WAIT", "a_server_that_failed_is_left_alone_and_a_policy_a_day_old_is_renewed"),
            ("TEXTS_MAX", "one_text_past_the_bound_is_not_looked_at"),
            ("ASKED_MAX", "one_domain_past_the_bound_makes_those_forgotten_that_nobody_asks"),
        ],
    ),
    (
        "crates/server/src/transport/reports.rs",
        &[("AT_ONCE_MAX", "a_report_that_waits_stands_in_nobodys_way")],
    ),
    (
        "crates/server/src/transport/retry.rs",
        &[("MAX", "delays_grow_and_are_scattered_by_a_quarter")],
    ),
    (
        "crates/server/src/transport/tally.rs",
        &[
            ("DOMAINS_MAX", "no_list_grows_past_its_bound"),
            ("POLICIES_MAX", "no_list_grows_past_its_bound"),
            ("FAILURES_MAX", "no_list_grows_past_its_bound"),
            (
                "POLICY_OCTETS_MAX",
                "a_policy_is_in_memory_and_on_disk_once_and_all_of_them_have_a_bound",
            ),
            ("FAILURES_ALL_MAX", "failures_of_all_domains_together_have_a_bound"),
            ("PERIODS_MAX", "no_list_grows_past_its_bound"),
            ("REASON_OCTETS_MAX", "one_character_of_a_reason_past_the_bound_is_cut_off"),
        ],
    ),
    (
        "crates/server/src/transport/tally/kept.rs",
        &[("FILE_OCTETS_MAX", "a_file_one_octet_past_the_bound_is_not_read")],
    ),
    (
        "crates/server/src/transport/way.rs",
        &[
            ("HOSTS_MAX", "no_list_is_followed_beyond_its_bound"),
            ("ADDRESSES_MAX", "no_list_is_followed_beyond_its_bound"),
        ],
    ),
    (
        "crates/smtp/src/client.rs",
        &[(
            "RECIPIENTS_MAX",
            "of_many_recipients_each_has_an_outcome_of_its_own_and_only_the_others_are_tried_again",
        )],
    ),
    (
        "crates/smtp/src/client/answer.rs",
        &[
            ("ANSWER_LINE_OCTETS_MAX", "one_past_each_bound_is_refused"),
            ("ANSWER_LINES_MAX", "one_past_each_bound_is_refused"),
            ("ANSWER_OCTETS_MAX", "one_past_each_bound_is_refused"),
            ("ANSWER_TEXT_OCTETS_MAX", "one_past_each_bound_is_refused"),
        ],
    ),
    (
        "crates/smtp/src/command.rs",
        &[
            ("HELLO_OCTETS_MAX", "one_octet_past_each_limit"),
            ("PARAMETERS_MAX", "one_octet_past_each_limit"),
            ("CHUNK_SIZE_DIGITS_MAX", "one_digit_past_the_bound_is_no_size_of_a_chunk"),
        ],
    ),
    (
        "crates/smtp/src/dsn.rs",
        &[("ENVID_OCTETS_MAX", "every_transcript"), ("ORCPT_OCTETS_MAX", "every_transcript")],
    ),
    (
        "crates/smtp/src/line.rs",
        &[
            ("COMMAND_OCTETS_MAX", "each_kind_of_line_has_its_limit_and_one_past_it_is_dropped"),
            ("MAIL_OCTETS_MAX", "each_kind_of_line_has_its_limit_and_one_past_it_is_dropped"),
            ("RCPT_OCTETS_MAX", "each_kind_of_line_has_its_limit_and_one_past_it_is_dropped"),
            ("AUTH_OCTETS_MAX", "each_kind_of_line_has_its_limit_and_one_past_it_is_dropped"),
        ],
    ),
    (
        "crates/smtp/src/reply.rs",
        &[
            ("REPLY_LINE_OCTETS_MAX", "a_variable_part_cannot_end_the_line_nor_pass_its_limit"),
            ("VARIABLE_OCTETS_MAX", "a_variable_part_cannot_end_the_line_nor_pass_its_limit"),
        ],
    ),
    (
        "crates/smtp/src/server.rs",
        &[
            ("ERRORS_MAX", "every_transcript"),
            ("LOGINS_MAX", "every_transcript"),
            ("INPUT_OCTETS_MAX", "a_shell_that_reads_on_is_stopped_one_octet_past_the_bound"),
            ("OUTPUT_OCTETS_MAX", "replies_are_handed_out_in_bounded_portions"),
            ("DISCARD_OCTETS_MAX", "a_bad_message_without_an_end_is_cut_off"),
        ],
    ),
    (
        "crates/smtp/src/sts.rs",
        &[
            ("POLICY_OCTETS_MAX", "one_past_each_bound_is_no_policy"),
            ("PATTERNS_MAX", "one_past_each_bound_is_no_policy"),
            ("MAX_AGE_SECS_MAX", "a_policy_is_read_with_either_line_end"),
            ("NAME_OCTETS_MAX", "a_name_one_octet_past_the_bound_is_no_pattern"),
        ],
    ),
    (
        "crates/smtp/src/tls_report.rs",
        &[
            ("PLACES_MAX", "one_past_each_bound_is_left_out"),
            ("PLACE_OCTETS_MAX", "one_past_each_bound_is_left_out"),
        ],
    ),
];

/// Those that no test of their own goes past, and why that is enough, or not.
const BESIDE: &[(&str, &str, &str)] = &[
    ("crates/server/src/abuse/countries.rs", "FILE_OCTETS_MAX", "a file that the operator names"),
    ("crates/server/src/dns.rs", "ANSWER_WAIT", "handed to the resolver"),
    ("crates/server/src/dns.rs", "CACHE_ANSWERS_MAX", "handed to the resolver"),
    ("crates/server/src/dns.rs", "CACHE_FOR_MAX", "handed to the resolver"),
    (
        "crates/server/src/transport.rs",
        "COMMIT_AGAIN_MAX",
        "how long between tries of our own store, not how many",
    ),
    (
        "crates/server/src/transport.rs",
        "HOSTS_OFFERED_MAX",
        "what a second host puts off waits; a third is not set up here",
    ),
    ("crates/server/src/transport/chores.rs", "COUNT_EVERY_MAX", "how often, not how much"),
    (
        "crates/server/src/transport/policies.rs",
        "FETCH_WAIT",
        "handed to the fetcher, whose own tests have a server that is silent",
    ),
    (
        "crates/server/src/transport/policies.rs",
        "RENEW_WAIT",
        "handed to what does works side by side, whose own test has one that never ends",
    ),
    (
        "crates/server/src/transport/reports.rs",
        "REPORT_WAIT",
        "handed to what does works side by side, whose own test has one that never ends",
    ),
    (
        "crates/server/src/transport/reports.rs",
        "POST_WAIT",
        "handed to the fetcher, whose own tests have a server that is silent",
    ),
    (
        "crates/server/src/transport/reports.rs",
        "ANSWER_OCTETS_MAX",
        "handed to the fetcher, whose own tests have one octet too many",
    ),
    (
        "crates/server/src/transport/web.rs",
        "AUTHORITIES_OCTETS_MAX",
        "a file that the operator names",
    ),
    ("crates/smtp/src/dsn/utf8.rs", "DIGITS_MAX", "seven digits are no character in any case"),
];

/// The names of the bounds that a file has outside of its tests.
fn bounds(file: &File) -> Vec<String> {
    let source = Source::new(&file.text);
    let tests = source.test_lines();
    let lines = source.code().lines().enumerate();
    let of_program = lines.filter(|(at, _)| !tests.iter().any(|lines| lines.contains(&(at + 1))));
    let names = of_program.filter_map(|(_, line)| {
        // At the left margin: one inside of a function or an item is that one's own.
        let rest = line
            .strip_prefix("pub")
            .map_or(line, |rest| rest.split_once(' ').map_or(rest, |(_, rest)| rest));
        let name = rest.strip_prefix("const ")?.split(':').next()?;
        let is_bound = name == "MAX" || name.ends_with("_MAX") || name.contains("_WAIT");
        is_bound.then(|| name.to_owned())
    });
    names.collect()
}

#[test]
fn every_bound_has_a_test_one_past_it() {
    let files: Vec<File> =
        tree::files(&tree::root()).unwrap().into_iter().filter(|file| file.is(".rs")).collect();
    let mut there = BTreeSet::new();
    let is_source = |file: &&File| {
        SOURCES.iter().any(|source| file.path.starts_with(source)) && !file.path.contains("tests")
    };
    for file in files.iter().filter(is_source) {
        there.extend(bounds(file).into_iter().map(|name| (file.path.clone(), name)));
    }
    assert!(there.len() > 90, "{}: are they found?", there.len());
    let mut wrong = Vec::new();
    let proved = PROVED.iter().flat_map(|(file, rows)| rows.iter().map(move |row| (*file, row.0)));
    for (file, name) in proved.chain(BESIDE.iter().map(|(file, name, _)| (*file, *name))) {
        if !there.remove(&(file.to_owned(), name.to_owned())) {
            wrong.push(format!("{file} has no {name}, or it stands here twice"));
        }
    }
    wrong.extend(there.iter().map(|(file, name)| format!("{file}: no test is named for {name}")));
    let tests: BTreeSet<&str> = files.iter().flat_map(test_names).collect();
    for (file, rows) in PROVED {
        for (name, test) in rows.iter().filter(|(_, test)| !tests.contains(test)) {
            wrong.push(format!("{file}: {name}: there is no test {test}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names of the tests in a file.
fn test_names(file: &File) -> impl Iterator<Item = &str> {
    let mut is_next = false;
    file.text.lines().map(str::trim).filter_map(move |line| {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_next = true;
        }
        let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
        std::mem::take(&mut is_next).then(|| name.split('(').next().unwrap_or(name))
    })
}
