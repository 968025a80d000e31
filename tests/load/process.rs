//! Processes of a run: pinned to their core, asked what they cost, and ended with the run whatever becomes of it.

use std::{
    cell::RefCell,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    rc::Rc,
    time::Duration,
};

use anyhow::Context as _;

/// Seconds that a process may take to come to rest.
const SETTLING: usize = 300;

/// Which core a process runs on: what is measured has one to itself, everything else has the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    Subject,
    Rest,
}

/// Whether processes can be told where to run, and where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) count: usize,
    pub(crate) pinned: bool,
}

impl Cores {
    pub(crate) fn find() -> Self {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        Self { count, pinned: count > 1 && taskset.is_ok_and(|status| status.success()) }
    }

    const fn number(core: Core) -> &'static str {
        match core {
            Core::Subject => "0",
            Core::Rest => "1",
        }
    }

    /// Pins this process, and the threads it will have.
    pub(crate) fn pin_self(self, core: Core) -> anyhow::Result<()> {
        if self.pinned {
            let arguments = ["-c", "-p", Self::number(core), &std::process::id().to_string()];
            let status = Command::new("taskset").args(arguments).stdout(Stdio::null()).status()?;
            anyhow::ensure!(status.success(), "taskset could not pin this process");
        }
        Ok(())
    }

    pub(crate) fn command(self, core: Core, program: &Path) -> Command {
        self.command_under(core, &[], program)
    }

    /// The program as an argument of a tool that runs it.
    pub(crate) fn command_under(self, core: Core, tool: &[&str], program: &Path) -> Command {
        // Each of them becomes the next: the process id stays.
        let taskset = ["taskset", "-c", Self::number(core)];
        let before = if self.pinned { taskset.as_slice() } else { &[] };
        let mut words = before.iter().chain(tool);
        let Some(first) = words.next() else { return Command::new(program) };
        let mut command = Command::new(first);
        command.args(words).arg(program);
        command
    }
}

/// A process beside this one that kills what is left when this one is gone, however it went.
#[derive(Clone)]
pub(crate) struct Warden(Rc<RefCell<Watching>>);

struct Watching {
    child: Child,
    input: Option<ChildStdin>,
}

impl Warden {
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?).arg("warden").stdin(Stdio::piped()).spawn()?;
        let input = child.stdin.take();
        Ok(Self(Rc::new(RefCell::new(Watching { child, input }))))
    }

    fn say(&self, sign: char, process: u32) {
        if let Some(input) = &mut self.0.borrow_mut().input {
            // A warden that is gone cannot help; the processes are ended by their owner all the same.
            let _ = writeln!(input, "{sign}{process}");
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// The warden's own life: `+pid` and `-pid` on its input, and the end of it.
pub(crate) fn watch() {
    let mut watched: Vec<String> = Vec::new();
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match line.split_at_checked(1) {
            Some(("+", process)) => watched.push(process.to_owned()),
            Some(("-", process)) => watched.retain(|other| other != process),
            _ => {}
        }
    }
    for process in watched {
        let _ = Command::new("kill").args(["-KILL", &process]).stderr(Stdio::null()).status();
    }
}

/// Ends when this process's input does, with the process that started it.
pub(crate) async fn until_left_alone() {
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().lines().map_while(Result::ok).for_each(drop)).await;
}

/// A process of the run.
pub(crate) struct Process {
    child: Child,
    warden: Warden,
}

impl Process {
    pub(crate) fn spawn(warden: &Warden, mut command: Command) -> anyhow::Result<Self> {
        let child = command.stdin(Stdio::piped()).spawn().with_context(|| format!("cannot start {command:?}"))?;
        warden.say('+', child.id());
        Ok(Self { child, warden: warden.clone() })
    }

    /// This program in another part; gives back the line it says when it is ready.
    pub(crate) fn of_ours(
        warden: &Warden,
        cores: Cores,
        core: Core,
        tool: &[&str],
        arguments: &[&str],
    ) -> anyhow::Result<(Self, String)> {
        let mut command = cores.command_under(core, tool, &std::env::current_exe()?);
        command.args(arguments).stdout(Stdio::piped());
        let mut process = Self::spawn(warden, command)?;
        let mut line = String::new();
        BufReader::new(process.child.stdout.take().context("a piped output")?).read_line(&mut line)?;
        anyhow::ensure!(line.ends_with('\n'), "{arguments:?} did not start");
        Ok((process, line.trim().to_owned()))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `false`: it has ended by itself.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// CPU that the process has used so far, its kernel's work included.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        cpu_in(&stat).context("the kernel says what a process has used")
    }

    /// Waits until it uses next to no CPU, if not for ever.
    pub(crate) async fn settled(&self) -> anyhow::Result<()> {
        let mut before = self.cpu()?;
        for _ in 0..SETTLING {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.cpu()?;
            if now.saturating_sub(before) < Duration::from_millis(30) {
                return Ok(());
            }
            before = now;
        }
        anyhow::bail!("a process does not come to rest")
    }

    /// Resident memory in bytes.
    pub(crate) fn rss(&self) -> anyhow::Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most it had since [`Self::forget_peak`].
    pub(crate) fn peak(&self) -> anyhow::Result<f64> {
        self.memory("VmHWM:")
    }

    pub(crate) fn forget_peak(&self) -> anyhow::Result<()> {
        fs::write(format!("/proc/{}/clear_refs", self.id()), "5").context("the peak of a process can be forgotten")
    }

    fn memory(&self, field: &str) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        memory_in(&status, field).context("the kernel says what a process holds")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.warden.say('-', self.id());
    }
}

/// proc(5): fields 14 and 15, counted behind the name, which may hold anything but ends with the last parenthesis.
fn cpu_in(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit(')').next()?.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    // USER_HZ is 100 on every Linux there is.
    Some(Duration::from_millis((user + system) * 10))
}

fn memory_in(status: &str, field: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_process_is_read_whatever_its_name() {
        let stat = "17 (a) b (c) S 1 17 17 0 -1 4194560 100 0 0 0 250 17 0 0 20 0 4 0 55 1000 200";
        assert_eq!(cpu_in(stat), Some(Duration::from_millis(2670)));
        assert_eq!(cpu_in("17 (a) S 1"), None);
        assert_eq!(memory_in("Name:\ta\nVmHWM:\t  300 kB\nVmRSS:\t   12 kB\n", "VmRSS:"), Some(12_288.0));
        assert_eq!(memory_in("Name:\ta\n", "VmRSS:"), None);
    }
}
