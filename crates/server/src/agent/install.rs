//! Finding and installing agents.
