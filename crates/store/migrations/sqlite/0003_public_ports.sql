-- Ports whose preview anybody may see who can reach the server.
CREATE TABLE public_port (
    session TEXT NOT NULL REFERENCES session (id),
    port    INTEGER NOT NULL,
    PRIMARY KEY (session, port)
) WITHOUT ROWID;
