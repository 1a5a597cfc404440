//! Draws what nodes of several sizes cost, from the lines of `grow.json`.
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Pixels of a panel's field, and around it.
const FIELD: (f64, f64) = (230.0, 120.0);
const MARGIN: (f64, f64) = (58.0, 40.0);
const COLUMNS: usize = 3;

/// One panel: a title with its unit, and the lines that it shows, each with its name and where its figures are.
struct Panel {
    title: &'static str,
    lines: &'static [(&'static str, &'static [&'static str], f64)],
}

const PANELS: [Panel; 6] = [
    Panel {
        title: "resident memory, MB",
        lines: &[
            ("asked", &["node", "memory_bytes", "asked"], 1e-6),
            ("started", &["node", "memory_bytes", "started"], 1e-6),
        ],
    },
    Panel {
        title: "start until ready, s",
        lines: &[
            ("killed", &["node", "start_seconds", "killed"], 1.0),
            ("clean", &["node", "start_seconds", "clean"], 1.0),
        ],
    },
    Panel { title: "disk, bytes an event", lines: &[("all", &["disk", "bytes_per_event"], 1.0)] },
    Panel {
        title: "GET agent, p99 in ms",
        lines: &[
            ("asked once", &["node", "get_agent", "once", "p99_ms"], 1.0),
            ("typical", &["node", "get_agent", "typical", "p99_ms"], 1.0),
            ("while written", &["node", "while_written", "reads", "p99_ms"], 1.0),
        ],
    },
    Panel {
        title: "GET agent, thousands a second",
        lines: &[
            ("asked once", &["node", "get_agent", "once", "per_second"], 1e-3),
            ("typical", &["node", "get_agent", "typical", "per_second"], 1e-3),
            ("fixed text", &["node", "get_agent", "fixed", "per_second"], 1e-3),
        ],
    },
    Panel {
        title: "CPU of an appended event, µs",
        lines: &[("batches of 1,024", &["load", "append", "cpu_us_per_event"], 1.0)],
    },
];
/// Colours that stay apart for people who see few, on white and on grey.
const COLOURS: [&str; 3] = ["#0b6bcb", "#b4530a", "#3b7d3b"];

/// Writes an SVG of the lines of `results` to `to`: of each number of events the last figures. A run that found all events
/// in its folder has none of loading.
pub(crate) fn draw(results: &Path, to: &Path) {
    let Ok(text) = fs::read_to_string(results) else {
        println!("no plot: `make grow` writes {}, and nothing is there", results.display());
        return;
    };
    let mut all: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    all.reverse();
    all.sort_by_key(|one| one["events"].as_u64());
    all.dedup_by(|older, newer| {
        let same = older["events"] == newer["events"];
        if same && newer["load"].is_null() {
            newer["load"] = older["load"].take();
        }
        same
    });
    let (width, height) = (FIELD.0 + MARGIN.0 + 24.0, FIELD.1 + 2.0 * MARGIN.1 + 14.0);
    let rows = PANELS.len().div_ceil(COLUMNS);
    let mut svg = String::new();
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\" role=\"img\"><title>What a node costs, by the number of events</title>\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
        width * COLUMNS as f64,
        height * rows as f64
    );
    for (at, panel) in PANELS.iter().enumerate() {
        let (x, y) = ((at % COLUMNS) as f64 * width + MARGIN.0, (at / COLUMNS) as f64 * height + MARGIN.1);
        let _ = write!(svg, "<g transform=\"translate({x:.0} {y:.0})\">{}</g>", panel.svg(&all));
    }
    svg.push_str("</svg>\n");
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(to, svg).unwrap();
    println!("{}", to.display());
}

impl Panel {
    /// The panel; x is the logarithm of the number of events, y begins at 0.
    fn svg(&self, all: &[Value]) -> String {
        let figure = |of: &Value, path: &[&str], scale: f64| {
            path.iter().try_fold(of, |of, name| of.get(name)).and_then(Value::as_f64).map(|value| value * scale)
        };
        let events = |of: &Value| of["events"].as_f64().unwrap();
        let points: Vec<(&str, Vec<(f64, f64)>)> = self
            .lines
            .iter()
            .map(|(name, path, scale)| {
                let found = all.iter().filter_map(|one| Some((events(one), figure(one, path, *scale)?)));
                (*name, found.collect())
            })
            .collect();
        let most = points.iter().flat_map(|(_, of)| of).map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max);
        let (first, last) = (all.first().map_or(1.0, events).log10(), all.last().map_or(10.0, events).log10());
        let span = (last - first).max(0.01);
        let x = |events: f64| (events.log10() - first) / span * FIELD.0;
        let y = |value: f64| FIELD.1 - value / (most * 1.1) * FIELD.1;
        let mut svg = format!(
            "<text y=\"-14\" font-weight=\"bold\">{}</text><path d=\"M0 0V{2:.0}H{1:.0}\" fill=\"none\" stroke=\"#555\"/>",
            self.title, FIELD.0, FIELD.1
        );
        for part in [0.0, 0.5, 1.0] {
            let value = most * part;
            let digits = if most < 1.0 { 3 } else { usize::from(most < 20.0) };
            let _ =
                write!(svg, "<text x=\"-6\" y=\"{:.1}\" text-anchor=\"end\">{value:.digits$}</text>", y(value) + 4.0);
        }
        for one in all {
            let millions = events(one) / 1e6;
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{millions} M</text>",
                x(events(one)),
                FIELD.1 + 16.0
            );
        }
        for (number, ((name, of), colour)) in points.iter().zip(COLOURS).enumerate() {
            let path: Vec<String> = of.iter().map(|(at, value)| format!("{:.1} {:.1}", x(*at), y(*value))).collect();
            if path.is_empty() {
                continue;
            }
            let _ =
                write!(svg, "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>", path.join("L"));
            for (at, value) in of {
                let _ = write!(
                    svg,
                    "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"><title>{name}: {value:.3}</title></circle>",
                    x(*at),
                    y(*value)
                );
            }
            let _ = write!(
                svg,
                "<text x=\"{:.0}\" y=\"{:.0}\" fill=\"{colour}\">{name}</text>",
                number as f64 * 76.0,
                FIELD.1 + 31.0
            );
        }
        svg
    }
}
