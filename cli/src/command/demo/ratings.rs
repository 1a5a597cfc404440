//! Reads ratings: CSV lines `source,target,rating,time` without a header.
use std::io::{BufRead, BufReader};
use std::path::Path;

use crate::failure::Failure;

/// Most lines that are loaded.
const LINES_MAX: usize = 1_000_000;
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

/// Reads a whole file.
///
/// # Errors
/// `ratings` with the file and the line that is wrong.
pub(super) fn read(path: &Path) -> Result<Vec<Rating>, Failure> {
    let at = |line: usize, what: &str| Failure::new("ratings", format!("{}:{line}: {what}", path.display()));
    let hint = "want lines of source,target,rating,time: whole numbers, the rating from -10 to 10 and not 0";
    let file =
        std::fs::File::open(path).map_err(|error| Failure::new("ratings", format!("{}: {error}", path.display())))?;
    let mut ratings = Vec::new();
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| at(number + 1, &error.to_string()))?;
        if number >= LINES_MAX || line.len() > LINE_BYTES_MAX {
            return Err(at(number + 1, "too long").hint(format!("at most {LINES_MAX} lines of {LINE_BYTES_MAX} bytes")));
        }
        ratings.push(parse(&line).ok_or_else(|| at(number + 1, &format!("not a rating: {line:?}")).hint(hint))?);
    }
    if ratings.is_empty() { Err(at(1, "no ratings").hint(hint)) } else { Ok(ratings) }
}

fn parse(line: &str) -> Option<Rating> {
    let mut fields = line.trim_end().split(',');
    let (source, target) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let rating: i32 = fields.next()?.parse().ok()?;
    let _time: f64 = fields.next()?.parse().ok()?;
    let ok = fields.next().is_none() && rating != 0 && (-10..=10).contains(&rating) && source != target;
    ok.then_some(Rating { source, target, rating })
}

#[cfg(test)]
mod tests {
    use super::*;

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
