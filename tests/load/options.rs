//! The command line: what is measured, how long, and where the results go. It knows nothing of how.

use std::path::PathBuf;

use anyhow::{Context as _, bail};

use crate::subject::Kind;

/// What can be measured, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    Saturation,
    Stream,
    Latency,
    FirstByte,
    Bodies,
    Uploads,
    Held,
    Idle,
    Crowd,
    Floods,
    Instructions,
}

impl Scenario {
    pub(crate) const ALL: [Self; 11] = [
        Self::Saturation,
        Self::Stream,
        Self::Latency,
        Self::FirstByte,
        Self::Bodies,
        Self::Uploads,
        Self::Held,
        Self::Idle,
        Self::Crowd,
        Self::Floods,
        Self::Instructions,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Saturation => "saturation",
            Self::Stream => "stream",
            Self::Latency => "latency",
            Self::FirstByte => "first-byte",
            Self::Bodies => "bodies",
            Self::Uploads => "uploads",
            Self::Held => "held",
            Self::Idle => "idle",
            Self::Crowd => "crowd",
            Self::Floods => "floods",
            Self::Instructions => "instructions",
        }
    }

    const fn purpose(self) -> &'static str {
        match self {
            Self::Saturation => "as many requests as one core answers: CPU per request, requests per second",
            Self::Stream => "many long streams: CPU per piece",
            Self::Latency => "requests at a fixed rate: what is added to the time of an answer",
            Self::FirstByte => "streams at a fixed rate: what is added to the time to the first byte",
            Self::Bodies => "5 MB up and down: CPU, throughput",
            Self::Uploads => "small streams while large bodies arrive",
            Self::Held => "5 MB that nobody takes: memory",
            Self::Idle => "memory of a node with nothing to do, start to first answer",
            Self::Crowd => "memory of 10,000 connections, mute or kept alive",
            Self::Floods => "a fresh request while others flood, kind by kind (about two minutes)",
            Self::Instructions => "instructions per request, small against large configuration (valgrind)",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) only: Vec<Scenario>,
    pub(crate) subjects: Vec<Kind>,
    pub(crate) endpoints: usize,
    /// `None`: as many as the scenario wants.
    pub(crate) keys: Option<usize>,
    /// Of one measurement.
    pub(crate) seconds: f64,
    pub(crate) repetitions: usize,
    pub(crate) lockgate: Option<PathBuf>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) markdown: Option<PathBuf>,
    /// Of callgrind.
    pub(crate) profile: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: Scenario::ALL.to_vec(),
            subjects: vec![Kind::Direct, Kind::Floor, Kind::Nginx, Kind::Lockgate],
            endpoints: 1_000,
            keys: None,
            seconds: 5.0,
            repetitions: 3,
            lockgate: None,
            json: None,
            markdown: None,
            profile: None,
        }
    }
}

/// What `--help` prints.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "Measures the data plane against going direct, against a bare pass-through and against nginx.\n\n\
         --only A,B          of these scenarios, only some:\n",
    );
    for scenario in Scenario::ALL {
        text.push_str(&format!("                      {:<14}{}\n", scenario.name(), scenario.purpose()));
    }
    text.push_str(
        "--subjects A,B      of direct, floor, nginx, lockgate; floor-again and direct-again measure the harness\n\
         --endpoints N       endpoints of the configuration (1000)\n\
         --keys N            keys of the configuration (100000; 1000000 where instructions are counted)\n\
         --seconds N         of one measurement (5)\n\
         --repetitions N     of each measurement; the median counts (3)\n\
         --quick             measurements of 1.5 seconds; says which way it goes, not how far\n\
         --lockgate FILE     the program to measure (the one beside this one)\n\
         --json FILE         writes everything that was measured\n\
         --markdown FILE     writes the table for the documentation\n\
         --profile FILE      keeps callgrind's profile of the large configuration\n",
    );
    text
}

impl Options {
    /// `None`: help was asked for.
    pub(crate) fn parse(arguments: &[String]) -> anyhow::Result<Option<Self>> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().with_context(|| format!("{argument} wants a value"));
            match argument.as_str() {
                "--help" | "-h" => return Ok(None),
                "--only" => options.only = scenarios(value()?)?,
                "--subjects" => options.subjects = subjects(value()?)?,
                "--endpoints" => options.endpoints = number(argument, value()?, 1, 100_000)?,
                "--keys" => options.keys = Some(number(argument, value()?, 1, 5_000_000)?),
                "--seconds" => options.seconds = number(argument, value()?, 1, 60)? as f64,
                "--repetitions" => options.repetitions = number(argument, value()?, 1, 20)?,
                "--quick" => options.seconds = 1.5,
                "--lockgate" => options.lockgate = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "--profile" => options.profile = Some(value()?.into()),
                "--markdown" => options.markdown = Some(value()?.into()),
                other => bail!("no option {other}; --help lists them"),
            }
        }
        Ok(Some(options))
    }
}

fn number(argument: &str, text: &str, least: usize, most: usize) -> anyhow::Result<usize> {
    let number: usize = text.parse().with_context(|| format!("{argument} wants a number, not {text:?}"))?;
    if !(least..=most).contains(&number) {
        bail!("{argument} is at least {least} and at most {most}");
    }
    Ok(number)
}

fn scenarios(text: &str) -> anyhow::Result<Vec<Scenario>> {
    let named = |name: &str| {
        Scenario::ALL.into_iter().find(|scenario| scenario.name() == name).with_context(|| {
            let known = Scenario::ALL.map(Scenario::name).join(", ");
            format!("no scenario {name:?}; there are {known}")
        })
    };
    text.split(',').map(named).collect()
}

fn subjects(text: &str) -> anyhow::Result<Vec<Kind>> {
    let named = |name: &str| {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).with_context(|| {
            let known = Kind::ALL.map(Kind::name).join(", ");
            format!("no subject {name:?}; there are {known}")
        })
    };
    let mut subjects = text.split(',').map(named).collect::<anyhow::Result<Vec<_>>>()?;
    // Everything is told against going direct.
    if !subjects.contains(&Kind::Direct) {
        subjects.insert(0, Kind::Direct);
    }
    Ok(subjects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Option<Options>> {
        Options::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn without_arguments_everything_is_measured() {
        let options = parse("").unwrap().unwrap();
        assert_eq!((options.only.len(), options.endpoints, options.keys), (Scenario::ALL.len(), 1_000, None));
        assert_eq!(options.repetitions, 3);
    }

    #[test]
    fn what_is_named_is_measured_and_nothing_else() {
        let options = parse("--only stream,saturation --subjects floor,floor-again --seconds 9").unwrap().unwrap();
        assert_eq!(options.only, [Scenario::Stream, Scenario::Saturation]);
        assert_eq!(options.subjects, [Kind::Direct, Kind::Floor, Kind::FloorAgain]);
        assert!((options.seconds - 9.0).abs() < f64::EPSILON);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_could() {
        for (text, says) in [
            ("--only strem", "there are saturation"),
            ("--subjects envoy", "there are direct"),
            ("--seconds", "wants a value"),
            ("--keys many", "wants a number"),
            ("--seconds 61", "at most 60"),
            ("--endpoints 0", "at least 1"),
            ("--loud", "--help"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
        assert!(parse("--help").unwrap().is_none());
    }
}
