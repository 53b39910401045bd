//! The setup script: run once in a new session, before its first prompt.

use rclaude_sandbox::agentd;
use rclaude_store::{exec, session};
use rclaude_types::{
    EventBody, ExecId, ExecState, NoticeLevel,
    agentd::{ProcessSpec, Stdin, User},
};

use super::{
    actor::{Actor, INSPECTION, Next, TickError},
    inside::{WORKSPACE, environment, watch_exec},
};

impl Actor {
    /// Sees to the setup script. `Wait` says that it has been run, or that there is none.
    pub(super) async fn mind_setup(&mut self) -> Result<Next, TickError> {
        let Some(script) = self.session.settings.setup.clone() else {
            return Ok(Next::Wait(INSPECTION));
        };
        let mut conn = self.engine.store.read().await?;
        let before = match &self.session.setup_exec {
            Some(id) => Some(exec::get(&mut conn, id).await?),
            None => None,
        };
        drop(conn);
        match before.map(|row| row.exec) {
            Some(run) if run.state == ExecState::Exited => {
                self.end_setup(run.exit_code).await?;
                Ok(Next::Again)
            }
            Some(run) if run.state == ExecState::Running => Ok(Next::Wait(INSPECTION)),
            // Its sandbox ended under it: once more. It is the script's to bear that.
            _ => {
                self.begin_setup(&script).await?;
                Ok(Next::Again)
            }
        }
    }

    /// Whether the first prompt has to wait for the script.
    pub(super) fn is_being_set_up(&self) -> bool {
        self.session.settings.setup.is_some()
    }

    async fn begin_setup(&mut self, script: &str) -> Result<(), TickError> {
        let Some(client) = self.link.as_ref().map(|link| link.client.clone()) else {
            return Ok(());
        };
        let id = ExecId::generate();
        let argv: Vec<String> =
            ["/bin/bash", "-euo", "pipefail", "-c", script].map(str::to_owned).to_vec();
        let new = exec::NewExec {
            id: id.clone(),
            session: self.session.id.clone(),
            sandbox: self.sandbox.id.clone(),
            command: argv.clone(),
            at: self.engine.now(),
        };
        let (session, now) = (self.session.id.clone(), self.engine.now());
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                let (id, command) = (new.id.clone(), new.command.clone());
                exec::insert_or_adopt(tx, &new).await?;
                session::set_setup(tx, &session, Some(&id), now).await?;
                log.push(None, EventBody::ExecStarted { id, command });
                Ok(())
            })
            .await?;
        let spec = ProcessSpec {
            argv,
            env: environment(&self.session.settings.env),
            cwd: WORKSPACE.to_owned(),
            user: User::Agent,
            stdin: Stdin::Closed,
            timeout_seconds: None,
            keep: true,
            attended: false,
        };
        match client.start(&id, &spec).await {
            Ok(_) => {
                watch_exec(&self.engine, &self.session.id, client, id);
                Ok(())
            }
            Err(agentd::Error::Refused(problem)) => Err(TickError::Link(problem.detail)),
            Err(error) => Err(TickError::Link(error.to_string())),
        }
    }

    /// What it did is done; a failure is for the owner to see, and the agent may still do much.
    async fn end_setup(&mut self, code: Option<i32>) -> Result<(), TickError> {
        let (id, generation) = (self.session.id.clone(), self.session.generation);
        let (name, now) = (self.session.name.clone(), self.engine.now());
        let mut settings = self.session.settings.clone();
        settings.setup = None;
        self.engine
            .commit(&self.session.id, async move |tx, log| {
                session::update_settings(tx, &id, generation, &name, &settings, now).await?;
                if code != Some(0) {
                    let how = match code {
                        Some(code) => format!("exited with code {code}"),
                        None => "was killed".to_owned(),
                    };
                    let text = format!("the setup script {how}; `rclaude logs` has its output");
                    log.notice(None, NoticeLevel::Warning, "setup_failed", text);
                }
                Ok(())
            })
            .await?;
        Ok(())
    }
}
