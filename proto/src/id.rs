//! Typed ids in text: `prv_01h45ytscbebyvny4gc8cr8ma2`. A prefix names the kind; the rest is a UUID in Crockford's
//! base32, 26 characters, lower case, in the same order as the UUIDs themselves (the `TypeID` format, version 0.3).

use uuid::Uuid;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// `prefix_suffix`.
pub fn encode(prefix: &str, id: Uuid) -> String {
    let mut text = String::with_capacity(prefix.len() + 27);
    text.push_str(prefix);
    text.push('_');
    text.extend(suffix(id).map(char::from));
    text
}

/// What follows the prefix, in ASCII.
pub fn suffix(id: Uuid) -> [u8; 26] {
    let mut value = id.as_u128();
    let mut suffix = [0; 26];
    for place in suffix.iter_mut().rev() {
        *place = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    suffix
}

/// Reads what [`encode`] wrote with this prefix; `None` for anything else.
pub fn decode(prefix: &str, text: &str) -> Option<Uuid> {
    let suffix = text.strip_prefix(prefix)?.strip_prefix('_')?.as_bytes();
    // 26 characters hold 130 bits: the first may carry only three.
    if suffix.len() != 26 || suffix[0] > b'7' {
        return None;
    }
    let mut value = 0_u128;
    for byte in suffix {
        let digit = ALPHABET.iter().position(|letter| letter == byte)?;
        value = (value << 5) | digit as u128;
    }
    Some(Uuid::from_u128(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_id_are_one_to_one() {
        let id = Uuid::from_u128(0x0188_bac7_4afa_78aa_bc3b_bd1e_ef28_d881);
        assert_eq!(encode("prefix", id), "prefix_01h2xcejqtf2nbrexx3vqjhp41");
        assert_eq!(decode("prefix", "prefix_01h2xcejqtf2nbrexx3vqjhp41"), Some(id));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "prefix_", "other_01h2xcejqtf2nbrexx3vqjhp41", "prefix_81h2xcejqtf2nbrexx3vqjhp41"] {
            assert_eq!(decode("prefix", text), None, "{text}");
        }
        assert_eq!(decode("prefix", "prefix_01H2XCEJQTF2NBREXX3VQJHP41"), None);
    }
}
