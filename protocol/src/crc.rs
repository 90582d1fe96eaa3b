//! The checksum of a batch's body.

/// CRC-32 (IEEE 802.3, polynomial 0x04C11DB7 reflected, as in zlib) over the bytes of a body.
pub fn checksum(body: &[u8]) -> u32 {
    crc32fast::hash(body)
}
