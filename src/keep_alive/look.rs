//! One look of the heartbeat, from whichever half is polled: the heartbeat reads what it must, writes what is
//! due, judges, and arms the timer for both halves.

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

/// How reading ahead has ended.
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
    /// Reads the clock, and begins the heartbeat if this is the first poll of either half. Returns the time,
    /// and whether this is the first poll.
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

    /// The reader is polled by this task, which is woken from now on; see
    /// [`Shared::wake_up`](crate::shared::Shared::wake_up).
    pub(super) fn wake_up(&mut self, must: bool, cx: &Context<'_>) -> bool {
        let awake = self.home.wake_up(must, cx);
        match self.task {
            Some(task) => task.clone_from(cx.waker()),
            None => *self.task = Some(cx.waker().clone()),
        }
        awake
    }

    /// Reads messages that the application has not asked for, so that a pong behind them is seen. Returns how
    /// this has ended, and how many messages were read, pongs included.
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

    /// The socket has nothing to read. Returns whether it must be read once more before a deadline that has
    /// passed is judged: a runtime may say that nothing is ready because this task has had its share.
    ///
    /// So if `any` message was read in this poll, another poll follows. If none was, the socket is asked again,
    /// and wakes its waker at once if the task has had its share; a message that is read by this is kept. Some
    /// runtimes wake only after the poll, as tokio does since 1.44, so no pong is judged in the first poll that
    /// finds nothing.
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

    /// Keeps an item for the reader, and wakes the reader's task: the poll that gave the item was ready, so
    /// that the socket will not wake it.
    pub(super) fn keep(&mut self, item: Item<M, E>) {
        self.leave_short_way();
        self.ahead.push(item);
        self.come_by();
        self.home.wake_reader();
    }

    /// The next poll of the reader must leave the short way, as there is something to do.
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

    /// Flushes the answers of the WebSocket crate to pings that the application has not seen. Returns the
    /// error, if that fails.
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

    /// Handles a message of that kind. Returns whether it is for the heartbeat alone.
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
            // An answer is the heartbeat's, also after the end.
            MessageKind::Answer => {
                let _ = self.home.visit(|machine| machine.handle_answer(now));
                true
            }
            // The close frame will be answered, and no ping may follow that answer.
            MessageKind::Close => {
                self.close(Handshake::Read, now);
                false
            }
        }
    }

    /// A close frame was sent or read: the connection has the time of `closing_handshake` to end. A verdict
    /// that has fallen stands.
    pub(super) fn close(&mut self, way: Handshake, now: Time) {
        *self.closing = true;
        self.leave_short_way();
        self.come_by();
        *self.in_sink = None;
        *self.refused = None;
        self.home.handle_close(way, now);
        // Both halves must look, as they have another deadline now.
        self.home.ring();
    }

    /// Looks: writes what is due, judges deadlines, and arms the timer unless this task `comes_back` at once.
    /// Returns the item that the stream must yield, if there is one.
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
        // While more is to be read, a deadline that has passed is looked at again with the next message, or
        // after a while.
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
            // The pong of the ping that is out will be read later than it comes.
            self.home.read_late();
            // If silence is waited for, it is judged only when the reader comes back.
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
                        && seen.registered
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
                        // A writer that is blocked returns the verdict.
                        self.home.wake_writer();
                    }
                    if self.listening.wait_for(awaited, now) && by != By::Reader {
                        // A reader that waits for the socket waits for that pong from now on.
                        self.home.wake_reader();
                    }
                    let mut until = held.unwrap_or(until).min(write_until);
                    if !first_look.has_come(now) {
                        // Without a grace there is no checkpoint, but the writer needs two looks.
                        until = until.min(first_look);
                    }
                    // A deadline that has passed is not judged while the reader reads on: it is looked at again
                    // after a while. A deadline that is yet to come is not delayed by this.
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

    /// The pong cannot be read: from its deadline on a write of the application is judged in its place.
    /// Returns when to look at that write next.
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
                // The visit cannot fail: a heartbeat that waits for a pong has not ended.
                let _ = self
                    .home
                    .visit(|machine| machine.handle_blocked_write(elapsed, now));
                return Ok(Time::NEVER);
            }
            self.write.asked(now);
        }
    }

    /// When the time of the application's write begins: anew with bytes that have moved since.
    fn write_start(&mut self, from: Time, progress: Span, now: Time) -> Time {
        let moved = self.progress.as_mut().map(|meter| meter.look(now).output);
        self.write.start(from, moved.unwrap_or(from), progress)
    }

    fn arm(&mut self, until: Time, seen: Seen) {
        let home = &*self.home;
        let until = until.min(seen.probes);
        let alarm = self.alarm.as_mut();
        let armed = alarm.poll_at(until, seen.grid, seen.rung, || home.waker());
        if armed.is_ready() {
            // The instant has come since `now` was read, or the timer is early. The wake goes by way of the
            // executor, so that a broken timer cannot keep us in a loop.
            home.ring();
        }
    }

    /// Flushes the answer of the WebSocket crate to a close frame, as the application may send nothing.
    ///
    /// The socket must have been read before: if a flush cannot write the answer, tungstenite takes the answer
    /// for written, unless a read has tried to write it before.
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

    /// Moves the heartbeat's frames into the socket, which wakes both halves.
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
            // The socket may have got room meanwhile, and has told us instead of the writer.
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

    /// Ends the heartbeat: from now on the socket is a plain one.
    pub(super) fn pass_through(&mut self) {
        self.leave_short_way();
        self.home.disconnect();
        *self.in_sink = None;
        *self.refused = None;
        self.home.wake_writer();
    }

    /// The connection broke. Returns what our stream ends with: the verdict, if one has fallen, or the error.
    /// After a complete closing handshake the stream ends without an error, because over TLS many peers end
    /// the connection without a `close_notify`.
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

    /// The socket's stream has ended. Returns what our stream ends with.
    pub(super) fn ended_below(&mut self) -> Item<M, E> {
        let item = match self.verdict() {
            Some(timed_out) => Item::Failed(Error::Timeout(timed_out)),
            None => Item::End,
        };
        self.pass_through();
        item
    }

    /// Returns the verdict as an error, if one has fallen.
    pub(super) fn check_verdict(&self) -> Result<(), TimedOut> {
        let timed_out = self.home.ask(|machine| machine.timed_out());
        timed_out.map_or(Ok(()), Err)
    }

    /// The connection is over. Returns the verdict, if one has fallen: it is final, and its close frame is
    /// given up.
    pub(super) fn verdict(&mut self) -> Option<TimedOut> {
        let timed_out = self.home.ask(|machine| machine.timed_out());
        if timed_out.is_some() {
            self.home.disconnect();
            self.home.wake_writer();
        }
        timed_out
    }

    /// Reports the newest sign of life to the heartbeat.
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

    // --- not from the stream ---

    /// Looks from the writer, which is blocked, or finds that the heartbeat was called. Returns the verdict as
    /// an error, if one has fallen.
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
            // Messages that are read here may have come long before.
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
                // If the socket has woken its waker at once, the task has had its share, and more may be
                // ready.
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
                    // If the reader is polled by the same task, it has no share left either.
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
            // Some crates have room for the waker of one task only, and would forget the writer's.
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
