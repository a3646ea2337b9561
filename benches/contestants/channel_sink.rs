//! A channel as a heartbeat's sink.

use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Sink;
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::{SendError, TrySendError};

/// tokio's bounded channel as a sink. It waits as `Sender::send` does, in the channel's queue of
/// senders, and allocates only for such a wait.
pub(crate) struct ChannelSink<M> {
    state: State<M>,
}

enum State<M> {
    Idle(mpsc::Sender<M>),
    Reserving(BoxFuture<'static, Result<mpsc::OwnedPermit<M>, SendError<()>>>),
    Reserved(mpsc::OwnedPermit<M>),
    Closed,
}

impl<M> ChannelSink<M> {
    pub(crate) fn new(sender: mpsc::Sender<M>) -> Self {
        Self {
            state: State::Idle(sender),
        }
    }
}

impl<M: Send + 'static> Sink<M> for ChannelSink<M> {
    type Error = SendError<()>;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        loop {
            self.state = match mem::replace(&mut self.state, State::Closed) {
                State::Idle(sender) => match sender.try_reserve_owned() {
                    Ok(permit) => State::Reserved(permit),
                    Err(TrySendError::Full(sender)) => {
                        State::Reserving(Box::pin(sender.reserve_owned()))
                    }
                    Err(TrySendError::Closed(_)) => State::Closed,
                },
                State::Reserving(mut permit) => match permit.as_mut().poll(cx) {
                    Poll::Ready(Ok(permit)) => State::Reserved(permit),
                    Poll::Ready(Err(_)) => State::Closed,
                    Poll::Pending => {
                        self.state = State::Reserving(permit);
                        // The channel wakes us once there is room.
                        return Poll::Pending;
                    }
                },
                State::Reserved(permit) => {
                    self.state = State::Reserved(permit);
                    return Poll::Ready(Ok(()));
                }
                State::Closed => return Poll::Ready(Err(SendError(()))),
            };
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Self::Error> {
        match mem::replace(&mut self.state, State::Closed) {
            State::Reserved(permit) => {
                self.state = State::Idle(permit.send(message));
                Ok(())
            }
            state => {
                self.state = state;
                Err(SendError(()))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        // As with `Sender::send`, the channel has it, and that is all there is to wait for.
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }
}
