//! `name: value` lines: the shape that events and notes share.
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;

/// Why a text was refused, and in which line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct TextError {
    /// Line number, counted from 1.
    pub line: usize,
    /// What is wrong with the line.
    pub fault: TextFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextFault {
    /// Not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The whole text, or one value, is too long.
    #[error("the text has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Length of the text.
        len: usize,
        /// Largest length allowed.
        max: usize,
    },
    /// The first line is not the format's name.
    #[error("want {want:?} alone on the first line")]
    FirstLine {
        /// The format's name.
        want: &'static str,
    },
    /// The text ends before this field.
    #[error("missing {want:?}")]
    Missing {
        /// The field's name.
        want: &'static str,
    },
    /// Another field stands where this one belongs.
    #[error("want the field {want:?} here")]
    WrongField {
        /// The field's name.
        want: &'static str,
    },
    /// A line after the last field.
    #[error("nothing may follow the last field; unknown, repeated and misplaced fields are refused")]
    ExtraLine,
    /// The last line does not end with a newline.
    #[error("every line must end with a newline, the last one too")]
    NoNewline,
    /// Not `name: value`.
    #[error("want a name, a colon, one space and the value")]
    NoColon,
    /// The value is empty.
    #[error("the value is empty; leave out an absent field")]
    Empty,
    /// The value begins or ends with a space.
    #[error("a space at the start or end of the value")]
    OuterSpace,
    /// A character that no value may hold.
    #[error("the character U+{:04X} is not allowed", *.0 as u32)]
    Character(char),
    /// The value breaks the rule of its field.
    #[error("{field}: {rule}")]
    Value {
        /// The field's name.
        field: &'static str,
        /// The rule, or the error of the field's own type.
        rule: String,
    },
}

impl TextFault {
    /// A stable code for answers, logs and metrics.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotUtf8 => "not_utf8",
            Self::TooLong { .. } => "too_long",
            Self::FirstLine { .. } => "first_line",
            Self::Missing { .. } => "missing_field",
            Self::WrongField { .. } => "wrong_field",
            Self::ExtraLine => "extra_line",
            Self::NoNewline => "no_newline",
            Self::NoColon => "no_colon",
            Self::Empty => "empty_value",
            Self::OuterSpace => "outer_space",
            Self::Character(_) => "forbidden_character",
            Self::Value { .. } => "bad_value",
        }
    }
}

/// Whether `c` is forbidden in values: controls, line separators, bidirectional controls, BOM.
#[must_use]
pub const fn forbidden(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Checks the rules that apply to the value of every field.
///
/// # Errors
/// [`TextFault::Empty`], [`TextFault::OuterSpace`] or [`TextFault::Character`].
pub fn check_value(value: &str) -> Result<(), TextFault> {
    if value.is_empty() {
        return Err(TextFault::Empty);
    }
    if let Some(c) = value.chars().find(|c| forbidden(*c)) {
        return Err(TextFault::Character(c));
    }
    if value.starts_with(' ') || value.ends_with(' ') { Err(TextFault::OuterSpace) } else { Ok(()) }
}

/// Reads the fields of a text in order.
pub(crate) struct Fields<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Fields<'a> {
    /// Starts after the first line, which must be `format`.
    pub(crate) fn open(text: &'a [u8], format: &'static str, max: usize) -> Result<Self, TextError> {
        let at = |line, fault| Err(TextError { line, fault });
        if text.len() > max {
            return at(1, TextFault::TooLong { len: text.len(), max });
        }
        let text = match core::str::from_utf8(text) {
            Ok(text) => text,
            Err(error) => {
                let good = text.get(..error.valid_up_to()).unwrap_or_default();
                let newlines = good.iter().filter(|c| **c == b'\n').count();
                return at(newlines.saturating_add(1), TextFault::NotUtf8);
            }
        };
        match text.strip_prefix(format).and_then(|rest| rest.strip_prefix('\n')) {
            Some(rest) => Ok(Self { rest, line: 1 }),
            None => at(1, TextFault::FirstLine { want: format }),
        }
    }

    fn fault<T>(&self, fault: TextFault) -> Result<T, TextError> {
        Err(TextError { line: self.line, fault })
    }

    /// The value of the next line if its name is `name`.
    pub(crate) fn optional(&mut self, name: &'static str) -> Result<Option<&'a str>, TextError> {
        let named = self.rest.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
        let Some(after) = named else { return Ok(None) };
        self.line = self.line.saturating_add(1);
        let Some((line, rest)) = after.split_once('\n') else { return self.fault(TextFault::NoNewline) };
        let Some(value) = line.strip_prefix(' ') else { return self.fault(TextFault::NoColon) };
        check_value(value).or_else(|fault| self.fault(fault))?;
        self.rest = rest;
        Ok(Some(value))
    }

    /// The value of the next line, whose name must be `name`.
    pub(crate) fn text(&mut self, name: &'static str) -> Result<&'a str, TextError> {
        if let Some(value) = self.optional(name)? {
            return Ok(value);
        }
        self.line = self.line.saturating_add(1);
        self.fault(if self.rest.is_empty() {
            TextFault::Missing { want: name }
        } else {
            TextFault::WrongField { want: name }
        })
    }

    /// An error about the line read last.
    pub(crate) fn refuse<T>(&self, field: &'static str, rule: impl fmt::Display) -> Result<T, TextError> {
        self.fault(TextFault::Value { field, rule: rule.to_string() })
    }

    /// Parses the value of `field` by the rule of its type.
    pub(crate) fn typed<T: FromStr<Err: fmt::Display>>(
        &self,
        field: &'static str,
        value: &str,
    ) -> Result<T, TextError> {
        value.parse().or_else(|rule| self.refuse(field, rule))
    }

    /// The value of the next line, whose name must be `name`, parsed by the rule of its type.
    pub(crate) fn parse<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Result<T, TextError> {
        let value = self.text(name)?;
        self.typed(name, value)
    }

    /// The next line's integer in canonical form: `0`, or digits without a leading zero, optionally after `-`.
    pub(crate) fn integer<T: FromStr>(&mut self, name: &'static str) -> Result<T, TextError> {
        let value = self.text(name)?;
        let digits = value.strip_prefix('-').unwrap_or(value);
        let canonical = value == "0" || (digits.bytes().all(|c| c.is_ascii_digit()) && !digits.starts_with('0'));
        match value.parse() {
            Ok(number) if canonical => Ok(number),
            _ => self.refuse(name, "want a whole number in range, without a leading zero or plus"),
        }
    }

    /// Parses `sha256:` followed by 64 lower-case hex digits.
    pub(crate) fn sha256<T: FromStr<Err: fmt::Display>>(
        &self,
        name: &'static str,
        value: &str,
    ) -> Result<T, TextError> {
        match value.strip_prefix("sha256:") {
            Some(hex) => self.typed(name, hex),
            None => self.refuse(name, "want sha256: and 64 lower-case hex digits"),
        }
    }

    /// Checks that no line is left.
    pub(crate) fn close(mut self) -> Result<(), TextError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        self.line = self.line.saturating_add(1);
        self.fault(TextFault::ExtraLine)
    }
}
