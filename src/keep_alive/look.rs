//! The heartbeat's turn: from whichever half is polled, the heartbeat reads what it must, writes what is
//! due, judges, and arms the timer for both.

use std::task::{Context, Poll, ready};

use futures_core::{Stream, TryStream};
use futures_sink::Sink;

use super::Parts;
use super::blocked::Check;
use super::lookahead::Item;
use super::writer::Outgoing;
use crate::drive::{Driven, LastAnswer, drive};
use crate::error::{Error, TimedOut};
use crate::machine::{Handshake, Heeded, Input, Verdict, slack};
use crate::protocol::{MessageKind, Protocol};
use crate::shared::{Driving, Seen, Then, Visited};
use crate::time::{Span, Time};
use crate::timer::Timer;

/// Messages that are read ahead in one poll before the executor's other tasks have their turn.
const BUDGET: u32 = 64;

/// What reading ahead has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// The socket has nothing more.
    Drained,
    /// There is no room for more messages.
    Full,
    /// The budget is spent, and more may be ready.
    More,
    /// The stream has failed or ended.
    Over,
}

/// Which half looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Reader,
    /// The writer, which has read for the reader.
    Writer,
    /// The writer, while nothing is to be judged: it has not read, but for a probe.
    Passing,
}

impl<S, P, T, M, E> Parts<'_, S, P, T>
where
    S: Stream<Item = Result<M, E>> + TryStream<Ok = M, Error = E> + Sink<M, Error = E>,
    P: Protocol<M>,
    T: Timer,
{
    /// The time, and the begin of the heartbeat with the first poll of either half. Whether it is the
    /// first.
    pub(super) fn begin(&mut self) -> (Time, bool) {
        self.home.note_sleep(self.alarm.asleep());
        let now = Time::of(self.alarm.now());
        let alarm = self.alarm.as_ref();
        let first = self.home.begin(|| now, || alarm.clock());
        if first {
            self.signs.heeded = self.home.ask(|machine| machine.heeded());
        }
        (now, first)
    }

    /// The reader is polled by this task, which is woken from now on. See
    /// [`Shared::wake_up`](crate::shared::Shared::wake_up).
    pub(super) fn wake_up(&mut self, must: bool, cx: &Context<'_>) -> bool {
        let awake = self.home.wake_up(must, cx);
        match self.task {
            Some(task) => task.clone_from(cx.waker()),
            None => *self.task = Some(cx.waker().clone()),
        }
        awake
    }

    /// Reads messages that the application has not asked for, so that a pong behind them is seen. How
    /// many there were, pongs included.
    pub(super) fn read_ahead(&mut self, now: Time, cx: &mut Context<'_>) -> (Reading, u32) {
        for read in 0..BUDGET {
            if self.ahead.is_over() {
                return (Reading::Over, read);
            }
            if self.ahead.is_full() {
                return (Reading::Full, read);
            }
            // Pending: the socket wakes us.
            match self.read_one(now, cx) {
                Poll::Pending => return (Reading::Drained, read),
                Poll::Ready(()) if self.ahead.is_over() => return (Reading::Over, read),
                Poll::Ready(()) => {}
            }
        }
        (Reading::More, BUDGET)
    }

    /// Reads one message, or the end, and keeps it unless it is the heartbeat's.
    pub(super) fn read_one(&mut self, now: Time, cx: &mut Context<'_>) -> Poll<()> {
        let message = match ready!(Stream::poll_next(self.socket.as_mut(), cx)) {
            Some(Ok(message)) => message,
            Some(Err(error)) => {
                let item = self.broken(error);
                self.keep(item);
                return Poll::Ready(());
            }
            None => {
                let item = self.ended_below();
                self.keep(item);
                return Poll::Ready(());
            }
        };
        let kind = self.protocol.classify(&message);
        let item = match kind {
            MessageKind::Ping(_) => Item::Ping,
            MessageKind::PingBelow => Item::PingBelow,
            _ => Item::Message,
        };
        let is_hidden = self.hides(&kind);
        if !self.takes(kind, now) && !is_hidden {
            self.keep(item(message));
        }
        Poll::Ready(())
    }

    /// The socket has said that it has nothing to read. Whether it is read once more before a deadline is
    /// judged that has passed: a runtime may say so because this task has had its share.
    ///
    /// So where `any` message was read in this turn, another turn follows. Where none was, the socket is asked
    /// again, and wakes at once if it is that; what is read by that is kept. Some runtimes wake after the
    /// poll, as tokio does since 1.44: no pong is judged in the first poll that finds nothing.
    pub(super) fn reads_on(&mut self, any: bool, now: Time) -> bool {
        if !self.home.is_overdue(now) {
            self.listening.has_asked = false;
            return false;
        }
        if any {
            return true;
        }
        let both = self.home.waker();
        self.home.expect_wake();
        // Pending: the socket wakes both halves.
        let read = self.read_one(now, &mut Context::from_waker(&both));
        read.is_ready() || self.home.has_woken() || self.listening.asks_again(self.home, now)
    }

    /// Keeps an item for the reader, who is woken for it: a poll that was ready owes nobody a wake.
    pub(super) fn keep(&mut self, item: Item<M, E>) {
        self.leave_short_way();
        self.ahead.push(item);
        self.come_by();
        self.home.wake_reader();
    }

    /// The reader has to come by before a message may pass: there is something to do with the next poll.
    pub(super) fn come_by(&mut self) {
        self.batch.come_by();
    }

    /// Whether a message of that kind is kept from the application.
    pub(super) fn hides(&mut self, kind: &MessageKind<'_>) -> bool {
        if !*self.data_only {
            return false;
        }
        if let MessageKind::Ping(_) | MessageKind::PingBelow = kind {
            *self.owes_answer = true;
            *self.still = false;
        }
        !matches!(kind, MessageKind::Data)
    }

    /// Flushes what the WebSocket crate has answered to pings of which the application does not know.
    pub(super) fn flush_answers(&mut self) -> Option<Item<M, E>> {
        if !*self.owes_answer {
            return None;
        }
        let both = self.home.waker();
        let cx = &mut Context::from_waker(&both);
        // Pending: the socket wakes both halves, and the reader comes back here.
        let Poll::Ready(flushed) = self.socket.as_mut().poll_flush(cx) else {
            return None;
        };
        *self.owes_answer = false;
        let error = flushed.err()?;
        Some(self.broken(error))
    }

    /// Whether a message of that kind is for the heartbeat alone.
    pub(super) fn takes(&mut self, kind: MessageKind<'_>, now: Time) -> bool {
        match kind {
            MessageKind::Data
            | MessageKind::PingBelow
            | MessageKind::PongBelow
            | MessageKind::Ping(_) => {
                let is_ping = matches!(kind, MessageKind::Ping(_));
                self.signs.note(is_ping, || self.alarm.now());
                false
            }
            MessageKind::Pong(payload) => self.home.handle_own_pong(&payload, now).is_ours(),
            // An answer is nobody else's, also after the end.
            MessageKind::Answer => {
                let _ = self.home.visit(|machine| machine.handle_answer(now));
                true
            }
            // No ping may follow the answer to it. A verdict that has fallen stands.
            MessageKind::Close => {
                self.close(Handshake::Read, now);
                false
            }
        }
    }

    /// A close frame was sent or read: the connection has so long to end.
    pub(super) fn close(&mut self, way: Handshake, now: Time) {
        *self.closing = true;
        self.leave_short_way();
        self.come_by();
        *self.in_sink = None;
        *self.refused = None;
        self.home.handle_close(way, now);
        // Both halves are to look: their deadline is another one.
        self.home.ring();
    }

    /// Looks at the time: writes what is due, judges deadlines, arms the timer unless this task
    /// `comes_back` at once. What the stream is to yield for it, if anything.
    pub(super) fn look(
        &mut self,
        now: Time,
        mut input: Input,
        by: By,
        comes_back: bool,
    ) -> Option<Item<M, E>> {
        self.home.handle_progress(self.progress, now);
        self.report_signs(now);
        let held = match input {
            Input::Drained => match by {
                By::Reader => self.listening.holds(self.home, now),
                By::Writer => self.listening.holds_for_writer(self.home, now),
                By::Passing => None,
            },
            _ => None,
        };
        // What has passed is looked at again with the next message, and not before a while.
        let busy = matches!(input, Input::More(_) | Input::Behind(_));
        let patience = busy.then(|| self.home.ask(|machine| now.plus(machine.patience())));
        if held.is_some() {
            let _ = self.home.visit(|machine| machine.pass_checkpoint(now));
            input = Input::More(0);
        }
        let write_until = match input {
            Input::Unreadable => match self.judge_write(now) {
                Ok(until) => until,
                Err(item) => return Some(item),
            },
            _ => Time::NEVER,
        };
        if *self.closing && !busy && !comes_back {
            self.answer_close(now);
        }
        let then = match patience {
            _ if comes_back => Then::ComeBack,
            Some(_) => Then::ComeBy,
            None => Then::Sleep,
        };
        let (driven, seen) = self.drive(now, input, then);
        if let Input::Unreadable = input {
            // The pong of a ping that is out now is not read when it comes.
            self.home.read_late();
            // A silence may not be judged before the reader comes back.
            self.come_by();
        }
        match driven {
            // The socket has woken both halves.
            Driven::Yields => None,
            Driven::Rests { until, .. } => {
                if !comes_back {
                    *self.clear = self.is_clear();
                    *self.still = *self.clear
                        && by == By::Reader
                        && then == Then::Sleep
                        && self.ahead.is_empty()
                        && !*self.owes_answer;
                    let (heeded, awaited, verdict_fell) = self
                        .home
                        .ask(|machine| (machine.heeded(), machine.awaited(), machine.is_closing()));
                    self.signs.heeded = heeded;
                    let first_look = awaited.map_or(Time::NEVER, |(_, deadline, timeout)| {
                        deadline.minus(slack(timeout))
                    });
                    if verdict_fell {
                        // A writer that is blocked has waited long enough.
                        self.home.wake_writer();
                    }
                    if self.listening.wait_for(awaited, now) && by != By::Reader {
                        // A reader that waits listens for the pong from now on.
                        self.home.wake_reader();
                    }
                    let mut until = held.unwrap_or(until).min(write_until);
                    if !first_look.has_come(now) {
                        // Without a grace there is no checkpoint, but the writer needs two looks.
                        until = until.min(first_look);
                    }
                    // What has passed is not judged behind a reader that reads on: it is looked at again after
                    // a while. What is yet to come is not late by that.
                    let again = patience.filter(|_| until.has_come(now));
                    self.arm(again.unwrap_or(until), seen);
                }
                None
            }
            Driven::Over(Some(Verdict::TimedOut(timed_out))) => {
                self.home.wake_writer();
                Some(Item::Failed(Error::Timeout(timed_out)))
            }
            Driven::Over(None) if self.refused.is_some() => {
                let error = self.refused.take()?;
                Some(self.broken(*error))
            }
            // The closing handshake is complete, and the peer has had its time to end the connection.
            Driven::Over(_) if *self.closing => {
                self.home.wake_writer();
                Some(Item::End)
            }
            Driven::Over(_) => None,
            Driven::Failed(error) => Some(self.broken(error)),
        }
    }

    /// A pong cannot be read: from its deadline on a write of the application is judged in its place. When
    /// that is to be looked at next.
    fn judge_write(&mut self, now: Time) -> Result<Time, Item<M, E>> {
        let awaited = self.home.ask(|machine| machine.awaited());
        let Some((_, from, _)) = awaited.filter(|_| !self.write.is_free()) else {
            return Ok(Time::NEVER);
        };
        let (timeout, progress) = self.home.ask(|machine| {
            let spans = machine.config().spans();
            (spans.write_timeout, spans.progress)
        });
        loop {
            let start = self.write_start(from, progress, now);
            let is_last = match self.write.check(start, timeout, now) {
                Check::Wait(until) => return Ok(until),
                Check::Ask { is_last } => is_last,
            };
            let both = self.home.waker();
            let cx = &mut Context::from_waker(&both);
            self.home.expect_wake();
            match self.socket.as_mut().poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.write.end();
                    self.home.wake_writer();
                    return Ok(Time::NEVER);
                }
                Poll::Ready(Err(error)) => return Err(self.broken(error)),
                // Pending: the socket has woken both halves, and is asked again at once.
                Poll::Pending if self.home.has_woken() && self.write.yields() => return Ok(now),
                // Pending: the socket wakes both halves.
                Poll::Pending => {}
            }
            // Asking the socket may have moved bytes.
            if is_last && self.write_start(from, progress, now) == start {
                let elapsed = self.write.elapsed(from, now);
                // The heartbeat waits for a pong, so that it goes on.
                let _ = self
                    .home
                    .visit(|machine| machine.handle_blocked_write(elapsed, now));
                return Ok(Time::NEVER);
            }
            self.write.asked(now);
        }
    }

    /// From when on a write of the application is on the clock: anew with the bytes that have moved since.
    fn write_start(&mut self, from: Time, progress: Span, now: Time) -> Time {
        let moved = self.progress.as_mut().map(|meter| meter.look(now).output);
        self.write.start(from, moved.unwrap_or(from), progress)
    }

    fn arm(&mut self, until: Time, seen: Seen) {
        let (home, Seen { grid, rung, probes }) = (&*self.home, seen);
        let until = until.min(probes);
        let alarm = self.alarm.as_mut();
        if alarm.poll_at(until, grid, rung, || home.waker()).is_ready() {
            // The instant has come since `now` was read, or the timer is early. By way of the executor,
            // so that a broken timer cannot hold us here.
            home.ring();
        }
    }

    /// The answer that the WebSocket crate gives to a close frame is flushed, although nobody sends.
    ///
    /// The socket is read first: tungstenite takes an answer that a flush could not write for written
    /// unless a read has tried to write the answer before.
    fn answer_close(&mut self, now: Time) {
        if self.home.ask(|machine| machine.owes_close()) {
            let both = self.home.waker();
            let cx = &mut Context::from_waker(&both);
            // Pending: the socket wakes both halves. A socket that is closed has nothing to answer.
            if self.socket.as_mut().poll_flush(cx).is_ready() {
                self.home.handle_close(Handshake::Sent, now);
            } else {
                *self.answers_close = true;
            }
        }
    }

    /// The heartbeat's frames into the socket, which wakes both halves.
    pub(super) fn drive(&mut self, now: Time, input: Input, then: Then) -> (Driven<E>, Seen) {
        self.leave_short_way();
        let mut sink = Outgoing {
            socket: self.socket.as_mut(),
            protocol: self.protocol,
            outbox: self.outbox,
            refused: self.refused,
            asked: false,
        };
        let both = self.home.waker();
        let cx = &mut Context::from_waker(&both);
        let mut driving = Driving::new(self.home, now, input, then);
        driving.last = *self.last;
        if self.last.has_yielded() && !self.last.blocked {
            self.home.begin_write(now);
        }
        let driven = drive(&mut sink, self.in_sink, &mut driving, cx);
        let takes = match driven {
            Driven::Yields => {
                self.last.yields();
                false
            }
            Driven::Rests { blocked, .. } => {
                self.last.rests(blocked);
                !blocked
            }
            Driven::Over(_) | Driven::Failed(_) => {
                *self.last = LastAnswer::NONE;
                true
            }
        };
        if sink.asked && takes {
            // The socket may have got room by it, and told us instead of the writer.
            self.write.end();
            self.home.wake_writer();
        }
        (driven, driving.seen())
    }

    /// Neither half takes the short way before the next look.
    fn leave_short_way(&mut self) {
        (*self.clear, *self.still) = (false, false);
    }

    /// Whether nothing of the heartbeat's is in the socket or waits for it, and nothing of the writer's
    /// waits.
    pub(super) fn is_clear(&self) -> bool {
        !(self.last.blocked || *self.closing || *self.ended)
            && self.in_sink.is_none()
            && self.refused.is_none()
            && self.outbox.is_free()
            && self.write.is_free()
    }

    /// Whether there is no heartbeat any more, and no verdict to report: the socket is a plain one.
    pub(super) fn is_plain(&mut self) -> bool {
        let plain = self.home.ask(|machine| machine.is_disconnected());
        if plain {
            *self.in_sink = None;
            self.home.answer_call();
        }
        plain
    }

    /// No further frame of ours.
    pub(super) fn pass_through(&mut self) {
        self.leave_short_way();
        self.home.disconnect();
        *self.in_sink = None;
        *self.refused = None;
        self.home.wake_writer();
    }

    /// The connection broke. What ours ends with: a verdict that has fallen stands, and after a closing
    /// handshake the connection may end as it likes. Over TLS many a peer ends it without a word.
    pub(super) fn broken(&mut self, error: E) -> Item<M, E> {
        if self.home.ask(|machine| machine.has_closed()) {
            return self.ended_below();
        }
        if let Some(timed_out) = self.verdict() {
            return Item::Failed(Error::Timeout(timed_out));
        }
        self.pass_through();
        Item::Failed(Error::Transport(error))
    }

    /// The socket's stream has ended. What ours ends with.
    pub(super) fn ended_below(&mut self) -> Item<M, E> {
        let item = match self.verdict() {
            Some(timed_out) => Item::Failed(Error::Timeout(timed_out)),
            None => Item::End,
        };
        self.pass_through();
        item
    }

    /// The verdict as an error, where one has fallen.
    pub(super) fn check_verdict(&self) -> Result<(), TimedOut> {
        let timed_out = self.home.ask(|machine| machine.timed_out());
        timed_out.map_or(Ok(()), Err)
    }

    /// The connection is over: a close frame on its way is given up, and the verdict is final.
    pub(super) fn verdict(&mut self) -> Option<TimedOut> {
        let timed_out = self.home.ask(|machine| machine.timed_out());
        if timed_out.is_some() {
            self.home.disconnect();
            self.home.wake_writer();
        }
        timed_out
    }

    /// Tells the heartbeat of the newest message that is a sign of life.
    pub(super) fn report_signs(&mut self, now: Time) {
        let Some(at) = self.signs.take() else {
            return;
        };
        let is_ping = self.signs.heeded == Heeded::Pings;
        let awaited = self.home.visit(|machine| {
            machine.handle_message(is_ping, at, now);
            machine.awaited()
        });
        // After the end activity means nothing.
        self.listening.wait_for(awaited.unwrap_or_default(), now);
    }

    // --- by another than the reader ---

    /// The writer has something to wait for, or passes by while something is to be looked at. Whether a
    /// verdict has fallen.
    pub(super) fn look_from_writer(&mut self, cx: &mut Context<'_>) -> Result<(), TimedOut> {
        let (now, _) = self.begin();
        if *self.ended || self.ahead.is_over() || self.is_plain() {
            return self.check_verdict();
        }
        self.home.stay_awake();
        let (mut input, mut by) = (Input::Drained, By::Passing);
        let mut comes_back = false;
        let judged = *self.closing
            || self
                .home
                .ask(|machine| machine.is_overdue(now) || machine.is_nearly_over(now));
        if judged || self.home.has_probes() {
            // What is read here was not read when it came.
            self.home.read_late();
            if judged {
                by = By::Writer;
            }
            let both = self.home.waker();
            let was_closing = *self.closing;
            self.home.answer_call();
            let (reading, read) = self.read_ahead(now, &mut Context::from_waker(&both));
            input = match reading {
                Reading::Over => return Ok(()),
                // A socket that wakes at once says that the task has had its share, and not that nothing
                // is ready.
                Reading::Drained if !self.home.is_called() || *self.closing != was_closing => {
                    Input::Drained
                }
                Reading::Full
                    if self.ahead.is_empty()
                        && self.listening.leaves_it_to_reader(self.home, now) =>
                {
                    Input::More(0)
                }
                Reading::Full => {
                    self.listening.found_no_room();
                    Input::Unreadable
                }
                Reading::Drained | Reading::More => {
                    // We wake ourselves, to go on reading.
                    cx.waker().wake_by_ref();
                    self.home.mark_called();
                    // The reader of the same task has no share left either.
                    self.batch.has_passed = true;
                    comes_back = true;
                    Input::More(read)
                }
            };
        }
        if let Some(item) = self.look(now, input, by, comes_back) {
            let timed_out = match &item {
                Item::Failed(Error::Timeout(timed_out)) => Some(*timed_out),
                _ => None,
            };
            self.keep(item);
            return timed_out.map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Goes on with the heartbeat while the application does something else than reading. Ready when the
    /// stream has something final to yield.
    pub(super) fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (now, _) = self.begin();
        if *self.ended || self.ahead.is_over() {
            return Poll::Ready(());
        }
        let (reading, read) = if *self.closing {
            self.wake_up(true, cx);
            // As in `poll_next`: some crates would forget the waker of the writer.
            let both = self.home.waker();
            self.read_ahead(now, &mut Context::from_waker(&both))
        } else {
            self.read_ahead(now, cx)
        };
        if reading == Reading::Over {
            return Poll::Ready(());
        }
        if let Some(item) = self.flush_answers() {
            self.keep(item);
            return Poll::Ready(());
        }
        if self.is_plain() {
            if reading == Reading::More {
                // We wake ourselves, to go on reading.
                cx.waker().wake_by_ref();
            }
            // Pending: the socket wakes us.
            return Poll::Pending;
        }
        let must = read > 0 || self.last.blocked || self.in_sink.is_some() || *self.closing;
        if !self.wake_up(must, cx) {
            return Poll::Pending;
        }
        self.listening.end(now);
        let input = match reading {
            Reading::Full => Input::Unreadable,
            Reading::More => Input::More(read),
            _ if self.reads_on(read > 0, now) => Input::More(read),
            _ => Input::Drained,
        };
        let comes_back = matches!(input, Input::More(_));
        if comes_back {
            cx.waker().wake_by_ref();
        }
        if let Some(item) = self.look(now, input, By::Reader, comes_back) {
            self.keep(item);
            return Poll::Ready(());
        }
        if reading == Reading::Drained {
            self.listening.begin(now);
            self.come_by();
        }
        // Pending: the socket wakes us if something comes, the timer for what is due, and the handles.
        Poll::Pending
    }
}
