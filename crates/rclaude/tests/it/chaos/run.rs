//! A run: one step after the other, what goes wrong meanwhile, and what must be true after it.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{
    followers::{Follower, Scissors},
    host::{Host, LOOK, Outcome, members, patience, wrong},
    plan::{Fault, Op, SLOTS, Step, Timed},
    user::{Desk, Mine, Numbers},
};
use crate::platform::kill;

/// What runs amounted to.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) runs: usize,
    pub(super) operations: usize,
    pub(super) checks: usize,
    pub(super) faults: BTreeMap<&'static str, usize>,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.operations += other.operations;
        self.checks += other.checks;
        for (name, times) in &other.faults {
            *self.faults.entry(name).or_default() += times;
        }
    }
}

struct Run {
    desk: Desk,
    places: Vec<Option<Mine>>,
    /// Requests metered for sessions that are gone.
    metered: i64,
    /// Requests that a killed server may not have come to meter.
    unmetered: i64,
    /// Requests that may have been broken off, and metered as such, before they reached the model.
    unmade: i64,
    clock_was_set: bool,
    tally: Tally,
}

/// Carries out a plan against a server of its own, whose data is under `at` if that is given.
pub(super) async fn carry_out(plan: &[Step], at: Option<&Path>, tally: &mut Tally) -> Outcome {
    let host = Arc::new(Host::start(at).await?);
    let can = host.abilities().await?;
    let desk = Desk { host, can, numbers: Numbers::default() };
    let places = (0..SLOTS).map(|_| None).collect();
    let mut run = Run {
        desk,
        places,
        metered: 0,
        unmetered: 0,
        unmade: 0,
        clock_was_set: false,
        tally: Tally { runs: 1, ..Tally::default() },
    };
    let mut done = run.steps(plan).await;
    if done.is_ok() {
        done = run.settle().await;
    }
    tally.add(&run.tally);
    done
}

impl Run {
    async fn steps(&mut self, plan: &[Step]) -> Outcome {
        for step in plan {
            self.step(*step).await?;
            for mine in self.places.iter_mut().flatten() {
                self.desk.read_log(mine).await?;
                self.tally.checks += 1;
            }
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Outcome {
        let place = self.place(step);
        let fault = step.fault.filter(|timed| self.is_possible(timed.fault));
        self.places.iter_mut().flatten().for_each(Mine::begin_step);
        self.shake(fault);
        if fault.is_some() || step.op.ends_work() {
            self.unmade += self.at_work() + 1;
        }
        let accident = Accident::new(self, fault);
        let done = match (step.op, self.places[place].take()) {
            (Op::New { repository, asks, followers }, None) => {
                let made = self.desk.new_session(repository, asks, followers);
                let (made, happened) = tokio::join!(made, accident.happen(&self.desk.host));
                happened?;
                self.places[place] = Some(made?);
                true
            }
            (Op::New { .. }, there) => {
                self.places[place] = there;
                accident.happen(&self.desk.host).await?;
                false
            }
            (_, None) => {
                accident.happen(&self.desk.host).await?;
                false
            }
            (op, Some(mut mine)) => {
                if op == Op::Delete {
                    self.metered += self.desk.usage(&mut mine, self.clock_was_set).await?;
                    // What is under way may be asked for and metered yet.
                    self.unmetered += 8;
                }
                let (made, happened) =
                    tokio::join!(self.desk.act(&mut mine, op), accident.happen(&self.desk.host));
                happened?;
                let made = made?;
                if op != Op::Delete {
                    self.places[place] = Some(mine);
                }
                self.house(made).await?;
                true
            }
        };
        self.tally.operations += usize::from(done);
        if let Some(timed) = fault {
            *self.tally.faults.entry(name(timed.fault)).or_default() += 1;
        }
        Ok(())
    }

    /// Where a step is done: where it says, or where there is a session if there is none.
    fn place(&self, step: Step) -> usize {
        let said = usize::from(step.slot);
        if matches!(step.op, Op::New { .. }) || self.places[said].is_some() {
            return said;
        }
        self.places.iter().position(Option::is_some).unwrap_or(said)
    }

    /// Gives forks the places that are free; the others are looked at and deleted.
    async fn house(&mut self, made: Vec<Mine>) -> Outcome {
        for mut mine in made {
            if let Some(free) = self.places.iter_mut().find(|place| place.is_none()) {
                *free = Some(mine);
            } else {
                self.desk.look(&mut mine).await?;
                self.tally.checks += 1;
                self.desk.act(&mut mine, Op::Delete).await?;
            }
        }
        Ok(())
    }

    fn is_possible(&self, fault: Fault) -> bool {
        match fault {
            Fault::FillDisk(_) => self.desk.can.small_disk,
            Fault::HideSnapshots(_) => self.desk.can.archive,
            Fault::SetClock(_) => self.desk.can.clock,
            _ => true,
        }
    }

    /// Notes in which sessions a fault may cut off what runs.
    fn shake(&mut self, fault: Option<Timed>) {
        let Some(Timed { fault, slot, .. }) = fault else { return };
        let one = &self.places[usize::from(slot)];
        let shaken: Vec<&Mine> = match fault {
            Fault::KillDaemon | Fault::KillAgent => one.iter().collect(),
            // A full disk stops writes; and a clock set on makes what was set aside look old.
            Fault::Reboot | Fault::FillDisk(_) | Fault::SetClock(_) => {
                self.places.iter().flatten().collect()
            }
            _ => Vec::new(),
        };
        for mine in shaken {
            mine.shakes.fetch_add(1, Ordering::SeqCst);
        }
        match fault {
            // A request that was under way is not metered if its server dies, and is made again.
            Fault::KillServer | Fault::Reboot => {
                self.unmetered += (self.at_work() + 1) * 2;
            }
            Fault::FillDisk(_) => self.unmetered += 20,
            Fault::SetClock(_) => self.clock_was_set = true,
            _ => {}
        }
    }

    /// Sessions in which an agent may be at work.
    fn at_work(&self) -> i64 {
        let at_work = self.places.iter().flatten().filter(|mine| mine.is_at_work());
        i64::try_from(at_work.count()).unwrap()
    }

    /// Nothing goes wrong any more: everything must come to a good end, and go when it is deleted.
    async fn settle(&mut self) -> Outcome {
        if let Some(skew) = &self.desk.host.skew {
            skew.set(0);
        }
        let mut requests = self.metered;
        for place in 0..self.places.len() {
            let Some(mut mine) = self.places[place].take() else { continue };
            self.desk.act(&mut mine, Op::Resume { wait: true }).await?;
            self.desk.await_turns(&mut mine).await?;
            self.desk.look(&mut mine).await?;
            self.desk.read_counts(&mut mine, true).await?;
            self.desk.look(&mut mine).await?;
            self.audit(&mut mine).await?;
            requests += self.desk.usage(&mut mine, self.clock_was_set).await?;
            self.tally.checks += 5;
            self.places[place] = Some(mine);
        }
        self.compare_requests(requests)?;
        for mut mine in self.places.iter_mut().filter_map(Option::take) {
            self.desk.act(&mut mine, Op::Delete).await?;
        }
        self.nothing_is_left().await?;
        self.tally.checks += 2;
        self.desk.host.end().await
    }

    /// The log of a session in which nothing runs any more; the ends of commands are written a
    /// moment after they were seen.
    async fn audit(&self, mine: &mut Mine) -> Outcome {
        let started = Instant::now();
        loop {
            match self.desk.audit(mine).await {
                Ok(()) => return Ok(()),
                Err(_) if started.elapsed() < Duration::from_secs(5) => {
                    tokio::time::sleep(LOOK).await;
                }
                Err(wrong) => return Err(wrong),
            }
        }
    }

    /// Every request that came through the gateway is on somebody's bill.
    fn compare_requests(&self, metered: i64) -> Outcome {
        let requests = self.desk.host.emulator.requests();
        let made = requests.iter().filter(|request| {
            request.method == "POST" && request.target.split('?').next() == Some("/v1/messages")
        });
        let made = i64::try_from(made.count()).unwrap();
        if metered - made > self.unmade || made - metered > self.unmetered {
            return wrong(format!(
                "{metered} requests are metered, {made} were made; at most {} of the ones and {} \
                 of the others may be more",
                self.unmade, self.unmetered
            ));
        }
        Ok(())
    }

    async fn nothing_is_left(&self) -> Outcome {
        let started = Instant::now();
        loop {
            let list = self.desk.host.ok("GET", "/v1/sessions?limit=200", None, None).await?;
            let sessions = list["data"].as_array().map_or(0, Vec::len);
            let sandboxes = self.desk.host.sandboxes();
            if sessions == 0 && sandboxes.is_empty() {
                return Ok(());
            }
            if started.elapsed() > patience() {
                return wrong(format!(
                    "deleted, and still there: {list} {sandboxes:?}\n{}",
                    self.desk.host.tail()
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A fault that is about to happen.
struct Accident {
    fault: Option<Timed>,
    /// The sandbox it happens to.
    sandbox: Option<String>,
    followers: Vec<Scissors>,
}

impl Accident {
    fn new(run: &Run, fault: Option<Timed>) -> Self {
        let mine = fault.and_then(|timed| run.places[usize::from(timed.slot)].as_ref());
        let everybody = run.places.iter().flatten().flat_map(|mine| &mine.followers);
        Self {
            fault,
            sandbox: mine.map(|mine| mine.sandbox.clone()),
            followers: everybody.map(Follower::scissors).collect(),
        }
    }

    async fn happen(self, host: &Host) -> Outcome {
        let Some(Timed { fault, after, .. }) = self.fault else { return Ok(()) };
        tokio::time::sleep(after).await;
        let inside = |name: &str| match &self.sandbox {
            Some(sandbox) => members(sandbox, name),
            None => Vec::new(),
        };
        let ms = |long: u16| Duration::from_millis(long.into());
        match fault {
            Fault::KillServer => host.replace(|| ()).await?,
            Fault::KillSupervisor => host.supervisors().into_iter().for_each(kill),
            Fault::KillDaemon => inside("agentd").into_iter().for_each(kill),
            Fault::KillAgent => inside("claude").into_iter().for_each(kill),
            Fault::Reboot => {
                let everything = || {
                    host.supervisors().into_iter().for_each(kill);
                    for sandbox in host.sandboxes() {
                        members(&sandbox, "agentd").into_iter().for_each(kill);
                    }
                };
                host.replace(everything).await?;
            }
            Fault::CutFollowers => self.followers.iter().for_each(Scissors::cut),
            Fault::StallServer(long) => {
                let pids: Vec<_> = host.pid().into_iter().collect();
                Host::stall(&pids, ms(long)).await;
            }
            Fault::StallSupervisor(long) => Host::stall(&host.supervisors(), ms(long)).await,
            Fault::StallDaemon(long) => Host::stall(&inside("agentd"), ms(long)).await,
            Fault::FillDisk(long) => {
                let hog = Hog::take(host.data().join("hog"));
                tokio::time::sleep(ms(long)).await;
                drop(hog);
            }
            Fault::HideSnapshots(long) => {
                let store = host.data().join("snapshots");
                let hidden = store.with_extension("hidden");
                // It is made when it is first needed.
                if fs::rename(&store, &hidden).is_ok() {
                    tokio::time::sleep(ms(long)).await;
                    // What was written meanwhile, to a place that was not there, is no store.
                    let _ = fs::remove_dir_all(&store);
                    fs::rename(&hidden, &store).unwrap();
                }
            }
            Fault::SetClock(minutes) => {
                if let Some(skew) = &host.skew {
                    skew.set(minutes);
                }
            }
        }
        Ok(())
    }
}

/// A file that takes all the room there is, for as long as this is kept.
struct Hog(PathBuf);

impl Hog {
    fn take(path: PathBuf) -> Self {
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0; size];
            while file.write_all(&piece).is_ok() {}
        }
        Self(path)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// What a fault is counted as.
const fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::KillServer => "server killed",
        Fault::KillSupervisor => "supervisor killed",
        Fault::KillDaemon => "daemon killed",
        Fault::KillAgent => "agent killed",
        Fault::Reboot => "host restarted",
        Fault::CutFollowers => "followers cut off",
        Fault::StallServer(_) => "server stalled",
        Fault::StallSupervisor(_) => "supervisor stalled",
        Fault::StallDaemon(_) => "daemon stalled",
        Fault::FillDisk(_) => "disk full",
        Fault::HideSnapshots(_) => "snapshot store gone",
        Fault::SetClock(_) => "clock set",
    }
}
