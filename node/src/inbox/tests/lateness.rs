//! Entries ahead of the clock, entries that arrive long after their time, and owners whom nobody cosigns.
use super::*;
use crate::clock::Simulated;

const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A node whose clock the test sets, in milliseconds since the test began.
struct TimedNode {
    node: Node,
    clock: Arc<Simulated>,
    began: Millis,
}

impl TimedNode {
    fn new(i: usize, began: Millis) -> Self {
        Self::load(i, began, tempfile::tempdir().unwrap(), 0)
    }

    fn load(i: usize, began: Millis, dir: TempDir, now: u64) -> Self {
        let clock = Arc::new(Simulated::default());
        clock.set(began.plus(now), now);
        let mut node = Node::load_with(i, dir, Clock::simulated(Arc::clone(&clock)));
        node.open_gate();
        Self { node, clock, began }
    }

    fn restart(self, now: u64) -> Self {
        let Self { node: Node { inbox, dir, i, .. }, began, .. } = self;
        drop(inbox);
        Self::load(i, began, dir, now)
    }

    fn at(&mut self, now: u64) -> &mut Node {
        self.clock.set(self.began.plus(now), now);
        &mut self.node
    }

    /// The owner registers an agent at `now`.
    fn register(&mut self, now: u64, name: &str, seed: u8) -> SubmitOutcome {
        let (event, _) = register_at(self.began.plus(now), name, seed);
        self.at(now).submit(&event)
    }

    /// The owner of log 0 answers with its frontier, at each of these times: `size` entries.
    fn hears_owner(&mut self, times: impl IntoIterator<Item = u64>, size: u64) {
        for now in times {
            let log = PeerLog {
                log: log_id(0),
                size,
                newest: None,
                cosigned: Vec::new(),
                renewed: Vec::new(),
                certificate: None,
            };
            let (manifest, manifest_hash) = (1, manifest().hash());
            let said =
                HeardFrontier { logs: vec![log], other: None, manifest, manifest_hash, equivocations: Vec::new() };
            self.at(now).inbox.take(InboxInput::Frontier { peer: peer(0), said, ahead: 0 }).unwrap();
        }
    }

    /// Receives everything that the owner has at `now`.
    fn receives(&mut self, now: u64, owner: &TimedNode) {
        let (signed, from) = (owner.node.head(0), self.node.size(0));
        let range = owner.node.range(0, from, signed.checkpoint().head);
        self.at(now).told_of(signed, Some(range));
    }

    /// The size of the largest head of log 0 that this node cosigned.
    fn vouches(&self) -> u64 {
        self.node.inbox.replica.own_cosigned(&log_id(0)).map_or(0, |head| head.size)
    }
}

fn register_at(created: Millis, name: &str, seed: u8) -> (VerifiedEvent, SecretKey) {
    let key = secret(seed);
    let home = DOMAINS[0].parse().unwrap();
    let action = Action::Register { home, name: name.parse().unwrap(), key: key.public(), next: None, note: None };
    let federation = manifest().federation();
    let event = Event { federation, action, created, nonce: Nonce([1; 8]) };
    let signature = key.sign(event.text().as_bytes());
    let signed = SignedEvent { event, signer: key.public(), signature, countersignature: None };
    (signed.verify(&federation).unwrap(), key)
}

fn cosigned(owner: &TimedNode, i: usize) -> InboxInput {
    let (signed, operator) = (owner.node.head(0), DOMAINS[i].parse().unwrap());
    let cosignature = Cosignature::sign(signed.checkpoint(), operator, &signing(i), 1_795_000_000);
    InboxInput::Cosigned(Cosigned { signed, by: log_id(i), cosignature })
}

fn began() -> Millis {
    Millis(clock::now().0 / 1_000 * 1_000)
}

/// An owner and another node, which hold and cosigned the adoption alone; the owner was heard then.
fn two() -> (TimedNode, TimedNode) {
    let (mut owner, mut other) = (TimedNode::new(0, began()), TimedNode::new(1, began()));
    other.began = owner.began;
    other.receives(0, &owner);
    other.hears_owner([0], 2);
    owner.at(0);
    assert_eq!((owner.node.size(0), other.vouches()), (2, 2));
    (owner, other)
}

fn taken(outcome: &SubmitOutcome) -> bool {
    matches!(outcome, SubmitOutcome::Taken { .. })
}

fn refused(outcome: &SubmitOutcome, code: &str) -> bool {
    matches!(outcome, SubmitOutcome::Refused(refusal) if refusal.code == code)
}

#[test]
fn entries_ahead_of_the_clock_are_neither_folded_nor_stored() {
    let (mut owner, mut other) = two();
    assert!(taken(&owner.register(0, "now", 50)));
    assert!(taken(&owner.register(2 * HOUR, "later", 51)), "its clock is two hours ahead");
    other.receives(0, &owner);
    assert_eq!((other.node.size(0), other.vouches()), (4, 2), "what is not ahead is kept");
    assert_eq!(other.node.penalties(), Vec::<&str>::new(), "whoever passed it on is not at fault");
    assert_eq!(other.node.inbox.replica.fault(&log_id(0)), None);
    let asks = |other: &mut TimedNode, now: u64| {
        other.hears_owner([now], 6);
        other.at(now).inbox.tick().unwrap();
        let mut asked = false;
        while let Ok(command) = other.node.commands.try_recv() {
            asked |= matches!(command, InboxCommand::Fetch { from: 4, .. });
        }
        asked
    };
    assert!(!asks(&mut other, 4_000), "not again at once");
    assert!(asks(&mut other, 5_500));
    other.receives(2 * HOUR - 50_000, &owner);
    assert_eq!((other.node.size(0), other.vouches()), (6, 6), "up to a minute ahead is nothing");
}

#[test]
fn an_owner_that_is_heard_cannot_fill_the_past() {
    let (mut owner, mut other) = two();
    assert!(taken(&owner.register(HOUR, "backdated", 50)));
    other.hears_owner((0..=26 * 2).map(|half| half * HOUR / 2), 2);
    other.receives(26 * HOUR, &owner);
    assert_eq!((other.node.size(0), other.vouches()), (4, 2), "25 hours old: held, not vouched for");
    // A restart forgets nothing.
    let mut other = other.restart(26 * HOUR + MINUTE);
    other.at(26 * HOUR + 2 * MINUTE).inbox.tick().unwrap();
    assert_eq!(other.vouches(), 2);
    // One more operator is f + 1 with the owner: at least one of the two is honest and held it in time.
    other.node.inbox.take(cosigned(&owner, 2)).unwrap();
    assert_eq!(other.vouches(), 4);
    // What is not late passes as ever.
    owner.at(26 * HOUR);
    for i in 1..3 {
        owner.node.inbox.take(cosigned(&owner, i)).unwrap();
    }
    assert!(taken(&owner.register(27 * HOUR, "on-time", 51)));
    other.receives(27 * HOUR, &owner);
    assert_eq!(other.vouches(), 6);
}

#[test]
fn one_minute_less_is_not_late() {
    for (age, vouches) in [(DAY - MINUTE, 4), (DAY + MINUTE, 2)] {
        let (mut owner, mut other) = two();
        assert!(taken(&owner.register(HOUR, "entry", 50)));
        other.hears_owner((0..=25 * 2).map(|half| half * HOUR / 2), 2);
        other.receives(HOUR + age, &owner);
        assert_eq!(other.vouches(), vouches, "{age} ms old");
    }
}

#[test]
fn an_owner_that_was_cut_off_is_followed_when_it_comes_back() {
    let (mut owner, mut other) = two();
    // It idles for four days, takes events in for half a day without a cosignature, and stops.
    for (hours, name) in [(96, "four"), (100, "five"), (107, "six")] {
        assert!(taken(&owner.register(hours * HOUR, name, 60 + hours as u8)));
    }
    assert!(refused(&owner.register(109 * HOUR, "seven", 61), "uncertified"));
    owner.node.inbox.tick().unwrap();
    assert_eq!(owner.node.waiting(), Some("uncertified"));
    // A week later the others hear it again. The first word opens the silence; a restart in between changes nothing.
    other.hears_owner([170 * HOUR], 8);
    let mut other = other.restart(170 * HOUR + 30_000);
    other.receives(170 * HOUR + MINUTE, &owner);
    assert_eq!((other.node.size(0), other.vouches()), (8, 8));
    // Once caught up, the silence gives nothing more.
    other.hears_owner([170 * HOUR + 2 * MINUTE], 8);
    owner.at(170 * HOUR);
    for i in 1..3 {
        owner.node.inbox.take(cosigned(&owner, i)).unwrap();
    }
    assert!(taken(&owner.register(110 * HOUR, "backdated", 62)), "by a clock that lies");
    other.receives(170 * HOUR + 3 * MINUTE, &owner);
    assert_eq!((other.node.size(0), other.vouches()), (10, 8));
}

#[test]
fn a_silence_gives_one_window() {
    let (mut owner, mut other) = two();
    assert!(taken(&owner.register(96 * HOUR, "one", 60)));
    other.receives(170 * HOUR, &owner);
    assert_eq!(other.vouches(), 4);
    owner.at(96 * HOUR);
    for i in 1..3 {
        owner.node.inbox.take(cosigned(&owner, i)).unwrap();
    }
    assert!(taken(&owner.register(119 * HOUR, "two", 61)));
    other.receives(170 * HOUR + 1, &owner);
    assert_eq!(other.vouches(), 6, "within a day of the first");
    owner.at(119 * HOUR);
    for i in 1..3 {
        owner.node.inbox.take(cosigned(&owner, i)).unwrap();
    }
    assert!(taken(&owner.register(121 * HOUR, "three", 62)));
    other.receives(170 * HOUR + 2, &owner);
    assert_eq!((other.node.size(0), other.vouches()), (8, 6));
}

#[test]
fn an_owner_whom_nobody_cosigns_takes_revocations_for_a_day_and_then_nothing() {
    let mut owner = TimedNode::new(0, began());
    let (event, key) = register_at(owner.began, "agent", 50);
    assert!(taken(&owner.at(0).submit(&event)));
    assert!(taken(&owner.register(12 * HOUR, "in-time", 51)));
    assert!(refused(&owner.register(12 * HOUR + 1, "late", 52), "uncertified"));
    let revocation = revoke(0, event.id(), &key);
    assert!(refused(&owner.at(DAY + 1).submit(&revocation), "uncertified"));
    assert!(taken(&owner.at(DAY).submit(&revocation)));
}
