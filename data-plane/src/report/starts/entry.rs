//! A start entry in its slot.
//!
//! ```text
//! 0    crc32 of what follows, up to the end of the text (4, LE)
//! 4    number (8, LE)     12  Unix microseconds (8, LE)     20  revision (8, LE)
//! 28   ids of request, endpoint, key and provider (16 each)
//! 92   length of method, model and path (1 each)            95  their text, one after the other
//! ```

use proto::usage::{Outcome, UsageRecord};

use crate::pipeline::account::Start;

/// Bytes of a slot.
pub(super) const SLOT: usize = 256;
const TEXT: usize = 95;
/// Of a model's name, so that there is room for a path.
const MODEL: usize = 64;

/// How many of the bytes are used.
pub(super) fn encode(start: &Start<'_>, number: u64, bytes: &mut [u8; SLOT]) -> usize {
    let Start { worker: _, id, started_at_us, endpoint_id, api_key_id, provider_id, revision, method, model, path } =
        start;
    bytes[4..12].copy_from_slice(&number.to_le_bytes());
    bytes[12..20].copy_from_slice(&started_at_us.to_le_bytes());
    bytes[20..28].copy_from_slice(&revision.to_le_bytes());
    for (place, id) in bytes[28..92].chunks_exact_mut(16).zip([id, endpoint_id, api_key_id, provider_id]) {
        place.copy_from_slice(id.as_bytes());
    }
    let mut end = TEXT;
    for (place, (text, most)) in
        [(*method, 16), (model.unwrap_or_default(), MODEL), (*path, SLOT)].into_iter().enumerate()
    {
        let length = text.floor_char_boundary(most.min(SLOT - end));
        bytes[end..end + length].copy_from_slice(&text.as_bytes()[..length]);
        bytes[92 + place] = u8::try_from(length).unwrap_or_default();
        end += length;
    }
    let sum = crc32fast::hash(&bytes[4..end]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
    end
}

/// Its number, and what can be said of the request. `None`: nothing was ever written here, or not to its end, and then
/// nothing was sent.
pub(super) fn decode(bytes: &[u8]) -> Option<(u64, UsageRecord)> {
    let number = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let lengths = bytes.get(92..TEXT)?;
    let mut texts = [""; 3];
    let mut end = TEXT;
    for (text, length) in texts.iter_mut().zip(lengths) {
        *text = std::str::from_utf8(bytes.get(end..end + usize::from(*length))?).ok()?;
        end += usize::from(*length);
    }
    let sum = u32::from_le_bytes(*bytes.first_chunk()?);
    if sum != crc32fast::hash(&bytes[4..end]) {
        return None;
    }
    let id = |place: usize| bytes[28 + 16 * place..][..16].to_vec().into();
    let [method, model, path] = texts.map(str::to_owned);
    let record = UsageRecord {
        id: id(0),
        started_at_us: number(12)?,
        endpoint_id: id(1),
        api_key_id: id(2),
        provider_id: id(3),
        admitted: true,
        // The node stopped; `unsettled` says that it did so without a word.
        outcome: Outcome::Drained.into(),
        requested_model: model,
        method,
        path,
        revision: number(20)?,
        unsettled: true,
        ..UsageRecord::default()
    };
    number(4).filter(|number| *number > 0).map(|number| (number, record))
}
