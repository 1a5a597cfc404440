//! The story of the demo: an agent registers, receives karma, rotates its key, and has it stolen.
use std::time::{Duration, Instant};

use fama_ledger::event::{Action, Method, RevokeReason};
use fama_ledger::id::{Domain, EventId};
use fama_ledger::key::Curve;
use fama_ledger::note::Note;
use fama_ledger::secret::SecretKey;
use fama_node::network::client::Client;
use serde_json::{Value, json};

use super::cluster::Cluster;
use super::{print_step, submit};
use crate::author::{self, EventDraft};
use crate::failure::Failure;
use crate::files;
use crate::terminal::Terminal;

/// Timeout for all nodes to show an event that one of them accepted.
const SHOWN_TIMEOUT: Duration = Duration::from_secs(30);

struct DemoStory<'a> {
    cluster: &'a Cluster,
    clients: &'a [Client],
}

/// An identity with its current key.
struct Actor {
    id: EventId,
    home: Domain,
    handle: String,
    key: SecretKey,
}

/// Plays the story; after each step, shows the answers of all nodes side by side.
pub(super) async fn play(cluster: &Cluster, clients: &[Client], terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let story = DemoStory { cluster, clients };
    let agent = files::draw_key(Curve::Secp256k1)?;
    let next = files::draw_key(Curve::Secp256k1)?;
    let bio = Note { bio: Some("maps cores, swiftly".into()), ..Note::default() };
    let agent = story.register(0, 1, "swift-core-maps", agent, Some(&next), bio).await?;
    story
        .scene(
            terminal,
            &agent,
            "swift-core-maps registers in the home of the first operator, through the node of the second.",
            |shown| shown["key_status"]["key_version"] == 1,
        )
        .await?;

    let first = story.service(1, "mloverflow").await?;
    let second = story.service(2, "codejudge").await?;
    story.attest(&first, &agent, 5, "code", "solved a hard one").await?;
    story.attest(&second, &agent, 3, "review", "kind and thorough").await?;
    story
        .scene(terminal, &agent, "Two services, each sponsored by enough operators, attest karma: 5 and 3.", |shown| {
            shown["reputation"]["global_score"] == 8
        })
        .await?;

    let agent = story.rotate(agent, next).await?;
    story
        .scene(terminal, &agent, "It rotates to the key that it had committed to when it registered.", |shown| {
            shown["key_status"]["key_version"] == 2
        })
        .await?;

    story.revoke(&agent, 3).await?;
    story
        .scene(
            terminal,
            &agent,
            "The key is stolen. The revocation is submitted to the last node, and shows everywhere.",
            |shown| shown["key_status"]["is_revoked"] == true,
        )
        .await
}

impl DemoStory<'_> {
    fn operator(&self, at: usize) -> Result<Domain, Failure> {
        let nodes = &self.cluster.nodes;
        let node = nodes.get(at % nodes.len().max(1)).ok_or_else(|| Failure::new("internal", "no nodes"))?;
        Ok(node.operator.clone())
    }

    async fn send(&self, through: usize, draft: EventDraft<'_>) -> Result<EventId, Failure> {
        let submission = draft.sign()?;
        let id = submission.signed.event.id();
        let client = self
            .clients
            .get(through % self.clients.len().max(1))
            .ok_or_else(|| Failure::new("internal", "no nodes"))?;
        submit(client, vec![submission]).await?;
        Ok(id)
    }

    async fn register(
        &self,
        home: usize,
        through: usize,
        name: &str,
        key: SecretKey,
        next: Option<&SecretKey>,
        note: Note,
    ) -> Result<Actor, Failure> {
        let home = self.operator(home)?;
        let (text, note) = author::note(note)?;
        let name = name.parse().map_err(|error| Failure::new("internal", error))?;
        let handle = format!("{name}@{home}");
        let action =
            Action::Register { home: home.clone(), name, key: key.public(), next: author::commitment(next), note };
        let event = author::event(self.cluster.federation(), action)?;
        let mut draft = EventDraft::new(event, &key);
        draft.note = text;
        let id = self.send(through, draft).await?;
        Ok(Actor { id, home, handle, key })
    }

    /// Registers a service and has it sponsored by as many operators as the policy needs.
    async fn service(&self, home: usize, name: &str) -> Result<Actor, Failure> {
        let actor = self.register(home, home, name, files::draw_key(Curve::Secp256k1)?, None, Note::default()).await?;
        let sponsors = usize::try_from(self.cluster.manifest.policy().min_sponsors).unwrap_or(usize::MAX);
        for (at, node) in self.cluster.nodes.iter().enumerate().take(sponsors) {
            let key = files::read_key(&node.dir.join(crate::federation::NODE_KEY_FILE))?;
            let event = author::event(self.cluster.federation(), admit(&node.operator, actor.id, name)?)?;
            self.send(at, EventDraft::new(event, &key)).await?;
        }
        Ok(actor)
    }

    async fn attest(
        &self,
        issuer: &Actor,
        subject: &Actor,
        delta: i32,
        context: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        let (text, note) = author::note(Note { reason: Some(reason.into()), ..Note::default() })?;
        let context = Some(context.parse().map_err(|error| Failure::new("internal", error))?);
        let action =
            Action::Attest { home: issuer.home.clone(), issuer: issuer.id, subject: subject.id, delta, context, note };
        let mut draft = EventDraft::new(author::event(self.cluster.federation(), action)?, &issuer.key);
        draft.note = text;
        self.send(0, draft).await.map(|_| ())
    }

    async fn rotate(&self, actor: Actor, key: SecretKey) -> Result<Actor, Failure> {
        let action =
            Action::Rotate { home: actor.home.clone(), identity: actor.id, version: 2, key: key.public(), next: None };
        self.send(1, EventDraft::new(author::event(self.cluster.federation(), action)?, &key)).await?;
        Ok(Actor { key, ..actor })
    }

    async fn revoke(&self, actor: &Actor, through: usize) -> Result<(), Failure> {
        let (home, identity, key) = (actor.home.clone(), actor.id, actor.key.public());
        let action = Action::Revoke { home, identity, version: 2, key, reason: RevokeReason::KeyCompromised };
        self.send(through, EventDraft::new(author::event(self.cluster.federation(), action)?, &actor.key))
            .await
            .map(|_| ())
    }

    /// Waits until `shown` holds for every node's final answer about the agent, then prints all answers.
    async fn scene(
        &self,
        terminal: &mut Terminal<'_>,
        agent: &Actor,
        text: &str,
        shown: impl Fn(&Value) -> bool,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + SHOWN_TIMEOUT;
        let mut answers = Vec::new();
        for (at, node) in self.cluster.nodes.iter().enumerate() {
            loop {
                let answer = self.cluster.get(at, &["agent", &agent.handle], &[]).await;
                match answer {
                    Ok(answer) if shown(&answer) && answer["ledger"]["final"] == true => {
                        answers.push(answer);
                        break;
                    }
                    _ if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(50)).await,
                    _ => {
                        return Err(Failure::new(
                            "not_shown",
                            format!("the node of {} does not show it", node.operator),
                        ));
                    }
                }
            }
        }
        let lines: String = self
            .cluster
            .nodes
            .iter()
            .zip(&answers)
            .map(|(node, answer)| line(node.operator.as_str(), answer))
            .collect();
        let nodes: Vec<Value> = answers
            .iter()
            .map(|answer| json!({"karma": answer["reputation"]["global_score"], "key_status": answer["key_status"]}))
            .collect();
        print_step(
            terminal,
            &json!({"phase": "story", "text": text, "agent": agent.handle, "nodes": nodes}),
            &format!("{text}\n\n{lines}"),
        )
    }
}

fn admit(operator: &Domain, provider: EventId, service: &str) -> Result<Action, Failure> {
    let internal = |error: &dyn std::fmt::Display| Failure::new("internal", error);
    Ok(Action::Admit {
        operator: operator.clone(),
        provider,
        service: service.parse().map_err(|error| internal(&error))?,
        domain: format!("{service}.example").parse().map_err(|error| internal(&error))?,
        method: Method::Manual,
        from: 0,
    })
}

fn line(operator: &str, answer: &Value) -> String {
    let key = if answer["key_status"]["is_revoked"] == true { "revoked" } else { "good" };
    let (karma, version) = (&answer["reputation"]["global_score"], &answer["key_status"]["key_version"]);
    format!("  {operator:16} karma {karma:>3}   key {version} is {key:8} final {}\n", answer["ledger"]["final"])
}
