//! SEARCH, UID SEARCH
use crate::job::{Context, Done, Flow};
use crate::refusal::Refusal;
use imap_types::core::Charset;
use imap_types::search::SearchKey;
pub(crate) struct Search {
    by_uid: bool,
}
impl Search {
    pub(crate) fn new(
        _charset: Option<&Charset<'_>>,
        _keys: &[SearchKey<'_>],
        by_uid: bool,
    ) -> Result<Self, Refusal> {
        Ok(Self { by_uid })
    }
    pub(crate) fn run(self, _context: &mut Context<'_>) -> Result<Flow, Refusal> {
        Ok(Done::text("SEARCH completed").numbered(self.by_uid).into())
    }
}
