//! "No", in the words of each protocol.

/// The sentence that an agent reads.
pub(super) fn sentence(host: &str, port: u16) -> String {
    let place =
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    format!(
        "rclaude: connection to {place} is blocked by this session's network policy (only the \
         model gateway is reachable). Do without it, or ask the session's owner for what you need."
    )
}

/// A fatal TLS alert, `access_denied` (RFC 8446 §6): OpenSSL's "alert access denied".
pub(super) const TLS_ALERT: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// An SSH version and a disconnect message (RFC 4253 §4.2, §6, §11.1), which clients print.
pub(super) fn ssh(sentence: &str) -> Vec<u8> {
    const HOST_NOT_ALLOWED_TO_CONNECT: u32 = 1;
    let mut payload = vec![1];
    payload.extend(HOST_NOT_ALLOWED_TO_CONNECT.to_be_bytes());
    for text in [sentence, ""] {
        payload.extend(length(text.len()).to_be_bytes());
        payload.extend(text.bytes());
    }
    // At least four bytes of padding, to a multiple of eight with the five bytes of the header.
    let padding = 4 + (8 - (payload.len() + 9) % 8) % 8;
    let mut bytes = b"SSH-2.0-rclaude\r\n".to_vec();
    bytes.extend(length(1 + payload.len() + padding).to_be_bytes());
    // 4 to 11.
    bytes.push(u8::try_from(padding).unwrap_or(4));
    bytes.extend(payload);
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

/// A packet that git prints as "remote error" (gitprotocol-pack(5)).
pub(super) fn git(sentence: &str) -> Vec<u8> {
    format!("{:04x}ERR {sentence}", sentence.len() + 8).into_bytes()
}

/// A line, with the reply code that mail and file transfer clients expect in front of it.
pub(super) fn line(port: u16, sentence: &str) -> Vec<u8> {
    let code = match port {
        21 => "421 ",
        25 | 465 | 587 => "554 ",
        _ => "",
    };
    format!("{code}{sentence}\r\n").into_bytes()
}

/// The host that git's first packet asks for.
pub(super) fn git_host(packet: &[u8]) -> Option<String> {
    let host = packet.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"host="))?;
    let host = std::str::from_utf8(host).ok()?;
    Some(host.split(':').next().unwrap_or(host).to_owned())
}

fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ssh_packet_is_a_multiple_of_eight_with_enough_padding() {
        for len in 0..40 {
            let bytes = ssh(&"x".repeat(len));
            let packet = &bytes[17..];
            assert_eq!(packet.len() % 8, 0);
            assert!((4..=11).contains(&packet[4]));
            let told = u32::from_be_bytes(packet[..4].try_into().unwrap()) as usize;
            assert_eq!(told + 4, packet.len());
        }
    }

    #[test]
    fn the_host_of_a_git_request_is_found() {
        assert_eq!(
            git_host(b"0000git-upload-pack /a\0host=b.example:9418\0").unwrap(),
            "b.example"
        );
        assert_eq!(git_host(b"0000git-upload-pack /a"), None);
    }
}
