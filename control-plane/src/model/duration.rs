//! Durations as the API speaks them: `"30s"`, `"500ms"`, `"24h"`, `"90d"`. Written back in seconds, or in milliseconds
//! where seconds do not divide.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};

/// Whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(u64);

/// The text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number and a unit, one of ms, s, m, h, d, such as `30s`")]
pub struct WrongDuration;

impl Duration {
    /// So many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }

    /// In milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// For clocks. At most a hundred years, so it never overflows a date.
    pub fn as_time(self) -> time::Duration {
        time::Duration::milliseconds(i64::try_from(self.0).unwrap_or(i64::MAX))
    }
}

impl FromStr for Duration {
    type Err = WrongDuration;

    fn from_str(text: &str) -> Result<Self, WrongDuration> {
        const CENTURY: u64 = 100 * 366 * 86_400_000;
        let split = text.find(|letter: char| !letter.is_ascii_digit()).ok_or(WrongDuration)?;
        let (number, unit) = text.split_at(split);
        let number: u64 = number.parse().map_err(|_| WrongDuration)?;
        let factor = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(WrongDuration),
        };
        number.checked_mul(factor).filter(|millis| *millis <= CENTURY).map(Self).ok_or(WrongDuration)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(formatter, "{}s", self.0 / 1000)
        } else {
            write!(formatter, "{}ms", self.0)
        }
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl utoipa::PartialSchema for Duration {
    fn schema() -> utoipa::openapi::RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+(ms|s|m|h|d)$")).examples(["30s"]).into()
    }
}

impl utoipa::ToSchema for Duration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_seconds_are_written() {
        assert_eq!("10m".parse::<Duration>().unwrap().to_string(), "600s");
        assert_eq!("1500ms".parse::<Duration>().unwrap().to_string(), "1500ms");
        assert_eq!("90d".parse::<Duration>().unwrap(), Duration::from_secs(90 * 86_400));
        for text in ["", "s", "10", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "99999999d"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }
}
