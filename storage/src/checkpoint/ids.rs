//! Kafka's form of ids: 22 characters of URL-safe base64.

use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// 128 bits, six to a character.
const CHARACTERS: u32 = 22;

/// Kafka's form of a uuid: 22 characters of URL-safe base64.
pub fn uuid_to_base64(id: Uuid) -> String {
    let bits = id.as_u128();
    // The last character has only two of its six bits.
    let sextet = |i| if i + 1 < CHARACTERS { bits >> (122 - 6 * i) } else { bits << 4 };
    (0..CHARACTERS).map(|i| char::from(ALPHABET[(sextet(i) & 63) as usize])).collect()
}

/// None unless it stands for 16 bytes. Padding is allowed.
pub fn uuid_from_base64(text: &str) -> Option<Uuid> {
    let text = text.strip_suffix("==").unwrap_or(text);
    if text.len() != CHARACTERS as usize {
        return None;
    }
    let mut bits = 0u128;
    for (i, character) in text.bytes().enumerate() {
        let sextet = ALPHABET.iter().position(|c| *c == character)? as u128;
        bits = if i + 1 < CHARACTERS as usize { bits << 6 | sextet } else { bits << 2 | sextet >> 4 };
    }
    Some(Uuid::from_u128(bits))
}

/// A random id as Kafka makes it: never one of its reserved ids, never beginning with '-'. (A random uuid has version
/// bits set, so that it is never a reserved one, which are zero and one.)
pub fn random_uuid() -> Uuid {
    loop {
        let id = Uuid::new_v4();
        if !uuid_to_base64(id).starts_with('-') {
            return id;
        }
    }
}
