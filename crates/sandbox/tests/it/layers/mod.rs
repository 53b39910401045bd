//! States of sandboxes kept as layers, and others started on them.

mod basics;
mod disks;
mod image;
mod journal;
mod live;
mod parts;
mod random;
mod view;
