//! When templates are rendered, and what follows: changes that come together are one pass; a file is
//! replaced where its content is another; then its command runs, once for all files that share it. What
//! fails is told, and the last good file stays.
//!
//! A command that is due is noted on the agent's disk before the file is replaced, and struck off when it
//! succeeded: one that failed, or that a crash came before, is run with the next change or start.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::output::{self, Owner, Written};
use super::reload::Reload;
use super::settings::{AgentSettings, TemplateSettings};
use super::template::{Template, TemplateError, View, redact};
use crate::env::Env;
use crate::model::DocumentId;

/// How a template stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// Why its file is not what it should be by now.
    pub(super) problem: Option<String>,
    /// Why the template that is on disk now is not taken; the one before goes on.
    pub(super) source_problem: Option<String>,
    /// Why its command is still to be run.
    pub(super) reload_problem: Option<String>,
    /// Whether there is a file: a new one, or the last good one.
    pub(super) has_output: bool,
    pub(super) renders: u64,
    pub(super) failures: u64,
    pub(super) writes: u64,
    pub(super) reloads: u64,
    pub(super) reload_failures: u64,
}

/// One template with all that belongs to it.
struct Job {
    settings: TemplateSettings,
    document: Option<DocumentId>,
    template: Mutex<Arc<Template>>,
    reload: Option<Reload>,
    standing: Mutex<Standing>,
}

/// All templates of an agent.
pub(super) struct Renderer {
    jobs: Vec<Arc<Job>>,
    settings: AgentSettings,
    env: Env,
}

impl Renderer {
    /// Reads and compiles all templates.
    pub(super) fn new(
        settings: &AgentSettings,
        env: &Env,
        hidden: &[String],
    ) -> Result<Self, TemplateError> {
        let mut jobs = Vec::new();
        for template in &settings.templates {
            let argv = match &template.reload_shell {
                Some(text) => vec!["sh".to_owned(), "-c".to_owned(), text.clone()],
                None => template.reload.clone(),
            };
            let reload = (!argv.is_empty()).then(|| Reload {
                argv,
                within: template.reload_timeout,
                output_max: settings.limits.reload_output_bytes_max,
                hidden: hidden.to_vec(),
            });
            let compiled = Template::read(&template.source, &settings.limits)?;
            jobs.push(Arc::new(Job {
                settings: template.clone(),
                document: settings.document_of(template),
                template: Mutex::new(Arc::new(compiled)),
                reload,
                standing: Mutex::default(),
            }));
        }
        Ok(Self { jobs, settings: settings.clone(), env: env.clone() })
    }

    /// Each template's file, and how it stands.
    pub(super) fn standings(&self) -> Vec<(PathBuf, Standing)> {
        let of = |job: &Arc<Job>| (job.settings.target.clone(), job.standing().clone());
        self.jobs.iter().map(of).collect()
    }

    /// Reads the templates again. What does not compile is told, and the one before goes on.
    pub(super) async fn read_again(&self) {
        for job in &self.jobs {
            let (source, limits) = (job.settings.source.clone(), self.settings.limits.clone());
            match self.env.blocking.run(move || Template::read(&source, &limits)).await {
                Ok(template) => {
                    *job.template.lock().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(template);
                    job.standing().source_problem = None;
                }
                Err(error) => {
                    tracing::error!(%error, "a template is not taken; the one before goes on");
                    job.standing().source_problem = Some(error.to_string());
                }
            }
        }
    }

    /// Renders on each change that `stirs` tells, for as long as the task lives.
    pub(super) async fn run(&self, view: impl Fn() -> View, mut stirs: watch::Receiver<u64>) {
        let times = &self.settings.times;
        loop {
            stirs.mark_unchanged();
            self.pass(&Arc::new(view())).await;
            if stirs.changed().await.is_err() {
                return;
            }
            let at_latest = Instant::now() + times.debounce_max;
            loop {
                let quiet = (Instant::now() + times.debounce).min(at_latest);
                match timeout_at(quiet, stirs.changed()).await {
                    Ok(Ok(())) if Instant::now() < at_latest => {}
                    Ok(Err(_)) => return,
                    _ => break,
                }
            }
        }
    }

    /// Renders all of them once, and runs what is due.
    pub(super) async fn pass(&self, view: &Arc<View>) {
        let mut due: Vec<(Reload, Vec<Arc<Job>>)> = Vec::new();
        for job in &self.jobs {
            if !self.render(job, view).await {
                continue;
            }
            let Some(reload) = &job.reload else { continue };
            match due.iter_mut().find(|(known, _)| known.argv == reload.argv) {
                Some((_, jobs)) => jobs.push(job.clone()),
                None => due.push((reload.clone(), vec![job.clone()])),
            }
        }
        for (reload, jobs) in due {
            let ran = reload.run().await.map_err(|e| redact(&e.to_string(), &view.vault.all()));
            for job in jobs {
                self.reloaded(&job, &ran).await;
            }
        }
    }

    /// Renders one. Says whether its command is due.
    async fn render(&self, job: &Arc<Job>, view: &Arc<View>) -> bool {
        let (work, view, env) = (job.clone(), view.clone(), self.env.clone());
        let limits = self.settings.limits.clone();
        let done = self.env.blocking.run(move || {
            let template = work.template.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let rendered = template.render(work.document.as_ref(), &view, &limits);
            rendered.map_err(|e| e.to_string()).and_then(|bytes| work.put(&env, &bytes))
        });
        let done = done.await;
        let target = job.settings.target.display();
        let mut standing = job.standing();
        standing.has_output = done.is_ok() || job.settings.target.is_file();
        match done {
            Ok((written, is_due)) => {
                standing.renders += 1;
                if written == Written::Changed {
                    standing.writes += 1;
                    tracing::info!(%target, "a file is rendered anew");
                }
                standing.problem = None;
                is_due
            }
            Err(error) => {
                standing.failures += 1;
                tracing::error!(%target, %error, "a file is not rendered; the last good one stays");
                standing.problem = Some(error);
                false
            }
        }
    }

    async fn reloaded(&self, job: &Arc<Job>, ran: &Result<(), String>) {
        let target = job.settings.target.display();
        match ran {
            Ok(()) => {
                tracing::info!(%target, "the reload command succeeded");
                let (disk, note) = (self.env.disk.clone(), job.note());
                let struck = self.env.blocking.run(move || disk.remove(&note)).await;
                let mut standing = job.standing();
                standing.reloads += 1;
                standing.reload_problem =
                    struck.err().map(|e| format!("that it ran cannot be noted: {e}"));
            }
            Err(error) => {
                tracing::error!(%target, %error, "the reload command failed");
                let mut standing = job.standing();
                standing.reload_failures += 1;
                standing.reload_problem = Some(error.clone());
            }
        }
    }
}

impl Job {
    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of the note that the command is due.
    fn note(&self) -> String {
        let sum = Sha256::digest(self.settings.target.as_os_str().as_encoded_bytes());
        let hex: String = sum[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("reload-{hex}.due")
    }

    /// Puts the file in its place. Says what that came to, and whether the command is due.
    fn put(&self, env: &Env, bytes: &[u8]) -> Result<(Written, bool), String> {
        let it = &self.settings;
        let system = |e: std::io::Error| format!("{}: {e}", it.target.display());
        let is_new = output::differs(&it.target, bytes).map_err(system)?;
        let note = self.note();
        if is_new && self.reload.is_some() {
            let text = format!("{}\n", it.target.display());
            env.disk.write(&note, text.as_bytes(), true).map_err(system)?;
        }
        let owner = Owner { mode: it.mode, uid: it.uid, gid: it.gid };
        let written = output::replace(&it.target, bytes, owner).map_err(system)?;
        let is_due = self.reload.is_some() && env.disk.len(&note).map_err(system)?.is_some();
        Ok((written, is_due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::vault::testing::vault;
    use crate::client::copy::testing::state;
    use crate::env::MemoryDisk;
    use std::path::Path;
    use std::time::Duration;

    struct Setting {
        dir: tempfile::TempDir,
        disk: MemoryDisk,
    }

    impl Setting {
        fn new(template: &str) -> Self {
            let setting = Self { dir: tempfile::tempdir().unwrap(), disk: MemoryDisk::default() };
            std::fs::write(setting.path("a.j2"), template).unwrap();
            setting
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn renderer(&self, reload: &str) -> Renderer {
            let dir = self.dir.path().display();
            let text = format!(
                "data_dir = \"/d\"\ndocuments = [\"web/dev\"]\n[[templates]]\n\
                 source = \"{dir}/a.j2\"\ntarget = \"{dir}/out\"\nreload = {reload}\n"
            );
            let settings = AgentSettings::from_toml(&text).unwrap();
            let env = Env::in_memory(self.disk.clone(), None);
            Renderer::new(&settings, &env, &[]).unwrap()
        }

        fn out(&self) -> String {
            std::fs::read_to_string(self.path("out")).unwrap()
        }

        fn runs(&self) -> usize {
            std::fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count()
        }

        /// A command that leaves a line, and ends as the file says.
        fn command(&self) -> String {
            let dir = self.dir.path().display();
            let script = format!("echo ran >> {dir}/runs; test ! -e {dir}/broken");
            format!("[\"sh\", \"-c\", \"{script}\"]")
        }
    }

    fn view(port: &str) -> Arc<View> {
        let state = Arc::new(state(&[("port", port)]));
        let documents = [("web/dev".to_owned(), state)].into();
        Arc::new(View { documents, vault: vault(&[("db", "hunter2")]) })
    }

    fn only(renderer: &Renderer) -> Standing {
        renderer.standings().remove(0).1
    }

    #[tokio::test]
    async fn a_command_runs_when_the_file_is_another_one_and_not_else() {
        let setting = Setting::new("port {{ config.port }}");
        let renderer = setting.renderer(&setting.command());
        for port in ["1", "1", "2"] {
            renderer.pass(&view(port)).await;
        }
        assert_eq!((setting.out(), setting.runs()), ("port 2".to_owned(), 2));
        setting.renderer(&setting.command()).pass(&view("2")).await;
        assert_eq!(setting.runs(), 2, "a restart alone is no change");
    }

    #[tokio::test]
    async fn a_command_that_failed_is_told_of_and_run_again_with_the_next_pass_also_after_a_restart()
     {
        let setting = Setting::new("port {{ config.port }}");
        let renderer = setting.renderer(&setting.command());
        std::fs::write(setting.path("broken"), "").unwrap();
        renderer.pass(&view("1")).await;
        let standing = only(&renderer);
        assert!(standing.reload_problem.unwrap().contains("exit status: 1"));
        std::fs::remove_file(setting.path("broken")).unwrap();
        let renderer = setting.renderer(&setting.command());
        renderer.pass(&view("1")).await;
        assert_eq!(setting.runs(), 2);
        assert!(only(&renderer).reload_problem.is_none());
        renderer.pass(&view("1")).await;
        assert_eq!(setting.runs(), 2);
    }

    #[tokio::test]
    async fn what_does_not_render_or_compile_leaves_the_last_good_file() {
        let setting = Setting::new("port {{ config.port }}");
        let renderer = setting.renderer("[]");
        renderer.pass(&view("1")).await;
        std::fs::write(setting.path("a.j2"), "\n{{ config.nope }}").unwrap();
        renderer.read_again().await;
        renderer.pass(&view("2")).await;
        let standing = only(&renderer);
        let problem = standing.problem.unwrap();
        assert!(problem.contains("a.j2:2: undefined value"), "{problem}");
        assert!(standing.has_output);
        assert_eq!(setting.out(), "port 1");

        std::fs::write(setting.path("a.j2"), "{% nope %}").unwrap();
        renderer.read_again().await;
        let told = only(&renderer).source_problem.unwrap();
        assert!(told.contains("a.j2:1: syntax error"), "{told}");
        std::fs::write(setting.path("a.j2"), "{{ config.port }}").unwrap();
        renderer.read_again().await;
        renderer.pass(&view("3")).await;
        assert_eq!(setting.out(), "3");
        let settings = renderer.settings.clone();
        std::fs::write(setting.path("a.j2"), "{% nope %}").unwrap();
        let refused = Renderer::new(&settings, &renderer.env, &[]).err().unwrap().to_string();
        assert!(refused.contains("a.j2:1: "), "{refused}");
    }

    #[tokio::test]
    async fn a_command_does_not_tell_a_secret_of_which_it_spoke() {
        let setting = Setting::new("{{ secret('db') }}");
        let cat = format!("[\"sh\", \"-c\", \"cat {}/out; exit 1\"]", setting.dir.path().display());
        let renderer = setting.renderer(&cat);
        renderer.pass(&view("1")).await;
        let told = only(&renderer).reload_problem.unwrap();
        assert!(told.contains("[secret]") && !told.contains("hunter2"), "{told}");
        assert_eq!(setting.out(), "hunter2");
    }

    #[tokio::test]
    async fn a_burst_is_one_pass() {
        let setting = Setting::new("port {{ config.port }}");
        let renderer = setting.renderer(&setting.command());
        let (stir, stirs) = watch::channel(0);
        let seen = stir.subscribe();
        let latest = move || {
            let port = seen.borrow().to_string();
            let view = view(&port);
            View { documents: view.documents.clone(), vault: view.vault.clone() }
        };
        let burst = async {
            for n in 1..=20 {
                stir.send_replace(n);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            while setting.out() != "port 20" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        tokio::select! {
            () = renderer.run(latest, stirs) => {}
            () = burst => {}
        }
        assert!(setting.runs() <= 3, "{} runs", setting.runs());
        assert!(Path::new(&setting.path("out")).exists());
    }
}
