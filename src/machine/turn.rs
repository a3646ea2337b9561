//! What a driver is to do next for a heartbeat.

use std::ops::DerefMut;

use super::machine::{Destination, Machine, Verdict};
use super::record::Record;
use crate::frame::Frame;
use crate::time::Time;

/// What the caller of the sans-IO heartbeat is to do next.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Ping,
    Close(Destination),
    Wait(Time),
    Done(Verdict),
}

/// What a driver is to do next.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Get that sink ready for a frame.
    Offer(Destination),
    /// Put this frame into the sink that is ready, and flush it.
    Send(Frame),
    /// Give up what is in the sink: a verdict has fallen, and its close frame is to go to another.
    Close,
    /// Nothing is to be done before that time.
    Rest(Time),
    /// The heartbeat has ended, with this verdict unless its connection ended first.
    Over(Option<Verdict>),
}

/// What a driver knows of the sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SinkState {
    Unknown,
    Ready,
    /// The sink takes nothing, or has not flushed what it took.
    Blocked,
}

/// What is known of the input when a driver looks. Items that were read are counted once in each poll.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input {
    /// All that was there has been read.
    Drained,
    /// This many items were read, more are ready, and the driver comes back for them at once: nothing is
    /// judged before they are read.
    More(u32),
    /// This many items were read, and more are ready, but the application reads on at its own pace: a ping
    /// whose pong was not read by the next due time is written off.
    Behind(u32),
    /// Nothing can be read at present: no pong is judged.
    Unreadable,
}

impl<R: DerefMut<Target = Record>> Machine<'_, R> {
    /// What to do next. No deadline is judged here.
    #[inline]
    pub(crate) fn step(&mut self, now: Time) -> Step {
        let closing = self.is_closing();
        if self.offer_due(now) {
            return if closing {
                Step::Close(self.close_to())
            } else {
                Step::Ping
            };
        }
        self.note_due(now);
        match self.verdict() {
            Some(verdict) => Step::Done(verdict),
            None => Step::Wait(self.next_look()),
        }
    }

    /// One turn of a driver. `sent` says that the frame in the sink was flushed.
    ///
    /// Writing comes before judging: a flush that completes now was in time.
    #[inline(always)]
    pub(crate) fn turn(
        &mut self,
        now: Time,
        sent: bool,
        sink: SinkState,
        input: &mut Input,
    ) -> Turn {
        if sent {
            self.handle_sent(now);
        }
        if self.wants_transmit() {
            match sink {
                SinkState::Ready => {
                    if let Some(frame) = self.transmit(now) {
                        return Turn::Send(frame);
                    }
                }
                SinkState::Unknown => return Turn::Offer(self.destination()),
                SinkState::Blocked => {}
            }
        }
        match input {
            Input::Drained => {
                if let Some(look) = self.settle(now) {
                    return Turn::Rest(look);
                }
            }
            Input::More(read) => {
                let read = std::mem::take(read);
                self.handle_backlog(read, now);
                self.note_due(now);
            }
            Input::Behind(read) => {
                let read = std::mem::take(read);
                self.handle_backlog(read, now);
                if self.is_waiting() {
                    self.record.begin_unread(now);
                }
                self.write_off_unread(now);
            }
            Input::Unreadable if self.is_waiting() => {
                self.record.begin_unread(now);
                self.write_off_unread(now);
            }
            Input::Unreadable => {
                if let Some(look) = self.settle(now) {
                    return Turn::Rest(look);
                }
            }
        }
        let closing = self.is_closing();
        if self.offer_due(now) {
            return if closing && self.dedicated_close {
                Turn::Close
            } else {
                Turn::Offer(Destination::Outgoing)
            };
        }
        if self.has_ended() {
            return Turn::Over(self.verdict());
        }
        let look = self.next_look();
        match input {
            Input::Behind(_) | Input::Unreadable if self.is_waiting() => {
                if !self.config().watches() {
                    Turn::Rest(self.record.due)
                } else if matches!(input, Input::Unreadable) && look.has_come(now) {
                    // Nothing is judged before the application reads, which wakes the driver.
                    Turn::Rest(Time::NEVER)
                } else {
                    Turn::Rest(look)
                }
            }
            _ => Turn::Rest(look),
        }
    }

    /// A sink has failed, which ends the heartbeat. Returns whether the heartbeat was over before: then its
    /// verdict stands, and its close frame is given up.
    pub(crate) fn fail(&mut self) -> bool {
        let over = self.is_over();
        self.disconnect();
        over
    }

    fn destination(&self) -> Destination {
        if self.is_closing() {
            self.close_to()
        } else {
            Destination::Outgoing
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem;
    use std::time::Duration;

    use super::*;
    use crate::config::Config;
    use crate::machine::{Key, Terms};

    // The pong of each ping is behind a reader that is slow and finds no end, so that none is waited for.
    // contract: N81 O90
    #[test]
    fn a_flood_behind_pings_that_were_written_off_as_unread_is_judged() {
        let s = Duration::from_secs;
        let config = Config::builder().interval(s(20)).timeout(s(20)).no_close();
        let config = config.initial_delay(s(0)).granularity(s(0)).build();
        let terms = Terms::with_key(config.expect("valid"), Key::new([42; 16]));
        let mut record = Record::new();
        Machine::new(&terms, &mut record).begin(Time::ORIGIN);
        let mut sent = false;
        for second in 0..60 {
            let now = Time::ORIGIN.plus(s(second).into());
            let mut input = Input::Behind(10_000);
            loop {
                let mut machine = Machine::new(&terms, &mut record);
                let was_sent = mem::take(&mut sent);
                match machine.turn(now, was_sent, SinkState::Ready, &mut input) {
                    Turn::Offer(_) => {}
                    Turn::Send(_) => sent = true,
                    Turn::Rest(_) => break,
                    Turn::Over(Some(Verdict::TimedOut(verdict))) => {
                        assert_eq!((second, verdict.missed()), (27, 1));
                        return;
                    }
                    turn => panic!("{turn:?}"),
                }
            }
        }
        panic!("it is never judged");
    }
}
