//! Mail to ordinary domains that have a policy for TLS: found by a TXT record, fetched over https, kept.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::ensure;
use scenarios::certificates::{Issuer, Pair};
use scenarios::dns::Dns;
use scenarios::host::Host;
use scenarios::https::Https;
use scenarios::outside::{given_up, sent, submit, submit_with, waits};
use scenarios::{Demo, wire};

const PATH: &str = "/.well-known/mta-sts.txt";

/// The web server of all domains, and the names of their hosts.
struct World {
    dns: Dns,
    https: Https,
    /// A host whose certificate the authority of the web gave to `mx.NAME.example`.
    good: Host,
    /// One that has a certificate of somebody else's.
    other: Host,
    /// One that has no TLS.
    clear: Host,
    folder: tempfile::TempDir,
}

const DOMAINS: [&str; 7] = ["buono", "falso", "chiaro", "prova", "altro", "rotto", "media"];

impl World {
    fn new() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let issuer = Issuer::new(&folder.path().join("web"))?;
        std::fs::write(folder.path().join("web.pem"), &issuer.certificate)?;
        let names: Vec<String> = DOMAINS
            .iter()
            .flat_map(|name| [format!("mx.{name}.example"), format!("mta-sts.{name}.example")])
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let pair = issuer.issue(&names)?;
        let stranger = Issuer::new(&folder.path().join("stranger"))?.issue(&names)?;
        let good = Host::start("127.0.0.21:0".parse()?, Some(of(&pair)))?;
        let at = |last: u8| SocketAddr::from(([127, 0, 0, last], good.address.port()));
        let other = Host::start(at(22), Some(of(&stranger)))?;
        let clear = Host::start(at(23), None)?;
        let https = Https::start(&pair.chain, &pair.key)?;
        let dns = Dns::start(&[])?;
        for (name, last) in DOMAINS.into_iter().zip([21, 22, 23, 22, 21, 21, 22]) {
            dns.set(&format!("_mta-sts.{name}.example"), "v=STSv1; id=1;");
            dns.set_mx(&format!("{name}.example"), &format!("mx.{name}.example"));
            dns.set_address(&format!("mx.{name}.example"), [127, 0, 0, last].into());
            dns.set_address(&format!("mta-sts.{name}.example"), [127, 0, 0, 1].into());
        }
        Ok(Self { dns, https, good, other, clear, folder })
    }

    fn policy(&self, name: &str, mode: &str, pattern: &str) {
        let text = format!("version: STSv1\nmode: {mode}\nmx: {pattern}\nmax_age: 86400\n");
        self.https.set(&format!("mta-sts.{name}.example"), PATH, "text/plain", &text);
    }

    fn section(&self) -> String {
        format!(
            "\n[dns]\nnameservers = [\"{}\"]\n[transport]\nport = {}\npolicy_port = {}\n\
             private_networks = true\nauthorities = [\"{}\"]\n",
            self.dns.address,
            self.good.address.port(),
            self.https.address.port(),
            self.folder.path().join("web.pem").display()
        )
    }

    fn data(&self) -> std::path::PathBuf {
        self.folder.path().join("demo")
    }
}

fn of(pair: &Pair) -> (&str, &str) {
    (&pair.chain, &pair.key)
}

fn kept(data: &Path) -> usize {
    std::fs::read_dir(data.join("mta-sts")).map_or(0, Iterator::count)
}

// RFC 8461 §4 and §5
#[test]
fn a_domain_with_a_policy_is_sent_to_as_it_says() -> anyhow::Result<()> {
    let world = World::new()?;
    world.policy("buono", "enforce", "*.buono.example");
    world.policy("falso", "enforce", "mx.falso.example");
    world.policy("chiaro", "enforce", "mx.chiaro.example");
    world.policy("prova", "testing", "mx.prova.example");
    world.policy("altro", "enforce", "mx2.altro.example");
    // No policy can be had of two: one has none, one has what any user of a web server could put there.
    world.https.set("mta-sts.media.example", PATH, "text/html", "version: STSv1\nmode: enforce\n");
    let demo = Demo::start_changed(&world.data(), &[], &world.section())?;
    let domains: Vec<String> = DOMAINS.iter().map(|name| format!("{name}.example")).collect();
    let domains: Vec<&str> = domains.iter().map(String::as_str).collect();
    let id = submit(&demo, &domains)?;
    let told = sent(&demo, &id, "buono.example")?;
    ensure!(told.contains("with TLSv1_3") && told.contains("verified by MTA-STS"), "{told}");
    // In testing, and without a policy, mail goes as if there were none.
    for (domain, certificate) in
        [("prova", "not verified"), ("rotto", " verified"), ("media", "not verified")]
    {
        let told = sent(&demo, &id, &format!("{domain}.example"))?;
        ensure!(told.contains(certificate) && !told.contains("by MTA-STS"), "{domain}: {told}");
    }
    for (domain, why) in [
        ("falso", "UnknownIssuer"),
        ("chiaro", "the peer does not offer STARTTLS, which is required"),
        ("altro", "is no host that the policy of altro.example names"),
    ] {
        let told = waits(&demo, &format!("{domain}.example"))?;
        ensure!(told.contains(why), "{domain}: {told}");
    }
    ensure!(world.clear.taken().is_empty(), "{:?}", world.clear.taken());
    ensure!(world.other.taken().len() == 2, "{:?}", world.other.taken());
    ensure!(kept(&world.data()) == 5);
    Ok(())
}

// RFC 8461 §5.1 and §10.2: what was promised holds until it ends, whoever makes it disappear.
#[test]
fn a_policy_that_was_had_once_holds_without_its_server_and_record_and_across_a_restart()
-> anyhow::Result<()> {
    let world = World::new()?;
    world.policy("buono", "enforce", "mx.buono.example");
    let demo = Demo::start_changed(&world.data(), &[], &world.section())?;
    sent(&demo, &submit(&demo, &["buono.example"])?, "buono.example")?;
    ensure!(kept(&world.data()) == 1 && world.https.asked("mta-sts.buono.example") == 1);
    demo.kill()?;

    // Somebody turns the domain to a host of his own, and hides the policy.
    world.https.unset("mta-sts.buono.example", PATH);
    world.dns.unset("_mta-sts.buono.example");
    world.dns.set_address("mx.buono.example", [127, 0, 0, 22].into());
    let demo = Demo::start(&world.data())?;
    submit(&demo, &["buono.example"])?;
    let told = waits(&demo, "buono.example")?;
    ensure!(told.contains("UnknownIssuer"), "{told}");
    ensure!(world.other.taken().is_empty());

    // Its owner takes it back, as RFC 8461 §8.3 has it: another policy, of mode none.
    world.https.set(
        "mta-sts.buono.example",
        PATH,
        "text/plain; charset=utf-8",
        "version: STSv1\r\nmode: none\r\nmax_age: 86400\r\n",
    );
    world.dns.set("_mta-sts.buono.example", "v=STSv1; id=2;");
    wire::until("the message that waited", || Ok((world.other.taken().len() == 1).then_some(())))?;
    ensure!(world.https.asked("mta-sts.buono.example") == 2);
    demo.settle()?;
    Ok(())
}

/// `transport.verify = "required"`: the operator's word comes before a domain's that is only trying.
#[test]
fn what_the_operator_demands_no_policy_and_no_silence_takes_back() -> anyhow::Result<()> {
    let world = World::new()?;
    world.policy("buono", "enforce", "mx.buono.example");
    world.policy("prova", "testing", "mx.prova.example");
    world.policy("chiaro", "testing", "mx.chiaro.example");
    // Without a policy: in clear, and with a certificate that none of `trust.authorities` gave.
    world.dns.set_address("mx.media.example", [127, 0, 0, 23].into());
    let section = world.section() + "verify = \"required\"\n";
    let demo = Demo::start_changed(&world.data(), &[], &section)?;
    let domains = ["prova.example", "chiaro.example", "media.example", "rotto.example"];
    submit(&demo, &domains)?;
    let no_tls = "the peer does not offer STARTTLS, which is required";
    for (domain, why) in domains.into_iter().zip(["UnknownIssuer", no_tls, no_tls, "UnknownIssuer"])
    {
        let told = waits(&demo, domain)?;
        ensure!(told.contains(why), "{domain}: {told}");
    }
    for host in [&world.good, &world.other, &world.clear] {
        ensure!(host.taken().is_empty(), "{:?}", host.taken());
    }
    // What a policy vouches for holds.
    sent(&demo, &submit(&demo, &["buono.example"])?, "buono.example")?;
    Ok(())
}

// RFC 8689 §4.2.1
#[test]
fn a_message_that_requires_tls_goes_to_hosts_that_are_surely_the_domains() -> anyhow::Result<()> {
    let world = World::new()?;
    world.policy("buono", "enforce", "mx.buono.example");
    world.policy("prova", "testing", "mx.prova.example");
    world.policy("altro", "testing", "mx.altro.example");
    let demo = Demo::start_changed(&world.data(), &[], &world.section())?;
    let domains = ["buono.example", "altro.example", "prova.example", "rotto.example"];
    let id = submit_with(&demo, " REQUIRETLS", &domains)?;
    for domain in &domains[..2] {
        let told = sent(&demo, &id, domain)?;
        ensure!(told.contains(" verified by MTA-STS"), "{domain}: {told}");
    }
    // A certificate of a stranger's; and one that holds, for a name that anybody can have put into DNS.
    for domain in &domains[2..] {
        let told = given_up(&demo, &id, domain)?;
        let why = "5.7.30 the host does not prove to be the domain's, as REQUIRETLS asks for";
        ensure!(told.contains(why), "{domain}: {told}");
    }
    let taken = world.good.taken();
    ensure!(taken.len() == 2 && world.other.taken().is_empty(), "{taken:?}");
    ensure!(taken.iter().all(|one| one.envelope[0].ends_with(" REQUIRETLS")), "{taken:?}");
    Ok(())
}
