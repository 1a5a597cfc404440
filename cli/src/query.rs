//! HTTP requests to a node's query, admin or sign-in listener.
use std::io::Read;
use std::time::Duration;

use fama_reader::http::{HttpClient, NoAnswer, NoAnswerKind, PROXY_HINT, TLS_HINT};
use serde_json::Value;

use crate::failure::Failure;

/// Longest answer that is read, in bytes.
pub(crate) const ANSWER_BYTES_MAX: u64 = 8 << 20;
/// Timeout of one request with its whole answer.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);
/// How many idle connections are kept open.
const IDLE_MAX: usize = 4;
/// Default address of the query listener of a node on this machine.
pub(crate) const DEFAULT: &str = "http://127.0.0.1:8080";

/// Default address of the admin listener of a node on this machine.
pub(crate) const ADMIN: &str = "http://127.0.0.1:9090";
/// The content type that the admin listener requires.
const BYTES: &str = "application/octet-stream";

/// Which of a node's listeners is asked.
#[derive(Clone, Copy, Debug)]
enum Listener {
    Query,
    Admin,
    SignIn,
}

impl Listener {
    /// Prefix of all paths.
    const fn root(self) -> &'static str {
        match self {
            Self::Query => "/api",
            Self::Admin | Self::SignIn => "",
        }
    }

    /// What to do if nobody answers.
    const fn unreachable(self) -> &'static str {
        match self {
            Self::Query => "is the node running? --query URL names another one",
            Self::Admin => "is the node running? --admin URL names its admin listener",
            Self::SignIn => "is the issuer running? GET /api/federation/issuers of any node lists all",
        }
    }

    /// What to do if somebody else answers.
    const fn stranger(self) -> &'static str {
        match self {
            Self::Query => "is that the query address of a node?",
            Self::Admin => "is that the admin address of a node?",
            Self::SignIn => "is that an issuer? GET /api/federation/issuers of any node lists all",
        }
    }
}

/// A node's listener; or several query listeners, of which the first that answers counts.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    client: HttpClient,
    base: String,
    /// Listeners to ask where the one before cannot be reached.
    others: Vec<String>,
    listener: Listener,
}

impl Query {
    /// The query listener at `base`, like `http://127.0.0.1:8080`. Connects with the first request.
    #[must_use]
    pub(crate) fn new(base: &str) -> Self {
        let client = HttpClient::new(base, TIMEOUT, IDLE_MAX);
        Self { client, base: base.trim_end_matches('/').to_owned(), others: Vec::new(), listener: Listener::Query }
    }

    /// The query listeners at `bases`, each asked if those before cannot be reached; `None` without any.
    #[must_use]
    pub(crate) fn of_any(bases: &[String]) -> Option<Self> {
        let (first, others) = bases.split_first()?;
        Some(Self { others: others.to_vec(), ..Self::new(first) })
    }

    /// What `ask` gets from the first listener that can be reached.
    fn of_first<T>(&self, ask: impl Fn(&Self) -> Result<T, Failure>) -> Result<T, Failure> {
        let mut answer = ask(self);
        for other in &self.others {
            match &answer {
                Err(failure) if failure.code == "unreachable" => {
                    answer = ask(&Self { listener: self.listener, ..Self::new(other) });
                }
                _ => break,
            }
        }
        answer
    }

    /// The query listener of a node that this program started on this machine: no proxy is asked.
    #[must_use]
    pub(crate) fn direct(base: &str) -> Self {
        Self { client: HttpClient::direct(TIMEOUT, IDLE_MAX), ..Self::new(base) }
    }

    /// The admin listener at `base`, like `http://127.0.0.1:9090`.
    #[must_use]
    pub(crate) fn admin(base: &str) -> Self {
        Self { listener: Listener::Admin, ..Self::new(base) }
    }

    /// The sign-in listener of the issuer at `base`, like `https://auth.alpha.example`.
    #[must_use]
    pub(crate) fn issuer(base: &str) -> Self {
        Self { listener: Listener::SignIn, ..Self::new(base) }
    }

    /// The URL without a slash at its end.
    #[must_use]
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Gets the JSON at `path`, whose segments are escaped here.
    ///
    /// # Errors
    /// The error that the node answered, `no_node` for an answer that no node gives, `unreachable`.
    pub(crate) fn get(&self, path: &[&str], parameters: &[(&str, String)]) -> Result<Value, Failure> {
        self.of_first(|one| {
            let mut url = one.url(path);
            for (i, (name, value)) in parameters.iter().enumerate() {
                url.push_str(&format!("{}{name}={}", if i == 0 { '?' } else { '&' }, escape(value)));
            }
            one.read(one.agent()?.get(&url).call())
        })
    }

    /// Posts a JSON object.
    ///
    /// # Errors
    /// The error that the node answered, `no_node` for an answer that no node gives, `unreachable`.
    pub(crate) fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.read(self.agent()?.post(self.url(path)).send_json(body))
    }

    /// Posts a form, as OAuth has it.
    ///
    /// # Errors
    /// The error that the node answered, `no_node` for an answer that no node gives, `unreachable`.
    pub(crate) fn post_form(&self, path: &[&str], pairs: &[(&str, &str)]) -> Result<Value, Failure> {
        self.read(self.agent()?.post(self.url(path)).send_form(pairs.iter().copied()))
    }

    /// Posts a text.
    ///
    /// # Errors
    /// The error that the node answered, `no_node` for an answer that no node gives, `unreachable`.
    pub(crate) fn post_text(&self, path: &[&str], body: &str) -> Result<Value, Failure> {
        self.read(self.agent()?.post(self.url(path)).header("content-type", BYTES).send(body))
    }

    /// Gets a text of at most `max` bytes.
    ///
    /// # Errors
    /// The error that the node answered, `no_node` for an answer that no node gives, `unreachable`.
    pub(crate) fn get_text(&self, path: &[&str], parameters: &[(&str, String)], max: usize) -> Result<String, Failure> {
        self.of_first(|one| one.text_at(path, parameters, max))
    }

    fn text_at(&self, path: &[&str], parameters: &[(&str, String)], max: usize) -> Result<String, Failure> {
        let request = self.agent()?.get(self.url(path));
        let request = parameters.iter().fold(request, |request, (name, value)| request.query(name, value));
        let mut response = request.call().map_err(|error| self.unreachable(&error))?;
        if !response.status().is_success() {
            return self.read(Ok(response)).and(Err(self.stranger("an error status with a successful body")));
        }
        let body = self.body(&mut response, u64::try_from(max).unwrap_or(u64::MAX))?;
        String::from_utf8(body).map_err(|_| self.stranger("not UTF-8"))
    }

    fn agent(&self) -> Result<&ureq::Agent, Failure> {
        self.client.agent().map_err(|why| self.no_answer(why))
    }

    fn url(&self, path: &[&str]) -> String {
        path.iter()
            .fold(format!("{}{}", self.base, self.listener.root()), |url, segment| format!("{url}/{}", escape(segment)))
    }

    fn read(&self, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        let body = self.body(&mut response, ANSWER_BYTES_MAX)?;
        let value = serde_json::from_slice(&body);
        if status.is_success() {
            return value.map_err(|_| self.stranger(&format!("status {status}, but no JSON")));
        }
        let value = value.unwrap_or_default();
        // OAuth's `error` is a word, and `error_description` a sentence.
        let message = value["error_description"].as_str().or(value["error"].as_str());
        match (value["code"].as_str(), message) {
            (Some(code), Some(message)) => Err(Failure::new(code, message)),
            _ => Err(self.stranger(&format!("status {status}"))),
        }
    }

    /// The whole body, if it has at most `max` bytes after decompression.
    fn body(&self, response: &mut ureq::http::Response<ureq::Body>, max: u64) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        let reader = response.body_mut().as_reader();
        let read = reader.take(max.saturating_add(1)).read_to_end(&mut body);
        read.map_err(|error| self.unreachable(&ureq::Error::Io(error)))?;
        if body.len() as u64 > max { Err(self.stranger(&format!("more than {max} bytes"))) } else { Ok(body) }
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        self.no_answer(self.client.explain(error))
    }

    fn no_answer(&self, NoAnswer { kind, reason }: NoAnswer) -> Failure {
        let failure = |code: &str| Failure::new(code, format!("{}: {reason}", self.base));
        match kind {
            NoAnswerKind::Url => failure("bad_url").hint(format!("want one like {DEFAULT}")),
            NoAnswerKind::Certificate(hint) => failure("certificate").hint(hint),
            NoAnswerKind::Tls => failure("no_tls").hint(TLS_HINT),
            NoAnswerKind::Proxy => failure("proxy").hint(PROXY_HINT),
            NoAnswerKind::Server => failure("unreachable").hint(self.listener.unreachable()),
        }
    }

    fn stranger(&self, what: &str) -> Failure {
        Failure::new("no_node", format!("{}: {what}", self.base)).hint(self.listener.stranger())
    }
}

/// Percent-encodes the characters that a path segment or parameter may not contain.
fn escape(text: &str) -> String {
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"-._~@:".contains(&c);
    let one = |c: u8| if plain(c) { char::from(c).to_string() } else { format!("%{c:02X}") };
    text.bytes().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;

    #[test]
    fn segments_are_escaped() {
        assert_eq!(escape("a@b.c/../d?x#y é"), "a@b.c%2F..%2Fd%3Fx%23y%20%C3%A9");
    }

    /// Answers one request and gives its first line.
    fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 2_048];
            let len = stream.read(&mut buffer).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&buffer[..len]).lines().next().unwrap().to_owned()
        });
        (base, thread)
    }

    #[test]
    fn answers() {
        let table = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}", ""),
            (
                "HTTP/1.1 404 N\r\ncontent-length: 40\r\n\r\n{\"code\":\"unknown_identity\",\"error\":\"no\"}",
                "unknown_identity",
            ),
            ("HTTP/1.1 500 N\r\ncontent-length: 2\r\n\r\nno", "no_node"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno", "no_node"),
            ("nonsense\r\n\r\n", "unreachable"),
        ];
        for (answer, code) in table {
            let (base, thread) = serve(answer);
            let result = Query::new(&base).get(&["agent", "a b"], &[("limit", "5".into())]);
            assert_eq!(result.err().map_or(String::new(), |failure| failure.code), code, "{answer}");
            assert_eq!(thread.join().unwrap(), "GET /api/agent/a%20b?limit=5 HTTP/1.1");
        }
    }
}
