//! What the server and the daemon in the sandbox say to each other.
