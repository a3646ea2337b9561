//! The traits of futures-io for a metered transport.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_io::{AsyncRead, AsyncWrite};

use super::Metered;

#[cfg_attr(docsrs, doc(cfg(feature = "futures-io")))]
impl<Io: AsyncRead> AsyncRead for Metered<Io> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.io.poll_read(cx, buf);
        polled.map(|done| done.inspect(|bytes| this.meter.count_in(*bytes)))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.io.poll_read_vectored(cx, bufs);
        polled.map(|done| done.inspect(|bytes| this.meter.count_in(*bytes)))
    }
}

#[cfg_attr(docsrs, doc(cfg(feature = "futures-io")))]
impl<Io: AsyncWrite> AsyncWrite for Metered<Io> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.io.poll_write(cx, buf);
        polled.map(|done| done.inspect(|bytes| this.meter.count_out(*bytes)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.io.poll_write_vectored(cx, bufs);
        polled.map(|done| done.inspect(|bytes| this.meter.count_out(*bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_close(cx)
    }
}
