//! Progress bars on stderr; invisible where stderr is no terminal.
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

/// A bar of bytes whose number is not known yet, with rate and time left. The caller clears it.
#[must_use]
pub(crate) fn bytes(message: impl Into<String>) -> ProgressBar {
    let template = "{msg:20} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0).with_style(style).with_message(message.into())
}
