//! Receipts as anybody may look at them: with OpenSSL and xmllint, and nothing of ours.

use std::path::Path;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tools::{self, run, tool};

/// OpenSSL finds the signature of a message good, by somebody whom `ca` vouches for, and xmllint its
/// certification data valid; they are given back as text.
///
/// # Errors
///
/// When either does not, in its own words.
pub fn certified(ca: &Path, octets: &[u8]) -> anyhow::Result<String> {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("message.eml"), octets)?;
    let mut verify = tool("openssl", "openssl")?;
    verify.current_dir(folder.path()).args(["cms", "-verify", "-in", "message.eml", "-CAfile"]);
    verify.arg(ca).args(["-out", "content"]);
    run(&mut verify)?.ok()?;
    let content = String::from_utf8(std::fs::read(folder.path().join("content"))?)?;
    let encoded = content.split("\r\n\r\n").find_map(|part| {
        let body = part.split("\r\n--").next()?.replace("\r\n", "");
        let xml = String::from_utf8(STANDARD.decode(body).ok()?).ok()?;
        xml.contains("<postacert").then_some(xml)
    });
    let xml = match encoded {
        Some(xml) => xml,
        None => {
            let rest = content.find("<?xml").map(|start| &content[start..]);
            let rest = rest.context("no certification data")?;
            let (xml, _) = rest.split_once("</postacert>").context("they do not end")?;
            format!("{xml}</postacert>")
        }
    };
    std::fs::write(folder.path().join("daticert.xml"), &xml)?;
    let mut lint = tool("xmllint", "libxml2-utils")?;
    lint.current_dir(folder.path()).args(["--noout", "--nonet", "--dtdvalid"]);
    lint.arg(tools::here().join("../crates/pec/examples/daticert.dtd")).arg("daticert.xml");
    let told = run(&mut lint)?;
    ensure!((told.status, told.err.as_str()) == (Some(0), ""), "{told}");
    Ok(xml)
}
