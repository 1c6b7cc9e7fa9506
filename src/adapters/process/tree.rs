//! Which processes exist, who started whom, and which of them belong to a stage.
//!
//! Everything is read from `/proc`. Processes are named by their id and their start time, so that
//! an id that was given to another process in the meantime is never signalled.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, pidfd_open, pidfd_send_signal, waitpid,
};

/// The variable that marks the processes of a stage.
pub(super) const MARKER: &str = "PIPEWRIGHT_STAGE";

/// Environments are read up to this size: the system allows 6 MiB at most.
const MAX_ENVIRONMENT: u64 = 6 << 20;

/// A process as `/proc/PID/stat` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    /// Its id.
    pub(super) pid: i32,
    /// The name of its program, cut to 15 bytes by the system.
    pub(super) name: String,
    /// Who started it, or who took it over.
    pub(super) parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// Its session.
    pub(super) session: i32,
    /// When it was started, in clock ticks since the system was.
    pub(super) started: u64,
    /// Whether it has ended and only waits to be noticed by its parent.
    pub(super) ended: bool,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let mut text = Vec::with_capacity(512);
        let mut file = File::open(format!("/proc/{pid}/stat")).ok()?;
        file.read_to_end(&mut text).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(stat: &str) -> Option<Self> {
        // The name may hold anything, also blanks and parentheses.
        let (head, tail) = stat.rsplit_once(')')?;
        let (pid, name) = head.split_once('(')?;
        let fields: Vec<&str> = tail.split_ascii_whitespace().take(20).collect();
        let number = |at: usize| fields.get(at)?.parse().ok();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            parent: number(1)?,
            group: number(2)?,
            session: number(3)?,
            started: fields.get(19)?.parse().ok()?,
            ended: matches!(*fields.first()?, "Z" | "X" | "x"),
        })
    }

    /// Sends a signal, unless the id belongs to another process by now.
    pub(super) fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else {
            return;
        };
        let Ok(handle) = pidfd_open(pid, PidfdFlags::empty()) else {
            return;
        };
        if Self::read(self.pid).is_some_and(|now| now.started == self.started) {
            // It may end at this very moment, which is what we want.
            let _ = pidfd_send_signal(&handle, signal);
        }
    }

    fn marker(&self) -> Option<String> {
        let file = File::open(format!("/proc/{}/environ", self.pid)).ok()?;
        let mut environment = Vec::new();
        file.take(MAX_ENVIRONMENT)
            .read_to_end(&mut environment)
            .ok()?;
        environment
            .split(|byte| *byte == 0)
            .filter_map(|variable| variable.strip_prefix(MARKER.as_bytes()))
            .find_map(|rest| rest.strip_prefix(b"="))
            .map(|value| String::from_utf8_lossy(value).into_owned())
    }

    fn holds_pipe(&self, inode: u64) -> bool {
        let wanted = format!("pipe:[{inode}]");
        std::fs::read_dir(format!("/proc/{}/fd", self.pid))
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str())
            })
    }

    fn works_in(&self, directory: &Path) -> bool {
        std::fs::read_link(format!("/proc/{}/cwd", self.pid))
            .is_ok_and(|cwd| cwd.starts_with(directory))
    }
}

/// All processes at one moment.
pub(super) struct Snapshot {
    processes: Vec<Process>,
    children: HashMap<i32, Vec<usize>>,
}

/// What marks the processes of one stage.
#[derive(Clone, Debug)]
pub(super) struct Quarry {
    /// The stage's main process and thereby its process group; 0 once both are gone, because
    /// their number may then belong to somebody else.
    pub(super) main: i32,
    /// Value of [`MARKER`].
    pub(super) marker: String,
    /// Inode of its output pipe.
    pub(super) pipe: u64,
    /// Its working directory, without symbolic links.
    pub(super) workdir: PathBuf,
    /// Whether no other stage runs or is being cleaned up.
    pub(super) alone: bool,
}

impl Snapshot {
    /// Reads `/proc`. What ends meanwhile is left out.
    pub(super) fn take() -> Self {
        let processes = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Process::read)
            .collect();
        Self::of(processes)
    }

    fn of(processes: Vec<Process>) -> Self {
        let mut children: HashMap<i32, Vec<usize>> = HashMap::new();
        for (at, process) in processes.iter().enumerate() {
            children.entry(process.parent).or_default().push(at);
        }
        Self {
            processes,
            children,
        }
    }

    /// Processes of a stage that have not ended, beside its main process.
    ///
    /// We take over orphans (see `subreaper`), so everything a stage ever started is below us in
    /// the tree, and only that is looked at. `active` are the main processes of all stages that
    /// run now; what is below another one is another one's.
    pub(super) fn of_stage(&self, quarry: &Quarry, active: &BTreeSet<i32>) -> Vec<Process> {
        let us = getpid().as_raw_nonzero().get();
        let own = self.processes.iter().find(|process| process.pid == us);
        let (own_group, own_session) = own.map_or((us, us), |own| (own.group, own.session));
        let others =
            |process: &Process| process.pid != quarry.main && active.contains(&process.pid);
        let below = self.below(us, others);

        // Other children of ours stay in our group, or lead one in our session, as the main
        // process of a stage does that was started just now. Nobody but stages makes other ones.
        let is_own = |process: &Process| {
            process.parent == us
                && process.pid != quarry.main
                && (process.group == own_group
                    || (process.session == own_session && process.group == process.pid))
        };
        let belongs = |process: &Process| {
            if process.pid == quarry.main || process.group == quarry.main {
                return true;
            }
            let marker = process.marker();
            if marker.as_deref() == Some(quarry.marker.as_str()) {
                return true;
            }
            // One that does not run its own program yet holds copies of all our pipes.
            if is_own(process) {
                return false;
            }
            process.holds_pipe(quarry.pipe)
                // A daemon that cleaned its environment and closed everything.
                || (process.parent == us
                    && ((marker.is_none() && process.works_in(&quarry.workdir))
                        || (quarry.alone && process.session != own_session)))
        };
        let mut found: HashSet<usize> = below
            .iter()
            .copied()
            .filter(|at| belongs(&self.processes[*at]))
            .collect();
        // What descends from those found, or shares a group or session with them, belongs to them.
        loop {
            let before = found.len();
            let mut groups: HashSet<i32> = HashSet::new();
            let mut sessions: HashSet<i32> = HashSet::new();
            for at in &found {
                groups.insert(self.processes[*at].group);
                sessions.insert(self.processes[*at].session);
            }
            groups.remove(&own_group);
            sessions.remove(&own_session);
            for at in &below {
                let process = &self.processes[*at];
                if groups.contains(&process.group) || sessions.contains(&process.session) {
                    found.insert(*at);
                }
            }
            for at in found.clone() {
                found.extend(self.below(self.processes[at].pid, others));
            }
            if found.len() == before {
                break;
            }
        }
        self.alive(found, |process| process.pid != quarry.main)
    }

    /// Processes, anywhere on this host, whose marker starts with `prefix`, and their descendants;
    /// without ourselves and those that started us.
    pub(super) fn marked(&self, prefix: &str) -> Vec<Process> {
        let parents: HashMap<i32, i32> = self
            .processes
            .iter()
            .map(|process| (process.pid, process.parent))
            .collect();
        let mut spared = HashSet::new();
        let mut at = getpid().as_raw_nonzero().get();
        while spared.insert(at) {
            at = parents.get(&at).copied().unwrap_or(0);
        }
        let is_spared = |process: &Process| spared.contains(&process.pid);
        let mut found = HashSet::new();
        for (at, process) in self.processes.iter().enumerate() {
            if is_spared(process) {
                continue;
            }
            if process
                .marker()
                .is_some_and(|marker| marker.starts_with(prefix))
            {
                found.insert(at);
                found.extend(self.below(process.pid, is_spared));
            }
        }
        self.alive(found, |_| true)
    }

    /// Takes note of ended processes that nobody else will ask for: those in `known`, and orphans
    /// that can only come from a stage. Children that other parts of this process started stay in
    /// its own group, or lead one in its own session, and are left to them.
    pub(super) fn collect_ended(&self, known: &HashSet<(i32, u64)>, active: &BTreeSet<i32>) {
        let us = getpid().as_raw_nonzero().get();
        let Some(own) = self.processes.iter().find(|process| process.pid == us) else {
            return;
        };
        for process in &self.processes {
            let orphan = process.session != own.session
                || (process.group != own.group && process.group != process.pid);
            if process.ended
                && process.parent == us
                && !active.contains(&process.pid)
                && (orphan || known.contains(&(process.pid, process.started)))
            {
                let _ = waitpid(Pid::from_raw(process.pid), WaitOptions::NOHANG);
            }
        }
    }

    fn alive(&self, found: HashSet<usize>, wanted: impl Fn(&Process) -> bool) -> Vec<Process> {
        let mut alive: Vec<Process> = found
            .into_iter()
            .map(|at| &self.processes[at])
            .filter(|process| !process.ended && wanted(process))
            .cloned()
            .collect();
        alive.sort_by_key(|process| (process.started, process.pid));
        alive
    }

    /// Everything below a process, not entering what `stop` holds.
    fn below(&self, pid: i32, stop: impl Fn(&Process) -> bool) -> Vec<usize> {
        let mut found = Vec::new();
        let mut seen = HashSet::from([pid]);
        let mut open = vec![pid];
        while let Some(pid) = open.pop() {
            for at in self.children.get(&pid).into_iter().flatten() {
                let process = &self.processes[*at];
                if !stop(process) && seen.insert(process.pid) {
                    found.push(*at);
                    open.push(process.pid);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid,
            name: format!("p{pid}"),
            parent,
            group: pid,
            session: 1,
            started: u64::from(pid.unsigned_abs()),
            ended: false,
        }
    }

    #[test]
    fn stat_lines_are_read_whatever_the_name() {
        let tail = "S 7 42 40 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 1";
        for name in ["sh", "a b", "a) S 1 (b", ""] {
            let process = Process::parse(&format!("42 ({name}) {tail}")).expect(name);
            assert_eq!(process.name, name);
            assert_eq!((process.pid, process.parent), (42, 7));
            assert_eq!((process.group, process.session), (42, 40));
            assert_eq!((process.started, process.ended), (98765, false));
        }
        assert_eq!(Process::parse("42 (sh) S 7"), None);
        assert_eq!(Process::parse(""), None);
    }

    #[test]
    fn we_are_in_our_own_snapshot() {
        let us = getpid().as_raw_nonzero().get();
        let snapshot = Snapshot::take();
        let own = snapshot.processes.iter().find(|process| process.pid == us);
        assert!(own.is_some_and(|own| !own.ended && own.started > 0));
    }

    #[test]
    fn descent_survives_cycles_and_stops_where_told() {
        let snapshot = Snapshot::of(vec![
            process(2, 3),
            process(3, 2),
            process(4, 3),
            process(5, 4),
        ]);
        let mut below: Vec<i32> = snapshot
            .below(2, |process| process.pid == 4)
            .into_iter()
            .map(|at| snapshot.processes[at].pid)
            .collect();
        below.sort_unstable();
        assert_eq!(below, [3]);
    }

    #[test]
    fn a_stage_is_its_group_and_all_below_but_no_other_stage() {
        let us = getpid().as_raw_nonzero().get();
        let (main, other) = (1_000_000_001, 1_000_000_002);
        let mut own = process(us, 1);
        own.group = us;
        let mut in_group = process(1_000_000_003, us);
        in_group.group = main;
        let mut child_elsewhere = process(1_000_000_004, main);
        child_elsewhere.session = 77;
        let mut ended = process(1_000_000_005, main);
        ended.ended = true;
        let mut same_session = process(1_000_000_006, us);
        same_session.session = 77;
        let sibling = process(1_000_000_007, us);
        let below_other = process(1_000_000_008, other);
        let snapshot = Snapshot::of(vec![
            own,
            process(main, us),
            process(other, us),
            in_group,
            child_elsewhere,
            ended,
            same_session,
            sibling,
            below_other,
        ]);
        let quarry = Quarry {
            main,
            marker: "run/stage".to_owned(),
            pipe: u64::MAX,
            workdir: "/nowhere".into(),
            alone: false,
        };
        let found: Vec<i32> = snapshot
            .of_stage(&quarry, &BTreeSet::from([main, other]))
            .iter()
            .map(|process| process.pid - 1_000_000_000)
            .collect();
        assert_eq!(found, [3, 4, 6]);
    }
}
