//! Colours, where they are wanted.

/// Paints text, or leaves it alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Paint {
    on: bool,
}

macro_rules! colours {
    ($($name:ident = $code:literal;)*) => {$(
        #[doc = concat!("Text in ", stringify!($name), ".")]
        pub(crate) fn $name(self, text: &str) -> String {
            if self.on && !text.is_empty() {
                format!(concat!("\x1b[", $code, "m{}\x1b[0m"), text)
            } else {
                text.to_owned()
            }
        }
    )*};
}

impl Paint {
    pub(crate) const fn new(on: bool) -> Self {
        Self { on }
    }

    pub(super) const fn is_on(self) -> bool {
        self.on
    }

    colours! {
        bold = "1";
        dim = "2";
        red = "31";
        green = "32";
        yellow = "33";
        cyan = "36";
    }

    /// A line of a unified diff.
    pub(crate) fn diff_line(self, line: &str) -> String {
        match line.as_bytes().first() {
            Some(b'+') => self.green(line),
            Some(b'-') => self.red(line),
            Some(b'@') => self.cyan(line),
            Some(b'\\') => self.dim(line),
            _ if line.starts_with("diff --git ") => self.bold(line),
            _ => line.to_owned(),
        }
    }
}
