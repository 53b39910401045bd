//! What a preview's visitor reads where the program says nothing: a page in a browser, problem
//! details elsewhere.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use rclaude_types::{ErrorCode, Problem};

use super::{address::Target, forward::Failure};

/// Tells a page of ours from one of the program's.
const OURS: &str = "x-rclaude-preview";
/// Nothing but its own style; nothing may show it in a frame.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

/// Who asks, as far as it matters to what they can read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    is_browser: bool,
}

/// What a page says.
struct Said {
    status: u16,
    code: ErrorCode,
    title: String,
    detail: String,
    /// It looks again by itself: what is missing may come.
    again: bool,
}

impl Reader {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
        Self { is_browser: accept.is_some_and(|accept| accept.contains("text/html")) }
    }

    /// To whoever brought nothing that lets them in.
    pub(super) fn private(self, target: &Target) -> Response {
        self.say(&Said {
            status: 401,
            code: ErrorCode::Unauthenticated,
            title: "This preview is private".to_owned(),
            detail: format!(
                "`rclaude open SESSION {}` makes a link to it, and `--public` opens it to everybody \
                 who can reach this server. Programs send a token as x-rclaude-token.",
                target.port
            ),
            again: false,
        })
    }

    /// To whoever was sent by a page of another origin.
    pub(super) fn foreign(self) -> Response {
        self.say(&Said {
            status: 403,
            code: ErrorCode::Forbidden,
            title: "Another site asked for this".to_owned(),
            detail: "a page of another origin may not change anything here".to_owned(),
            again: false,
        })
    }

    /// To whoever the program did not answer.
    pub(super) fn failed(self, target: &Target, failure: &Failure) -> Response {
        let port = target.port;
        self.say(&match failure {
            Failure::Refused(problem) if problem.code == ErrorCode::PortClosed => Said {
                status: 502,
                code: problem.code,
                title: format!("Nothing listens on port {port}"),
                detail: format!(
                    "{}. It may still be starting, or have ended when the session was hibernated. \
                     `rclaude ports SESSION` shows what listens.",
                    problem.detail
                ),
                again: true,
            },
            Failure::Refused(problem) => Said {
                status: problem.status,
                code: problem.code,
                title: match problem.status {
                    404 => "There is no such session".to_owned(),
                    _ => "The session cannot be reached now".to_owned(),
                },
                detail: problem.detail.clone(),
                again: problem.status == 503,
            },
            Failure::Broken(why) => Said {
                status: 502,
                code: ErrorCode::PortClosed,
                title: format!("The program on port {port} gave no answer"),
                detail: format!("it was reached, and did not answer in HTTP: {why}"),
                again: false,
            },
        })
    }

    fn say(self, said: &Said) -> Response {
        let (kind, body) = if self.is_browser {
            ("text/html; charset=utf-8", html(said).into_bytes())
        } else {
            let mut problem = Problem::new(said.code, format!("{}: {}", said.title, said.detail));
            problem.status = said.status;
            ("application/problem+json", serde_json::to_vec(&problem).unwrap_or_default())
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(said.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CONTENT_TYPE, kind),
            (header::CACHE_CONTROL, "no-store"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        headers.insert(OURS, HeaderValue::from_static("1"));
        response
    }
}

fn html(said: &Said) -> String {
    let again = if said.again { r#"<meta http-equiv="refresh" content="2">"# } else { "" };
    let note =
        if said.again { "<p class=\"note\">This page looks again by itself.</p>" } else { "" };
    let (title, detail) = (escaped(&said.title), escaped(&said.detail));
    // What was written as code is shown as such.
    let mut code = false;
    let detail: String = detail
        .split_inclusive('`')
        .map(|part| {
            let Some(text) = part.strip_suffix('`') else { return part.to_owned() };
            code = !code;
            format!("{text}{}", if code { "<code>" } else { "</code>" })
        })
        .collect();
    format!(
        r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">{again}
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 16px/1.6 system-ui, sans-serif; max-width: 36rem; margin: 18vh auto; padding: 0 1.5rem }}
h1 {{ font-size: 1.4rem; font-weight: 600 }}
code {{ font: .9em ui-monospace, monospace; padding: .1em .35em; border-radius: .3em; background: #8882 }}
.note {{ opacity: .65; font-size: .9rem }}
</style></head>
<body><h1>{title}</h1><p>{detail}</p>{note}</body></html>
"#
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sandbox_says_is_shown_as_text() {
        let said = Said {
            status: 502,
            code: ErrorCode::PortClosed,
            title: "<script>".to_owned(),
            detail: "run `rclaude ports` & \"see\" <b>".to_owned(),
            again: true,
        };
        let page = html(&said);
        assert!(page.contains("<h1>&lt;script&gt;</h1>"), "{page}");
        let detail = "run <code>rclaude ports</code> &amp; &quot;see&quot; &lt;b&gt;";
        assert!(page.contains(detail), "{page}");
    }
}
