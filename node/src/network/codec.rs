//! One frame per direction of a stream: its length (u32, little-endian), then a value in the ledger's strict codec.
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;

use bincode::{Decode, Encode};
use fama_ledger::codec::{self, CodecError};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::bounds::BoundedRequest;
use super::limits;
use super::operators::Operators;
use crate::wire::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};

/// Why a frame was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The frame's length or value breaks the format: the sender's fault.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The budget for long frames is used up.
    #[error("too many long messages at once")]
    Busy,
    /// The request did not arrive within [`limits::ARRIVAL_TIMEOUT`].
    #[error("a request took too long to arrive")]
    Late,
}

impl From<FrameError> for io::Error {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Codec(error) => Self::new(io::ErrorKind::InvalidData, error),
            FrameError::Io(error) => error,
            FrameError::Busy => Self::other(error),
            FrameError::Late => Self::new(io::ErrorKind::TimedOut, error),
        }
    }
}

/// What the long frames of all connections share: memory, in KiB, and permits to be decoded.
#[derive(Clone)]
pub(super) struct Budget {
    kib: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

impl Budget {
    pub(super) fn new(kib: usize) -> Self {
        Self { kib: Arc::new(Semaphore::new(kib)), long: Arc::new(Semaphore::new(limits::DECODED_AT_ONCE_MAX)) }
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, FrameError> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).map_err(|_| FrameError::Busy)?;
        Arc::clone(&self.kib).try_acquire_many_owned(kib).map_err(|_| FrameError::Busy)
    }
}

/// The memory that a long frame takes from a budget; given back on drop.
#[derive(Default)]
pub(super) struct MemoryClaim(Option<OwnedSemaphorePermit>);

impl MemoryClaim {
    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.0 {
            Some(held) => held.merge(more),
            None => self.0 = Some(more),
        }
    }
}

/// A request, or what is wrong with it, and the memory that it claims until it is answered.
pub(super) struct FramedRequest<Q> {
    pub(super) request: Result<Q, CodecError>,
    pub(super) claim: MemoryClaim,
}

impl<Q> FramedRequest<Q> {
    /// An outgoing request, which claims no memory.
    pub(super) fn new(request: Q) -> Self {
        Self { request: Ok(request), claim: MemoryClaim::default() }
    }
}

impl<Q> fmt::Debug for FramedRequest<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FramedRequest")
    }
}

/// The codec of a protocol whose requests are `Q` and answers `A`.
///
/// A request that breaks the format is returned as an error instead of failing the stream, so that the swarm's task
/// can penalize its sender: a codec does not know the peer.
///
/// Each request has a codec of its own, which remembers from request to answer how long the answer may be.
pub(super) struct Frames<Q, A> {
    requests: Budget,
    answers: Budget,
    operators: Operators,
    answer_bytes_max: usize,
    values: PhantomData<fn() -> (Q, A)>,
}

impl<Q, A> Frames<Q, A> {
    /// `requests` and `answers` are the budgets for incoming frames.
    pub(super) fn new([requests, answers]: &[Budget; 2], operators: Operators) -> Self {
        let (requests, answers) = (requests.clone(), answers.clone());
        Self { requests, answers, operators, answer_bytes_max: 0, values: PhantomData }
    }
}

impl<Q, A> Clone for Frames<Q, A> {
    fn clone(&self) -> Self {
        Self::new(&[self.requests.clone(), self.answers.clone()], self.operators.clone())
    }
}

impl<Q, A> Codec for Frames<Q, A>
where
    Q: BoundedRequest + Encode + Decode<()> + Send + 'static,
    A: Encode + Decode<()> + Send + 'static,
{
    type Protocol = StreamProtocol;
    type Request = FramedRequest<Q>;
    type Response = A;

    async fn read_request<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<Self::Request>
    where
        T: AsyncRead + Unpin + Send,
    {
        let max = Q::bytes_max(self.operators.at_most());
        let read = timeout(limits::ARRIVAL_TIMEOUT, read(io, max, &self.requests));
        match read.await.unwrap_or(Err(FrameError::Late)) {
            Ok((request, claim)) => Ok(FramedRequest { request: Ok(request), claim }),
            Err(FrameError::Codec(error)) => Ok(FramedRequest { request: Err(error), claim: MemoryClaim::default() }),
            Err(error) => Err(error.into()),
        }
    }

    async fn read_response<T>(&mut self, _: &Self::Protocol, io: &mut T) -> io::Result<A>
    where
        T: AsyncRead + Unpin + Send,
    {
        Ok(read(io, self.answer_bytes_max, &self.answers).await?.0)
    }

    async fn write_request<T>(&mut self, _: &Self::Protocol, io: &mut T, request: Self::Request) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let request = request.request.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.answer_bytes_max = request.answer_bytes_max(self.operators.at_most());
        let bytes = codec::encode(&request);
        drop(request);
        write(io, &bytes, REQUEST_BYTES_MAX).await
    }

    async fn write_response<T>(&mut self, _: &Self::Protocol, io: &mut T, response: A) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        // On a blocking thread, so that encoding holds up no other task. The closure takes `response`: sending may take
        // long, and only the bytes should stay in memory meanwhile.
        let bytes = spawn_blocking(move || codec::encode(&response)).await?;
        write(io, &bytes, RESPONSE_BYTES_MAX).await
    }
}

async fn read<V, T>(io: &mut T, max: usize, budget: &Budget) -> Result<(V, MemoryClaim), FrameError>
where
    V: Encode + Decode<()> + Send + 'static,
    T: AsyncRead + Unpin,
{
    let (bytes, claim) = read_frame(io, max, budget).await?;
    if bytes.len() <= limits::FREE_BYTES {
        return Ok((codec::decode(&bytes, max)?, claim));
    }
    // Few at a time and on a blocking thread: megabytes of rubbish take long to decode.
    let _turn = budget.long.acquire().await.map_err(|_| FrameError::Busy)?;
    let decoded = spawn_blocking(move || codec::decode(&bytes, max)).await.map_err(io::Error::from)?;
    Ok((decoded?, claim))
}

/// Allocates as bytes arrive, at most twice what has arrived, so that announcing a length alone costs nothing.
async fn read_frame<T>(io: &mut T, max: usize, budget: &Budget) -> Result<(Vec<u8>, MemoryClaim), FrameError>
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
    let mut claim = MemoryClaim::default();
    while bytes.len() < len {
        let start = bytes.len();
        let end = len.min((2 * start).max(limits::CHUNK_BYTES));
        let beyond = end.saturating_sub(start.max(limits::FREE_BYTES));
        if beyond > 0 {
            claim.add(budget.take(beyond)?);
        }
        bytes.reserve_exact(end - start);
        bytes.resize(end, 0);
        io.read_exact(&mut bytes[start..]).await?;
    }
    Ok((bytes, claim))
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
        let budget = Budget::new(1 << 10);
        let read = |len, bytes| block_on(read_frame(&mut frame(len, bytes), 1 << 20, &budget));
        assert!(read(0, 0).unwrap().0.is_empty());
        assert_eq!(read(200_000, 200_000).unwrap().0, [7; 200_000]);
        assert!(matches!(read(200_000, 199_999), Err(FrameError::Io(_))), "cut short");
        assert!(matches!(read(u32::MAX, 9), Err(FrameError::Codec(CodecError::TooLong { .. }))));
        assert!(matches!(read((1 << 20) + 1, 9), Err(FrameError::Codec(CodecError::TooLong { .. }))));
    }

    #[test]
    fn long_frames_share_a_budget() {
        let budget = Budget::new(100);
        let read = |len: u32| block_on(read_frame(&mut frame(len, len as usize), 1 << 20, &budget));
        let held = read(160 << 10).unwrap().1;
        assert!(read(64 << 10).is_ok(), "short ones are free");
        assert!(matches!(read(80 << 10), Err(FrameError::Busy)));
        drop(held);
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
