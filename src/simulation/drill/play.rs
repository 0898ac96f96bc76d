//! A scenario, run with real processes: as [`crate::simulation::run`] does it in a world, in real time.
//! What comes of it is a history of the same kind, which the same checks judge. The seed decides what
//! clients ask for and what a nemesis breaks; when things happen, the machine does.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::injector::{Injector, start_if_down};
use super::{Drill, DrillError, DrillSettings, small_disks};
use crate::model::NodeName;
use crate::simulation::clients::Clients;
use crate::simulation::history::{End, Event, Record};
use crate::simulation::http::HttpClient;
use crate::simulation::recorder::Recorder;
use crate::simulation::run::Options;
use crate::simulation::scenario::Scenario;
use crate::simulation::schedule::Step;
use crate::simulation::script::{MARGIN, PROBE_EVERY, SCOPE, Script, canary, lasts, make};
use crate::simulation::workload::{Account, Site, operate};

/// How long the nodes may take to be ready, and the quorum to be founded.
const READY_TIME_MAX: Duration = Duration::from_secs(60);
/// How long answers of which the run's end is made may take.
const LASTS_TIME_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Drills `scenario`, with `program` as every node; gives the history. `tell` hears how far it is.
/// Called inside a tokio runtime with threads. Where this is dropped, nothing is left behind.
pub async fn play(
    scenario: &Scenario,
    options: &Options,
    program: PathBuf,
    mut tell: impl FnMut(&str),
) -> Result<Vec<Record>, DrillError> {
    let settings = DrillSettings {
        program,
        settings: scenario.settings.clone(),
        seed: options.seed,
        small_disks: small_disks(scenario),
    };
    tell("the nodes start");
    let mut drill = Drill::start(&scenario.topology, settings)?;
    drill.look_for(canary(options.seed).as_bytes());
    let token = drill.token("drill", &[], SCOPE)?;
    let clients = drill.clients()?;
    let mut play = Play {
        script: Script::new(scenario, options, Recorder::new(None), token),
        clients,
        began: Instant::now(),
        drill: &mut drill,
        probes: Vec::new(),
        queue_bytes_max: Arc::default(),
        ended: BTreeSet::new(),
    };
    let accounts = play.prepare().await?;
    play.perform(accounts, &mut tell).await?;
    Ok(play.script.recorder.close())
}

struct Play<'a> {
    script: Script<'a>,
    clients: Clients,
    /// When the run's own time began.
    began: Instant,
    drill: &'a mut Drill,
    /// The probe of each node, in their order, that is under way.
    probes: Vec<Option<JoinHandle<Result<(), DrillError>>>>,
    queue_bytes_max: Arc<AtomicU64>,
    /// Nodes that ended by themselves and were not started since.
    ended: BTreeSet<NodeName>,
}

impl Play<'_> {
    /// Waits until the quorum is founded, and makes what clients need.
    async fn prepare(&mut self) -> Result<Vec<Account>, DrillError> {
        self.drill.ready(READY_TIME_MAX).await?;
        let deadline = Instant::now() + READY_TIME_MAX;
        for node in self.script.nodes() {
            loop {
                let probe = self.drill.probe(&node).await?;
                if probe.leader.is_some() && probe.applied > 0 {
                    break;
                }
                if Instant::now() > deadline {
                    let why = format!("the quorum is not founded at {node}");
                    return Err(DrillError::Preparation(why));
                }
                sleep(LOOK_EVERY).await;
            }
        }
        let mut http = HttpClient::new(&self.clients, u32::MAX);
        let first = self.script.nodes().remove(0);
        let (count, history) = (self.script.accounts(), self.script.scenario.workload.history);
        let made = make(&mut http, &first, &self.script.token, count, history).await;
        made.map_err(DrillError::Preparation)
    }

    async fn perform(
        &mut self,
        accounts: Vec<Account>,
        tell: &mut impl FnMut(&str),
    ) -> Result<(), DrillError> {
        // What was logged while they started is no part of the run.
        self.drill.new_log_lines()?;
        self.began = Instant::now();
        self.script.begin(self.clients.now_us());
        let schedule = self.script.schedule();
        let (stop, stopped) = watch::channel(false);
        let site = self.script.site(self.clients.clone(), accounts, stopped);
        site.start();
        let mut injector = Injector::new(&schedule);
        let end = self.script.duration;
        let mut steps = schedule.timeline(end).into_iter().peekable();
        let mut probe_at = Duration::ZERO;
        loop {
            let step = steps.peek().map(|(at, ..)| *at).filter(|at| *at <= end);
            let at = step.unwrap_or(probe_at).min(probe_at);
            if at > end {
                break;
            }
            sleep_until(self.began + at).await;
            let Some((_, step, number)) = steps.next_if(|(due, ..)| *due <= at) else {
                self.look(tell)?;
                probe_at += PROBE_EVERY;
                continue;
            };
            // What would begin as the run ends does not.
            if at == end && step != Step::End {
                continue;
            }
            injector.act(step, number, self.drill, || self.clients.now_us()).await?;
            if step == Step::Begin {
                operate::start(&site, schedule.fault(number));
            }
        }
        sleep_until(self.began + end).await;
        stop.send_replace(true);
        self.settle(&site, tell).await
    }

    /// Lets the healed cluster go on, sees that everything works, and asks everybody for everything.
    async fn settle(&mut self, site: &Site, tell: &mut impl FnMut(&str)) -> Result<(), DrillError> {
        for node in self.script.nodes().iter().filter(|node| !self.script.is_lost(node)) {
            start_if_down(node, self.drill).await?;
            self.ended.remove(node);
        }
        let (stop, stopped) = watch::channel(false);
        operate::start_wave(&site.again(stopped), self.script.writes_for());
        let mut at = self.script.duration;
        while at + MARGIN < self.script.end() {
            at += PROBE_EVERY / 2;
            sleep_until(self.began + at).await;
            self.look(tell)?;
        }
        stop.send_replace(true);
        sleep_until(self.began + self.script.end()).await;
        self.last_look().await?;
        tell("everything is asked once more");
        self.lasts().await?;
        self.look_for_plaintext()?;
        if let Some(failure) = self.drill.failure() {
            return Err(DrillError::Network(failure));
        }
        self.record_end()
    }

    fn record_end(&self) -> Result<(), DrillError> {
        let regions = self.drill.topology().regions();
        let (mut datagrams, mut datagrams_lost) = (0, 0);
        for from in regions {
            for to in regions.iter().filter(|to| to.name != from.name) {
                let counts = self.drill.way(&from.name, &to.name)?;
                datagrams += counts.sent;
                datagrams_lost += counts.lost();
            }
        }
        let end = End {
            queue_bytes_max: self.queue_bytes_max.load(Ordering::Relaxed),
            datagrams,
            datagrams_lost,
            ..End::default()
        };
        self.script.recorder.add(self.clients.now_us(), Event::End(end));
        Ok(())
    }

    /// Records how every node stands, once it says so, and what else is seen. A node that has not yet
    /// answered the last time is not asked again.
    fn look(&mut self, tell: &mut impl FnMut(&str)) -> Result<(), DrillError> {
        let (past, whole) = (self.began.elapsed(), self.script.end());
        tell(&format!("{} of {} s", past.as_secs(), whole.as_secs()));
        if let Some(failure) = self.drill.failure() {
            return Err(DrillError::Network(failure));
        }
        let nodes = self.script.nodes();
        self.probes.resize_with(nodes.len(), || None);
        for (i, node) in nodes.iter().enumerate() {
            if self.probes[i].as_ref().is_some_and(|probe| !probe.is_finished()) {
                continue;
            }
            let probing = self.drill.probing(node)?;
            let (clients, recorder) = (self.clients.clone(), self.script.recorder.clone());
            let queue_bytes_max = self.queue_bytes_max.clone();
            self.probes[i] = Some(tokio::spawn(async move {
                let probe = probing.await?;
                queue_bytes_max.fetch_max(probe.queue_bytes, Ordering::Relaxed);
                recorder.add(clients.now_us(), Event::Probe(probe));
                Ok(())
            }));
        }
        self.find_what_ended();
        self.find_what_was_logged()
    }

    async fn last_look(&mut self) -> Result<(), DrillError> {
        self.probes_end().await?;
        self.look(&mut |_| {})?;
        self.probes_end().await
    }

    async fn probes_end(&mut self) -> Result<(), DrillError> {
        for probe in self.probes.iter_mut().filter_map(Option::take) {
            // One that panicked is told of by the runtime, and would show as a node that is not seen.
            if let Ok(probed) = probe.await {
                probed?;
            }
        }
        Ok(())
    }

    fn find_what_ended(&mut self) {
        let now_us = self.clients.now_us();
        for (node, how) in self.drill.ended() {
            if self.ended.insert(node.clone()) {
                let expected = self.script.is_disk_broken(&node);
                let what = format!("it ended by itself: {how}");
                self.script.find(now_us, "store", &node, what, expected);
            }
        }
    }

    fn find_what_was_logged(&mut self) -> Result<(), DrillError> {
        let now_us = self.clients.now_us();
        for (node, line) in self.drill.new_log_lines()? {
            let is_panic = line.contains("panicked at");
            self.script.find_in_log(now_us, &node, is_panic, message(line));
        }
        Ok(())
    }

    /// Asks every node for everything it shows.
    async fn lasts(&mut self) -> Result<(), DrillError> {
        let mut asked = Vec::new();
        for node in self.script.nodes() {
            if self.drill.is_running(&node)? {
                asked.push(node);
            }
        }
        let (token, recorder) = (self.script.token.clone(), self.script.recorder.clone());
        let asking = lasts(self.clients.clone(), asked, token, recorder);
        // Who has not answered by then has no last record, which the checks see.
        let _ = tokio::time::timeout(LASTS_TIME_MAX, asking).await;
        Ok(())
    }

    /// No secret's value may be in a packet, a file or a log.
    fn look_for_plaintext(&self) -> Result<(), DrillError> {
        let now_us = self.clients.now_us();
        let canary = canary(self.script.options.seed);
        for node in self.drill.senders_of_it() {
            let what = "a secret's value stands in a packet".to_owned();
            self.script.find(now_us, "plaintext", &node, what, false);
        }
        for node in self.script.nodes() {
            for file in self.drill.files_with(&node, canary.as_bytes())? {
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let what = format!("a secret's value stands in {name}");
                self.script.find(now_us, "plaintext", &node, what, false);
            }
        }
        Ok(())
    }
}

/// What a line of a log says: the message and the error of one of ours, and otherwise all of it.
fn message(line: String) -> String {
    let read: Value = serde_json::from_str(&line).unwrap_or_default();
    let within = if read["fields"].is_object() { &read["fields"] } else { &read };
    let Some(message) = within["message"].as_str() else { return line };
    let errors = ["error", "error.message"].into_iter().filter_map(|name| within[name].as_str());
    errors.fold(message.to_owned(), |text, error| format!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_log_is_told_with_its_error() {
        let told = |line: &str| message(line.to_owned());
        let line = r#"{"level":"WARN","fields":{"message":"could not connect","error":"expired"}}"#;
        assert_eq!(told(line), "could not connect: expired");
        let line = r#"{"message":"could not connect","error.message":"expired"}"#;
        assert_eq!(told(line), "could not connect: expired");
        assert_eq!(told("thread 'main' panicked at x.rs:1"), "thread 'main' panicked at x.rs:1");
    }
}
