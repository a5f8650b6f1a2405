//! Which customers belong together when a panel is built part by part.

/// FNV-1a, 64 bits: the same on every machine and in every version.
pub fn hash(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The partition of a customer, by its hash. The upper half of the hash, since the lower bits of
/// FNV follow the lower bits of the text: ids that count up would fill some partitions more than
/// others.
pub fn partition(hash: u64, partitions: usize) -> usize {
    ((hash >> 32) % partitions as u64) as usize
}
