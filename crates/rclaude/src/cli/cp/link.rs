//! Connections that break.

use std::time::Duration;

use rclaude_types::ErrorCode;

use crate::exit::Failure;

/// Waits before another try. A server that is started again is back within them.
const AGAIN_AFTER: [Duration; 8] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(8),
    Duration::from_secs(8),
];

/// How often it is tried again: as often as something still moves.
#[derive(Debug, Default)]
pub(super) struct Patience {
    tries: usize,
    reached: u64,
}

impl Patience {
    /// Waits before the next try; gives the failure back if it is none of the connection's, or
    /// nothing has moved for too long.
    pub(super) async fn wait(&mut self, failure: Failure, reached: u64) -> Result<(), Failure> {
        let passing = match &failure {
            Failure::Unreachable { .. } => true,
            Failure::Problem(problem) => {
                matches!(problem.code, ErrorCode::SandboxUnavailable | ErrorCode::ShuttingDown)
            }
            _ => false,
        };
        if reached > self.reached {
            *self = Self { tries: 0, reached };
        }
        let Some(wait) = AGAIN_AFTER.get(self.tries).filter(|_| passing) else {
            return Err(failure);
        };
        self.tries += 1;
        tokio::time::sleep(*wait).await;
        Ok(())
    }
}
