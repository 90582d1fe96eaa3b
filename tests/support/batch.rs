//! Batches as they are sent, made from the description of the protocol and not with the protocol crate.

/// CRC-32 (IEEE), a bit at a time over a table made at compile time.
pub fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        CRC_OF_BYTE[usize::from(low ^ byte)] ^ (crc >> 8)
    })
}

const CRC_OF_BYTE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    let mut byte = 0;
    while index < table.len() {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        byte += 1;
    }
    table
};

/// A body: every message as `MSG <bytes>\r\n<bytes>\r\n`.
pub fn body(messages: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for message in messages {
        body.extend_from_slice(format!("MSG {}\r\n", message.len()).as_bytes());
        body.extend_from_slice(message);
        body.extend_from_slice(b"\r\n");
    }
    body
}

/// A body's envelope, with whatever is given instead of the right numbers.
pub fn envelope(
    body_bytes: impl std::fmt::Display,
    topic: &str,
    crc: impl std::fmt::Display,
    messages: impl std::fmt::Display,
) -> Vec<u8> {
    format!("BATCH {body_bytes} {topic} {crc} {messages}\r\n").into_bytes()
}

/// A right batch: envelope and body.
pub fn batch(topic: &str, messages: &[&[u8]]) -> Vec<u8> {
    let body = body(messages);
    let mut batch = envelope(body.len(), topic, checksum(&body), messages.len());
    batch.extend_from_slice(&body);
    batch
}

#[cfg(test)]
mod tests {
    use super::{batch, checksum};

    #[test]
    fn a_batch_is_the_one_of_the_description() {
        let expected = b"BATCH 29 default 2499380544 2\r\nMSG 5\r\nhello\r\nMSG 6\r\nworld!\r\n";
        assert_eq!(batch("default", &[b"hello", b"world!"]), expected);
        assert_eq!(checksum(b"123456789"), 0xCBF4_3926, "the check value of CRC-32");
    }
}
