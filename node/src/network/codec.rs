//! One frame per direction of a stream: its length (u32, little-endian), then a value in the ledger's strict codec.
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use bincode::{Decode, Encode};
use fama_ledger::codec::{self, CodecError};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::limits;
use super::wire::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};

/// Why a frame was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// Its length or its value breaks the format: the sender's fault.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// No memory is left for half-received requests.
    #[error("too many requests half received")]
    Busy,
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Codec(error) => Self::new(io::ErrorKind::InvalidData, error),
            FrameError::Io(error) => error,
            FrameError::Busy => Self::other(error),
        }
    }
}

/// Memory for half-received requests of all connections together, in KiB.
#[derive(Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new(kib: usize) -> Self {
        Self(Arc::new(Semaphore::new(kib)))
    }

    fn take(&self, bytes: usize) -> Result<SemaphorePermit<'_>, FrameError> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).map_err(|_| FrameError::Busy)?;
        self.0.try_acquire_many(kib).map_err(|_| FrameError::Busy)
    }
}

/// The codec of a protocol whose requests are `Q` and answers `A`.
///
/// A request that breaks the format is handed up as an error instead of failing the stream silently, so that its
/// sender, whom a codec does not know, pays for it.
pub(super) struct Frames<Q, A> {
    budget: Budget,
    values: PhantomData<fn() -> (Q, A)>,
}

impl<Q, A> Frames<Q, A> {
    pub(super) const fn new(budget: Budget) -> Self {
        Self { budget, values: PhantomData }
    }
}

impl<Q, A> Clone for Frames<Q, A> {
    fn clone(&self) -> Self {
        Self::new(self.budget.clone())
    }
}

impl<Q, A> Codec for Frames<Q, A>
where
    Q: Encode + Decode<()> + Send + 'static,
    A: Encode + Decode<()> + Send + 'static,
{
    type Protocol = StreamProtocol;
    type Request = Result<Q, CodecError>;
    type Response = A;

    async fn read_request<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        match read(io, REQUEST_BYTES_MAX, Some(&self.budget)).await {
            Err(FrameError::Codec(error)) => Ok(Err(error)),
            other => Ok(Ok(other?)),
        }
    }

    async fn read_response<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<A>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(read(io, RESPONSE_BYTES_MAX, None).await?)
    }

    async fn write_request<T>(&mut self, _: &Self::Protocol, io: &mut T, request: Self::Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let bytes = codec::encode(&request.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?);
        write(io, &bytes, REQUEST_BYTES_MAX).await
    }

    async fn write_response<T>(&mut self, _: &Self::Protocol, io: &mut T, response: A) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &codec::encode(&response), RESPONSE_BYTES_MAX).await
    }
}

async fn read<V, T>(io: &mut T, max: usize, budget: Option<&Budget>) -> Result<V, FrameError>
where
    V: Encode + Decode<()>,
    T: AsyncRead + Unpin,
{
    let bytes = read_frame(io, max, budget).await?;
    Ok(codec::decode(&bytes, max)?)
}

/// Claims memory chunk by chunk as bytes arrive, so that a length alone costs nothing.
async fn read_frame<T>(io: &mut T, max: usize, budget: Option<&Budget>) -> Result<Vec<u8>, FrameError>
where
    T: AsyncRead + Unpin,
{
    let mut header = [0; 4];
    io.read_exact(&mut header).await?;
    let len = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if len > max {
        return Err(CodecError::TooLong { len, max }.into());
    }
    let mut bytes = Vec::new();
    let mut claims = Vec::new();
    while bytes.len() < len {
        let start = bytes.len();
        let end = len.min(start + limits::CHUNK_BYTES);
        if let (Some(budget), true) = (budget, start > 0) {
            claims.push(budget.take(end - start)?);
        }
        bytes.resize(end, 0);
        io.read_exact(&mut bytes[start..]).await?;
    }
    Ok(bytes)
}

async fn write<T: AsyncWrite + Unpin>(io: &mut T, bytes: &[u8], max: usize) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, CodecError::TooLong { len: bytes.len(), max });
    let len = u32::try_from(bytes.len()).ok().filter(|_| bytes.len() <= max).ok_or_else(too_long)?;
    io.write_all(&len.to_le_bytes()).await?;
    io.write_all(bytes).await?;
    io.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    fn frame(len: u32, bytes: usize) -> Cursor<Vec<u8>> {
        let mut frame = len.to_le_bytes().to_vec();
        frame.resize(4 + bytes, 7);
        Cursor::new(frame)
    }

    #[test]
    fn frames() {
        let read = |len, bytes| block_on(read_frame(&mut frame(len, bytes), 1 << 20, None));
        assert_eq!(read(0, 0).unwrap(), []);
        assert_eq!(read(200_000, 200_000).unwrap().len(), 200_000);
        assert!(matches!(read(200_000, 199_999), Err(FrameError::Io(_))), "cut short");
        assert!(matches!(read(u32::MAX, 9), Err(FrameError::Codec(CodecError::TooLong { .. }))));
        assert!(matches!(read((1 << 20) + 1, 9), Err(FrameError::Codec(CodecError::TooLong { .. }))));
    }

    #[test]
    fn half_received_requests_share_a_budget() {
        let budget = Budget::new(100);
        let read = |len: u32| block_on(read_frame(&mut frame(len, len as usize), 1 << 20, Some(&budget)));
        assert!(read(60 << 10).is_ok(), "the first chunk is free");
        assert!(read(160 << 10).is_ok());
        assert!(read(160 << 10).is_ok(), "given back");
        assert!(matches!(read(300 << 10), Err(FrameError::Busy)));
    }

    #[test]
    fn too_long_is_not_sent() {
        let mut sent = Vec::new();
        let error = block_on(write(&mut sent, &[0; 9], 8)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(sent.is_empty());
    }
}
