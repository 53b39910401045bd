//! The embedded engine: sandboxes as namespaces on this host.
