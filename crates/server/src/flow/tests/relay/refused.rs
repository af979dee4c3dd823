//! A store that refuses the commit of what a host has answered.

use super::*;
use crate::transport::unless_under_way;

fn once(scene: &Scene) {
    let waits = Waits { commit_again: Duration::from_millis(10), ..Waits::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(crate::transport::once(&scene.site, waits));
}

/// The host has the message: the commit alone is tried again, and nobody gets the job meanwhile.
#[test]
fn what_a_host_took_is_not_sent_again_however_often_the_store_refuses_to_write_it_down() {
    let (scene, host) = (Scene::new(), Host::start());
    route(&scene, host.address);
    queue(&scene, "m1@pec.alfa.example");
    let job = scene.site.store.jobs(None, 9).unwrap().pop().unwrap().id;
    scene.memory.danger_refuse_commits(u32::MAX);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| once(&scene));
        let mut refused = 0;
        while refused < 3 {
            assert!(!sending.is_finished(), "it is left after {refused} refusals");
            refused += u32::MAX - scene.memory.danger_refuse_commits(u32::MAX);
            std::thread::yield_now();
        }
        let mut is_free = false;
        unless_under_way(&scene.site, DOMAIN, job, &mut || is_free = true);
        assert!(!is_free);
        // It is due, and left alone.
        scene.clock.turn_to(scene.site.clock.now() + SignedDuration::from_hours(1));
        once(&scene);
        assert_eq!((host.connections.load(Ordering::SeqCst), waiting(&scene)), (1, 1));
        scene.memory.danger_refuse_commits(0);
    });
    pass(&scene);
    assert_eq!((host.connections.load(Ordering::SeqCst), waiting(&scene)), (1, 0));
    assert_eq!(host.taken().len(), 1);
    assert_eq!(events(&scene), [("trasmissione".to_owned(), None)]);
}

#[test]
fn of_two_recipients_the_one_that_was_put_off_alone_is_tried_again_after_the_store_refused() {
    let (scene, host) = (Scene::new(), Host::start());
    route(&scene, host.address);
    queue_to(
        &scene,
        "m1@pec.alfa.example",
        &["c0", "c1"].map(|n| address(&format!("{n}@{DOMAIN}"))),
    );
    let later = ("RCPT TO:<c1@altrove.example>", "450 4.2.0 later".to_owned());
    host.next(Script { instead: vec![later], ..Script::default() });
    scene.memory.danger_refuse_commits(2);
    once(&scene);
    assert_eq!(scene.memory.danger_refuse_commits(0), 0);
    let taken = [("trasmissione".to_owned(), None)];
    assert_eq!(events(&scene), taken);
    let job = scene.site.store.jobs(None, 9).unwrap().pop().unwrap();
    assert_eq!(job.attempts, 1);
    assert!(job.last_error.unwrap().ends_with("450 4.2.0 later"));
    scene.clock.turn_to(scene.site.clock.now() + SignedDuration::from_hours(1));
    once(&scene);
    assert_eq!((host.taken().len(), waiting(&scene)), (2, 0));
    assert_eq!(events(&scene), [taken.clone(), taken].concat());
}
