//! `account`: the commands as a person gives them, and their answers as a person or a program
//! reads them. What they do is in [`crate::control`].

use std::io::{BufRead, BufReader, IsTerminal, Write};

use anyhow::{Context, bail};

use crate::args::{AccountCommand, DEFAULT_POLICY, PasswordSource};
use crate::config::Config;
use crate::control::{self, AccountView, Kept, Reach, Request, Response};

/// Octets of a line with a password at most; a password has fewer.
const PASSWORD_LINE_MAX: u64 = 4096;

/// Does a command and prints its answer. `false`: it was refused, and the reason is printed.
///
/// # Errors
///
/// When neither the server nor the store can be reached, or there is no password to be had.
pub(crate) fn run(command: AccountCommand) -> anyhow::Result<bool> {
    let (mut request, config, source, json) = match command {
        AccountCommand::Add(add) => {
            let request = Request::Add {
                address: add.address,
                user_id: add.user_id,
                quota_octets: add.quota,
                ordinary_mail: add.ordinary_mail.filter(|policy| policy != DEFAULT_POLICY),
                password: None,
            };
            (request, add.config, Some(add.password), false)
        }
        AccountCommand::List(list) => (Request::List, list.config, None, list.json),
        AccountCommand::Show(show) => {
            (Request::Show { address: show.address }, show.config, None, show.json)
        }
        AccountCommand::Passwd(passwd) => {
            let request = Request::Passwd { address: passwd.address, password: None };
            (request, passwd.config, Some(passwd.password), false)
        }
        AccountCommand::Quota(quota) => {
            let request = Request::Quota { address: quota.address, quota_octets: quota.quota };
            (request, quota.config, None, false)
        }
        AccountCommand::OrdinaryMail(change) => {
            let policy = (change.policy != DEFAULT_POLICY).then_some(change.policy);
            (Request::OrdinaryMail { address: change.address, policy }, change.config, None, false)
        }
        AccountCommand::Suspend(one) => {
            (Request::Suspend { address: one.address }, one.config, None, false)
        }
        AccountCommand::Resume(one) => {
            (Request::Resume { address: one.address }, one.config, None, false)
        }
        AccountCommand::Remove(one) => {
            (Request::Remove { address: one.address }, one.config, None, false)
        }
    };
    let config = Config::load(&config.path())?;
    // Nobody is asked for a password that would be for nothing.
    if let Some(refusal) = foreseen(&request, &config)? {
        return control::refused(refusal);
    }
    if let (
        Request::Add { password: kept, .. } | Request::Passwd { password: kept, .. },
        Some(source),
    ) = (&mut request, &source)
    {
        *kept = password(source)?;
    }
    let one = matches!(request, Request::Show { .. });
    let mut out = std::io::stdout().lock();
    match Reach::new(&config).ask(request)? {
        Response::Done { text } => writeln!(out, "{text}")?,
        Response::Accounts { accounts } => {
            out.write_all(shown(&accounts, one, json)?.as_bytes())?;
        }
        other => return control::refused(other),
    }
    Ok(true)
}

/// The refusal that a request with a password would meet whatever the password.
fn foreseen(request: &Request, config: &Config) -> anyhow::Result<Option<Response>> {
    let answer = match request {
        Request::Add { address, .. } => {
            match control::own_address(address, &config.provider.domains) {
                Ok(_) => return Ok(None),
                Err(text) => Response::Refused { text },
            }
        }
        // By a way of its own, which ends here: the store is not held while a person thinks.
        Request::Passwd { address, .. } => {
            Reach::new(config).ask(Request::Show { address: address.clone() })?
        }
        _ => return Ok(None),
    };
    Ok(Some(answer).filter(|answer| matches!(answer, Response::Refused { .. })))
}

/// What to keep of the password that was given; nothing when there shall be none.
fn password(source: &PasswordSource) -> anyhow::Result<Option<Kept>> {
    let text = if source.no_password {
        return Ok(None);
    } else if source.password_stdin {
        first_line(std::io::stdin().lock()).context("standard input holds no password")?
    } else if let Some(file) = &source.password_file {
        let opened = std::fs::File::open(file)
            .with_context(|| format!("the file {} cannot be read", file.display()))?;
        first_line(BufReader::new(opened))
            .with_context(|| format!("the file {} holds no password", file.display()))?
    } else {
        ask_twice()?
    };
    Ok(Some(Kept::of(&text)?))
}

fn first_line(input: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.take(PASSWORD_LINE_MAX).read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        bail!("its first line is empty");
    }
    Ok(line.to_owned())
}

fn ask_twice() -> anyhow::Result<String> {
    if !std::io::stdin().is_terminal() {
        bail!("there is no terminal to ask for the password: say --password-stdin");
    }
    let first = rpassword::prompt_password("Password: ")?;
    if rpassword::prompt_password("Again: ")? != first {
        bail!("the two passwords differ: try again");
    }
    Ok(first)
}

fn shown(accounts: &[AccountView], one: bool, json: bool) -> anyhow::Result<String> {
    Ok(match (accounts, one, json) {
        ([account], true, true) => serde_json::to_string(account)? + "\n",
        ([account], true, false) => detail(account),
        (_, _, true) => serde_json::to_string(accounts)? + "\n",
        (_, _, false) => table(accounts),
    })
}

fn table(accounts: &[AccountView]) -> String {
    let width = accounts.iter().map(|account| account.address.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for account in accounts {
        let user_id = account.user_id.as_deref().unwrap_or("-");
        text += &format!(
            "{:width$}  {user_id:<16}  {:<9}  {:>10} of {:>10}\n",
            account.address,
            account.state,
            octets(account.usage.octets),
            octets(account.quota.octets),
        );
    }
    text
}

fn detail(account: &AccountView) -> String {
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    format!(
        "address        {}\nuser ID        {}\nstate          {}\npassword       {}\n\
         service        {}\nordinary mail  {}\ncreated        {}\n\
         holds          {} in {} messages\nmay hold       {}, and {} of receipts\n",
        account.address,
        account.user_id.as_deref().unwrap_or("-"),
        account.state,
        yes(account.login),
        yes(account.service),
        account.ordinary_mail.as_deref().unwrap_or("as configured"),
        account.created,
        octets(account.usage.octets),
        account.usage.messages,
        octets(account.quota.octets),
        octets(account.quota.receipt_reserve_octets),
    )
}

/// A size in the largest unit that it has at least one of, with one decimal when it needs it.
fn octets(count: u64) -> String {
    let units = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.into_iter().find(|(unit, _)| count >= *unit) {
        None => format!("{count} B"),
        Some((unit, name)) if count.is_multiple_of(unit) => format!("{} {name}", count / unit),
        Some((unit, name)) => format!("{:.1} {name}", count as f64 / unit as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{QuotaView, UsageView};

    fn view() -> AccountView {
        AccountView {
            address: "anna@pec.alfa.example".to_owned(),
            user_id: Some("anna".to_owned()),
            state: "active".to_owned(),
            login: true,
            service: false,
            ordinary_mail: None,
            created: "2026-11-21T10:00:00Z".to_owned(),
            quota: QuotaView { octets: 1 << 30, messages: None, receipt_reserve_octets: 1 << 20 },
            usage: UsageView { octets: 1536, messages: 3 },
        }
    }

    #[test]
    fn a_person_reads_a_table_or_a_page() {
        assert_eq!(
            shown(&[view()], false, false).unwrap(),
            "anna@pec.alfa.example  anna              active        1.5 KiB of      1 GiB\n"
        );
        assert_eq!(
            shown(&[view()], true, false).unwrap(),
            "address        anna@pec.alfa.example\nuser ID        anna\nstate          active\n\
             password       yes\nservice        no\nordinary mail  as configured\n\
             created        2026-11-21T10:00:00Z\nholds          1.5 KiB in 3 messages\n\
             may hold       1 GiB, and 1 MiB of receipts\n"
        );
    }

    #[test]
    fn a_program_reads_json() {
        let one = shown(&[view()], true, true).unwrap();
        assert!(one.starts_with("{\"address\":\"anna@pec.alfa.example\""), "{one}");
        let all = shown(&[view()], false, true).unwrap();
        assert!(all.starts_with("[{\"address\":"), "{all}");
        assert_eq!(shown(&[], false, true).unwrap(), "[]\n");
    }

    #[test]
    fn a_password_is_the_first_line() {
        let table = [("p\n", Some("p")), ("p", Some("p")), ("p q\r\nr\n", Some("p q"))];
        for (input, expected) in table {
            assert_eq!(first_line(input.as_bytes()).ok().as_deref(), expected, "{input:?}");
        }
        for input in ["", "\n", "\r\n"] {
            assert!(first_line(input.as_bytes()).is_err(), "{input:?}");
        }
    }

    #[test]
    fn sizes_are_short() {
        for (count, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1 << 30, "1 GiB")] {
            assert_eq!(octets(count), text);
        }
    }
}
