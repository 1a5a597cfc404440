//! Notes that an operator drops: gone from its node, its disk, what it publishes and its backups, and never taken in again.
use std::fs;
use std::path::Path as File;

use fama_ledger::id::NoteHash;
use fama_ledger::note::note_hash;
use fama_node::wire::{NoteAnswer, Submission, SyncRequest, SyncResponse};
use fama_tests::{DOMAINS, secret};
use serde_json::Value;

use crate::backup::{config_file, done, word};
use crate::cli::UserFolder;
use crate::federation::{LocalFederation, eventually, get, multi};
use crate::governance::post;
use crate::publish::pass;

/// What the notes of the tests say.
const TEXT: &[u8] = b"reason: well done";

/// Whether any file of the folder, or of one below it, has these bytes.
fn holds(folder: &File, bytes: &[u8]) -> bool {
    fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).any(|path| {
        if path.is_dir() {
            return holds(&path, bytes);
        }
        // Whatever the database deletes meanwhile does not hold them.
        fs::read(&path).is_ok_and(|content| content.windows(bytes.len()).any(|window| window == bytes))
    })
}

fn hash_of(submission: &Submission) -> NoteHash {
    note_hash(submission.note.as_ref().unwrap().as_bytes())
}

impl LocalFederation {
    /// What the node answers at the note's public path: its text, or an error's code.
    async fn note_at(&self, i: usize, hash: &NoteHash) -> (u16, String) {
        let url = format!("http://{}/note/{hash}", self.nodes[i].as_ref().unwrap().query);
        let get = move || {
            let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
            let mut answer = agent.get(&url).call().unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            let code = serde_json::from_str::<Value>(&text).map(|error| error["code"].as_str().unwrap().to_owned());
            (answer.status().as_u16(), code.unwrap_or(text))
        };
        tokio::task::spawn_blocking(get).await.unwrap()
    }

    /// What the node gives to a peer that asks for the note.
    async fn note_for_peers(&self, i: usize, hash: NoteHash) -> Vec<(NoteHash, NoteAnswer)> {
        match self.client(i).await.sync(SyncRequest::Notes(vec![hash])).await.unwrap() {
            SyncResponse::Notes(notes) => notes,
            other => panic!("{other:?}"),
        }
    }

    async fn published(&self, i: usize, to: &File) -> fama_reader::publish::Pass {
        let (from, to) = (format!("http://{}", self.nodes[i].as_ref().unwrap().query), word(to).to_owned());
        tokio::task::spawn_blocking(move || pass(&from, &to).unwrap()).await.unwrap()
    }

    /// The node does not show, serve or hold the note.
    async fn is_gone(&self, i: usize, hash: &NoteHash) {
        assert_eq!(self.note_at(i, hash).await, (410, "redacted".to_owned()));
        assert_eq!(self.note_for_peers(i, *hash).await, []);
        assert!(!holds(&self.data(i), TEXT), "on the disk of {}", DOMAINS[i]);
    }
}

#[test]
fn a_dropped_note_is_gone_at_this_node_and_stays_so() {
    multi(async {
        let mut net = LocalFederation::running(2).await;
        let (judge_key, place) = (secret(4), net.dir.path().join("public"));
        let judge = net.provider(1, "judge", &judge_key).await;
        let (agent, registration) = net.register(0, "swift-core-maps", &secret(2));
        net.accepted(0, registration).await;
        let attested = net.attest(1, (judge, &judge_key), agent, 5);
        let hash = hash_of(&attested);
        let event = net.accepted(1, attested).await.event;
        net.settled().await;
        for i in 0..2 {
            eventually("the note is there", || async {
                match net.note_at(i, &hash).await {
                    (200, text) if text.contains("reason: well done") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
            assert_eq!(net.note_for_peers(i, hash).await.len(), 1);
            assert!(holds(&net.data(i), TEXT));
        }
        net.published(0, &place).await;
        assert!(holds(&place.join("note"), TEXT));

        let user = UserFolder::new(&net);
        let gone = user.done(&format!("redact {event} --admin admin:0 --query query:1 --yes")).await;
        let note = format!("sha256:{hash}");
        assert_eq!(gone["dropped"], serde_json::json!([{"note": note, "before": "held"}]));
        net.is_gone(0, &hash).await;
        let shown = |profile: &Value| {
            let shown = &profile["recent_attestations"][0];
            (shown["redacted"].clone(), shown["reason"].as_str().map(str::to_owned))
        };
        let query = |i: usize| net.nodes[i].as_ref().unwrap().query;
        let agents = "/api/agent/swift-core-maps@alpha.example";
        assert_eq!(shown(&get(query(0), agents).await), (true.into(), None));
        assert_eq!(get(query(0), &format!("/api/event/{event}")).await["note"]["redacted"], true);
        // Other operators decide for themselves.
        assert_eq!(shown(&get(query(1), agents).await), (false.into(), Some("well done".to_owned())));

        // It goes where it was published, and no other source brings it back.
        let removed = net.published(0, &place).await;
        assert_eq!((removed.notes_removed, removed.notes_dropped, removed.notes_missing), (1, 1, 0));
        assert!(!holds(&place, TEXT));
        assert_eq!(fs::read_to_string(place.join("note/dropped")).unwrap(), format!("{hash}\n"));
        net.accepted(1, net.attest(1, (judge, &judge_key), agent, 1)).await;
        net.settled().await;
        let from_other = net.published(1, &place).await;
        assert_eq!((from_other.notes_removed, from_other.notes_dropped), (0, 1));
        assert!(!holds(&place, TEXT));

        // The same text again, with an event that this node passes on: neither kept nor passed on.
        net.accepted(0, net.attest(1, (judge, &judge_key), agent, 2)).await;
        net.settled().await;
        net.is_gone(0, &hash).await;
        let (config, backups) = (config_file(&net, 0, &net.data(0)), net.dir.path().join("backups"));
        done(&["backup", "--config", word(&config), "--to", word(&backups)]).await;
        assert!(!holds(&backups, TEXT));
        let again = user.done(&format!("redact {note} --admin admin:0 --yes")).await;
        assert_eq!(again["dropped"][0]["before"], "redacted");

        net.stop(0).await;
        assert!(!holds(&net.data(0), TEXT));
        net.start(0).await;
        net.accepted(1, net.attest(1, (judge, &judge_key), agent, 3)).await;
        net.settled().await;
        net.is_gone(0, &hash).await;
        assert_eq!(net.note_at(1, &hash).await.0, 200);

        // A rebuilt database has it as little, and knows that it must not have it.
        net.stop(0).await;
        let config = config_file(&net, 0, &net.data(0));
        done(&["check", "--config", word(&config)]).await;
    });
}

#[test]
fn a_note_can_be_dropped_before_it_arrives() {
    multi(async {
        let mut net = LocalFederation::running(2).await;
        let judge_key = secret(4);
        let judge = net.provider(1, "judge", &judge_key).await;
        let (agent, registration) = net.register(0, "swift-core-maps", &secret(2));
        net.accepted(0, registration).await;
        let attested = net.attest(1, (judge, &judge_key), agent, 5);
        let hash = hash_of(&attested);
        let user = UserFolder::new(&net);
        let before = user.done(&format!("redact sha256:{hash} --admin admin:0 --yes")).await;
        assert_eq!(before["dropped"][0]["before"], "unknown");
        net.stop(0).await;
        net.start(0).await;
        net.accepted(1, attested).await;
        net.settled().await;
        net.is_gone(0, &hash).await;
        net.shows("swift-core-maps@alpha.example", |profile| profile["reputation"]["global_score"] == 5).await;
        assert_eq!(net.note_at(1, &hash).await.0, 200, "the other node has it");
    });
}

#[test]
fn only_the_operators_own_programs_drop_notes() {
    multi(async {
        let net = LocalFederation::running(1).await;
        let node = net.nodes[0].as_ref().unwrap();
        let good = format!("sha256:{}", NoteHash([1; 32]));
        let upper = format!("sha256:{}", "A".repeat(64));
        for (body, want) in [
            (String::new(), (400, "bad_hash")),
            (good.trim_start_matches("sha256:").to_owned(), (400, "bad_hash")),
            (upper, (400, "bad_hash")),
            (good.repeat(2), (413, "body_too_large")),
        ] {
            let (status, answer) = post(node.admin, "/note/redact", body.clone()).await;
            assert_eq!((status, answer["code"].as_str().unwrap()), want, "{body}");
        }
        let (admin, body) = (node.admin, good.clone());
        let from_page = move || {
            let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
            let url = format!("http://{admin}/note/redact");
            let page = agent.post(&url).header("Content-Type", "application/octet-stream");
            let page = page.header("Origin", "http://evil.example").send(&body).unwrap().status().as_u16();
            (page, agent.post(&url).header("Content-Type", "text/plain").send(&body).unwrap().status().as_u16())
        };
        assert_eq!(tokio::task::spawn_blocking(from_page).await.unwrap(), (403, 415));
        assert_eq!(get(node.query, &format!("/note/{}", NoteHash([1; 32]))).await["code"], "no_such_file");
        assert_eq!(post(node.admin, "/note/redact", good).await.0, 200);
        assert_eq!(get(node.query, &format!("/note/{}", NoteHash([1; 32]))).await["code"], "redacted");
        let of_query = get(node.query, "/note/redact").await;
        assert_eq!(of_query["code"], "no_such_file", "not on the public listener");
    });
}
