//! Configurations, and what is said about them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{
    Config, CountryRule, Deadlines, IndexSource, OctetsPlace, OrdinaryMail, PROVIDER_NAME_MAX,
    Rate, Refuse, Service,
};

const LEAST: &str = "[provider]\nname = \"Alfa\"\ndomains = [\"pec.alfa.example\"]\n";

fn parse(text: &str) -> Result<Config, Vec<String>> {
    Config::parse(Path::new("/etc/c.toml"), text)
        .map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

fn with(rest: &str) -> Config {
    parse(&format!("{LEAST}{rest}")).unwrap()
}

/// What is said of `rest`, whose first line is line 4.
fn complaints(rest: &str) -> Vec<String> {
    parse(&format!("{LEAST}{rest}")).unwrap_err()
}

#[test]
fn every_key_has_its_default() {
    let config = with("");
    assert_eq!(config.provider.postmaster.to_string(), "postmaster@pec.alfa.example");
    assert_eq!(config.provider.author().unwrap().to_string(), "posta-certificata@pec.alfa.example");
    assert_eq!(config.provider.service_mailbox().unwrap().to_string(), "ricevute@pec.alfa.example");
    assert_eq!(config.listen_addr(Service::Imaps).to_string(), "127.0.0.1:10993");
    assert_eq!(config.index.source, IndexSource::File(PathBuf::from("/etc/providers.ldif")));
    assert_eq!(config.trust.authorities, [PathBuf::from("/etc/ca.pem")]);
    assert!(config.trust.crls.is_empty());
    assert!(!config.trust.require_crl && !config.trust.strict_author && config.trust.sha1);
    assert_eq!(config.antivirus.clamd, None);
    assert_eq!(config.ordinary_mail.policy, OrdinaryMail::Reject);
    assert_eq!(config.ordinary_mail.folder.as_str(), "INBOX");
    assert_eq!(config.ordinary_mail.forward_to, None);
    assert!(config.submission.strict_recipients);
    assert!(!config.submission.keep_sent_copy);
    assert_eq!(config.brief_hash, pec::reduce::Hashed::Encoded);
    let [first, second, queue] = [12, 23, 24].map(|hours| Duration::from_secs(hours * 3_600));
    assert_eq!(config.deadlines, Deadlines { first, second, queue });
    assert_eq!(config.limits.message_octets, 31_457_280);
    assert_eq!(config.limits.recipients, 500);
    assert_eq!(config.limits.refuse_above_octets, 104_857_600);
    assert_eq!(config.limits.append_octets, 104_857_600);
    assert_eq!(config.limits.command_messages, 1_000_000);
    assert_eq!(config.limits.receipt_reserve, 1_048_576);
    assert!(config.limits.unthrottled.is_empty());
    assert_eq!(config.limits.background_connections_max, 8_000);
    assert!(config.limits.unauthenticate);
    assert_eq!(config.data, PathBuf::from("/etc"));
    assert_eq!(config.store_directory(), PathBuf::from("/etc/store"));
    assert_eq!(config.signing.key, PathBuf::from("/etc/signing.key"));
    assert_eq!(config.tls.certificate, PathBuf::from("/etc/tls.pem"));
    assert!(config.doubts.is_empty());
}

// PEC-GEN-19 PEC-RB-03
#[test]
fn policies_are_words_with_a_target_or_without() {
    let config = with(
        "[ordinary_mail]\npolicy = \"deliver:Archivio/Altra\"\nfolder = \"Posta indesiderata\"\n\
         forward_to = \"a@example.org\"\n[receipts]\nbrief_hash = \"file\"\n\
         [submission]\nstrict_recipients = false\nkeep_sent_copy = true",
    );
    assert_eq!(config.ordinary_mail.policy.to_string(), "deliver:Archivio/Altra");
    assert_eq!(config.ordinary_mail.folder.as_str(), "Posta indesiderata");
    assert_eq!(config.ordinary_mail.forward_to.unwrap().to_string(), "a@example.org");
    assert_eq!(config.brief_hash, pec::reduce::Hashed::File);
    assert!(!config.submission.strict_recipients);
    assert!(config.submission.keep_sent_copy);
    for text in ["reject", "deliver", "deliver:INBOX", "forward", "forward:a@example.org"] {
        assert_eq!(OrdinaryMail::parse(text).unwrap().to_string(), text);
    }
    for text in ["", "Reject", "reject:", "deliver:", "deliver:a%", "forward:", "forward:x", "bin"]
    {
        assert_eq!(OrdinaryMail::parse(text), None, "{text}");
    }
    let told = complaints("[ordinary_mail]\npolicy = \"forward\"");
    assert_eq!(
        told,
        ["/etc/c.toml:5: ordinary_mail.policy: accounts without a policy of their own would have \
          their mail forwarded to nobody; write forward_to = \"archivio@example.org\" below it, or \
          policy = \"forward:archivio@example.org\"; to forward for single accounts only, leave it \
          at \"reject\" and give each `account ordinary-mail`"]
    );
    let told = complaints("[ordinary_mail]\nforward_to = \"a@pec.alfa.example\"");
    assert!(told[0].contains("a@pec.alfa.example is an address of this provider"), "{told:?}");
}

#[test]
fn listeners_have_base_plus_port_or_their_own() {
    let config = with("[listen]\naddress = \"::1\"\nport_base = 20000\nimaps = \"0.0.0.0:993\"");
    assert_eq!(config.listen_addr(Service::Smtp).to_string(), "[::1]:20025");
    assert_eq!(config.listen_addr(Service::Imaps).to_string(), "0.0.0.0:993");
    assert_eq!(config.listen_addr(Service::Pop3s).to_string(), "[::1]:20995");
}

#[test]
fn paths_start_from_the_file() {
    let config = with(
        "[index]\nsource = \"sub/i.ldif\"\n[trust]\nauthorities = [\"a.pem\", \"/b.pem\"]\n\
         [signing]\nkey = \"keys/s\"\n[store]\ndirectory = \"/var/lib/ceralacca\"",
    );
    assert_eq!(config.index.source, IndexSource::File(PathBuf::from("/etc/sub/i.ldif")));
    assert_eq!(config.trust.authorities, [Path::new("/etc/a.pem"), Path::new("/b.pem")]);
    assert_eq!(config.signing.key, PathBuf::from("/etc/keys/s"));
    assert_eq!(config.store_directory(), PathBuf::from("/var/lib/ceralacca/store"));
    assert_eq!(config.control_socket(), PathBuf::from("/var/lib/ceralacca/control.sock"));
}

#[test]
fn limits_take_numbers_and_sizes() {
    let config = with(
        "[limits]\nmessage_octets = \"30 MiB\"\nrecipients = 50\nreceipt_reserve = \"2 MiB\"\n\
         unthrottled = [\"127.0.0.0/8\", \"::1\"]\nlogin_window = \"90s\"",
    );
    assert_eq!((config.limits.message_octets, config.limits.recipients), (30 << 20, 50));
    assert_eq!(config.limits.receipt_reserve, 2 << 20);
    assert_eq!(config.limits.unthrottled.len(), 2);
    assert!(config.limits.unthrottled[0].contains([127, 1, 2, 3].into()));
    assert_eq!(config.limits.login_window, Duration::from_secs(90));
}

#[test]
fn what_may_send_how_much_and_whom_to_ask() {
    let config = with(
        "[dns]\nnameservers = [\"192.0.2.53\", \"127.0.0.1:5353\"]\n\
         [ordinary_mail]\nspf = \"record\"\ntrusted = []\n\
         [limits]\naccount_messages = [1, 2, 0]\neight_bit = true\nutf8 = true\n\
         [listen]\nproxy_from = [\"192.0.2.0/24\"]\n\
         [abuse]\nburst = 7\nnight = \"22-6\"\ncountries = \"nets.csv\"\nnew_country = \"suspend\"\n\
         [machines.\"robot@pec.alfa.example\"]\nnetworks = [\"192.0.2.7\"]\n\
         certificate = \"robot.pem\"\nmessages = [9, 0, 0]\n",
    );
    let servers: Vec<_> = config.dns.nameservers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "127.0.0.1:5353"]);
    assert_eq!(config.authentication.spf, Refuse::No);
    assert_eq!(config.authentication.dmarc, Refuse::Yes);
    assert!(!config.authentication.trusts([127, 0, 0, 1].into()));
    assert!(with("").authentication.trusts([127, 0, 0, 1].into()));
    assert_eq!(config.limits.account_messages, Rate([1, 2, 0]));
    assert!(config.limits.eight_bit && config.limits.utf8 && config.listen.proxy_from.len() == 1);
    let hours: Vec<i8> = (0..24).filter(|hour| config.abuse.is_night(*hour)).collect();
    assert_eq!((config.abuse.burst, hours), (7, vec![0, 1, 2, 3, 4, 5, 22, 23]));
    let rule = CountryRule { file: "/etc/nets.csv".into(), freeze: true };
    assert_eq!((config.countries, with("").countries), (Some(rule), None));
    let warns = with("[abuse]\ncountries = \"/srv/nets.csv\"\n").countries.unwrap();
    assert!(!warns.freeze && warns.file == Path::new("/srv/nets.csv"));
    let (address, machine) = config.machines.first_key_value().unwrap();
    assert_eq!(address.to_string(), "robot@pec.alfa.example");
    assert_eq!(machine.certificate.as_deref(), Some(Path::new("/etc/robot.pem")));
    assert_eq!((machine.messages, machine.recipients), (Some(Rate([9, 0, 0])), None));
    let table = [
        ("[dns]\nnameservers = [\"ns.example\"]", "dns.nameservers: `ns.example` is no address"),
        ("[ordinary_mail]\nspf = \"ask\"", "ordinary_mail.spf: `ask` is neither"),
        (
            "[limits]\naccount_messages = [1, 2]",
            "limits.account_messages: not how many in a minute, an hour and a day",
        ),
        ("[abuse]\nnight = \"22-25\"", "abuse.night: `22-25` are no hours"),
        ("[abuse]\nnew_country = \"ask\"", "abuse.new_country: `ask` is no answer"),
        ("[machines.robot]\n", "machines: `robot` is no address of this provider"),
        ("[machines]\n\"a@pec.alfa.example\" = 1", "machines: `a@pec.alfa.example` is no table"),
        (
            "[machines.\"a@pec.alfa.example\"]\nnetwork = []",
            "there is no key `network` in [a@pec.alfa.example]; did you mean `networks`?",
        ),
    ];
    for (rest, expected) in table {
        let told = complaints(rest);
        assert!(told.len() == 1 && told[0].contains(expected), "{rest}: {told:?}");
    }
}

#[test]
fn names_every_mistake_with_its_line_and_what_to_write() {
    let table: [(&str, &[&str]); 18] = [
        (
            "[limits]\nrecipents = 5\nmessage_octets = \"much\"",
            &[
                "/etc/c.toml:5: there is no key `recipents` in [limits]; did you mean `recipients`?",
                "/etc/c.toml:6: limits.message_octets: not a size; write a number of octets, or \
                 \"1 MiB\"",
            ],
        ),
        ("[limit]\n", &["/etc/c.toml:4: there is no section [limit]; did you mean `limits`?"]),
        (
            "[listen]\nport_base = 64541",
            &["/etc/c.toml:5: listen.port_base: not a number that can be here; write a whole \
               number from 0 to 64540"],
        ),
        (
            "[listen]\naddress = \"localhost\"",
            &["/etc/c.toml:5: listen.address: `localhost` is no IP address; write \"127.0.0.1\" \
               or \"::\"; a name is not looked up"],
        ),
        (
            "[listen]\nimaps = 993",
            &["/etc/c.toml:5: listen.imaps: a integer where text belongs; put it in \"quotes\""],
        ),
        (
            "[routes]\npec.beta.example = \"127.0.0.1:20025\"",
            &["/etc/c.toml:5: routes: `pec` has no target; write \"pec.beta.example\" = \
               \"127.0.0.1:20025\", with the quotes"],
        ),
        (
            "[routes]\n\"pec.beta.example\" = \"127.0.0.1\"",
            &["/etc/c.toml:5: routes: `127.0.0.1` is no host with a port; write \
               \"pec.beta.example\" = \"127.0.0.1:20025\", with the quotes"],
        ),
        (
            "[index]\nsource = \"http://index.example/\"",
            &["/etc/c.toml:5: index.source: `http://index.example/` is not protected on its way; \
               write a file, https://... or ldaps://..."],
        ),
        (
            "[trust]\nauthorities = []",
            &["/etc/c.toml:5: trust.authorities: nobody would be trusted; write authorities = \
               [\"ca.pem\"]"],
        ),
        (
            "[trust]\nrequire_crl = \"yes\"",
            &["/etc/c.toml:5: trust.require_crl: a string; write true or false, without quotes"],
        ),
        (
            "[deadlines]\nfirst = \"23h\"\nsecond = \"22h\"",
            &["/etc/c.toml:5: deadlines.first is not before deadlines.second; write first = \
               \"12h\" and second = \"23h\""],
        ),
        (
            "[ordinary_mail]\npolicy = \"bounce\"",
            &["/etc/c.toml:5: ordinary_mail.policy: `bounce` is no policy; write reject, \
               deliver, deliver:FOLDER, forward or forward:ADDRESS"],
        ),
        (
            "[limits]\nappend_octets = 1023",
            &["/etc/c.toml:5: limits.append_octets: too small for any message; write at least \
               1024 octets"],
        ),
        (
            // RFC 9738 §3
            "[limits]\ncommand_messages = 999",
            &[
                "/etc/c.toml:5: limits.command_messages: not a number that can be here; write a whole \
               number from 1000 to 1000000",
            ],
        ),
        (
            // PEC-AP-15 PEC-AP-16
            "[limits]\nmessage_octets = 29999999\nrecipients = 49",
            &[
                "/etc/c.toml:5: limits.message_octets: less than what the law guarantees, 30 MB \
                 times recipients (PEC-AP-15); write 31457280 or more",
                "/etc/c.toml:6: limits.recipients: less than what the law guarantees, 50 recipients \
                 (PEC-AP-16); write 50 or more",
            ],
        ),
        (
            "[limits]\nunthrottled = [\"home\"]",
            &["/etc/c.toml:5: limits.unthrottled: `home` is no network; write networks as in \
               \"127.0.0.0/8\""],
        ),
        (
            "[log]\nformat = \"xml\"",
            &["/etc/c.toml:5: log.format: `xml` is no format; write \"text\" or \"json\""],
        ),
        (
            "[store]\ndirectory = \"\"",
            &[
                "/etc/c.toml:5: store.directory: the text is empty or has control characters; write \
               some plain text",
            ],
        ),
    ];
    for (rest, expected) in table {
        assert_eq!(complaints(rest), expected, "{rest}");
    }
}

const DATABASE: &str = "database = \"host=/run/postgresql user=c\"";

#[test]
fn a_shared_store_has_a_database_and_one_place_of_octets() {
    assert_eq!(with("").storing.shared, None);
    let shared = with(&format!("[store]\n{DATABASE}\noctets = \"octets\"")).storing.shared.unwrap();
    assert_eq!(shared.database, "host=/run/postgresql user=c");
    assert_eq!((&*shared.schema, shared.connections), ("ceralacca", 16));
    assert_eq!(shared.octets, OctetsPlace::Folder(PathBuf::from("/etc/octets")));
    assert_eq!(shared.secrets().count(), 0);

    let shared = with(&format!(
        "[store]\n{DATABASE}\npassword = \"db.secret\"\nschema = \"pec_2\"\nconnections = 2\n\
         [store.s3]\nendpoint = \"https://s3.example\"\nbucket = \"pec\"\nprefix = \"a/b\"\n\
         key_id = \"k\"\nsecret = \"s3.secret\""
    ));
    let shared = shared.storing.shared.unwrap();
    assert_eq!((&*shared.schema, shared.connections), ("pec_2", 2));
    let OctetsPlace::Bucket { region, prefix, .. } = &shared.octets else { panic!() };
    assert_eq!((&**region, &**prefix), ("us-east-1", "a/b/"));
    let secrets: Vec<&PathBuf> = shared.secrets().collect();
    assert_eq!(secrets, [Path::new("/etc/db.secret"), Path::new("/etc/s3.secret")]);
}

#[test]
fn what_is_no_shared_store_is_told() {
    let s3 = "[store.s3]\nendpoint = \"http://[::1]:9000\"\nbucket = \"b\"\nkey_id = \"k\"\n\
              secret = \"s\"\n";
    let table = [
        (
            "octets = \"octets\"".to_owned(),
            vec!["5: store.octets: only a shared store has it, and that has a database"],
        ),
        (s3.to_owned(), vec!["5: store.s3: only a shared store has it"]),
        (DATABASE.to_owned(), vec!["5: store: a shared store has its octets in one place"]),
        (
            format!("{DATABASE}\noctets = \"o\"\n{s3}"),
            vec!["5: store: a shared store has its octets in one place"],
        ),
        (
            format!("{DATABASE}\noctets = \"o\"\nkey = \"k\"\narchive = \"a\""),
            vec![
                "7: store.key: a shared store has none",
                "8: store.archive: a shared store has none",
            ],
        ),
        (
            "database = \"host=db.example user=c\"\noctets = \"o\"".to_owned(),
            vec!["5: store.database: the address of the database is of another machine"],
        ),
        (
            "database = \"host=localhost user=c password=secret\"\noctets = \"o\"".to_owned(),
            vec!["5: store.database: the address of the database holds a password"],
        ),
        (
            format!("{DATABASE}\noctets = \"o\"\nschema = \"A b\"\nconnections = 1"),
            vec!["7: store.schema: a schema is named by", "8: store.connections: not a number"],
        ),
        (
            format!(
                "{DATABASE}\n[store.s3]\nendpoint = \"http://s3.example\"\nprefix = \"../x\"\nsize = 1"
            ),
            vec![
                "6: store.s3.bucket is missing",
                "6: store.s3.key_id is missing",
                "6: store.s3.secret is missing",
                "7: store.s3.endpoint: `http://s3.example` is not https, and not of this machine",
                "8: store.s3.prefix: `../x` is no prefix",
                "9: there is no key `size` in [store.s3]",
            ],
        ),
        (
            format!("{DATABASE}\n{}", s3.replace("[::1]:9000", "localhost:1@s3.example")),
            vec!["7: store.s3.endpoint: `http://localhost:1@s3.example` is not https"],
        ),
    ];
    for (rest, expected) in table {
        let told = complaints(&format!("[store]\n{rest}"));
        assert_eq!(told.len(), expected.len(), "{told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(&format!("/etc/c.toml:{expected}")), "{told}");
            assert!(!told.contains("secret\""), "{told}");
        }
    }
    assert!(with(&format!("[store]\n{DATABASE}\n{s3}")).storing.shared.is_some());
}

#[test]
fn a_provider_has_a_name_and_domains() {
    let table = [
        (
            "",
            vec![
                "/etc/c.toml:1: provider.name is missing; add `name = \"Alfa PEC S.p.A.\"` below \
                 [provider]"
                    .to_owned(),
                "/etc/c.toml:1: provider.domains is missing; add `domains = \
                 [\"pec.alfa.example\"]` below [provider]"
                    .to_owned(),
            ],
        ),
        (
            "[provider]\nname = \"A\"\ndomains = [\"a..b\"]",
            vec![
                "/etc/c.toml:3: provider.domains: `a..b` is no domain; write domains as in \
                 [\"pec.alfa.example\"]"
                    .to_owned(),
            ],
        ),
        (
            "[provider]\nname = \"A\"\ndomains = [\"a.example\", \"A.example\"]",
            vec![
                "/etc/c.toml:3: provider.domains: `a.example` is there twice; remove one"
                    .to_owned(),
            ],
        ),
        (
            "[provider]\nname = \"A\"\ndomains = [\"a.example\"]\npostmaster = \"x@b.example\"",
            vec![
                "/etc/c.toml:4: provider.postmaster: x@b.example is of none of \
                 provider.domains; name an account of this provider"
                    .to_owned(),
            ],
        ),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text).unwrap_err(), expected, "{text}");
    }
}

#[test]
fn a_name_fits_into_a_certificate() {
    let named = |name: &str| parse(&LEAST.replace("Alfa", name));
    assert!(named(&"è".repeat(PROVIDER_NAME_MAX)).is_ok());
    assert!(named(&"è".repeat(PROVIDER_NAME_MAX + 1)).is_err());
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let errors = parse("[provider\nname = ").unwrap_err();
    assert!(errors.iter().any(|error| error.starts_with("/etc/c.toml:1: ")), "{errors:?}");
}

#[test]
fn routes_say_where_mail_goes() {
    let config = with(
        "[routes]\n\"b.example\" = \"mx.b.example:2525\"\n\"C.example\" = \"[::1]:25\"\n\
         [transport]\nverify = \"required\"\n[deadlines]\nqueue = \"6s\"",
    );
    let routes: Vec<(&str, &str, u16)> = config
        .transport
        .routes
        .iter()
        .map(|(domain, route)| (domain.as_str(), route.host.as_str(), route.port))
        .collect();
    assert_eq!(routes, [("b.example", "mx.b.example", 2525), ("c.example", "::1", 25)]);
    assert!(config.transport.verify_required);
    assert_eq!(config.deadlines.queue, Duration::from_secs(6));
    let config = with("");
    assert!(!config.transport.verify_required && config.transport.routes.is_empty());
    assert_eq!(config.deadlines.queue, Duration::from_secs(24 * 3_600));
    let errors = parse(&format!("{LEAST}[transport]\nverify = \"never\"\n")).unwrap_err();
    let what = "`never` is neither way to look at a certificate";
    assert!(errors.iter().any(|error| error.contains(what)), "{errors:?}");
}

#[test]
fn dns_leads_into_private_networks_only_where_the_operator_says_so() {
    assert!(!with("").transport.private_networks);
    let config = with("[transport]\nprivate_networks = true");
    assert!(config.transport.private_networks);
    let [doubt] = &config.doubts[..] else { panic!("{:?}", config.doubts) };
    let what = "transport.private_networks lets anybody's DNS lead mail into private networks";
    assert!(doubt.to_string().contains(what), "{doubt}");
}

#[test]
fn deadlines_that_are_not_legal_are_doubtful() {
    // Tests shorten them: doubtful, not wrong.
    let config = with("[deadlines]\nfirst = \"12s\"\nsecond = \"23s\"\nqueue = \"24s\"");
    let doubts: Vec<String> = config.doubts.iter().map(ToString::to_string).collect();
    assert_eq!(
        doubts,
        [
            "/etc/c.toml:5: deadlines.first is not the legal one: the first notice is due after \
             12 hours; write \"12h\"",
            "/etc/c.toml:6: deadlines.second is not the legal one: the second notice is due \
             between 22 and 24 hours; write \"23h\"",
            "/etc/c.toml:7: deadlines.queue is not the legal one: a message is tried for 24 \
             hours; write \"24h\"",
        ]
    );
    assert!(with("[deadlines]\nsecond = \"22h\"").doubts.is_empty());
    assert!(!with("[deadlines]\nsecond = \"21h59m\"").doubts.is_empty());
}

#[test]
fn what_a_restart_alone_changes_is_kept_and_named() {
    let parse = |text: &str| Config::parse(Path::new("/etc/c.toml"), text).unwrap();
    let running = parse("[provider]\nname = \"Alfa\"\ndomains = [\"a.example\"]\n");
    for (section, text) in [
        ("provider", "[provider]\nname = \"Beta\"\ndomains = [\"a.example\"]\n"),
        ("provider", "[provider]\nname = \"Alfa\"\ndomains = [\"a.example\", \"b.example\"]\n"),
        ("listen", "[listen]\nport_base = 0\n"),
        ("listen", "[listen]\nimaps = \"0.0.0.0:993\"\n"),
        ("signing", "[signing]\nkey = \"other.key\"\n"),
        ("tls", "[tls]\ncertificate = \"other.pem\"\n"),
        ("store", "[store]\ndirectory = \"/var/lib/ceralacca\"\n"),
        ("store", "[store]\nkey = \"store.key\"\n"),
        ("store", "[store]\ndatabase = \"host=/run/postgresql user=c\"\noctets = \"octets\"\n"),
        ("log", "[log]\nformat = \"json\"\n"),
    ] {
        let whole = match section {
            "provider" => text.to_owned(),
            _ => format!("[provider]\nname = \"Alfa\"\ndomains = [\"a.example\"]\n{text}"),
        };
        let mut next = parse(&whole);
        assert_eq!(next.keep(&running), [section], "{text}");
        // Nothing of it is left: the next time it is named again.
        assert_eq!(next.keep(&running), [""; 0], "{text}");
        assert_eq!(parse(&whole).keep(&running), [section], "{text}");
    }
    let text = "[limits]\nconnections_max = 7\n[trust]\nauthorities = [\"other.pem\"]\n";
    let mut next =
        parse(&format!("[provider]\nname = \"Alfa\"\ndomains = [\"a.example\"]\n{text}"));
    assert_eq!(next.keep(&running), [""; 0]);
    assert_eq!(next.limits.connections_max, 7);
}
