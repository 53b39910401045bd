//! Limits and accounting through cgroups, of version 1, version 2, or both at once.
//!
//! Every sandbox gets `rclaude-<hash of the engine's directory>/<sandbox id>` under the cgroup
//! the supervisor itself is in, in each hierarchy that holds a controller of interest, so that
//! limits set on the server also hold for its sandboxes.
//!
//! A process is never moved from outside: writing `cgroup.procs` waits for a grace period of the
//! kernel's read-copy-update, 7 to 15 ms on an idle machine. Version 1 is joined by the child
//! itself through `tasks` (63 µs), version 2 by being cloned into it.

use std::{
    collections::hash_map::DefaultHasher,
    fs::{self, File},
    hash::{Hash as _, Hasher as _},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use rclaude_types::{Resources, SandboxId};
use serde::{Deserialize, Serialize};

use crate::provider::SandboxStats;

/// The controllers of interest, by their names in version 1.
const CONTROLLERS: [&str; 5] = ["cpu", "cpuacct", "memory", "pids", "freezer"];
/// The same in version 2, where accounting is part of `cpu` and freezing of the core.
const UNIFIED_CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// Where the server's own processes are moved when version 2 wants them out of the way.
const SERVER_LEAF: &str = "rclaude-server";
/// Length of a scheduling period, in microseconds; the kernel's own default.
const PERIOD: u64 = 100_000;

/// One directory that stands for a cgroup in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub dir: PathBuf,
    /// Whether the hierarchy is the unified one of version 2.
    pub unified: bool,
    /// What it controls.
    pub controllers: Vec<String>,
}

/// Where a sandbox is, one place per hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Placement(pub Vec<Place>);

/// What a child needs to get into its cgroups.
#[derive(Debug)]
pub(super) struct Entrance {
    /// To clone into (version 2).
    pub unified: Option<OwnedFd>,
    /// `tasks` files for the child to write itself into (version 1).
    pub tasks: Vec<File>,
}

/// The hierarchies of the host, at the cgroups this process is in.
#[derive(Debug, Clone, Default)]
pub(super) struct Hierarchies {
    places: Vec<Place>,
    group: String,
}

impl Hierarchies {
    /// Looks at what is mounted here. Nothing usable is an empty answer, not an error.
    pub(super) fn detect(engine: &Path) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut places = parse(&mounts, &own);
        for place in places.iter_mut().filter(|place| place.unified) {
            let offered = fs::read_to_string(place.dir.join("cgroup.controllers"));
            let offered = offered.unwrap_or_default();
            place.controllers = offered
                .split_whitespace()
                .filter(|name| UNIFIED_CONTROLLERS.contains(name))
                .map(str::to_owned)
                .collect();
        }
        Self { places, group: group_name(engine) }
    }

    /// Whether a controller of the host can be used at all.
    pub(super) fn version_of(&self, controller: &str) -> Option<u8> {
        self.places.iter().find_map(|place| {
            let has = place.controllers.iter().any(|name| name == controller);
            (has && rustix::fs::access(&place.dir, rustix::fs::Access::WRITE_OK).is_ok())
                .then_some(if place.unified { 2 } else { 1 })
        })
    }

    /// One place per hierarchy.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Makes a sandbox's cgroups with its limits. Hierarchies that cannot be written are left
    /// out: the sandbox then has no limits there, which `doctor` reports.
    pub(super) fn make(&self, id: &SandboxId, resources: &Resources) -> io::Result<Placement> {
        let mut placement = Placement::default();
        for base in &self.places {
            let parent = base.dir.join(&self.group);
            let dir = parent.join(id.as_str());
            match make_dir(&dir) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Err(error) = make_group(base, &parent).and_then(|()| make_dir(&dir)) {
                        if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::ENOMEM)) {
                            return Err(error);
                        }
                        continue;
                    }
                }
                Err(error) if is_refusal(&error) => continue,
                Err(error) => return Err(error),
            }
            let place = Place { dir, ..base.clone() };
            limit(&place, resources)?;
            placement.0.push(place);
        }
        // What an earlier life left frozen (whoever stopped it was killed before the last step)
        // would hold up the next one in its first.
        placement.thaw()?;
        Ok(placement)
    }

    /// Removes the cgroups of sandboxes that the engine does not know (any more), unless something
    /// runs in them: whoever lost their directories lost the way to them.
    pub(super) fn remove_unknown(&self, known: &[SandboxId]) {
        for base in &self.places {
            let entries = fs::read_dir(base.dir.join(&self.group)).into_iter().flatten();
            for entry in entries.flatten() {
                let id = entry.file_name().to_str().and_then(|name| name.parse::<SandboxId>().ok());
                if id.is_some_and(|id| !known.contains(&id)) {
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// Removes the group that held the sandboxes, if it is empty.
    pub(super) fn remove_group(&self) {
        for base in &self.places {
            // Others may still be in it, and then it stays.
            let _ = fs::remove_dir(base.dir.join(&self.group));
        }
    }
}

/// Name of the cgroup that holds an engine's sandboxes.
fn group_name(engine: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    engine.hash(&mut hasher);
    format!("rclaude-{:08x}", hasher.finish() & 0xffff_ffff)
}

/// Reads the hierarchies out of `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn parse(mounts: &str, own: &str) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for line in mounts.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
        let unified = kind == "cgroup2";
        let controllers: Vec<String> = options
            .split(',')
            .filter(|option| !unified && CONTROLLERS.contains(option))
            .map(str::to_owned)
            .collect();
        if !unified && (kind != "cgroup" || controllers.is_empty()) {
            continue;
        }
        let mut left = left.split(' ').skip(3);
        let (Some(root), Some(point)) = (left.next(), left.next()) else { continue };
        let own_path = own.lines().find_map(|line| {
            let (names, path) = line.split_once(':')?.1.split_once(':')?;
            let here = if unified {
                names.is_empty()
            } else {
                names.split(',').any(|name| controllers.iter().any(|wanted| wanted == name))
            };
            here.then_some(path)
        });
        let Some(own_path) = own_path else { continue };
        // Outside of what is mounted here: not ours to use.
        let Ok(inside) = Path::new(own_path).strip_prefix(root) else { continue };
        let mut dir = PathBuf::from(point);
        if inside.components().next().is_some() {
            dir.push(inside);
        }
        if unified && dir.ends_with(SERVER_LEAF) {
            dir.pop();
        }
        if !places
            .iter()
            .any(|place| place.dir == dir || place.controllers == controllers && !unified)
        {
            places.push(Place { dir, unified, controllers });
        }
    }
    places
}

pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// Makes the group that holds the sandboxes; in version 2 also hands the controllers down to it.
fn make_group(base: &Place, parent: &Path) -> io::Result<()> {
    if base.unified {
        hand_down(&base.dir, &base.controllers)?;
    }
    make_dir(parent)?;
    if base.unified {
        hand_down(parent, &base.controllers)?;
    }
    Ok(())
}

/// Lets children of `dir` use the controllers. A cgroup other than the root may not at once hold
/// processes and hand down, so what is in it (the server) moves to a leaf first.
fn hand_down(dir: &Path, controllers: &[String]) -> io::Result<()> {
    if controllers.is_empty() {
        return Ok(());
    }
    let request: Vec<_> = controllers.iter().map(|name| format!("+{name}")).collect();
    let request = request.join(" ");
    match fs::write(dir.join("cgroup.subtree_control"), &request) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            let leaf = dir.join(SERVER_LEAF);
            make_dir(&leaf)?;
            for pid in fs::read_to_string(dir.join("cgroup.procs"))?.lines() {
                // One that has ended meanwhile is no obstacle any more.
                let _ = fs::write(leaf.join("cgroup.procs"), pid);
            }
            fs::write(dir.join("cgroup.subtree_control"), &request)
        }
        other => other,
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS))
}

/// Writes the limits into a sandbox's place.
fn limit(place: &Place, resources: &Resources) -> io::Result<()> {
    let memory = u64::from(resources.memory_mib) << 20;
    let quota = u64::from(resources.cpu_millis) * PERIOD / 1000;
    let set = |file: &str, value: String| fs::write(place.dir.join(file), value);
    // The kernel may be built without swap accounting; memory alone is limited then.
    let set_if_there = |file: &str, value: String| match set(file, value) {
        Err(error) if is_refusal(&error) || error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    for controller in &place.controllers {
        match (controller.as_str(), place.unified) {
            ("memory", true) => {
                set("memory.max", memory.to_string())?;
                set_if_there("memory.swap.max", "0".to_owned())?;
            }
            ("memory", false) => {
                // A limit of both together may not be under that of memory alone.
                match set("memory.limit_in_bytes", memory.to_string()) {
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                        set_if_there("memory.memsw.limit_in_bytes", memory.to_string())?;
                        set("memory.limit_in_bytes", memory.to_string())?;
                    }
                    other => {
                        other?;
                        set_if_there("memory.memsw.limit_in_bytes", memory.to_string())?;
                    }
                }
            }
            ("pids", _) => set("pids.max", resources.pids.to_string())?,
            ("cpu", true) => set("cpu.max", format!("{quota} {PERIOD}"))?,
            ("cpu", false) => {
                set_if_there("cpu.cfs_period_us", PERIOD.to_string())?;
                set_if_there("cpu.cfs_quota_us", quota.to_string())?;
            }
            _ => {}
        }
    }
    Ok(())
}

impl Placement {
    /// Opens the ways in. They are opened here, by who may, and used by the child, who may not
    /// open them.
    pub(super) fn entrance(&self) -> io::Result<Entrance> {
        let mut entrance = Entrance { unified: None, tasks: Vec::new() };
        for place in &self.0 {
            if place.unified {
                entrance.unified = Some(File::open(&place.dir)?.into());
            } else {
                let tasks = File::options().write(true).open(place.dir.join("tasks"))?;
                entrance.tasks.push(tasks);
            }
        }
        Ok(entrance)
    }

    /// Removes the cgroups. The kernel calls one busy for a moment after its last process ended.
    pub(super) fn remove(&self) -> io::Result<()> {
        for place in &self.0 {
            let mut patience = 50;
            loop {
                match fs::remove_dir(&place.dir) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && patience > 0 => {
                        patience -= 1;
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// What the sandbox used.
    pub(super) fn stats(&self) -> SandboxStats {
        let mut stats = SandboxStats::default();
        for place in &self.0 {
            for controller in &place.controllers {
                let read =
                    |file: &str| fs::read_to_string(place.dir.join(file)).unwrap_or_default();
                let number = |file: &str| read(file).trim().parse::<u64>().unwrap_or(0);
                match (controller.as_str(), place.unified) {
                    ("cpu", true) => stats.cpu_micros = field(&read("cpu.stat"), "usage_usec"),
                    ("cpuacct", false) => stats.cpu_micros = number("cpuacct.usage") / 1000,
                    ("memory", true) => {
                        stats.memory_bytes = number("memory.current");
                        stats.memory_peak_bytes = number("memory.peak");
                        stats.oom_kills = field(&read("memory.events"), "oom_kill");
                    }
                    ("memory", false) => {
                        stats.memory_bytes = number("memory.usage_in_bytes");
                        stats.memory_peak_bytes = number("memory.max_usage_in_bytes");
                        stats.oom_kills = field(&read("memory.oom_control"), "oom_kill");
                    }
                    ("pids", _) => {
                        stats.pids = number("pids.current");
                        stats.pids_refused = field(&read("pids.events"), "max");
                    }
                    _ => {}
                }
            }
        }
        stats
    }
}

/// The number after `name` in a file of `name number` lines.
pub(super) fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(dir: &str, unified: bool, controllers: &[&str]) -> Place {
        Place {
            dir: dir.into(),
            unified,
            controllers: controllers.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn hybrid_hosts_give_version_1_controllers_under_our_own_cgroups_and_the_unified_tree() {
        let mounts = "\
34 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
36 31 0:36 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
37 31 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let own = "5:cpu,cpuacct:/\n4:memory:/service/x\n0::/\n";
        assert_eq!(
            parse(mounts, own),
            [
                place("/sys/fs/cgroup/cpu,cpuacct", false, &["cpu", "cpuacct"]),
                place("/sys/fs/cgroup/memory/service/x", false, &["memory"]),
                place("/sys/fs/cgroup/unified", true, &[]),
            ]
        );
    }

    #[test]
    fn a_container_sees_its_own_part_of_the_unified_tree_and_leaves_the_servers_leaf() {
        let mounts = "30 20 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw\n";
        assert_eq!(
            parse(mounts, "0::/docker/abc/rclaude-server\n"),
            [place("/sys/fs/cgroup", true, &[])]
        );
        assert_eq!(parse(mounts, "0::/elsewhere\n"), []);
    }

    /// A directory with the files the kernel would show in one cgroup of version 2.
    fn unified_tree(dir: &Path) -> Hierarchies {
        let base = place(dir.to_str().unwrap(), true, &["cpu", "memory", "pids"]);
        Hierarchies { places: vec![base], group: "rclaude-test".to_owned() }
    }

    #[test]
    fn version_2_gets_controllers_handed_down_and_limits_written() {
        let dir = tempfile::tempdir().unwrap();
        let hierarchies = unified_tree(dir.path());
        let id = SandboxId::generate();
        let resources = Resources { cpu_millis: 1500, memory_mib: 256, pids: 99 };
        let placement = hierarchies.make(&id, &resources).unwrap();
        let read = |path: &str| fs::read_to_string(dir.path().join(path)).unwrap();
        assert_eq!(read("cgroup.subtree_control"), "+cpu +memory +pids");
        assert_eq!(read("rclaude-test/cgroup.subtree_control"), "+cpu +memory +pids");
        let own = |file: &str| read(&format!("rclaude-test/{id}/{file}"));
        assert_eq!(own("memory.max"), "268435456");
        assert_eq!(own("memory.swap.max"), "0");
        assert_eq!(own("cpu.max"), "150000 100000");
        assert_eq!(own("pids.max"), "99");
        let entrance = placement.entrance().unwrap();
        assert!(entrance.unified.is_some() && entrance.tasks.is_empty());
    }

    #[test]
    fn cgroups_of_sandboxes_nobody_knows_are_removed_unless_something_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let hierarchies = unified_tree(dir.path());
        let group = dir.path().join("rclaude-test");
        let [known, lost, busy] = [(); 3].map(|()| SandboxId::generate());
        for name in [known.as_str(), lost.as_str(), busy.as_str(), "another's"] {
            fs::create_dir_all(group.join(name)).unwrap();
        }
        // The kernel refuses with another error than here, and refuses all the same.
        fs::create_dir(group.join(busy.as_str()).join("child")).unwrap();
        hierarchies.remove_unknown(std::slice::from_ref(&known));
        let left = [known.as_str(), busy.as_str(), "another's"].map(|name| group.join(name));
        assert!(left.iter().all(|dir| dir.exists()));
        assert!(!group.join(lost.as_str()).exists());
    }

    #[test]
    fn version_2_numbers_are_read_from_where_the_kernel_puts_them() {
        let dir = tempfile::tempdir().unwrap();
        let placement =
            Placement(vec![place(dir.path().to_str().unwrap(), true, &["cpu", "memory", "pids"])]);
        for (file, text) in [
            ("cpu.stat", "usage_usec 1234\nuser_usec 1000\n"),
            ("memory.current", "4096\n"),
            ("memory.peak", "8192\n"),
            ("memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
            ("pids.current", "7\n"),
            ("pids.events", "max 5\n"),
        ] {
            fs::write(dir.path().join(file), text).unwrap();
        }
        assert_eq!(
            placement.stats(),
            SandboxStats {
                cpu_micros: 1234,
                memory_bytes: 4096,
                memory_peak_bytes: 8192,
                pids: 7,
                oom_kills: 2,
                pids_refused: 5,
            }
        );
    }
}
