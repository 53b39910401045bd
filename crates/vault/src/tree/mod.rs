//! Directory trees as the disk has them: walked, described, hashed.
//!
//! A tree may have been made by somebody hostile, and may be changed while it is looked at. So
//! everything is reached from its directory's descriptor and no link is ever followed: there is no
//! moment at which a name could lead out of the tree, nor a path too long for the kernel.

mod attributes;
pub(crate) mod digest;
mod facts;
pub(crate) mod node;
mod walk;

pub(crate) use attributes::set as set_attribute;
pub(crate) use facts::{Facts, Kind, Time};
pub(crate) use walk::{Opener, Walk, last};
