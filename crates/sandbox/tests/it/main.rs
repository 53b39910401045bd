//! The local engine against the real kernel: sandboxes are made, attacked, killed and removed.

mod doctor;
mod life;
mod rig;
