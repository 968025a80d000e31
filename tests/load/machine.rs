//! What the figures were measured on, and whether it was quiet.

use std::{fmt, fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::process::Cores;

/// Something else wanted a good part of a core.
const NOISE: f64 = 0.5;

#[derive(Debug, Default)]
pub(crate) struct Machine {
    cores: usize,
    processor: String,
    kernel: String,
    /// Of the minute before.
    load: f64,
    pinned: bool,
    /// Since the program that was measured was built.
    age: Option<Duration>,
}

impl Machine {
    pub(crate) fn look(cores: Cores, lockgate: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processor = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| Some(line.strip_prefix("model name")?.trim_start_matches([' ', '\t', ':']).to_owned()))
            .unwrap_or_default();
        Self {
            cores: cores.count,
            processor,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg").split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
            pinned: cores.pinned,
            age: fs::metadata(lockgate).and_then(|data| data.modified()).ok().and_then(|time| time.elapsed().ok()),
        }
    }

    fn noisy(&self) -> bool {
        self.load > NOISE
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "cores": self.cores, "processor": self.processor, "kernel": self.kernel, "loadBefore": self.load,
            "noisy": self.noisy(), "pinned": self.pinned, "programAgeSeconds": self.age.map(|age| age.as_secs()),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cores, processor, kernel, load, pinned, age } = self;
        writeln!(formatter, "{cores} cores ({processor}), Linux {kernel}, load before {load:.2}.")?;
        if *pinned {
            writeln!(formatter, "What is measured had one core to itself; load and upstream shared another.")?;
        } else {
            writeln!(formatter, "Nothing was pinned: `taskset` or a second core is missing.")?;
        }
        if let Some(age) = age {
            writeln!(formatter, "The program was built {} minutes ago.", age.as_secs() / 60)?;
        }
        if self.noisy() {
            writeln!(formatter, "The machine was busy: read ratios, not figures, and those with care.")?;
        }
        Ok(())
    }
}
