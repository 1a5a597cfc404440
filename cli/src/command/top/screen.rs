//! The screen of `fama top`. Made for 80 columns and 24 lines; larger ones show more.
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, Wrap};
use serde_json::Value;

use super::gather::{AdminSeen, NodeSeen};
use crate::command::agent::text;
use crate::command::status;

/// The 16 colours that every terminal has. Words say the same.
const GOOD: Style = Style::new().fg(Color::Green);
const CAREFUL: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const HEAD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
/// From so many seconds on a log that waits for its certificate, and an operator that is silent, are marked.
const UNFINAL_SECONDS: f64 = 30.0;
const SILENT_SECONDS: f64 = 60.0;

const HELP: &str = "\
q, Ctrl-C   end
Tab, ←, →   next or previous node
↑, ↓, k, j  scroll the logs
p           pause or continue
r           ask now
?           this help

ENTRIES are those of this node's copy, FINAL those that a quorum has
cosigned. WAITS is how long entries have waited for their certificate.
Submissions, refusals, peers, memory and disk are told by the admin
listener only: --admin http://127.0.0.1:9090.";

/// What is shown.
#[derive(Default)]
pub(super) struct Screen {
    pub(super) nodes: Vec<NodeSeen>,
    pub(super) is_help: bool,
    pub(super) is_paused: bool,
    /// The first log that is shown.
    pub(super) scroll: usize,
    /// Which node is shown whole.
    at: usize,
}

impl Screen {
    /// Goes to another node.
    pub(super) fn step(&mut self, by: isize) {
        let count = self.nodes.len().max(1);
        self.at = self.at.checked_add_signed(by).map_or(count - 1, |at| at % count);
        self.scroll = 0;
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let keys = if self.is_paused {
            " PAUSED · p continue  ? help  q end"
        } else {
            " ? help  Tab next node  ↑↓ scroll  p pause  q end"
        };
        let [title, nodes, body, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(if self.nodes.len() > 1 { lines(self.nodes.len().min(6) + 1) } else { 0 }),
            Constraint::Min(3),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(keys).style(DIM), foot);
        let Some(node) = self.nodes.get(self.at.min(self.nodes.len().saturating_sub(1))) else {
            frame.render_widget(Paragraph::new(" asking …"), body);
            return;
        };
        frame.render_widget(Paragraph::new(headline(node)), title);
        if self.nodes.len() > 1 {
            frame.render_widget(self.all(), nodes);
        }
        match &node.status {
            Ok(status) => self.node(frame, body, (node, status)),
            Err(why) => {
                let told = Paragraph::new(vec![
                    Line::styled(why.as_str(), BAD),
                    Line::from("Is the node running? Its log says why it ended."),
                ]);
                frame.render_widget(told.wrap(Wrap { trim: true }).block(Block::bordered().title("no answer")), body);
            }
        }
        if self.is_help {
            let area = centred(frame.area(), 74, 15);
            frame.render_widget(Clear, area);
            frame.render_widget(Paragraph::new(HELP).block(Block::bordered().title("fama top")), area);
        }
    }

    /// A line for each node.
    fn all(&self) -> Table<'_> {
        let rows = self.nodes.iter().enumerate().map(|(at, node)| {
            let mark = if at == self.at { "▶" } else { " " };
            let row = match &node.status {
                Ok(status) => vec![
                    Span::from(format!("{mark} {}", node.address)),
                    readiness(status),
                    Span::from(format!("{}/{}", text(&status["operators_heard"]), text(&status["operators"]))),
                    Span::from(sum(&status["frontier"]).to_string()),
                    Span::from(behind(status).to_string()),
                    Span::from(short(&text(&status["state_id"]))),
                ],
                Err(_) => vec![Span::from(format!("{mark} {}", node.address)), Span::styled("no answer", BAD)],
            };
            Row::new(row)
        });
        let widths = [30, 12, 7, 10, 10, 9].map(Constraint::Length);
        Table::new(rows, widths)
            .header(Row::new(["  NODE", "STATE", "HEARD", "ENTRIES", "NOT FINAL", "STATE ID"]).style(HEAD))
    }

    fn node(&self, frame: &mut Frame<'_>, area: Rect, (node, status): (&NodeSeen, &Value)) {
        let admin = node.admin.as_ref().and_then(|admin| admin.as_ref().ok());
        let told = remarks(node, status, admin);
        let logs = status["frontier"].as_object().map_or(0, serde_json::Map::len);
        let work = if admin.is_some() { 8 } else { 0 };
        let [top, middle, end] = Layout::vertical([
            Constraint::Length(lines(logs + 3).min(area.height.saturating_sub(work + 3).max(4))),
            Constraint::Length(work),
            Constraint::Min(3),
        ])
        .areas(area);
        frame.render_widget(self.logs((node, status), admin), top);
        if let Some(admin) = admin {
            let [left, right] =
                Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(middle);
            frame.render_widget(load(admin), left);
            frame.render_widget(operators(admin), right);
        }
        let remarks = Paragraph::new(told).wrap(Wrap { trim: true });
        frame.render_widget(remarks.block(Block::bordered().title("what to look at")), end);
    }

    fn logs(&self, (node, status): (&NodeSeen, &Value), admin: Option<&AdminSeen>) -> Table<'_> {
        let waits = admin.map(|admin| admin.by_label("fama_log_unfinal_seconds")).unwrap_or_default();
        let of = status["frontier"].as_object().into_iter().flatten();
        let rows = of.skip(self.scroll).map(|(log, size)| {
            let open =
                size.as_u64().unwrap_or_default().saturating_sub(status["certified"][log].as_u64().unwrap_or_default());
            let waited = waits.iter().find(|(of, _)| of.split('/').next() == Some(log)).map(|(_, seconds)| *seconds);
            let style = if waited.is_some_and(|waited| waited >= UNFINAL_SECONDS) { BAD } else { Style::new() };
            Row::new([
                Span::from(log.clone()),
                Span::from(text(size)),
                Span::from(text(&status["certified"][log])),
                Span::from(open.to_string()),
                Span::from(node.growth.get(log).map_or_else(|| "–".to_owned(), |rate| format!("{rate:.1}"))),
                Span::styled(waited.map_or_else(|| "–".to_owned(), seconds), style),
            ])
        });
        let widths = [
            Constraint::Min(20),
            Constraint::Length(11),
            Constraint::Length(11),
            Constraint::Length(10),
            Constraint::Length(8),
            Constraint::Length(8),
        ];
        let head = Row::new(["LOG", "ENTRIES", "FINAL", "NOT FINAL", "NEW/S", "WAITS"]).style(HEAD);
        Table::new(rows, widths).header(head).block(Block::bordered().title("logs"))
    }
}

fn lines(count: usize) -> u16 {
    u16::try_from(count).unwrap_or(u16::MAX)
}

fn headline(node: &NodeSeen) -> Line<'_> {
    let Ok(status) = &node.status else {
        return Line::from(vec![Span::styled(format!(" {}  ", node.address), HEAD), Span::styled("NO ANSWER", BAD)]);
    };
    let operator = if status["operator"].is_string() { text(&status["operator"]) } else { "a mirror".to_owned() };
    let freshness =
        if status["fresh"] == true { Span::styled("up to date", GOOD) } else { Span::styled("behind", CAREFUL) };
    Line::from(vec![
        Span::styled(format!(" {} · {operator}  ", text(&status["federation"]["name"])), HEAD),
        readiness(status),
        Span::from(", "),
        freshness,
        Span::styled(
            format!(
                "  heard {}/{}  manifest {}",
                text(&status["operators_heard"]),
                text(&status["operators"]),
                text(&status["manifest_version"])
            ),
            DIM,
        ),
    ])
}

fn readiness(status: &Value) -> Span<'static> {
    if status["ready"] == true { Span::styled("ready", GOOD) } else { Span::styled("NOT READY", BAD) }
}

fn sum(sizes: &Value) -> u64 {
    sizes.as_object().into_iter().flatten().filter_map(|(_, size)| size.as_u64()).fold(0, u64::saturating_add)
}

/// Entries that are not final yet.
fn behind(status: &Value) -> u64 {
    sum(&status["frontier"]).saturating_sub(sum(&status["certified"]))
}

fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn seconds(count: f64) -> String {
    if count < 120.0 {
        format!("{count:.0} s")
    } else if count < 7_200.0 {
        format!("{:.0} min", count / 60.0)
    } else {
        format!("{:.0} h", count / 3_600.0)
    }
}

fn bytes(count: Option<f64>) -> String {
    match count {
        None => "–".to_owned(),
        Some(count) if count >= 1e9 => format!("{:.1} GB", count / 1e9),
        Some(count) => format!("{:.0} MB", count / 1e6),
    }
}

/// What the node does and takes.
fn load(admin: &AdminSeen) -> Paragraph<'_> {
    let batches = admin.rate("fama_inbox_batch_seconds_count");
    let latency = if batches > 0.0 {
        format!("{:.0} ms a batch", admin.rate("fama_inbox_batch_seconds_sum") / batches * 1e3)
    } else {
        String::new()
    };
    let mut refused = admin.by_label("fama_inbox_refused_total");
    refused.sort_by(|a, b| b.1.total_cmp(&a.1));
    let refused: Vec<String> = refused
        .iter()
        .filter(|(_, count)| *count > 0.0)
        .take(3)
        .map(|(code, count)| format!("{code} {count:.0}"))
        .collect();
    let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
    let line =
        |name: &str, value: String| Line::from(vec![Span::styled(format!("{name:<10}"), DIM), Span::from(value)]);
    Paragraph::new(vec![
        line("accepted", format!("{:.1} events/s  {latency}", admin.rate("fama_inbox_accepted_total"))),
        line("refused", refused),
        line("requests", format!("{:.1}/s over HTTP", admin.rate("fama_http_requests_total"))),
        line("peers", admin.value("fama_network_peers").map_or_else(|| "–".to_owned(), |count| format!("{count:.0}"))),
        line("memory", bytes(admin.value("process_resident_memory_bytes"))),
        line(
            "disk",
            format!("{}, {} free", bytes(admin.value("fama_store_bytes")), bytes(admin.value("fama_store_free_bytes"))),
        ),
    ])
    .block(Block::bordered().title("this node"))
}

fn operators(admin: &AdminSeen) -> Table<'_> {
    let rows = admin.by_label("fama_operator_silent_seconds").into_iter().map(|(name, silent)| {
        let style = if silent >= SILENT_SECONDS { BAD } else { Style::new() };
        Row::new([Span::from(name.to_owned()), Span::styled(format!("{} ago", seconds(silent)), style)])
    });
    let widths = [Constraint::Min(16), Constraint::Length(12)];
    Table::new(rows, widths)
        .header(Row::new(["OPERATOR", "HEARD"]).style(HEAD))
        .block(Block::bordered().title("operators"))
}

/// Why the node is not ready, and what else its operator should look at, with what to do.
fn remarks(node: &NodeSeen, status: &Value, admin: Option<&AdminSeen>) -> Vec<Line<'static>> {
    let mut told = Vec::new();
    for reason in status["reasons"].as_array().into_iter().flatten() {
        told.push(Line::styled(status::words(&text(reason)), BAD));
    }
    for (domain, code) in status["lost_domains"].as_object().into_iter().flatten() {
        told.push(Line::styled(
            format!(
                "{domain} no longer names the service that this operator sponsors ({}): talk to it, or `fama dismiss`",
                text(code)
            ),
            CAREFUL,
        ));
    }
    for (code, is_set) in admin.map(|admin| admin.by_label("fama_node_warning")).unwrap_or_default() {
        if is_set > 0.0 {
            told.push(Line::styled(format!("warning {code}: docs/watching.md says what to do"), CAREFUL));
        }
    }
    if let Some(admin) = admin {
        let (free, used) = (admin.value("fama_store_free_bytes"), admin.value("fama_store_bytes"));
        if free.zip(used).is_some_and(|(free, used)| free < used.max(1e9)) {
            told.push(Line::styled(
                "the disk has less free space than the data folder takes: a compaction may need that",
                CAREFUL,
            ));
        }
        if admin.value("fama_ranking_lag_providers").is_some_and(|lag| lag > 0.0) {
            told.push(Line::styled("the leaderboard is being counted again", CAREFUL));
        }
    }
    if let Some(Err(why)) = &node.admin {
        told.push(Line::styled(format!("no answer of the admin listener: {why}"), CAREFUL));
    }
    if told.is_empty() {
        told.push(Line::styled("nothing: all is well", GOOD));
    }
    told
}

fn centred(area: Rect, width: u16, height: u16) -> Rect {
    let (width, height) = (width.min(area.width), height.min(area.height));
    Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    fn shown(screen: &Screen) -> String {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        terminal.backend().to_string()
    }

    fn status(ready: bool) -> Value {
        json!({
            "ready": ready, "fresh": true, "operator": "alpha.example", "federation": {"name": "Demo"},
            "operators": 4, "operators_heard": 3, "manifest_version": 2, "state_id": "0123456789",
            "frontier": {"alpha.example": 120, "beta.example": 8}, "certified": {"alpha.example": 100, "beta.example": 8},
            "reasons": if ready { json!([]) } else { json!(["waiting: uncertified"]) },
        })
    }

    #[test]
    fn a_small_terminal_shows_what_matters() {
        let node =
            |ready| NodeSeen { address: "http://a".to_owned(), status: Ok(status(ready)), ..NodeSeen::default() };
        let text = shown(&Screen { nodes: vec![node(true)], ..Screen::default() });
        for part in
            ["Demo · alpha.example", "ready, up to date", "heard 3/4", "alpha.example", "120", "all is well", "? help"]
        {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = shown(&Screen { nodes: vec![node(false), NodeSeen::default()], ..Screen::default() });
        for part in ["NOT READY", "no quorum has cosigned its log for long", "no answer", "01234567"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let text = shown(&Screen { nodes: vec![node(true)], is_help: true, ..Screen::default() });
        assert!(text.contains("this help"), "{text}");
    }

    #[test]
    fn any_size_is_drawn() {
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            let node = NodeSeen { status: Ok(status(false)), ..NodeSeen::default() };
            let screen = Screen { nodes: vec![node.clone(), node], is_help: true, ..Screen::default() };
            terminal.draw(|frame| screen.draw(frame)).unwrap();
        }
    }
}
