//! Work on several threads with results in order.
use std::ops::{ControlFlow, Range};
use std::sync::mpsc::sync_channel;
use std::thread;

/// How many files are fetched at a time: more than cores, because they wait for the network.
pub(super) const WORKERS: u64 = 8;
/// How many finished results each worker may queue.
const WAITING_MAX: usize = 2;

/// Calls `each` with the result of `work` for every number of the range, in order, until it breaks. At most three
/// results per worker are in memory. Returns after all workers have ended.
pub(super) fn in_order<T: Send>(
    range: Range<u64>,
    work: impl Fn(u64) -> T + Sync,
    mut each: impl FnMut(T) -> ControlFlow<()>,
) {
    let (work, workers) = (&work, WORKERS.min(range.end.saturating_sub(range.start)));
    thread::scope(|scope| {
        let start = |worker: u64| {
            let (send, receive) = sync_channel(WAITING_MAX);
            let mut at = range.start.saturating_add(worker);
            scope.spawn(move || {
                while at < range.end && send.send(work(at)).is_ok() {
                    at = at.saturating_add(workers);
                }
            });
            receive
        };
        let results: Vec<_> = (0..workers).map(start).collect();
        // Worker i has the numbers start + i, start + i + workers, …: taking turns gives them in order, and the first
        // worker that has none left ends the loop.
        let mut next = results.iter().cycle();
        while let Some(Ok(result)) = next.next().map(std::sync::mpsc::Receiver::recv) {
            if each(result).is_break() {
                break;
            }
        }
        drop(results);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn results_come_in_order_and_no_more_than_wanted() {
        for (range, take) in [(0..0, 9), (0..1, 9), (3..100, 1_000), (5..23, 7), (0..100_000, 40)] {
            let (made, mut seen) = (AtomicU64::new(0), Vec::new());
            let work = |at| {
                made.fetch_add(1, Ordering::Relaxed);
                at
            };
            in_order(range.clone(), work, |at| {
                seen.push(at);
                if seen.len() < take { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            assert_eq!(seen, range.take(take).collect::<Vec<_>>());
            assert!(made.into_inner() <= seen.len() as u64 + 4 * WORKERS, "results that nobody takes are not made");
        }
    }
}
