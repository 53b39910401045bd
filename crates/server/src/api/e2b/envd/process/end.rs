//! How a process ended, as the protocol says it: the words are Go's, which clients show.

use rclaude_types::agentd::ProcessState;
use serde::Serialize;

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct End {
    exit_code: i32,
    exited: bool,
    status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl End {
    /// `None` while it runs.
    pub(super) fn of(state: ProcessState) -> Option<Self> {
        let ProcessState::Exited { code, signal, out_of_memory, .. } = state else {
            let error = Some("the sandbox was stopped while it ran".to_owned());
            let status = "signal: killed".to_owned();
            let lost = Self { exit_code: -1, exited: false, status, error };
            return state.is_final().then_some(lost);
        };
        let status = match signal {
            Some(signal) => format!("signal: {}", word(signal)),
            None => format!("exit status {}", code.unwrap_or(-1)),
        };
        let (exit_code, exited) = (code.unwrap_or(-1), signal.is_none());
        let killed = if out_of_memory { " (out of memory)" } else { "" };
        let error = (code != Some(0)).then(|| format!("{status}{killed}"));
        Some(Self { exit_code, exited, status, error })
    }
}

fn word(signal: i32) -> String {
    match signal {
        1 => "hangup".to_owned(),
        2 => "interrupt".to_owned(),
        3 => "quit".to_owned(),
        4 => "illegal instruction".to_owned(),
        6 => "aborted".to_owned(),
        7 => "bus error".to_owned(),
        8 => "floating point exception".to_owned(),
        9 => "killed".to_owned(),
        11 => "segmentation fault".to_owned(),
        13 => "broken pipe".to_owned(),
        14 => "alarm clock".to_owned(),
        15 => "terminated".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rclaude_types::Timestamp;

    use super::*;

    fn ended(code: Option<i32>, signal: Option<i32>) -> serde_json::Value {
        let at = Timestamp::from_micros(0);
        let state =
            ProcessState::Exited { code, signal, at, timed_out: false, out_of_memory: false };
        serde_json::to_value(End::of(state).unwrap()).unwrap()
    }

    #[test]
    fn an_end_is_told_in_the_words_of_the_original() {
        let json = serde_json::json!({ "exitCode": 0, "exited": true, "status": "exit status 0" });
        assert_eq!(ended(Some(0), None), json);
        let failed = ended(Some(3), None);
        assert_eq!((&failed["exitCode"], &failed["error"]), (&3.into(), &"exit status 3".into()));
        let killed = ended(None, Some(9));
        assert_eq!((&killed["exitCode"], &killed["exited"]), (&(-1).into(), &false.into()));
        assert_eq!(killed["error"], "signal: killed");
        assert_eq!(End::of(ProcessState::Running { pid: 1 }), None);
        assert!(End::of(ProcessState::Lost).is_some());
    }
}
