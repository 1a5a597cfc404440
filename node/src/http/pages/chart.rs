//! Charts as SVG that the stylesheet colours, each with a table of the same numbers.
use fama_ledger::time::Day;
use maud::{Markup, html};

use super::words;
use crate::http::karma::DayView;

/// The drawing, in units of its own view box.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 28.0;
/// Height of a label on a phone, where labels are largest.
const LABEL: f64 = 20.0;
/// Most bars that have labels, in this width.
const LABELLED_MAX: usize = 14;
/// Most points that are drawn; of more, evenly chosen ones.
const POINTS_MAX: usize = 240;
/// Most rows of the table behind a chart: the newest.
const ROWS_MAX: usize = 90;

/// The score at the end of a day.
struct Point {
    day: String,
    number: u32,
    change: i64,
    score: i64,
}

fn points(days: &[DayView]) -> Vec<Point> {
    let mut score = 0i64;
    let point = |one: &DayView| {
        score = score.saturating_add(one.counts.sum);
        let number = one.day.parse::<Day>().map_or(0, |day| day.0);
        Point { day: one.day.clone(), number, change: one.counts.sum, score }
    };
    days.iter().map(point).collect()
}

/// The score over time, of the days on which what counts today was signed.
pub(super) fn karma(days: &[DayView]) -> Markup {
    let points = points(days);
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return html! { p.empty { "Nothing counts yet." } };
    };
    let title = format!("Karma from {} on {} to {} on {}", first.score, first.day, last.score, last.day);
    html! {
        figure.chart {
            (drawing(&points, &title))
            figcaption { "What counts today, summed up by the UTC day on which it was signed." }
        }
        details {
            summary { "The same as a table" }
            (table(&points))
        }
    }
}

fn table(points: &[Point]) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-label="Karma by day" {
            table {
                caption { "Karma by day, newest first" @if points.len() > ROWS_MAX { " (the newest " (ROWS_MAX) " days)" } }
                thead { tr { th scope="col" { "Day" } th.num scope="col" { "Change" } th.num scope="col" { "Karma" } } }
                tbody {
                    @for point in points.iter().rev().take(ROWS_MAX) {
                        tr { td { (point.day) } td.num { (words::signed(point.change)) } td.num { (words::number(point.score)) } }
                    }
                }
            }
        }
    }
}

fn drawing(points: &[Point], title: &str) -> Markup {
    let chosen = choose(points);
    let (low, high) =
        chosen.iter().fold((0i64, 0i64), |(low, high), point| (low.min(point.score), high.max(point.score)));
    let high = if low == high { low.saturating_add(1) } else { high };
    let (begin, end) = (chosen.first().map_or(0, |p| p.number), chosen.last().map_or(1, |p| p.number));
    let span = f64::from(end.saturating_sub(begin).max(1));
    // As wide as the longer score is on a phone.
    let digits = low.to_string().len().max(high.to_string().len()) as f64;
    let left = LEFT.max(16.0 + 13.0 * digits);
    // Of a single day, the line is drawn to the right end.
    let x = |day: u32| left + (WIDTH - left - RIGHT) * f64::from(day.saturating_sub(begin)) / span;
    let y = |score: i64| TOP + (HEIGHT - TOP - BOTTOM) * (high as f64 - score as f64) / (high as f64 - low as f64);
    // The label of 0 needs room between the two others.
    let is_apart = |score: i64| (y(0) - y(score)).abs() > LABEL;
    let mut line = format!("M{left:.1} {:.1}", y(0));
    for point in &chosen {
        line.push_str(&format!("H{:.1}V{:.1}", x(point.number), y(point.score)));
    }
    line.push_str(&format!("H{:.1}", WIDTH - RIGHT));
    let area = format!("{line}V{:.1}H{left:.1}Z", y(0));
    let names = [begin, end].map(|day| Day(day).to_string());
    html! {
        svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label=(title) {
            title { (title) }
            line.axis x1=(left) x2=(WIDTH - RIGHT) y1=(y(0)) y2=(y(0)) {}
            @for score in [low, high] {
                @if score != 0 { line.grid x1=(left) x2=(WIDTH - RIGHT) y1=(y(score)) y2=(y(score)) {} }
                text.label x=(left - 8.0) y=(y(score) + 4.0) text-anchor="end" { (score) }
            }
            @if is_apart(low) && is_apart(high) { text.label x=(left - 8.0) y=(y(0) + 4.0) text-anchor="end" { "0" } }
            path.area d=(area) {}
            path.line d=(line) {}
            text.label x=(left) y=(HEIGHT - 8.0) { (names[0]) }
            @if begin != end { text.label x=(WIDTH - RIGHT) y=(HEIGHT - 8.0) text-anchor="end" { (names[1]) } }
        }
    }
}

/// At most [`POINTS_MAX`] points, the last one among them.
fn choose(points: &[Point]) -> Vec<&Point> {
    let step = points.len().div_ceil(POINTS_MAX).max(1);
    let mut chosen: Vec<&Point> = points.iter().rev().step_by(step).collect();
    chosen.reverse();
    chosen
}

/// How often each delta was given, from the lowest to the highest.
pub(super) fn deltas(counts: &[(i64, u64)]) -> Markup {
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(0).max(1) as f64;
    let slot = (WIDTH - LEFT - RIGHT) / counts.len().max(1) as f64;
    let every = counts.len().div_ceil(LABELLED_MAX).max(1);
    let bars = counts.iter().enumerate().map(|(at, (delta, count))| {
        let height = (HEIGHT - TOP - LABEL - BOTTOM) * *count as f64 / most;
        (at, (LEFT + slot * at as f64, HEIGHT - BOTTOM - height), height, *delta, *count)
    });
    html! {
        figure.chart {
            svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } role="img" aria-label="How often each delta was given" {
                title { "How often each delta was given" }
                @for (at, (x, y), height, delta, count) in bars {
                    rect class=(if delta < 0 { "bar down" } else { "bar up" }) x=(x + slot * 0.15) y=(y) width=(slot * 0.7) height=(height) {}
                    @if count > 0 && every == 1 { text.label x=(x + slot / 2.0) y=(y - 5.0) text-anchor="middle" { (count) } }
                    @if at % every == 0 { text.label x=(x + slot / 2.0) y=(HEIGHT - 10.0) text-anchor="middle" { (delta) } }
                }
                line.axis x1=(LEFT) x2=(WIDTH - RIGHT) y1=(HEIGHT - BOTTOM) y2=(HEIGHT - BOTTOM) {}
            }
        }
        details {
            summary { "The same as a table" }
            table {
                caption { "How often each delta was given" }
                thead { tr { th.num scope="col" { "Delta" } th.num scope="col" { "Times" } } }
                tbody { @for (delta, count) in counts { tr { td.num { (words::signed(*delta)) } td.num { (words::number(count)) } } } }
            }
        }
    }
}
