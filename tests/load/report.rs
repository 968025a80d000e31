//! How results are shown: a table for a terminal, one for the documentation, and JSON with everything.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::{
    figures,
    machine::Machine,
    results::{Results, Row, Target},
    subject::Kind,
};

/// Lines of cells, the first with the names.
struct Table(Vec<Vec<String>>);

impl Table {
    fn of(results: &Results, subjects: &[Kind]) -> Self {
        let shown = |kind: &&Kind| results.rows.iter().any(|row| row.of(**kind).is_some());
        let subjects: Vec<Kind> = subjects.iter().filter(shown).copied().collect();
        let mut head: Vec<String> = ["scenario", "figure", "unit"].map(str::to_owned).to_vec();
        head.extend(subjects.iter().map(|kind| kind.name().to_owned()));
        head.extend(["against the floor", "target", ""].map(str::to_owned));
        let mut lines = vec![head];
        for row in &results.rows {
            let metric = row.metric;
            let mut line = vec![metric.scenario.to_owned(), metric.name.to_owned(), metric.unit.to_owned()];
            line.extend(subjects.iter().map(|kind| row.of(*kind).map(value).unwrap_or_default()));
            line.push(ratio(row));
            line.push(match metric.target {
                Target::None => String::new(),
                Target::RatioAtMost(most) => format!("<= {most}x"),
                Target::RatioAtLeast(least) => format!(">= {least}x"),
                Target::AtMost(most) => format!("<= {most} {}", metric.unit),
            });
            let doubt = if row.unclear() { "?" } else { "" };
            line.push(match row.holds() {
                None => String::new(),
                Some(true) => format!("holds{doubt}"),
                Some(false) => format!("missed{doubt}"),
            });
            lines.push(line);
        }
        Self(lines)
    }
}

/// The median with its spread.
fn value(values: &[f64]) -> String {
    let median = figures::median(values);
    let number = match median.abs() {
        large if large >= 1_000.0 => thousands(median),
        middle if middle >= 100.0 => format!("{median:.0}"),
        small if small >= 10.0 => format!("{median:.1}"),
        _ => format!("{median:.2}"),
    };
    if values.len() < 2 { number } else { format!("{number} {}", spread(values)) }
}

/// Beyond any sense it is only said to be so.
fn spread(values: &[f64]) -> String {
    match figures::spread(values) * 100.0 {
        senseless if senseless > 999.0 => "±>999%".to_owned(),
        percent => format!("±{percent:.0}%"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Lockgate's, or else that of whatever was measured to know the harness.
fn ratio(row: &Row) -> String {
    // A quotient is told by itself.
    if row.metric.unit == "x" {
        return String::new();
    }
    match row.ratios(Kind::Lockgate).or_else(|| row.ratios(Kind::FloorAgain)) {
        None => String::new(),
        Some(ratios) if ratios.len() < 2 => format!("{:.2}x", figures::median(&ratios)),
        Some(ratios) => format!("{:.2}x {}", figures::median(&ratios), spread(&ratios)),
    }
}

pub(crate) fn text(results: &Results, subjects: &[Kind], machine: &Machine) -> String {
    let Table(lines) = Table::of(results, subjects);
    let widths: Vec<usize> = (0..lines[0].len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for line in &lines {
        let mut padded = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Names to the left, figures to the right.
            let _ = if column < 3 { write!(padded, "{cell:<width$}  ") } else { write!(padded, "{cell:>width$}  ") };
        }
        text.push_str(padded.trim_end());
        text.push('\n');
    }
    let _ = write!(text, "\n{machine}");
    text
}

pub(crate) fn markdown(results: &Results, subjects: &[Kind], machine: &Machine) -> String {
    let Table(lines) = Table::of(results, subjects);
    let mut text = String::new();
    for (number, line) in lines.iter().enumerate() {
        let _ = writeln!(text, "| {} |", line.join(" | "));
        if number == 0 {
            let _ = writeln!(text, "|---|---|---|{}", "--:|".repeat(line.len() - 4) + "---|");
        }
    }
    let _ = write!(text, "\n{machine}");
    text
}

pub(crate) fn json(results: &Results, options: &Value, machine: &Machine) -> Value {
    let rows: Vec<_> = results.rows.iter().map(Row::to_json).collect();
    json!({"machine": machine.to_json(), "options": options, "figures": rows})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Metric;

    fn results() -> Results {
        let mut results = Results::default();
        let cost = Metric::new("saturation", "CPU per request", "us", Target::RatioAtMost(1.3));
        for (floor, own) in [(17.0, 34.0), (18.0, 36.0), (19.0, 38.0)] {
            results.add(&cost, Kind::Floor, floor);
            results.add(&cost, Kind::Lockgate, own);
        }
        let rate = Metric::new("saturation", "requests per second", "/s", Target::None);
        results.add(&rate, Kind::Direct, 123_456.0);
        results
    }

    #[test]
    fn a_table_says_figure_ratio_target_and_verdict() {
        let all = [Kind::Direct, Kind::Floor, Kind::Nginx, Kind::Lockgate];
        let shown = text(&results(), &all, &Machine::default());
        assert!(shown.contains("18.0 ±6%") && shown.contains("36.0 ±6%"), "{shown}");
        assert!(shown.contains("2.00x ±0%") && shown.contains("<= 1.3x") && shown.contains("missed"), "{shown}");
        assert!(shown.contains("123,456"), "{shown}");
        assert!(!shown.contains("nginx"), "who was not there has no column: {shown}");
    }

    #[test]
    fn every_line_of_the_markdown_has_every_column() {
        let shown = markdown(&results(), &[Kind::Direct, Kind::Floor, Kind::Lockgate], &Machine::default());
        let columns: Vec<_> =
            shown.lines().take_while(|line| !line.is_empty()).map(|line| line.matches('|').count()).collect();
        assert_eq!(columns, [10; 4], "{shown}");
    }

    #[test]
    fn figures_are_as_long_as_they_say_something() {
        let shown: Vec<_> = [0.123, 12.34, 123.4, 1_234.5, -55_555.0].map(|number| value(&[number])).to_vec();
        assert_eq!(shown, ["0.12", "12.3", "123", "1,234", "-55,555"]);
    }
}
