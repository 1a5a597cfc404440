//! Grants and suspensions, as the query listener shows them.
use fama_ledger::event::SuspendReason;

use super::*;

fn grant(
    world: &mut World,
    (by, issuer): (&SecretKey, IdentityId),
    subject: IdentityId,
    scope: &str,
    more: bool,
) -> EventId {
    let (home, scope) = (domain("alpha.example"), scope.parse().unwrap());
    let action = match more {
        true => Action::Grant { home, issuer, subject, scope, expires: None, note: None },
        false => Action::Ungrant { home, issuer, subject, scope },
    };
    let event = world.signed(by, action);
    world.take("alpha.example", event, &[])
}

fn suspend(world: &mut World, operator: &str, seed: u8, identity: IdentityId) -> EventId {
    let action = Action::Suspend { operator: domain(operator), identity, reason: SuspendReason::Misconduct };
    let event = world.signed(&operator_key(seed), action);
    world.take(operator, event, &[])
}

#[tokio::test]
async fn grants_are_shown_to_both_sides() {
    let mut world = World::new(Some("alpha.example"));
    let (service, other, key) = (agent(1), agent(2), agent(3));
    let payments = world.register("alpha.example", "payments", &service, None);
    let archive = world.register("alpha.example", "archive", &other, None);
    let swift = world.register("alpha.example", "swift", &key, None);
    for scope in ["read", "write"] {
        grant(&mut world, (&service, payments), swift, scope, true);
    }
    grant(&mut world, (&other, archive), swift, "read", true);
    grant(&mut world, (&other, archive), payments, "read", true);
    // The fold sees two statements of one time: the later in the log is void, and the earlier stands.
    grant(&mut world, (&service, payments), swift, "read", false);
    let expires = Some(Millis(NOW + 1));
    let (home, scope) = (domain("alpha.example"), "over".parse().unwrap());
    let action = Action::Grant { home, issuer: payments, subject: archive, scope, expires, note: None };
    let event = world.signed(&service, action);
    world.take("alpha.example", event, &[]);
    let shown = |answer: Value| -> Vec<(String, String, String, bool)> {
        let text = |one: &Value, name: &str| one[name].as_str().unwrap().to_owned();
        let grants = answer["grants"].as_array().unwrap().iter();
        let mut grants: Vec<_> = grants
            .map(|one| (text(one, "issuer"), text(one, "subject"), text(one, "scope"), one["in_force"] == true))
            .collect();
        grants.sort();
        grants
    };
    let line = |issuer: &str, subject: &str, scope: &str, good| {
        let at = |name: &str| format!("{name}@alpha.example");
        (at(issuer), at(subject), scope.to_owned(), good)
    };
    let received = world.get("/api/agent/swift/grants").await.json();
    let want = [
        line("archive", "swift", "read", true),
        line("payments", "swift", "read", true),
        line("payments", "swift", "write", true),
    ];
    assert_eq!(shown(received), want);
    let given = world.get("/api/agent/payments/grants?given=1").await.json();
    // Its time is over by the clock of this machine.
    let want = [
        line("payments", "archive", "over", false),
        line("payments", "swift", "read", true),
        line("payments", "swift", "write", true),
    ];
    assert_eq!(shown(given), want);
    let between = world.get(&format!("/api/agent/swift/grants?with={payments}")).await.json();
    assert_eq!(shown(between).len(), 2);
    let between = world.get("/api/agent/archive/grants?given=1&with=payments").await.json();
    assert_eq!(shown(between), [line("archive", "payments", "read", true)]);

    // Page by page, none twice and none left out.
    for path in ["/api/agent/swift/grants?limit=1", "/api/agent/payments/grants?given=1&limit=1"] {
        let (mut all, mut asked) = (Vec::new(), path.to_owned());
        for _ in 0..4 {
            let page = world.get(&asked).await.json();
            let cursor = page["cursor"].as_str().map(ToOwned::to_owned);
            all.extend(shown(page));
            let Some(cursor) = cursor else { break };
            asked = format!("{path}&cursor={cursor}");
        }
        assert_eq!(all.len(), 3, "{path}: {all:?}");
    }
    for (path, status, code) in [
        ("/api/agent/nobody/grants", 404, "unknown_agent"),
        ("/api/agent/swift/grants?with=nobody", 404, "unknown_agent"),
        ("/api/agent/swift/grants?cursor=x", 400, "bad_cursor"),
    ] {
        let answer = world.get(path).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{path}");
    }
    // A service whose key is revoked lets nobody do anything.
    world.revoke("beta.example", &service, payments);
    let received = shown(world.get("/api/agent/swift/grants").await.json());
    assert_eq!(received.iter().filter(|one| one.3).count(), 1, "{received:?}");
    let events = world.get("/api/agent/payments/events").await.json();
    let kinds: Vec<&str> =
        events["events"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "grant").count(),
        3,
        "its own, and none that it received: {kinds:?}"
    );
}

#[tokio::test]
async fn a_suspension_is_shown_and_holds_with_enough_operators() {
    let mut world = World::new(Some("alpha.example"));
    let key = agent(1);
    let swift = world.register("alpha.example", "swift", &key, None);
    let wanted = world.app.shared.manifest.policy().sponsors_wanted();
    let stated = suspend(&mut world, "beta.example", 20, swift);
    let profile = world.profile("swift").await;
    let status = &profile["key_status"];
    assert_eq!(status["is_suspended"], wanted == 1);
    assert_eq!(status["suspended_by"][0]["operator"], "beta.example");
    assert_eq!(status["suspended_by"][0]["reason"], "misconduct");
    suspend(&mut world, "alpha.example", 10, swift);
    assert_eq!(world.profile("swift").await["key_status"]["is_suspended"], true);
    assert_eq!(world.profile("swift").await["key_status"]["is_revoked"], false);
    let page = ask(world.query(), Method::GET, "/agent/swift@alpha.example", &[("accept", "text/html")], "").await;
    assert!(page.text.contains("Suspended") && page.text.contains("beta.example"), "{}", page.text);
    let events = world.get("/api/agent/swift/events").await.json();
    let of = events["events"].as_array().unwrap().iter().find(|one| one["event"] == stated.to_string());
    assert_eq!(of.unwrap()["kind"], "suspend");
}
