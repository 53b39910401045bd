//! The agents' adapters, against recordings of the real binaries.

mod claude_code_golden;
mod claude_code_hostile;
mod claude_code_input;
mod claude_code_restart;
mod recording;
