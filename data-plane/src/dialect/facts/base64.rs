//! Base64 as it passes, in any pieces, into a buffer that does not grow.

/// Bytes that are decoded at a time.
const BUFFER: usize = 192;

/// The state between two pieces.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    bits: u32,
    /// Letters in `bits`, 0 to 3.
    letters: u8,
}

impl Decoder {
    /// Takes the next piece. What is no letter of the alphabet, an escaping backslash or padding, is passed over.
    pub(super) fn feed(&mut self, text: &[u8], mut sink: impl FnMut(&[u8])) {
        let mut buffer = [0; BUFFER];
        let mut filled = 0;
        for letter in text {
            let Some(value) = value(*letter) else { continue };
            self.bits = self.bits << 6 | u32::from(value);
            self.letters += 1;
            if self.letters > 1 {
                // Behind n letters of a group there are 6n bits, of which n - 1 whole bytes are told.
                let [.., byte] = (self.bits >> (6 - 2 * (self.letters - 1))).to_be_bytes();
                buffer[filled] = byte;
                filled += 1;
            }
            if self.letters == 4 {
                (self.bits, self.letters) = (0, 0);
            }
            if filled == BUFFER {
                sink(&buffer);
                filled = 0;
            }
        }
        if filled > 0 {
            sink(&buffer[..filled]);
        }
    }
}

fn value(letter: u8) -> Option<u8> {
    match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn it_is_read_however_it_is_cut() {
        for length in [0, 1, 2, 3, 4, 57, 191, 192, 193, 1000] {
            let bytes: Vec<u8> = (0..length).map(|index| u8::try_from(index * 7 % 256).unwrap()).collect();
            let text = STANDARD.encode(&bytes).replace('/', "\\/");
            for piece in [1, 2, 3, 5, 256, 5000] {
                let (mut decoder, mut found) = (Decoder::default(), Vec::new());
                for piece in text.as_bytes().chunks(piece) {
                    decoder.feed(piece, |bytes| found.extend_from_slice(bytes));
                }
                assert_eq!(found, bytes, "{length} in pieces of {piece}");
            }
        }
    }
}
