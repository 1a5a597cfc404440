//! What the listeners answer while a log is being rolled back.
use super::*;
use crate::health::RollbackProgress;
use crate::store::RolledBack;

#[tokio::test]
async fn the_other_logs_are_served_while_one_is_rolled_back() {
    let mut world = World::new(None);
    let (here, there) = (agent(1), agent(2));
    world.register("alpha.example", "here", &here, None);
    let gone = world.register("beta.example", "there", &there, None);
    for (log, size) in [(&world.alpha, 4), (&world.beta, 4)] {
        world.cosign(log);
        assert_eq!(log.tree.size(), size);
    }
    world.rank();
    assert_eq!(world.get("/api/agent/there@beta.example").await.status, 200);
    let shared = &world.app.shared;
    let log = world.beta.id.clone();
    shared.store.begin_rollback(RolledBack { log: log.clone(), size: 2, signed: None }).unwrap();
    shared.health.write().rollback = Some(RollbackProgress { log, phase: "dropping", left: 2 });
    world.rank();

    let profile = world.profile("here@alpha.example").await;
    assert_eq!(profile["ledger"]["frontier"]["beta.example"], 0, "{profile}");
    for path in ["/api/agent/there@beta.example".to_owned(), format!("/api/event/{gone}")] {
        let answer = world.get(&path).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (503, "not_ready"), "{path}");
        assert_eq!(answer.header("retry-after"), "10");
    }
    assert_eq!(world.get("/api/leaderboard").await.status, 200);
    assert_eq!(world.get("/api/status").await.json()["fresh"], false);
    let admin = super::super::admin(Arc::clone(&world.app), mpsc::channel(1).0, Arc::default());
    let ready = ask(admin, Method::GET, "/readyz", &[], "").await;
    assert_eq!(ready.status, 503);
    let reasons = ready.json()["reasons"].to_string();
    assert!(reasons.contains("rollback: dropping, 2 entries left in beta.example/1"), "{reasons}");
}
