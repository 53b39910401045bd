//! Ports of sessions whose previews are public.

use rclaude_types::SessionId;

use crate::{Conn, Result, Tx, db::queries};

queries! {
    LIST = "SELECT port FROM public_port WHERE session = $1 ORDER BY port";
    HAS = "SELECT port FROM public_port WHERE session = $1 AND port = $2";
    OPEN = "INSERT INTO public_port (session, port) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    CLOSE = "DELETE FROM public_port WHERE session = $1 AND port = $2";
}

/// The session's public ports, by number.
pub async fn public(conn: &mut Conn, session: &SessionId) -> Result<Vec<u16>> {
    conn.all(LIST, [session.into()]).await?.iter().map(|row| row.get("port")).collect()
}

/// Whether a port of the session is public.
pub async fn is_public(conn: &mut Conn, session: &SessionId, port: u16) -> Result<bool> {
    Ok(conn.first(HAS, [session.into(), port.into()]).await?.is_some())
}

/// Makes a port public, or private. Doing it twice is fine.
pub async fn set_public(tx: &mut Tx, session: &SessionId, port: u16, public: bool) -> Result<()> {
    let statement = if public { OPEN } else { CLOSE };
    tx.run(statement, [session.into(), port.into()]).await.map(drop)
}
