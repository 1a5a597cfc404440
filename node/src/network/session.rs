//! Which process of a peer is at the other end of each connection: to libp2p, two processes with one key are one peer.
use std::collections::HashMap;
use std::time::Instant;

use libp2p::PeerId;
use libp2p::swarm::ConnectionId;

use super::limits;
use crate::wire::Session;

struct HeardSession {
    peer: PeerId,
    session: Session,
    at: Instant,
}

/// The session last named on each open connection.
#[derive(Default)]
pub(super) struct Sessions(HashMap<ConnectionId, HeardSession>);

impl Sessions {
    /// Notes the session that a request named.
    pub(super) fn heard(&mut self, connection: ConnectionId, peer: PeerId, session: Session, now: Instant) {
        self.0.insert(connection, HeardSession { peer, session, at: now });
    }

    /// Forgets a closed connection. Returns its peer if only later connections of another process are left: gossip
    /// sends its subscriptions on a peer's first connection only, so that process never got them.
    pub(super) fn closed(&mut self, connection: ConnectionId) -> Option<PeerId> {
        let gone = self.0.remove(&connection)?;
        let mut left = self.0.iter().filter(|(_, heard)| heard.peer == gone.peer).peekable();
        left.peek()?;
        left.all(|(id, heard)| *id > connection && heard.session.id != gone.session.id).then_some(gone.peer)
    }

    /// Whether the process on this connection is still starting while another one with its key writes.
    pub(super) fn is_idle(&self, connection: ConnectionId, now: Instant) -> bool {
        let idle = self.0.get(&connection).filter(|heard| !heard.session.writes);
        let other = idle.and_then(|heard| self.other(heard.peer, heard.session, now));
        other.is_some_and(|other| other.writes)
    }

    /// Whether several processes of `peer` are live.
    pub(super) fn are_several(&self, peer: PeerId, now: Instant) -> bool {
        self.0.values().any(|heard| heard.peer == peer && self.other(peer, heard.session, now).is_some())
    }

    /// A session of `peer` other than `session` that sent a request within [`limits::SESSION_LIVES`] on a connection
    /// that is still open; preferably one that writes.
    pub(super) fn other(&self, peer: PeerId, session: Session, now: Instant) -> Option<Session> {
        let lives = |heard: &&HeardSession| now.saturating_duration_since(heard.at) <= limits::SESSION_LIVES;
        let others = self.0.values().filter(|heard| heard.peer == peer && heard.session.id != session.id).filter(lives);
        others.map(|heard| heard.session).max_by_key(|session| session.writes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn session(id: u8, writes: bool) -> Session {
        Session { id: [id; 16], writes }
    }

    #[test]
    fn others_live_as_long_as_they_speak_and_stay_connected() {
        let (mut sessions, peer, now) = (Sessions::default(), PeerId::random(), Instant::now());
        let connection = ConnectionId::new_unchecked;
        let (old, new) = (session(1, true), session(2, false));
        sessions.heard(connection(1), peer, old, now);
        sessions.heard(connection(2), peer, old, now);
        assert_eq!(sessions.other(peer, old, now), None, "two connections, one process");
        assert_eq!(sessions.other(PeerId::random(), new, now), None, "another key");
        sessions.heard(connection(3), peer, new, now);
        sessions.heard(connection(4), peer, session(3, false), now);
        assert_eq!(sessions.other(peer, new, now), Some(old), "one that writes before one that starts");
        assert_eq!([1, 2, 3, 4, 5].map(|n| sessions.is_idle(connection(n), now)), [false, false, true, true, false]);
        assert!(sessions.are_several(peer, now) && !sessions.are_several(PeerId::random(), now));
        assert_eq!(sessions.closed(connection(1)), None, "its process has another one");
        assert_eq!(sessions.other(peer, new, now), Some(old));
        assert_eq!(sessions.closed(connection(2)), Some(peer), "only later processes are left");
        assert_eq!(sessions.other(peer, new, now), Some(session(3, false)));
        assert!(!sessions.is_idle(connection(3), now), "no process writes");
        let late = now + limits::SESSION_LIVES + Duration::from_millis(1);
        assert_eq!(sessions.other(peer, new, late), None, "it fell silent");
        sessions.heard(connection(4), peer, session(3, true), late);
        assert_eq!(sessions.other(peer, new, late), Some(session(3, true)));
        for n in [1, 2, 4, 3] {
            assert_eq!(sessions.closed(connection(n)), None, "unknown, later than what is left, or the last");
        }
        assert!(sessions.0.is_empty());
    }
}
