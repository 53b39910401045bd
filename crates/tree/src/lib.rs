//! Trees of files on their way in and out, where whoever else can write there is not trusted.
//!
//! The daemon in a sandbox uses it beside an agent that may swap a directory for a link at any
//! moment; the command line uses it for archives that such an agent filled. Everything goes by
//! open directories and one name at a time ([`open`]), files appear whole under their name or not
//! at all ([`temporary`]), and no archive writes beside the directory it is unpacked into.

mod make;
mod open;
mod pack;
mod temporary;
mod unpack;

pub use make::make_directory;
pub use open::{open, open_at, parent, split};
pub use pack::{MAX_DEPTH, Pack};
pub use temporary::temporary;
pub use unpack::Unpack;
