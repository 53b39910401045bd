//! Requests about files, but for their bytes on the way out.

use std::io::Write;

use hyper::{Response, StatusCode, body::Incoming};
use rclaude_types::ChangeFile;

use super::{
    Body, body,
    input::{self, Query},
};
use crate::{
    daemon::Daemon,
    files::{self, Listing, Patch, Search},
    refusal::{Doing, Refusal, Result},
};

/// Entries of a page at most, and lines of a search.
const MAX_PAGE: u64 = 10_000;
const MAX_LINES: u64 = 2000;

pub(super) async fn stat(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let follow = query.flag("follow")?;
    let doing = format!("look at {}", path.display());
    let look = move || if follow { files::followed(&path) } else { files::stat(&path) };
    body::json(StatusCode::OK, &files::job(rights, doing, look).await?)
}

pub(super) async fn list(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let listing = Listing {
        depth: usize::try_from(query.number("depth")?.max(1)).unwrap_or(usize::MAX),
        glob: query.word("glob")?,
        cursor: query.word("cursor")?,
        limit: bounded(query.number("limit")?, MAX_PAGE),
    };
    let doing = format!("list {}", path.display());
    let list = files::job(rights, doing, move || files::list(&path, &listing)).await?;
    body::json(StatusCode::OK, &list)
}

pub(super) async fn search(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let wanted = Search {
        pattern: query.word("pattern")?.ok_or_else(|| Refusal::invalid("pattern is missing"))?,
        literal: query.flag("literal")?,
        ignore_case: query.flag("ignore_case")?,
        glob: query.word("glob")?,
        hidden: query.flag("hidden")?,
        ignored: query.flag("ignored")?,
        limit: bounded(query.number("limit")?, MAX_LINES),
    };
    let doing = format!("search {}", path.display());
    let _turn = daemon.long_work.acquire().await.map_err(|_| Refusal::internal("it ends"))?;
    let found = files::job(rights, doing, move || files::search(&path, &wanted)).await?;
    body::json(StatusCode::OK, &found)
}

/// A limit within what may be; all of that if none is given.
fn bounded(limit: u64, most: u64) -> usize {
    let limit = if limit == 0 { most } else { limit.min(most) };
    usize::try_from(limit).unwrap_or(usize::MAX)
}

pub(super) async fn write(
    daemon: &Daemon,
    query: &Query,
    mut request: Incoming,
) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let (mode, sync, condition) = (query.mode()?, query.flag("sync")?, query.condition()?);
    let doing = format!("write {}", path.display());
    let begin = {
        let path = path.clone();
        move || files::NewFile::begin(&path, mode, condition, rights)
    };
    let mut new = files::job(rights, doing.clone(), begin).await?;
    while let Some(data) = input::next(&mut request).await? {
        new.file.write_all(&data).doing(|| doing.clone())?;
    }
    let finish = move || {
        new.finish(sync)?;
        files::stat(&path)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, finish).await?)
}

pub(super) async fn append(
    daemon: &Daemon,
    query: &Query,
    mut request: Incoming,
) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let (mode, offset) = (query.mode()?, query.optional_number("offset")?);
    let doing = format!("append to {}", path.display());
    let begin = {
        let path = path.clone();
        move || Patch::begin(&path, offset, mode)
    };
    let mut patch = files::job(rights, doing.clone(), begin).await?;
    while let Some(data) = input::next(&mut request).await? {
        patch.write(&data).doing(|| doing.clone())?;
    }
    let sync = query.flag("sync")?;
    let finish = move || {
        if sync {
            patch.file.sync_all()?;
        }
        files::stat(&path)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, finish).await?)
}

pub(super) async fn change(
    daemon: &Daemon,
    query: &Query,
    request: Incoming,
) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let change: ChangeFile = input::json(request).await?;
    if change.mode.is_some_and(|mode| mode > 0o7777) || change.modified_nanos > 999 {
        return Err(Refusal::invalid("a mode is at most 0o7777, nanoseconds are at most 999"));
    }
    let doing = format!("change {}", path.display());
    let work = move || {
        files::change(&path, &change)?;
        files::stat(&path)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, work).await?)
}

pub(super) async fn remove(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let recursive = query.flag("recursive")?;
    let doing = format!("remove {}", path.display());
    files::job(rights, doing, move || files::remove(&path, recursive)).await?;
    Ok(body::done())
}

pub(super) async fn rename(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (from, to, rights) = (query.from()?, query.to()?, daemon.rights(query.user()?)?);
    let condition = query.condition()?;
    let doing = format!("move {} to {}", from.display(), to.display());
    let work = move || {
        files::rename(&from, &to, &condition)?;
        files::stat(&to)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, work).await?)
}

pub(super) async fn copy(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (from, to, rights) = (query.from()?, query.to()?, daemon.rights(query.user()?)?);
    let (recursive, condition) = (query.flag("recursive")?, query.condition()?);
    let doing = format!("copy {} to {}", from.display(), to.display());
    let _turn = daemon.long_work.acquire().await.map_err(|_| Refusal::internal("it ends"))?;
    let work = move || {
        files::copy(&from, &to, recursive, &condition)?;
        files::stat(&to)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, work).await?)
}

pub(super) async fn make_directory(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let (parents, mode) = (query.flag("parents")?, query.mode()?);
    let doing = format!("make {}", path.display());
    let make = move || {
        files::make_directory(&path, parents, mode)?;
        files::stat(&path)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, make).await?)
}

pub(super) async fn link(daemon: &Daemon, query: &Query) -> Result<Response<Body>> {
    let (path, rights) = (query.path()?, daemon.rights(query.user()?)?);
    let target = query.target()?;
    let doing = format!("link {}", path.display());
    let make = move || {
        files::link(&path, &target)?;
        files::stat(&path)
    };
    body::json(StatusCode::OK, &files::job(rights, doing, make).await?)
}
