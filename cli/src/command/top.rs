//! `fama top`: the health of a node, or of a whole federation, in a terminal.
use std::io::{IsTerminal, stdout};
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use serde_json::json;

use crate::failure::Failure;
use crate::query::{self, Query};
use crate::settings::QueryArgs;
use crate::terminal::Terminal;

mod gather;
mod screen;

use gather::{Gatherer, NodeSeen};
use screen::Screen;

/// Examples that follow the help text.
pub(crate) const EXAMPLE: &str = "\
Examples:
  fama top
  fama top --admin http://127.0.0.1:9090
  fama top --query http://127.0.0.1:8080 --and http://127.0.0.1:8081 --and https://c.example

Shows logs and what of them is not final yet, operators and when they were heard, and why a node is
not ready; with its admin listener also submissions, refusals by code, peers, memory, disk and
warnings, with what to do. Keys: ? help, Tab next node, q end. --json prints what was seen, once.";

/// How long the next key is waited for, so that the screen stays alive.
const KEY_WAIT: Duration = Duration::from_millis(100);

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    query: QueryArgs,
    /// The query address of a further node, to see several at once
    #[arg(long, value_name = "URL")]
    and: Vec<String>,
    /// The admin address of the first node: what only its operator may see
    #[arg(long, value_name = "URL", num_args = 0..=1, default_missing_value = query::ADMIN)]
    admin: Option<String>,
    /// Ask so often, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    every: u32,
}

/// Shows until a key ends it.
pub(super) fn run(args: &Args, terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let first = args.query.open_own()?;
    let nodes = [first].into_iter().chain(args.and.iter().map(|base| Query::new(base))).collect();
    let mut gatherer = Gatherer::new(nodes, args.admin.as_deref().map(Query::admin));
    if terminal.json {
        let seen = gatherer.gather();
        return terminal.answer(&json!({"nodes": seen.iter().map(NodeSeen::json).collect::<Vec<_>>()}), "");
    }
    if !stdout().is_terminal() {
        return Err(Failure::new("no_terminal", "standard output is no terminal").hint("--json prints it once"));
    }
    let failed = |error| Failure::new("terminal", error);
    let mut shown = ratatui::try_init().map_err(failed)?;
    let every = Duration::from_secs(args.every.into());
    let ended = follow(gatherer, every, &mut shown).map_err(failed);
    // Also after an error, so that the user has a usable terminal.
    ratatui::restore();
    ended
}

fn follow(mut gatherer: Gatherer, every: Duration, terminal: &mut ratatui::DefaultTerminal) -> std::io::Result<()> {
    let mut screen = Screen::default();
    // Asked on a thread of its own, which nobody waits for: a node that does not answer must hold up neither the keys
    // nor the end.
    let (ask, asked) = std::sync::mpsc::sync_channel::<()>(1);
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        while asked.recv().is_ok() {
            if tell.send(gatherer.gather()).is_err() {
                break;
            }
        }
    });
    let (mut due, mut waits) = (Instant::now(), false);
    loop {
        if !waits && Instant::now() >= due && !screen.is_paused {
            waits = ask.try_send(()).is_ok();
        }
        if let Ok(seen) = told.try_recv() {
            (waits, due) = (false, Instant::now() + every);
            screen.nodes = seen;
        }
        terminal.draw(|frame| screen.draw(frame))?;
        if event::poll(KEY_WAIT)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && !pressed(&mut screen, key, &mut due)
        {
            return Ok(());
        }
    }
}

/// Takes a key; `false` ends the program.
fn pressed(screen: &mut Screen, key: KeyEvent, due: &mut Instant) -> bool {
    let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
    match key.code {
        KeyCode::Char('c' | 'd') if is_control => return false,
        KeyCode::Esc if screen.is_help => screen.is_help = false,
        KeyCode::Char('q') | KeyCode::Esc => return false,
        KeyCode::Char('?' | 'h') | KeyCode::F(1) => screen.is_help = !screen.is_help,
        KeyCode::Char('p') => screen.is_paused = !screen.is_paused,
        KeyCode::Char('r') => *due = Instant::now(),
        KeyCode::Tab | KeyCode::Right => screen.step(1),
        KeyCode::BackTab | KeyCode::Left => screen.step(-1),
        KeyCode::Down | KeyCode::Char('j') => screen.scroll = screen.scroll.saturating_add(1),
        KeyCode::Up | KeyCode::Char('k') => screen.scroll = screen.scroll.saturating_sub(1),
        _ => {}
    }
    true
}
