//! The local engine against the real kernel: sandboxes are made, attacked, killed and removed.

mod crash;
mod daemon;
mod doctor;
mod escape;
mod freeze;
mod layers;
mod life;
mod limits;
mod network;
mod programs;
mod rig;
mod rootless;
