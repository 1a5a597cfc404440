//! Consent to a signature: a command that is about to sign waits until somebody has read the text.
//!
//! The command itself waits, with the text that it built, so that nothing but that text can be signed afterwards. It ends
//! without a signature when the time is up, when the client is gone, and when the answer is no.
use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::JsonObject;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::tools::Outcome;
use crate::failure::Failure;
use crate::files;
use crate::terminal::{Consent, ToSign};

/// How long a text may wait for consent at most, in seconds. Shorter than the window in which a node accepts a login or an
/// event.
pub(super) const CONSENT_SECONDS_MAX: u64 = 240;
/// How many texts may wait for consent at once, and be delivered after it.
pub(super) const WRITES_MAX: usize = 8;
/// Random bytes of a token.
const TOKEN_BYTES: usize = 16;

/// A text that waits for consent, and whom to tell.
pub(super) struct Question {
    /// What will be signed.
    pub(super) to_sign: ToSign,
    answer: SyncSender<bool>,
}

impl Question {
    /// Says whether it may be signed. The command may have given up in the meantime, and says so itself.
    pub(super) fn answer(self, sign: bool) {
        let _ = self.answer.try_send(sign);
    }
}

/// The side of the command, on a thread of its own.
pub(super) struct Asking {
    question: Option<oneshot::Sender<Question>>,
    time: Duration,
}

impl Asking {
    /// Asks through `question`, once, and waits for an answer for at most `time`.
    #[must_use]
    pub(super) const fn new(question: oneshot::Sender<Question>, time: Duration) -> Self {
        Self { question: Some(question), time }
    }
}

impl Consent for Asking {
    fn ask(&mut self, to_sign: ToSign) -> Result<(), Failure> {
        let (answer, answered) = sync_channel(1);
        // A second question would sign something that nobody has seen.
        let asked = self.question.take().is_some_and(|sender| sender.send(Question { to_sign, answer }).is_ok());
        let unsigned = |why: &str| {
            Err(Failure::new("not_confirmed", format!("{why}: nothing was signed or sent"))
                .hint("only the user decides: call the tool again if they ask for it"))
        };
        if !asked {
            return unsigned("nobody can be asked");
        }
        match answered.recv_timeout(self.time) {
            Ok(true) => Ok(()),
            Ok(false) => unsigned("the user declined"),
            Err(RecvTimeoutError::Timeout) => unsigned("nobody confirmed in time"),
            Err(RecvTimeoutError::Disconnected) => unsigned("the client is gone"),
        }
    }
}

/// How the answer to a question comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In a second call with the token as an argument: the client cannot ask its user.
    Token,
    /// In a second call with the token as its state: the client asks its user in between.
    State,
}

/// A command that waits for consent.
pub(super) struct Held {
    /// The text.
    pub(super) question: Question,
    /// The command's end.
    pub(super) outcome: JoinHandle<Outcome>,
    /// The tool that was called.
    pub(super) tool: &'static str,
    /// Its arguments, without a token.
    pub(super) arguments: JsonObject,
    /// How the answer comes.
    pub(super) way: Way,
}

/// The commands that wait for a second call, by their tokens. There are at most [`WRITES_MAX`]: each holds a permit, until
/// its own time is up.
#[derive(Default)]
pub(super) struct HeldCommands(Mutex<HashMap<String, Held>>);

impl HeldCommands {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds a command; gives its token.
    ///
    /// # Errors
    /// `randomness`.
    pub(super) fn hold(&self, held: Held) -> Result<String, Failure> {
        let mut bytes = [0; TOKEN_BYTES];
        files::fill(&mut bytes)?;
        let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut all = self.lock();
        all.retain(|_, held| !held.outcome.is_finished());
        all.insert(token.clone(), held);
        Ok(token)
    }

    /// The command of a token, which is used up by this, whatever comes of it.
    ///
    /// # Errors
    /// `bad_token` if there is none or its time is up; `other_call` if it belongs to another tool, other arguments or
    /// another way of answering: then nothing is signed.
    pub(super) fn take(
        &self,
        token: &str,
        tool: &'static str,
        arguments: &JsonObject,
        way: Way,
    ) -> Result<Held, Failure> {
        let held = self.lock().remove(token).filter(|held| !held.outcome.is_finished());
        let Some(held) = held else {
            return Err(Failure::new("bad_token", "no text waits for this token: it is wrong, used or expired")
                .hint("call the tool without a token, read what will be signed, then call it again with the new one"));
        };
        if (held.tool, &held.arguments, held.way) != (tool, arguments, way) {
            return Err(Failure::new("other_call", "the token was given out for another call; it is used up now")
                .hint("a second call has the same arguments as the first, and its token"));
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn to_sign() -> ToSign {
        ToSign { text: "text".into(), signer: "key".into(), note: None }
    }

    #[test]
    fn only_a_yes_signs() {
        let ask = |time, then: fn(Question)| {
            let (sender, receiver) = oneshot::channel();
            let answering = std::thread::spawn(move || then(receiver.blocking_recv().unwrap()));
            let mut asking = Asking::new(sender, time);
            let first = asking.ask(to_sign());
            answering.join().unwrap();
            assert_eq!(asking.ask(to_sign()).unwrap_err().code, "not_confirmed", "one question, one signature");
            first.map_err(|failure| failure.message)
        };
        let long = Duration::from_secs(60);
        assert_eq!(ask(long, |question| question.answer(true)), Ok(()));
        let end = ": nothing was signed or sent";
        assert_eq!(ask(long, |question| question.answer(false)), Err(format!("the user declined{end}")));
        assert_eq!(ask(long, drop), Err(format!("the client is gone{end}")));
        let (sender, receiver) = oneshot::channel();
        let late = Asking::new(sender, Duration::from_millis(1)).ask(to_sign()).unwrap_err().message;
        assert_eq!(late, format!("nobody confirmed in time{end}"));
        drop(receiver);
    }

    #[tokio::test]
    async fn a_token_is_for_one_call_and_used_once() {
        let commands = HeldCommands::default();
        let arguments = |bio: &str| serde_json::json!({"bio": bio}).as_object().unwrap().clone();
        let ended = || Outcome { answer: Ok(Value::Null), remarks: Vec::new() };
        let hold = |tool, finished: bool| {
            let (answer, _) = sync_channel(1);
            let outcome = tokio::spawn(async move {
                if !finished {
                    std::future::pending::<()>().await;
                }
                ended()
            });
            let question = Question { to_sign: to_sign(), answer };
            commands.hold(Held { question, outcome, tool, arguments: arguments("a"), way: Way::Token }).unwrap()
        };
        let code = |token: &str, tool, arguments: &JsonObject, way| {
            commands.take(token, tool, arguments, way).err().map_or(String::new(), |failure| failure.code)
        };
        let token = hold("register", false);
        assert_eq!(code("00", "register", &arguments("a"), Way::Token), "bad_token");
        assert_eq!(code(&token, "register", &arguments("a"), Way::Token), "");
        assert_eq!(code(&token, "register", &arguments("a"), Way::Token), "bad_token", "used");
        let others = [
            ("attest", arguments("a"), Way::Token),
            ("register", arguments("b"), Way::Token),
            ("register", arguments("a"), Way::State),
        ];
        for (tool, other, way) in others {
            let token = hold("register", false);
            assert_eq!(code(&token, tool, &other, way), "other_call", "{tool}");
            assert_eq!(code(&token, "register", &arguments("a"), Way::Token), "bad_token", "used up");
        }
        let ended = hold("register", true);
        while !commands.lock()[&ended].outcome.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(code(&ended, "register", &arguments("a"), Way::Token), "bad_token", "its time was up");
    }
}
