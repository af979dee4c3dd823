//! What a sender asks to be told of his message (RFC 3461 §4).

use std::collections::BTreeMap;

use mail::Address;
use serde::{Deserialize, Serialize};
use smtp::{Dsn, dsn};

/// As the parameters that said so: for the hosts of ordinary recipients, and for our own reports. Of
/// certified recipients the receipts tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wishes {
    /// RET and ENVID, each with a space before it.
    pub(crate) mail: String,
    /// RFC 8689.
    pub(crate) require_tls: bool,
    /// NOTIFY and ORCPT, likewise, of each recipient who has any.
    pub(crate) recipients: BTreeMap<String, String>,
}

impl Wishes {
    /// Of each recipient who has any, the parameters as they are written, by address.
    pub(crate) fn new(dsn: &Dsn, recipients: BTreeMap<String, String>) -> Self {
        Self { mail: dsn.to_string(), require_tls: dsn.require_tls, recipients }
    }

    /// Whether he wants to hear when a recipient does not get it: unless he asks for NOTIFY without
    /// FAILURE (RFC 3461 §4.1).
    pub(crate) fn wants_failure(&self, recipient: &Address) -> bool {
        let asked = self.recipients.get(&recipient.to_string());
        let notify = asked.and_then(|asked| value(asked, "NOTIFY="));
        notify.is_none_or(|notify| notify.contains("FAILURE"))
    }

    /// Whether he wants to hear that a recipient got it: only when he asks for it (RFC 3461 §4.1).
    pub(crate) fn wants_success(&self, recipient: &Address) -> bool {
        let asked = self.recipients.get(&recipient.to_string());
        let notify = asked.and_then(|asked| value(asked, "NOTIFY="));
        notify.is_some_and(|notify| notify.contains("SUCCESS"))
    }

    /// What he calls the transaction, for `Original-Envelope-Id` (RFC 3464 §2.2.1).
    pub(crate) fn envelope(&self) -> Option<String> {
        dsn::decoded(value(&self.mail, "ENVID=")?)
    }

    /// What he called a recipient, for `Original-Recipient` (RFC 3464 §2.3.1): type and address.
    pub(crate) fn original(&self, recipient: &Address) -> Option<String> {
        let asked = self.recipients.get(&recipient.to_string())?;
        let (kind, address) = value(asked, "ORCPT=")?.split_once(';')?;
        Some(format!("{kind};{}", dsn::decoded(address)?))
    }
}

/// What a parameter says.
fn value<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(' ').find_map(|parameter| parameter.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use smtp::RecipientDsn;
    use smtp::dsn::Notify;

    use super::*;

    fn wishes<const N: usize>(dsn: &Dsn, asked: [(&Address, &RecipientDsn); N]) -> Wishes {
        Wishes::new(dsn, asked.map(|(of, dsn)| (of.to_string(), dsn.to_string())).into())
    }

    #[test]
    fn what_was_asked_is_found_again() {
        let [anna, bea, carla] = ["anna@b.example", "bea@b.example", "carla@b.example"]
            .map(|a| Address::parse(a).unwrap());
        let dsn = Dsn { envid: Some("QQ+3D31+40".to_owned()), ..Dsn::default() };
        let of_anna =
            RecipientDsn { notify: None, orcpt: Some("rfc822;Anna+2Bx@a.example".to_owned()) };
        let of_bea =
            RecipientDsn { notify: Some(Notify::NEVER), orcpt: Some("x;+0D+0ATo:".to_owned()) };
        let found = wishes(&dsn, [(&anna, &of_anna), (&bea, &of_bea)]);
        // RFC 6533 §3: as it is kept, which is no xtext on top of something.
        let utf8 = "utf-8;nicol\\x{F2}@b.example";
        let of_carla = RecipientDsn { notify: None, orcpt: Some(utf8.to_owned()) };
        let told = wishes(&dsn, [(&carla, &of_carla)]);
        assert_eq!(told.original(&carla).as_deref(), Some(utf8));
        assert_eq!(found.envelope().as_deref(), Some("QQ=31@"));
        assert_eq!(found.original(&anna).as_deref(), Some("rfc822;Anna+x@a.example"));
        // A line of somebody else's is none of ours.
        assert_eq!((found.original(&bea), found.original(&carla)), (None, None));
        let wants = [&anna, &bea, &carla].map(|of| found.wants_failure(of));
        assert_eq!(wants, [true, false, true]);
        let both = Notify { success: true, failure: true, delay: false };
        let told = RecipientDsn { notify: Some(both), orcpt: None };
        let found = wishes(&dsn, [(&anna, &told), (&bea, &of_bea)]);
        let wants = [&anna, &bea, &carla].map(|of| found.wants_success(of));
        assert_eq!(wants, [true, false, false]);
        assert_eq!(Wishes::default().envelope(), None);
    }
}
