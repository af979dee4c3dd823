//! FETCH, UID FETCH
use crate::grammar::MessageSet;
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use imap_types::fetch::MacroOrMessageDataItemNames;
use imap_types::sequence::SequenceSet;
pub(crate) struct Fetch {
    set: MessageSet,
    by_uid: bool,
}
impl Fetch {
    pub(crate) fn new(
        set: &SequenceSet,
        _items: MacroOrMessageDataItemNames<'_>,
        by_uid: bool,
    ) -> Result<Self, Refusal> {
        Ok(Self { set: MessageSet::new(set)?, by_uid })
    }
    pub(crate) fn run(self, context: &mut Context<'_>) -> Result<Flow, Refusal> {
        let here = context.here()?;
        let _ = here.places(&self.set, self.by_uid)?;
        Ok(Done::text("FETCH completed").numbered(self.by_uid).into())
    }
}
