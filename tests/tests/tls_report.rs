//! Reports of how TLS went: to a web server and by mail, signed, as the domain asks for them. What is a
//! day is two seconds here.

use std::io::{Read as _, Write as _};
use std::process::Stdio;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::read::GzDecoder;
use scenarios::certificates::Issuer;
use scenarios::dns::Dns;
use scenarios::host::Host;
use scenarios::https::Https;
use scenarios::outside::{sent, submit, waits};
use scenarios::tools::{here, run, tool};
use scenarios::{Demo, wire};
use serde_json::{Value, json};

fn unpacked(octets: &[u8]) -> anyhow::Result<Value> {
    let mut text = String::new();
    GzDecoder::new(octets).read_to_string(&mut text)?;
    Ok(serde_json::from_str(&text)?)
}

/// Python's dkim, with this text as what DNS has of the key: whether it vouches for the message.
fn signature_holds(message: &str, key: &str) -> anyhow::Result<bool> {
    // Debian's own, for which Debian has the package.
    let mut command = tool("/usr/bin/python3", "python3-dkim")?;
    command.arg("-B").arg(here().join("clients/dkim_verify.py"));
    let mut child =
        command.arg(key).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("python")?;
    child.stdin.take().context("no standard input")?.write_all(message.as_bytes())?;
    let output = child.wait_with_output()?;
    Ok(String::from_utf8(output.stdout)?.trim() == "True")
}

// RFC 8460 §3, §4.4, §5.3 and §5.4
#[test]
fn a_domain_that_asks_for_reports_gets_them_by_web_and_by_signed_mail() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new(&folder.path().join("web"))?;
    std::fs::write(folder.path().join("web.pem"), &issuer.certificate)?;
    let web = issuer.issue(&["report.buono.example", "mta-sts.buono.example"])?;
    let https = Https::start(&web.chain, &web.key)?;
    let stranger = Issuer::new(&folder.path().join("stranger"))?.issue(&["mx.buono.example"])?;
    let host = Host::start("127.0.0.31:0".parse()?, Some((&stranger.chain, &stranger.key)))?;
    let port = host.address.port();
    let post = Host::start(([127, 0, 0, 32], port).into(), None)?;

    let policy = "version: STSv1\nmode: testing\nmx: *.buono.example\nmax_age: 86400\n";
    https.set("mta-sts.buono.example", "/.well-known/mta-sts.txt", "text/plain", policy);
    let places = format!(
        "v=TLSRPTv1; rua=https://report.buono.example:{}/v1,mailto:tls@posta.example",
        https.address.port()
    );
    let dns = Dns::start(&[
        ("_mta-sts.buono.example", "v=STSv1; id=1;"),
        ("_smtp._tls.buono.example", &places),
    ])?;
    dns.set_mx("buono.example", "mx.buono.example");
    dns.set_address("mx.buono.example", [127, 0, 0, 31].into());
    dns.set_address("mta-sts.buono.example", [127, 0, 0, 1].into());
    dns.set_address("report.buono.example", [127, 0, 0, 1].into());
    dns.set_mx("posta.example", "mx.posta.example");
    dns.set_address("mx.posta.example", [127, 0, 0, 32].into());

    let key = folder.path().join("dkim.key");
    let key = key.to_str().context("a path that is no text")?;
    run(tool("openssl", "openssl")?.args(["genrsa", "-out", key, "2048"]))?.ok()?;
    let public = run(tool("openssl", "openssl")?.args(["rsa", "-in", key, "-pubout"]))?.ok()?;
    let public: String = public.lines().filter(|line| !line.starts_with('-')).collect();

    let more = format!(
        "\n[dns]\nnameservers = [\"{}\"]\n[transport]\nport = {port}\npolicy_port = {}\n\
         private_networks = true\nauthorities = [\"{}\"]\n[tls_reports]\nsend = true\n\
         every = \"2s\"\ndkim_selector = \"s1\"\ndkim_key = \"{key}\"\n",
        dns.address,
        https.address.port(),
        folder.path().join("web.pem").display()
    );
    let demo = Demo::start_changed(&folder.path().join("demo"), &[], &more)?;
    sent(&demo, &submit(&demo, &["buono.example"])?, "buono.example")?;

    let (place, octets) = wire::until("a report", || Ok(https.posted().first().cloned()))?;
    ensure!(place == "report.buono.example/v1", "{place}");
    let mut report = unpacked(&octets)?;
    let why = report["policies"][0]["failure-details"][0]["failure-reason-code"].take();
    ensure!(why.as_str().is_some_and(|why| why.contains("UnknownIssuer")), "{why}");
    let lines: Vec<&str> = policy.lines().collect();
    let expected = json!([{
        "policy": {
            "policy-type": "sts",
            "policy-string": lines,
            "policy-domain": "buono.example",
            "mx-host": ["*.buono.example"],
        },
        "summary": { "total-successful-session-count": 0, "total-failure-session-count": 1 },
        "failure-details": [{
            "result-type": "certificate-not-trusted",
            "receiving-mx-hostname": "mx.buono.example",
            "receiving-ip": "127.0.0.31",
            "failed-session-count": 1,
            "failure-reason-code": null,
        }],
    }]);
    ensure!(report["policies"] == expected, "{report}");
    ensure!(report["contact-info"] == "postmaster@pec.alfa.example", "{report}");

    let mail = wire::until("a report by mail", || Ok(post.taken().first().cloned()))?;
    ensure!(mail.envelope == ["MAIL FROM:<>", "RCPT TO:<tls@posta.example>"], "{mail:?}");
    for part in [
        "DKIM-Signature: v=1; a=rsa-sha256; s=s1; d=pec.alfa.example;",
        "From: <postmaster@pec.alfa.example>\r\n",
        "TLS-Report-Domain: buono.example\r\n",
        "TLS-Report-Submitter: pec.alfa.example\r\n",
        "Content-Type: multipart/report; report-type=\"tlsrpt\";",
        "Content-Type: application/tlsrpt+gzip\r\n",
    ] {
        ensure!(mail.content.contains(part), "no {part} in {}", mail.content);
    }
    let record = format!("v=DKIM1; k=rsa; p={public}");
    ensure!(signature_holds(&mail.content, &record)?, "{}", mail.content);
    ensure!(!signature_holds(&mail.content.replace("Domain: buono", "Domain: cattivo"), &record)?);
    // Each is told once: what is reported is forgotten.
    ensure!(https.posted().len() == 1, "{:?}", https.posted().len());
    ensure!(mail.content.contains("TLS-Required: No\r\n"), "{}", mail.content);
    Ok(())
}

// RFC 8460 §3: a report goes however TLS goes, and its own session is in none.
#[test]
fn a_report_by_mail_reaches_the_very_host_that_it_complains_of_and_is_not_counted()
-> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let issuer = Issuer::new(&folder.path().join("web"))?;
    std::fs::write(folder.path().join("web.pem"), &issuer.certificate)?;
    let web = issuer.issue(&["mta-sts.guasto.example"])?;
    let https = Https::start(&web.chain, &web.key)?;
    let stranger = Issuer::new(&folder.path().join("stranger"))?.issue(&["mx.guasto.example"])?;
    let host = Host::start("127.0.0.33:0".parse()?, Some((&stranger.chain, &stranger.key)))?;
    let policy = "version: STSv1\nmode: enforce\nmx: mx.guasto.example\nmax_age: 86400\n";
    https.set("mta-sts.guasto.example", "/.well-known/mta-sts.txt", "text/plain", policy);
    let dns = Dns::start(&[
        ("_mta-sts.guasto.example", "v=STSv1; id=1;"),
        ("_smtp._tls.guasto.example", "v=TLSRPTv1; rua=mailto:tls@guasto.example"),
    ])?;
    dns.set_mx("guasto.example", "mx.guasto.example");
    dns.set_address("mx.guasto.example", [127, 0, 0, 33].into());
    dns.set_address("mta-sts.guasto.example", [127, 0, 0, 1].into());
    let key = folder.path().join("dkim.key");
    let key = key.to_str().context("a path that is no text")?;
    run(tool("openssl", "openssl")?.args(["genrsa", "-out", key, "2048"]))?.ok()?;
    let more = format!(
        "\n[dns]\nnameservers = [\"{}\"]\n[transport]\nport = {}\npolicy_port = {}\n\
         private_networks = true\nauthorities = [\"{}\"]\n[tls_reports]\nsend = true\n\
         every = \"2s\"\ndkim_selector = \"s1\"\ndkim_key = \"{key}\"\n",
        dns.address,
        host.address.port(),
        https.address.port(),
        folder.path().join("web.pem").display()
    );
    let demo = Demo::start_changed(&folder.path().join("demo"), &[], &more)?;
    submit(&demo, &["guasto.example"])?;
    waits(&demo, "guasto.example")?;

    // The message waits for a host that shows what the policy wants; reports go to the one there is.
    wire::until("two reports", || Ok((host.taken().len() >= 2).then_some(())))?;
    let taken = host.taken();
    for mail in &taken {
        ensure!(mail.envelope == ["MAIL FROM:<>", "RCPT TO:<tls@guasto.example>"], "{mail:?}");
        let (_, packed) = mail.content.split_once("json.gz\"\r\n\r\n").context("no report")?;
        let packed = packed.split("--").next().unwrap_or_default().replace("\r\n", "");
        let report = unpacked(&STANDARD.decode(packed)?)?;
        let summary = &report["policies"][0]["summary"];
        ensure!(summary["total-successful-session-count"] == 0, "{report}");
        ensure!(report["policies"].as_array().is_some_and(|all| all.len() == 1), "{report}");
    }
    waits(&demo, "guasto.example")?;
    Ok(())
}
