//! What an operator gives up while it is on its way.

use store::JobId;

use super::*;
use crate::control::{self, Request, Response};
use crate::serve::HoldsOf;

/// `queue cancel` of the one job that waits, answered as the running server answers it.
fn cancel(scene: &Scene, job: JobId) -> Response {
    let rules = control::Rules::of(&scene.site.config.load());
    let (store, holds) = (&*scene.site.store, HoldsOf(scene.site.clone()));
    let request = Request::CancelJob { job: job.0 };
    control::perform_with(store, &rules, &holds, request, scene.site.clock.now()).0
}

fn refused(text: String) -> Response {
    Response::Refused { text }
}

/// Between the end of the content and its answer nobody knows whether the host has it.
#[test]
fn what_a_host_is_answering_is_not_given_up_and_its_sender_hears_what_the_host_says() {
    for (said, came, events_after) in
        [("250 2.0.0 taken", 1, vec!["trasmissione"]), ("451 4.3.0 later", 0, vec![])]
    {
        let scene = Scene::new();
        let host = Host::start();
        route(&scene, host.address);
        queue(&scene, "m1@pec.alfa.example");
        let job = scene.site.store.jobs(None, 9).unwrap()[0].id;
        let barrier = Arc::new(Barrier::new(2));
        host.next(Script {
            meets: Some((".", barrier.clone())),
            instead: vec![(".", said.to_owned())],
            ..Script::default()
        });
        std::thread::scope(|scope| {
            scope.spawn(|| send(&scene));
            barrier.wait();
            let told = cancel(&scene, job);
            barrier.wait();
            assert_eq!(told, refused(format!("job {} is being sent now: try again", job.0)));
        });
        assert_eq!(host.taken().len(), came);
        let happened: Vec<String> = events(&scene).into_iter().map(|(event, _)| event).collect();
        assert_eq!(happened, events_after);
        // Then it is done, or it waits and can be given up.
        let told = cancel(&scene, job);
        if came == 1 {
            let gone = "there is no job 1, or it is done: see `ceralacca queue list`";
            assert_eq!((told, waiting(&scene)), (refused(gone.to_owned()), 0));
        } else {
            assert_eq!(told, Response::Done { text: "job 1 is given up".to_owned() });
            assert_eq!(events(&scene)[0].0, "errore-trasmissione");
            pass(&scene);
            assert_eq!(host.taken().len(), 0);
        }
    }
}

/// The look that found a job and its beginning are two moments.
#[test]
fn what_was_given_up_or_done_between_a_look_and_the_attempt_is_not_sent() {
    let scene = Scene::new();
    for n in 0..3 {
        queue(&scene, &format!("m{n}@pec.alfa.example"));
    }
    let found = scene.site.store.lane_due(now(), DOMAIN, 9).unwrap();
    let ids: Vec<JobId> = found.iter().map(|job| job.id).collect();
    assert_eq!(ids.len(), 3);
    assert!(matches!(cancel(&scene, ids[0]), Response::Done { .. }));
    scene.site.store.postpone(ids[1], now(), "later").unwrap();
    let kept = crate::transport::kept(&scene.site, DOMAIN, found);
    let attempts: Vec<(JobId, u32)> = kept.iter().map(|job| (job.id, job.attempts)).collect();
    assert_eq!(attempts, [(ids[1], 1), (ids[2], 0)], "as they are now");
}
