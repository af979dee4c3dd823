use super::*;

#[test]
fn the_command_line_is_well_made() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example() {
    fn look(command: &clap::Command) {
        if command.get_subcommands().next().is_none() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example: ceralacca "), "{}", command.get_name());
            assert!(help.contains(command.get_name()), "{}", command.get_name());
        }
        command.get_subcommands().for_each(look);
    }
    look(&Cli::command());
}

#[test]
fn domains_follow_each_other_or_their_option() {
    for line in [
        "ceralacca init alfa --provider Alfa --domain a.example b.example",
        "ceralacca init alfa --provider Alfa --domain a.example --domain b.example",
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Init(init) = cli.command else { panic!("{line}") };
        assert_eq!(init.domains.len(), 2);
    }
}

#[test]
fn no_domain_is_there_twice() {
    let line = "ceralacca init alfa --provider Alfa --domain a.example b.example A.Example";
    let Command::Init(init) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
        panic!("{line}")
    };
    let refused = init.refuse_repeats().unwrap_err();
    assert_eq!(refused.exit_code(), 2);
    assert!(refused.to_string().contains("--domain a.example is there twice: remove one"));
}

#[test]
fn what_cannot_be_is_refused() {
    for line in [
        "ceralacca",
        "ceralacca init alfa --provider Alfa",
        "ceralacca init alfa --domain a.example",
        "ceralacca init alfa --provider Alfa --domain a..b",
        "ceralacca demo --port-base 64541",
        "ceralacca account add a@b.example --password secret",
        "ceralacca account add a@b.example --password-stdin --no-password",
        "ceralacca account add a@b.example --ordinary-mail bounce",
        "ceralacca account quota a@b.example lots",
        "ceralacca queue cancel",
        "ceralacca queue show",
        "ceralacca queue retry all",
        "ceralacca log find",
        "ceralacca log find --json",
        "ceralacca log find --since yesterday",
        "ceralacca log find --until 2026-11-21T10:00:00",
        "ceralacca log export --message-id a",
        "ceralacca log verify --day yesterday",
        "ceralacca log verify --all --day 2026-11-21",
        "ceralacca log expire",
        "ceralacca evidence",
        "ceralacca verify",
    ] {
        assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
    }
}
