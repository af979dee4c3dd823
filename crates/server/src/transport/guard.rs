//! What counts as long as it lives: a job under way, and a connection.

use std::sync::Arc;

use store::JobId;

use super::lane::Lane;
use super::places::Place;
use crate::site::Site;

/// A job is under way as long as this lives.
pub(super) struct UnderWay {
    site: Arc<Site>,
    destination: String,
    job: JobId,
}

impl UnderWay {
    /// From now on; `None` when it is already.
    pub(super) fn begin(site: &Arc<Site>, destination: &str, job: JobId) -> Option<Self> {
        let now = site.clock.now();
        let is_first =
            site.transport.with_lane(destination, now, |lane| lane.under_way.insert(job));
        is_first.then(|| Self { site: site.clone(), destination: destination.to_owned(), job })
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let now = self.site.clock.now();
        self.site.transport.with_lane(&self.destination, now, |lane| {
            lane.under_way.remove(&self.job);
        });
    }
}

/// A connection counts as long as this lives.
pub(super) struct Held {
    site: Arc<Site>,
    destination: String,
    _place: Place,
}

impl Held {
    pub(super) fn new(site: &Arc<Site>, destination: &str, place: Place) -> Self {
        site.transport.with_lane(destination, site.clock.now(), Lane::enter);
        Self { site: site.clone(), destination: destination.to_owned(), _place: place }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let transport = &self.site.transport;
        transport.with_lane(&self.destination, self.site.clock.now(), Lane::leave);
        transport.wake();
    }
}
