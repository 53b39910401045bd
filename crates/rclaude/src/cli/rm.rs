//! `rclaude rm`: ending a session for good, or removing files in one. The colon decides, and what
//! is meant for the one is refused for the other.

use std::ffi::OsString;

use clap::Args;
use rclaude_types::ErrorCode;

use super::{
    Context, Done,
    place::{Place, Remote},
};
use crate::{
    exit::{Exit, Failure},
    ui::clean_line,
};

/// End sessions and remove their files; or remove files in a session
///
/// `rclaude rm SESSION` ends the session: there is no way back, so it asks first; without a
/// terminal it wants --force. `rclaude rm SESSION:path` removes a file in it, which --recursive
/// does with a directory. With --json nothing is printed.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Do not ask before a session is ended
    #[arg(long, short)]
    force: bool,
    /// Remove directories with all that is in them
    #[arg(long, short)]
    recursive: bool,
    /// The sessions: id, unique start of an id, or name. Or files in them: SESSION:path
    #[arg(required = true, value_name = "SESSION[:PATH]")]
    what: Vec<OsString>,
}

pub(crate) async fn run(args: RmArgs, cx: &mut Context) -> Done {
    let (mut files, mut sessions) = (Vec::new(), Vec::new());
    for what in &args.what {
        match Place::read(what) {
            Place::There(file) => files.push(file),
            _ => sessions.push(what.to_string_lossy().into_owned()),
        }
    }
    match (files.is_empty(), sessions.is_empty()) {
        (false, true) => remove_files(&files, &args, cx).await,
        (true, false) => remove_sessions(&sessions, &args, cx).await,
        _ => Err(Failure::Usage(
            "sessions and files in sessions are removed one kind at a time".to_owned(),
        )),
    }
}

async fn remove_files(files: &[Remote], args: &RmArgs, cx: &mut Context) -> Done {
    if let Some(all) = files.iter().find(|file| file.is_everything()) {
        return Err(Failure::Usage(format!(
            "{all} is all there is; `rclaude rm {}`, without the colon, ends the session",
            clean_line(&all.session)
        )));
    }
    let client = cx.client().await?;
    for file in files {
        let removing = client.remove_file(&file.session, file.path(), args.recursive);
        match cx.ui.wait(&format!("removing {file}"), removing).await {
            // As other programs have it: with --force what is not there is as it should be.
            Err(Failure::Problem(problem))
                if args.force && problem.code == ErrorCode::FileNotFound => {}
            Err(Failure::Problem(mut problem))
                if !args.recursive && problem.code == ErrorCode::Conflict =>
            {
                problem.detail.push_str("; -r removes a directory with all that is in it");
                return Err(Failure::Problem(problem));
            }
            removed => removed?,
        }
    }
    Ok(Exit::OK)
}

async fn remove_sessions(sessions: &[String], args: &RmArgs, cx: &mut Context) -> Done {
    if args.recursive {
        return Err(Failure::Usage(format!(
            "--recursive is for files: `rclaude rm -r {0}:path`; `rclaude rm {0}` ends the session \
             with all its files",
            clean_line(&sessions[0])
        )));
    }
    if let Some(path) = sessions.iter().find(|it| it.contains('/')) {
        return Err(Failure::Usage(format!(
            "`{}` is no session's name; SESSION:path names a file in one",
            clean_line(path)
        )));
    }
    if !args.force && !cx.ui.can_ask() {
        return Err(Failure::Usage("nobody can be asked here: say --force to mean it".to_owned()));
    }
    let client = cx.client().await?;
    for reference in sessions {
        // What is asked about is what is removed, even where a name changes hands meanwhile.
        let session = cx.session(&client, reference).await?;
        let name = &session.name;
        let question = format!("Remove {name} with its files and its conversation?");
        if !args.force && !cx.ui.confirm(&question, false).await {
            cx.ui.say(&format!("kept {name}"));
            continue;
        }
        let removing = client.delete_session(session.id.as_str());
        cx.ui.wait(&format!("removing {name}"), removing).await?;
        if !cx.json {
            cx.ui.say(&format!("removed {name}"));
        }
    }
    Ok(Exit::OK)
}
