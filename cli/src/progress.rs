//! Progress bars on stderr; invisible where stderr is no terminal.
use std::io::Write;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A spinner with a message, for work of unknown length. The caller clears it.
#[must_use]
pub(crate) fn spinner(message: impl Into<String>) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(message.into());
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}

/// A bar of `length` steps, with rate and time left. The caller clears it.
#[must_use]
pub(crate) fn bar(length: u64, message: impl Into<String>) -> ProgressBar {
    let template = "{msg:20} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style).with_message(message.into())
}

/// How often a line says how far the work is, where no bar can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Says every ten seconds how far a bar is, where it cannot be drawn, until this is dropped.
pub(crate) struct ProgressLines(Option<SyncSender<()>>);

impl ProgressLines {
    /// For work that may take minutes.
    #[must_use]
    pub(crate) fn of(bar: &ProgressBar) -> Self {
        if !bar.is_hidden() {
            return Self(None);
        }
        let (sender, ended) = sync_channel::<()>(0);
        let bar = bar.clone();
        std::thread::spawn(move || {
            // Nothing is ever sent: it ends when the sender is dropped.
            while ended.recv_timeout(LINE_EVERY) == Err(RecvTimeoutError::Timeout) {
                let of = bar.length().map(|length| format!(" of {length}")).unwrap_or_default();
                let line = format!("{}: {}{of}, {:.0} per second", bar.message(), bar.position(), bar.per_sec());
                // With stderr closed nobody wants to know.
                let _ = writeln!(std::io::stderr(), "{line}");
            }
        });
        Self(Some(sender))
    }
}

impl Drop for ProgressLines {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

/// A bar of bytes whose number is not known yet, with rate and time left. The caller clears it.
#[must_use]
pub(crate) fn bytes(message: impl Into<String>) -> ProgressBar {
    let template = "{msg:20} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(message.into())
}
