//! Query strings that name files: a name is bytes, percent-encoded, and need not be UTF-8.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    fmt,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, header, request::Parts},
};
use rclaude_sandbox::agentd::Condition;
use serde::{
    Deserialize, Deserializer,
    de::{
        self, DeserializeOwned, IntoDeserializer, Visitor,
        value::{CowStrDeserializer, MapDeserializer},
    },
};

use crate::api::{
    problem::{Refusal, Result},
    validate::Validate,
};

/// Longest path that the kernel takes, without the NUL at its end.
const MAX_PATH: usize = 4095;

/// A path in a session: relative to the workspace, or absolute.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::api) struct SandboxPath(OsString);

impl SandboxPath {
    pub(in crate::api) fn path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// As what a link leads to.
    pub(super) fn target(&self) -> &OsStr {
        &self.0
    }

    /// The workspace.
    pub(super) fn workspace() -> Self {
        Self(".".into())
    }
}

impl fmt::Debug for SandboxPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for SandboxPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = SandboxPath;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a path")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<SandboxPath, E> {
                if bytes.is_empty() || bytes.len() > MAX_PATH {
                    let length = bytes.len();
                    let why = format!("a path has 1 to {MAX_PATH} bytes, and this one {length}");
                    return Err(E::custom(why));
                }
                if bytes.contains(&0) {
                    return Err(E::custom("a path cannot contain a NUL character"));
                }
                Ok(SandboxPath(OsString::from_vec(bytes.to_vec())))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SandboxPath, E> {
                self.visit_bytes(text.as_bytes())
            }
        }

        deserializer.deserialize_bytes(Bytes)
    }
}

/// A query string with paths in it. Unknown and repeated parameters are refused where `T` denies
/// them.
#[derive(Debug)]
pub(in crate::api) struct FileQuery<T>(pub(in crate::api) T);

impl<T: DeserializeOwned + Validate, S: Send + Sync> FromRequestParts<S> for FileQuery<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let query: T = parse(parts.uri.query().unwrap_or_default())?;
        query.validate()?;
        Ok(Self(query))
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (String::from_utf8_lossy(&decode(name)).into_owned(), Value(decode(value)))
    });
    T::deserialize(MapDeserializer::<_, de::value::Error>::new(pairs))
        .map_err(|error| Refusal::invalid(format!("the query: {error}")))
}

/// Takes `application/x-www-form-urlencoded` apart, as the URL standard has it: what is no
/// encoding stands for itself.
fn decode(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push(u8::try_from(high << 4 | low).unwrap_or_default());
                at += 2;
            }
            (b'+', ..) => decoded.push(b' '),
            _ => decoded.push(byte),
        }
        at += 1;
    }
    decoded
}

/// A value, read as what its field wants.
struct Value(Vec<u8>);

impl Value {
    fn text(&self) -> Result<&str, de::value::Error> {
        str::from_utf8(&self.0).map_err(|_| de::Error::custom("a value that is not UTF-8"))
    }
}

impl IntoDeserializer<'_> for Value {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

macro_rules! parsed {
    ($($method:ident $visit:ident $kind:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            let text = self.text()?;
            let value: $kind = text.parse().map_err(|_| {
                de::Error::custom(format!("`{}` is no {}", text.escape_debug(), stringify!($kind)))
            })?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Value {
    type Error = de::value::Error;

    parsed! {
        deserialize_bool visit_bool bool,
        deserialize_u16 visit_u16 u16,
        deserialize_u32 visit_u32 u32,
        deserialize_u64 visit_u64 u64
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        let text = Cow::<str>::Owned(self.text()?.to_owned());
        CowStrDeserializer::new(text).deserialize_any(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_bytes(&self.0)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_some(self)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u128 f32 f64 char str string byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// What must be in a file's place: `if-match` with one tag or `*`, or `if-none-match: *`
/// (RFC 9110, section 13.1).
pub(super) fn condition(headers: &HeaderMap) -> Result<Condition> {
    let one = |name: HeaderName| -> Result<Option<&str>> {
        let mut all = headers.get_all(&name).iter();
        let refusal = || Refusal::invalid(format!("{name}: give it once, in ASCII"));
        match (all.next(), all.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => value.to_str().map(Some).map_err(|_| refusal()),
            _ => Err(refusal()),
        }
    };
    match (one(header::IF_MATCH)?.map(str::trim), one(header::IF_NONE_MATCH)?.map(str::trim)) {
        (None, None) => Ok(Condition::None),
        (Some("*"), None) => Ok(Condition::Match("*".to_owned())),
        (Some(tag), None) => tag
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'))
            .filter(|tag| !tag.contains('"'))
            .map(|tag| Condition::Match(tag.to_owned()))
            .ok_or_else(|| Refusal::invalid("if-match: is neither `*` nor one tag in quotes")),
        (None, Some("*")) => Ok(Condition::Absent),
        _ => Err(Refusal::invalid("give either if-match, or `if-none-match: *`")),
    }
}

/// A file's name for the header that proposes one, whatever bytes it has.
pub(super) fn encoded_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_else(|| OsStr::new("file"));
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    // The serializer is for forms, where a space is a plus.
    encoded.replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Example {
        path: SandboxPath,
        #[serde(default)]
        flag: bool,
        limit: Option<u32>,
        word: Option<String>,
    }

    #[test]
    fn a_name_need_not_be_text_and_everything_else_must() {
        let read = parse::<Example>("path=a%20b/%FF%0A%26+%2B&flag=true&limit=7&word=x").unwrap();
        let wanted = Example {
            path: SandboxPath(OsString::from_vec(b"a b/\xff\n& +".to_vec())),
            flag: true,
            limit: Some(7),
            word: Some("x".to_owned()),
        };
        assert_eq!(read, wanted);
        let long = format!("path={}", "a".repeat(4096));
        for bad in [
            "",
            "path=",
            "path=%00",
            "path=a&path=b",
            "path=a&other=1",
            "path=a&flag=yes",
            "path=a&limit=-1",
            "path=a&word=%FF",
            &long,
        ] {
            assert!(parse::<Example>(bad).is_err(), "{bad}");
        }
        assert!(parse::<Example>(&long[..long.len() - 1]).is_ok());
    }

    #[test]
    fn a_condition_is_one_tag_or_a_star() {
        let headers = |pairs: &[(HeaderName, &str)]| {
            let pairs = pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
            condition(&pairs.collect::<HeaderMap>())
        };
        assert_eq!(headers(&[]).unwrap(), Condition::None);
        let tag = Condition::Match("1-2".to_owned());
        assert_eq!(headers(&[(header::IF_MATCH, "\"1-2\"")]).unwrap(), tag);
        assert_eq!(headers(&[(header::IF_NONE_MATCH, "*")]).unwrap(), Condition::Absent);
        for bad in [
            &[(header::IF_MATCH, "1-2")][..],
            &[(header::IF_MATCH, "\"a\", \"b\"")],
            &[(header::IF_NONE_MATCH, "\"a\"")],
            &[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")],
        ] {
            assert!(headers(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_files_name_cannot_break_its_header() {
        let path = Path::new(OsStr::from_bytes(b"/workspace/a b\"\r\nx: \xc3\xa4\xff"));
        assert_eq!(encoded_name(path), "a%20b%22%0D%0Ax%3A%20%C3%A4%FF");
    }
}
