//! Batches as they lie in the spool, on the wire byte for byte: what is encoded once is neither decoded nor encoded again
//! to be sent.

use bytes::{BufMut as _, Bytes};
use proto::usage::UsageAck;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Sends encoded batches and reads acknowledgements.
pub(super) struct Spooled;

impl Codec for Spooled {
    type Encode = Bytes;
    type Decode = UsageAck;
    type Encoder = Self;
    type Decoder = ProstDecoder<UsageAck>;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<UsageAck, UsageAck>::raw_decoder(BufferSettings::default())
    }
}

impl Encoder for Spooled {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, batch: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(batch);
        Ok(())
    }
}
