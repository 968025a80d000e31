//! Prometheus's text format, version 0.0.4.

use std::fmt::{Display, Write as _};

use super::meters::{BOUNDS, Durations};

/// A page in the making.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) String);

/// Names and values of labels.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Text {
    /// What follows is about this.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A family of one sample.
    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.line(name, "", labels, None, value);
    }

    /// All samples of one histogram.
    pub(super) fn histogram(&mut self, name: &str, labels: Labels<'_>, durations: &Durations) {
        let mut total = 0;
        for (bound, count) in BOUNDS.iter().zip(&durations.counts) {
            total += count;
            self.line(name, "_bucket", labels, Some(format_args!("{}", decimal(*bound, 1000))), total);
        }
        total += durations.counts[BOUNDS.len()];
        self.line(name, "_bucket", labels, Some(format_args!("+Inf")), total);
        self.line(name, "_sum", labels, None, decimal(durations.sum_us, 1_000_000));
        self.line(name, "_count", labels, None, total);
    }

    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<std::fmt::Arguments<'_>>,
        value: impl Display,
    ) {
        let _ = write!(self.0, "{name}{suffix}");
        let mut before = '{';
        for (label, value) in labels {
            let _ = write!(self.0, "{before}{label}=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
            before = ',';
        }
        if let Some(bound) = bound {
            let _ = write!(self.0, "{before}le=\"{bound}\"");
            before = ',';
        }
        if before == ',' {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }
}

/// `number / parts` without going through a float, and without zeroes at its end.
fn decimal(number: u64, parts: u64) -> String {
    let digits = parts.ilog10() as usize;
    let text = format!("{}.{:0digits$}", number / parts, number % parts);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_label_holds_it_stays_one_label() {
        let mut text = Text::default();
        text.sample("m", &[("a", "x\"} 1\n\\"), ("b", "")], 7);
        assert_eq!(text.0, "m{a=\"x\\\"} 1\\n\\\\\",b=\"\"} 7\n");
    }

    #[test]
    fn decimals_are_exact() {
        for (number, parts, text) in [(5, 1000, "0.005"), (1000, 1000, "1"), (0, 1000, "0"), (12_500, 1000, "12.5")] {
            assert_eq!(decimal(number, parts), text);
        }
        assert_eq!(decimal(u64::MAX, 1_000_000), "18446744073709.551615");
    }
}
