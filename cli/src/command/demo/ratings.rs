//! Reads ratings: CSV lines `source,target,rating,time` without a header.
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Longest line, in bytes.
const LINE_BYTES_MAX: usize = 256;

/// One line of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rating {
    /// The person who rates.
    pub(crate) source: u32,
    /// The person who is rated, another one.
    pub(crate) target: u32,
    /// −10 to 10, not 0.
    pub(crate) rating: i32,
}

impl Rating {
    /// Half of the rating, rounded away from zero: −5 to 5.
    #[must_use]
    pub(super) const fn delta(&self) -> i32 {
        self.rating.signum() * (self.rating.abs() + 1) / 2
    }
}

/// The people of a file, and how many ratings it has.
#[derive(Debug, Default)]
pub(super) struct Overview {
    /// Everybody who rates or is rated.
    pub(crate) people: BTreeSet<u32>,
    /// Those who rate.
    pub(crate) sources: BTreeSet<u32>,
    /// Number of ratings.
    pub(crate) count: u64,
}

/// Reads a whole file, of which one line at a time is in memory.
///
/// # Errors
/// `ratings` with the file and the line that is wrong.
pub(super) fn overview(path: &Path) -> Result<Overview, Failure> {
    let mut all = Overview::default();
    for rating in open(path)? {
        let rating = rating?;
        all.people.extend([rating.source, rating.target]);
        all.sources.insert(rating.source);
        all.count = all.count.saturating_add(1);
    }
    if all.count == 0 { Err(wrong(path, 1, "no ratings").hint(WANTED)) } else { Ok(all) }
}

const WANTED: &str = "want lines of source,target,rating,time: whole numbers, the rating from -10 to 10 and not 0";

fn wrong(path: &Path, line: usize, what: &str) -> Failure {
    Failure::new("ratings", format!("{}:{line}: {what}", path.display()))
}

/// The ratings of a file, in its order.
pub(super) struct RatingLines {
    path: PathBuf,
    file: BufReader<File>,
    number: usize,
}

/// Opens a file of ratings.
///
/// # Errors
/// `ratings` if it cannot be opened.
pub(super) fn open(path: &Path) -> Result<RatingLines, Failure> {
    let file = File::open(path).map_err(|error| Failure::new("ratings", format!("{}: {error}", path.display())))?;
    Ok(RatingLines { path: path.to_owned(), file: BufReader::new(file), number: 0 })
}

impl RatingLines {
    /// The next line that is not empty; `None` at the end.
    fn read(&mut self) -> Result<Option<Rating>, Failure> {
        loop {
            let mut line = Vec::new();
            self.number += 1;
            let number = self.number;
            // No more of a line is read than one may have, with its end and a byte order mark.
            let bound = LINE_BYTES_MAX.saturating_add(5) as u64;
            let read = Read::by_ref(&mut self.file).take(bound).read_until(b'\n', &mut line);
            if read.map_err(|error| wrong(&self.path, number, &error.to_string()))? == 0 {
                return Ok(None);
            }
            let cut = line.len() as u64 == bound && !line.ends_with(b"\n");
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_start_matches(if number == 1 { "\u{feff}" } else { "" }).trim();
            if cut || line.len() > LINE_BYTES_MAX {
                let hint = format!("at most {LINE_BYTES_MAX} bytes a line");
                return Err(wrong(&self.path, number, "too long").hint(hint));
            }
            if !line.is_empty() {
                let rating = parse(line);
                let fault = || wrong(&self.path, number, &format!("not a rating: {line:?}")).hint(WANTED);
                return rating.ok_or_else(fault).map(Some);
            }
        }
    }
}

impl Iterator for RatingLines {
    type Item = Result<Rating, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
    }
}

fn parse(line: &str) -> Option<Rating> {
    let mut fields = line.split(',').map(str::trim);
    let (source, target) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let rating: i32 = fields.next()?.parse().ok()?;
    let _time: f64 = fields.next()?.parse().ok()?;
    let ok = fields.next().is_none() && rating != 0 && (-10..=10).contains(&rating) && source != target;
    ok.then_some(Rating { source, target, rating })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As spreadsheets and editors write such files.
    #[test]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.csv");
        let check = |text: &[u8], want: Result<u64, &str>| {
            std::fs::write(&file, text).unwrap();
            let got = overview(&file).map(|all| all.count).map_err(|failure| failure.message);
            let shown = String::from_utf8_lossy(text.get(..40).unwrap_or(text)).into_owned();
            match want {
                Ok(_) => assert_eq!(got.as_ref().ok(), want.as_ref().ok(), "{shown:?}: {got:?}"),
                Err(part) => {
                    assert!(got.as_ref().err().is_some_and(|message| message.contains(part)), "{shown:?}: {got:?}");
                }
            }
        };
        check(b"1,2,5,1", Ok(1));
        check(b"1,2,5,1\n\n", Ok(1));
        check(b"\xef\xbb\xbf1,2,5,1\n", Ok(1));
        check(b"\r\n1,2,5,1\r\n\r\n2, 1, -5, 2 \r\n", Ok(2));
        check(b"", Err("no ratings"));
        check(b"\n \n", Err("no ratings"));
        check(b"1,2,5,1\nx\n", Err("r.csv:2: not a rating"));
        check(b"\xff,2,5,1\n", Err("r.csv:1: not a rating"));
        check(format!("1,2,5,1\n{}\n", "1".repeat(257)).as_bytes(), Err("r.csv:2: too long"));
    }

    /// Symptom: a line of 400 MB was read whole in spite of the bound.
    #[test]
    fn no_more_of_a_line_is_read_than_it_may_have() {
        // It never ends: reading it whole would take all memory.
        assert!(overview(Path::new("/dev/zero")).unwrap_err().message.contains(":1: too long"));
    }

    #[test]
    fn lines() {
        let check =
            |line: &str, delta: Option<i32>| assert_eq!(parse(line).map(|rating| rating.delta()), delta, "{line}");
        check("6,2,4,1289241911.72836", Some(2));
        for (rating, delta) in [(10, 5), (9, 5), (2, 1), (1, 1), (-1, -1), (-2, -1), (-9, -5), (-10, -5)] {
            check(&format!("1,15,{rating},1289243140"), Some(delta));
        }
        for bad in ["", "1,2,3", "1,2,0,4", "1,2,11,4", "1,1,3,4", "a,2,3,4", "1,2,3,4,5", "source,target,rating,time"]
        {
            check(bad, None);
        }
    }
}
