//! The blocks of a paper that a reader can run.

/// Languages of blocks that can be run; others show formats or pictures.
const RUNNABLE: [&str; 6] = ["console", "sh", "bash", "python", "sql", "rust"];
/// Says of the block that follows why the test does not run it.
const NOT_RUN: &str = "<!-- not run: ";

/// One command with what the paper says it prints.
#[derive(Debug)]
pub(super) struct ShownCommand {
    /// As it is typed, lines that end with `\` joined.
    pub(super) line: String,
    /// What it prints; `…` on a line of its own stands for any lines.
    pub(super) output: Vec<String>,
    /// The line of the paper on which it stands.
    pub(super) at: usize,
}

#[derive(Debug)]
pub(super) struct ShownBlock {
    pub(super) language: String,
    pub(super) text: String,
    pub(super) commands: Vec<ShownCommand>,
    /// Why it isn't run, if it isn't.
    pub(super) not_run: Option<String>,
}

impl ShownBlock {
    /// All of a paper, in their order.
    pub(super) fn all(paper: &str) -> Vec<Self> {
        let (mut found, mut reason) = (Vec::new(), None);
        let mut lines = (1..).zip(paper.lines());
        while let Some((_, line)) = lines.next() {
            if let Some(rest) = line.strip_prefix(NOT_RUN) {
                reason = Some(rest.strip_suffix("-->").unwrap().trim().to_owned());
            } else if let Some(language) = line.strip_prefix("```") {
                let body: Vec<(usize, &str)> = lines.by_ref().take_while(|(_, line)| *line != "```").collect();
                if RUNNABLE.contains(&language) {
                    let text = body.iter().map(|(_, line)| format!("{line}\n")).collect();
                    let commands = if language == "console" { commands(&body) } else { Vec::new() };
                    found.push(Self { language: language.to_owned(), text, commands, not_run: reason.take() });
                }
                assert_eq!(reason, None, "a block that is never run has no need to say so");
            }
        }
        found
    }
}

fn commands(lines: &[(usize, &str)]) -> Vec<ShownCommand> {
    let mut found: Vec<ShownCommand> = Vec::new();
    for (at, line) in lines {
        if let Some(line) = line.strip_prefix("$ ") {
            found.push(ShownCommand { line: line.to_owned(), output: Vec::new(), at: *at });
            continue;
        }
        let last = found.last_mut().expect("a block begins with a command");
        match last.line.strip_suffix('\\') {
            Some(begun) if last.output.is_empty() => last.line = format!("{begun}{}", line.trim_start()),
            _ => last.output.push((*line).to_owned()),
        }
    }
    found
}
