//! The promises, held against what is seen.

use std::time::Duration;

use futures_pinger::{HeartbeatState, ProbeError, TimedOut, TimeoutPhase};

use super::app::{App, End, Event, Reader};
use super::link::{Link, Msg};
use super::script::{Lives, Settings, slack};

/// What came of a script: for those who want to know what the scripts reach.
#[derive(Debug, Default, Clone, Copy)]
pub struct Report {
    pub pong_verdict: bool,
    pub write_verdict: bool,
    pub closing_verdict: bool,
    pub closed: bool,
    pub failed: bool,
    pub alive: bool,
    pub polls: usize,
}

/// How things stood when the verdict fell.
struct Fallen {
    at: Duration,
    /// Whether a pong of the newest pings, as many as may be missed, was on its way.
    answered: bool,
    /// When the newest ping was flushed.
    flushed: Option<Duration>,
    /// Since when the socket had taken nothing, as far as anybody could see.
    free_until: Duration,
    /// Whether more messages lay before the pong than may be read ahead, and nobody read.
    unreadable: bool,
    /// How long nothing had been read.
    silence: Duration,
    /// Whether the reader was about something else, under `poll_heartbeat`.
    beats: bool,
}

/// Times since which something goes on.
#[derive(Default, Clone, Copy)]
struct Since {
    reads: Option<Duration>,
    beats: Option<Duration>,
    writes: Option<Duration>,
}

pub struct Oracle {
    settings: Settings,
    /// A verdict on the peer is owed, as it takes nothing, or as it does not answer; and until when it was
    /// not.
    owed: [bool; 2],
    excused: [Duration; 2],
    /// Nobody polled for a while since the last sign of life, for which there is a grace.
    was_away: bool,
    /// Somebody polled whenever it was woken when everybody waited last.
    was_driven: bool,
    /// Pings are to leave, and for how long they were not.
    pinging: bool,
    no_ping_owed: Duration,
    over: bool,
    since: Since,
    closing_since: Option<Duration>,
    fallen: Option<Fallen>,
    sighted: Option<TimedOut>,
    free_until: Duration,
    unreadable: bool,
    /// How much of what has arrived the reader was given.
    pub yielded: usize,
    pongs_read: usize,
    /// The same when the reader was about nothing else.
    pongs_yielded: usize,
    messages_read: usize,
    pub is_paused: bool,
    /// The heartbeat was stopped.
    pub is_plain: bool,
    /// When the ping that is still to be taken was refused.
    refused: Option<Duration>,
    /// When a flush of the application succeeded last.
    flushed_at: Option<Duration>,
    /// When something was read last, and whether the reader was about something else since.
    heard_at: Duration,
    was_busy: bool,
    /// When the reader was about something else last.
    away_at: Duration,
    /// When nobody drove the heartbeat last.
    not_driven: Duration,
    polls: usize,
    work: usize,
    report: Report,
}

impl Oracle {
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            owed: [false; 2],
            excused: [Duration::ZERO; 2],
            was_away: false,
            was_driven: true,
            pinging: false,
            no_ping_owed: Duration::ZERO,
            over: false,
            since: Since::default(),
            closing_since: None,
            fallen: None,
            sighted: None,
            free_until: Duration::ZERO,
            unreadable: false,
            yielded: 0,
            pongs_read: 0,
            pongs_yielded: 0,
            messages_read: 0,
            is_paused: false,
            is_plain: false,
            refused: None,
            flushed_at: None,
            heard_at: Duration::ZERO,
            was_busy: false,
            away_at: Duration::ZERO,
            not_driven: Duration::ZERO,
            polls: 0,
            work: 0,
            report: Report::default(),
        }
    }

    /// All clocks begin anew: nobody could have done anything until now.
    pub fn excuse(&mut self, now: Duration) {
        (self.excused, self.no_ping_owed) = ([now; 2], now);
        (self.was_away, self.was_driven) = (true, false);
        self.not_driven = now;
        let since = &mut self.since;
        for since in [&mut since.reads, &mut since.beats, &mut since.writes] {
            *since = since.map(|_| now);
        }
    }

    // --- what is seen in polls ---

    pub fn see(&mut self, event: &Event, now: Duration, app: &App, link: &Link) {
        match event {
            Event::Read(message) => self.take(message, link),
            Event::ReaderEnded(end) => self.see_the_end_of_the_stream(*end, now, app, link),
            Event::WriterEnded(end) => match end {
                End::TimedOut(verdict) => self.see_verdict(*verdict, now, app, link),
                End::Closed => assert!(
                    app.has_closed || link.close_read.is_some(),
                    "the writer was told of an end at {now:?} that nobody began"
                ),
                _ => assert!(
                    link.is_broken() || link.close_read.is_some(),
                    "the writer failed for no reason at {now:?}"
                ),
            },
            Event::Interrupted => {}
            Event::Flushed(accepted) => {
                let closes = app.has_closed || link.close_read.is_some();
                let flushed = link.flushed;
                assert!(
                    flushed >= *accepted || closes,
                    "flushed {flushed} of {accepted} messages, and says that is all"
                );
                self.flushed_at = Some(now);
            }
            Event::Closes => {}
            Event::Probed(since, answer) => self.see_answer(*since, *answer, now, link),
        }
    }

    fn see_answer(
        &self,
        since: Duration,
        answer: Result<Duration, ProbeError>,
        now: Duration,
        link: &Link,
    ) {
        let waited = now - since;
        match answer {
            Ok(_) if self.settings.liveness == Lives::Pong => {
                let mut pings = link.pings.iter();
                assert!(
                    pings.any(|ping| ping.arrived),
                    "who has answered at {now:?}?"
                );
            }
            Ok(_) => {}
            Err(ProbeError::Late { within }) => {
                assert!(waited >= within, "late after {waited:?} of {within:?}");
            }
            Err(ProbeError::Watching) => assert!(self.settings.watches()),
            Err(ProbeError::Paused) => assert!(self.is_paused),
            Err(_) => {}
        }
    }

    /// Whether the reader need not be given that message, which has arrived `at` that place.
    fn may_skip(&self, link: &Link, at: usize) -> bool {
        match &link.arrived[at] {
            // Of the peer's pings that were read ahead the newest alone is kept.
            Msg::Ping(_) => {
                let later = &link.arrived[at + 1..link.read.max(at + 1)];
                later.iter().any(|message| matches!(message, Msg::Ping(_)))
            }
            // Where any pong answers, all of them are the heartbeat's.
            Msg::Pong(_) => self.settings.liveness == Lives::AnyPong,
            Msg::Data(_) | Msg::Close => false,
        }
    }

    /// The reader, or whoever comes after it, is given a message.
    pub fn take(&mut self, message: &Msg, link: &Link) {
        let policy = self.settings.liveness != Lives::Pong;
        if link.is_own_pong(message) && (link.has_read_late || policy) {
            // It proves nothing any more, so it is a pong as any other.
            return;
        }
        while let Some(next) = link.arrived.get(self.yielded) {
            let skip = next != message && self.may_skip(link, self.yielded);
            self.yielded += 1;
            if !skip {
                assert_eq!(message, next, "out of order, doubled or lost");
                return;
            }
        }
        panic!("{message:?} was never sent");
    }

    /// Nothing that has arrived until then is missing.
    fn check_yielded(&self, until: usize, link: &Link, what: &str) {
        for at in self.yielded..until {
            let lost = &link.arrived[at];
            assert!(self.may_skip(link, at), "{lost:?} is missing {what}");
        }
    }

    fn see_the_end_of_the_stream(&mut self, end: End, now: Duration, app: &App, link: &Link) {
        self.check_yielded(link.read, link, "at the end of the stream");
        match end {
            End::TimedOut(verdict) => self.see_verdict(verdict, now, app, link),
            End::Closed => panic!("the stream was told of what is the writer's"),
            End::Transport => {
                self.report.failed = true;
                let refused = link.was_refused.is_some() && self.closing_since.is_none();
                let reason = link.failure_read || link.is_broken() || refused;
                assert!(reason, "the stream failed for no reason at {now:?}");
            }
            End::None if link.has_ended() => {
                self.report.closed = true;
                if self.closing_since.is_none() {
                    self.check_yielded(link.arrived.len(), link, "at the end of the connection");
                }
            }
            End::None => {
                self.report.closed = true;
                // A socket that is broken has no answer to a close frame that could be waited for.
                let sent = app.has_closed || link.close_flushed.is_some() || link.is_broken();
                let both = link.close_read.is_some() && sent;
                assert!(both, "the stream ended for no reason at {now:?}");
                let since = self.closing_since.unwrap_or(now);
                let over = since + self.settings.closing_handshake;
                assert!(now >= over, "given up at {now:?}, and not at {over:?}");
            }
        }
    }

    fn see_verdict(&mut self, verdict: TimedOut, now: Duration, app: &App, link: &Link) {
        self.note_fall(now, app, link);
        let settings = &self.settings;
        if let Some(before) = self.sighted {
            assert_eq!(before.phase(), verdict.phase(), "two verdicts");
            return;
        }
        self.sighted = Some(verdict);
        let fallen = self.fallen.as_ref().expect("noted");
        match verdict.phase() {
            TimeoutPhase::Pong => {
                self.report.pong_verdict = true;
                assert!(!fallen.answered, "a live peer was condemned: {verdict}");
                let flushed = fallen.flushed.expect("a ping that was flushed");
                assert!(fallen.at >= flushed + settings.timeout, "early: {verdict}");
                assert!(
                    !fallen.unreadable,
                    "judged though it cannot be read: {verdict}"
                );
            }
            TimeoutPhase::Write => {
                self.report.write_verdict = true;
                let stuck = fallen.at - fallen.free_until;
                // Of a write that was given up no more is known than that the socket was asked twice, the slack
                // of the write timeout apart.
                let least = if fallen.beats {
                    slack(settings.write_timeout).min(settings.write_timeout / 2)
                } else {
                    settings.write_timeout
                };
                // That a task has had its share may be the end of a ping that was refused before.
                let spent = settings.budget > 0 && link.was_refused.is_some();
                assert!(
                    stuck >= least || spent,
                    "stuck for {stuck:?} only: {verdict}"
                );
            }
            TimeoutPhase::Silence => {
                self.report.pong_verdict = true;
                let silence = fallen.silence;
                let timeout = settings.timeout;
                assert!(silence >= timeout, "silent for {silence:?} only: {verdict}");
                assert!(
                    !fallen.unreadable,
                    "judged though it cannot be read: {verdict}"
                );
            }
            TimeoutPhase::Closing => {
                self.report.closing_verdict = true;
                let since = self.closing_since.expect("a close frame");
                let over = since + settings.closing_handshake;
                assert!(now >= over, "given up at {now:?}, and not at {over:?}");
                let in_time = |at: Option<Duration>| at.is_some_and(|at| at < over);
                let seen = app.has_closed || self.since.reads.is_some();
                let both = seen && in_time(link.close_read) && in_time(link.close_flushed);
                assert!(!both, "a close frame went both ways: {verdict}");
            }
            other => panic!("a verdict of phase {other:?}"),
        }
    }

    fn note_fall(&mut self, now: Duration, app: &App, link: &Link) {
        let unread = self.data_unread(link) >= self.settings.lookahead;
        let unreadable = unread && self.unreadable && app.read_at != Some(now);
        let settings = &self.settings;
        self.fallen.get_or_insert_with(|| {
            let newest = link.pings.iter().rev();
            let newest = newest.take(settings.max_missed as usize);
            Fallen {
                at: now,
                // Of a pong that had no room to come it is known that it was in time if the peer sent it
                // before the first of two looks; without the grace nobody waits for it.
                answered: newest.clone().any(|ping| {
                    let slack = settings.slack() + 2 * settings.transit;
                    let sent_by = ping.flushed.map(|at| at + settings.timeout - slack);
                    let in_time = ping.answered <= sent_by && ping.answered.is_some();
                    ping.arrived || settings.stall_grace && in_time
                }),
                flushed: newest.clone().next().and_then(|ping| ping.flushed),
                // The time of a ping that was refused runs on from its first offer.
                free_until: link
                    .refused_since
                    .map_or(self.free_until, |_| Duration::ZERO),
                unreadable,
                silence: now - self.heard_at,
                beats: app.reader == Reader::Beats || app.interrupted_at == Some(now),
            }
        });
    }

    /// Messages of data that the peer has sent and the reader was not given.
    fn data_unread(&self, link: &Link) -> usize {
        let unread = link.arrived[self.yielded.min(link.arrived.len())..].iter();
        unread
            .filter(|message| matches!(message, Msg::Data(_)))
            .count()
    }

    // --- between the polls ---

    /// Time has come to `now`, and nobody was polled since the last look.
    pub fn arrive(&mut self, now: Duration, app: &App, link: &Link) {
        let settings = &self.settings;
        if !self.pinging {
            self.no_ping_owed = now;
        }
        for (owed, excused) in self.owed.iter().zip(&mut self.excused) {
            if !owed {
                *excused = now;
            }
            let grace = settings.timeout * 3 / 2 * u32::from(self.was_away);
            // A reader that takes its time is late for the deadline, and has to wait for half the timeout. The
            // bound of pings has its write timeout for that.
            let waits = self.was_busy && settings.watches();
            let waits = settings.timeout * 3 / 2 * u32::from(waits);
            let by = *excused + settings.bound() + grace + waits;
            let stats = app.controller.stats();
            assert!(
                self.over || now <= by,
                "no verdict at {now:?}, owed by {by:?}: {stats:?}"
            );
        }
        let ping_by = self.no_ping_owed
            + settings.interval
            + settings.timeout * 3 / 2
            + settings.granularity * 3
            + settings.early_timers
            + settings.slack();
        assert!(now <= ping_by, "no ping at {now:?}, owed by {ping_by:?}");

        for asked in app.probes.iter().filter(|_| self.was_driven) {
            let by = asked.since.max(self.not_driven) + asked.within + settings.granularity;
            // What nobody has read for a while may be the answer.
            let is_back = self.away_at + settings.timeout + asked.within < asked.since;
            let unread = asked.within / 2 * u32::from(!is_back);
            let by = by + settings.early_timers + settings.slack() + unread;
            assert!(now <= by, "a probe of {:?} waits at {now:?}", asked.since);
        }

        let mut step = settings.granularity + settings.early_timers;
        if !app.pace.is_zero() {
            // A reader that takes its time comes by in its own.
            step += settings.slack() / 4;
        }
        let close_timeout = settings.close_timeout.unwrap_or_default() + step;
        let handshake = settings.closing_handshake + step;
        let ends = [
            (self.fallen.as_ref().map(|fallen| fallen.at), close_timeout),
            (self.closing_since, handshake),
        ];
        for (since, within) in ends {
            // A writer that waits for a socket whose stream has failed waits as for the bare one.
            let plain = self.is_plain || app.reader_end == Some(End::Transport);
            let Some(since) = since.filter(|_| !plain) else {
                continue;
            };
            let by = |half: Duration| (since + within).max(half);
            for (half, name) in [
                (self.since.reads, "reader"),
                (self.since.beats, "reader, which beats,"),
                (self.since.writes, "writer"),
            ] {
                let late = half.is_some_and(|half| now > by(half));
                assert!(
                    !late,
                    "the {name} has not ended at {now:?}, since {since:?}"
                );
            }
        }
        (self.polls, self.work) = (app.polls, self.work_done(app, link));
    }

    fn work_done(&self, app: &App, link: &Link) -> usize {
        link.arrived.len()
            + self.yielded
            + link.pongs_read
            + link.pings.len()
            + app.accepted as usize
            + app.done
            + link.taken as usize
    }

    /// A step of the script adds to what there is to do.
    pub fn check_spin(&self, now: Duration, app: &App, link: &Link) {
        let work = self.work_done(app, link) - self.work;
        let polls = app.polls - self.polls;
        assert!(
            polls <= 60 + 8 * work,
            "{polls} polls at {now:?} for {work}"
        );
    }

    /// Whoever was woken has been polled.
    pub fn settle(&mut self, now: Duration, app: &App, link: &Link) {
        self.polls = self.polls.max(app.polls.saturating_sub(10));
        self.check_rest(now, app, link);
        let state = app.state();
        let alive = app.controller.is_alive();
        let handshake = state == HeartbeatState::Closing && !alive;
        if state == HeartbeatState::Closing && alive {
            self.note_fall(now, app, link);
        }
        if handshake {
            self.closing_since.get_or_insert(now);
        }
        self.over = matches!(state, HeartbeatState::Closing | HeartbeatState::Gone);
        if link.close_read.is_some() || link.has_taken_close() {
            assert!(self.over, "{state:?} after a close frame");
        }

        if let Some(refused) = link
            .refused_since
            .filter(|_| link.refuse == 0 && link.is_free())
        {
            let offered = self.flushed_at.is_some_and(|flushed| flushed > refused);
            let cancelled = self.settings.liveness == Lives::Activity;
            let driven = app.reads() || app.beats() || app.writes();
            let asleep = self.over || self.is_paused || self.is_plain || cancelled || !driven;
            assert!(
                !offered || asleep,
                "the ping of {refused:?} is not offered again at {now:?}"
            );
        }
        self.note_proof(now, app, link);
        self.was_busy |= !app.reads();
        if !app.reads() {
            self.away_at = now;
        }
        self.note_free(now, app, link);
        let driven = app.reads() || app.beats() || app.writes();
        self.was_away |= !driven;
        if !(driven && self.was_driven && app.begun) {
            self.not_driven = now;
        }
        self.was_driven = driven;
        let ours = driven && app.begun && !self.is_paused && !self.is_plain && !self.over;
        if app.reads() {
            self.pongs_yielded = link.pongs_read;
        }
        // A pong of ours that proves nothing any more may take a place among what is read ahead.
        let policy = self.settings.liveness != Lives::Pong;
        let ours_ahead = if link.has_read_late || policy {
            link.pongs_read - self.pongs_yielded
        } else {
            0
        };
        let unread = link.unread(self.yielded) + ours_ahead;
        let unreadable = unread >= self.settings.lookahead;
        let readable = app.reads() || !unreadable;
        self.unreadable = self.data_unread(link) >= self.settings.lookahead;
        let watches = self.settings.watches();
        let mute = watches || link.answer.is_none() && !link.has_pong_on_its_way();
        let postponed = self.settings.liveness == Lives::Activity;
        // A ping that was refused, and not offered again, is the end as well.
        let stuck = !link.is_free() || link.refused_since.is_some();
        self.owed = [ours && stuck && !watches, ours && mute && readable];
        for (owed, excused) in self.owed.iter().zip(&mut self.excused) {
            if !owed {
                *excused = now;
            }
        }
        if std::mem::replace(&mut self.refused, link.refused_since) != link.refused_since {
            self.excused[0] = now;
        }
        let refused = link.refused_since.is_some();
        self.pinging = ours && link.is_free() && !postponed && !refused && !watches;
        if !self.pinging {
            self.no_ping_owed = now;
        }
        self.no_ping_owed = self.no_ping_owed.max(link.last_ping);

        let go_on = |since: Option<Duration>, on: bool| on.then(|| since.unwrap_or(now));
        self.since.reads = go_on(self.since.reads, app.reads());
        self.since.beats = go_on(self.since.beats, app.beats());
        self.since.writes = go_on(self.since.writes, app.writes());
    }

    /// What must not be left undone when everybody waits.
    fn check_rest(&self, now: Duration, app: &App, link: &Link) {
        // Without its heartbeat it is no better than the bare socket, which forgets a task.
        let forgetful = self.is_plain && self.settings.crowded;
        if app.reads() && !forgetful {
            self.check_yielded(link.arrived.len(), link, "while the reader waits");
            assert!(!link.has_ended(), "the end is not yielded at {now:?}");
        }
        if app.writes() && !forgetful {
            assert!(
                !link.is_free(),
                "the writer waits at {now:?} for a socket that is free"
            );
            assert!(
                self.sighted.is_none(),
                "the writer waits at {now:?} behind the verdict"
            );
            let ended = app.reader_end == Some(End::None) && self.closing_since.is_some();
            assert!(!ended, "the writer waits at {now:?} behind the end");
        }
        let data = |message: &&Msg| matches!(message, Msg::Data(_));
        let ahead = link.arrived[self.yielded.min(link.read)..link.read]
            .iter()
            .filter(data);
        let (ahead, most) = (ahead.count(), self.settings.lookahead);
        assert!(ahead <= most, "{ahead} messages were read ahead at {now:?}");
    }

    /// Something was read that proves life, or may.
    fn note_proof(&mut self, now: Duration, app: &App, link: &Link) {
        let read = link.read != self.messages_read;
        // Activity counts from when the reader comes back.
        let active = self.settings.liveness == Lives::Activity && app.read_at == Some(now);
        let by_policy = read && self.settings.liveness != Lives::Pong;
        if read || link.pongs_read != self.pongs_read {
            self.heard_at = now;
            self.was_busy = false;
        }
        let proof = link.pongs_read != self.pongs_read || by_policy || active;
        if proof {
            self.excused = [now; 2];
            self.was_away &= !self.was_driven || link.pongs_read == self.pongs_read;
        }
        (self.pongs_read, self.messages_read) = (link.pongs_read, link.read);
    }

    fn note_free(&mut self, now: Duration, app: &App, link: &Link) {
        let driven = app.reads() || app.beats() || app.writes();
        if link.is_free() && driven {
            self.free_until = now;
        }
    }

    // --- at the end ---

    /// The connection was taken apart: what was read ahead of the reader, and what lay in the socket.
    pub fn finish(mut self, ahead: &[Msg], left: &[Msg], app: &Facts, link: &Link) -> Report {
        assert!(
            ahead
                .iter()
                .filter(|message| matches!(message, Msg::Data(_)))
                .count()
                <= self.settings.lookahead
        );
        assert!(link.pings.is_empty() || !self.settings.watches());
        for message in ahead.iter().chain(left) {
            self.take(message, link);
        }
        self.check_yielded(link.arrived.len(), link, "at last");

        // One message may be held here, and one in the half of a socket that was split.
        let held = app.accepted - link.taken;
        let closed = app.has_closed || link.close_read.is_some();
        assert!(held <= 2 || closed, "{held} accepted and never sent");
        let timeout = self.settings.timeout;
        let missed = link.pings.iter().filter(|ping| {
            let mut slack = Duration::ZERO;
            if self.settings.window > 0 {
                slack = self.settings.slack() + 2 * self.settings.transit;
            }
            let by = |flushed| flushed + timeout - slack;
            let in_time = |flushed| ping.answered.is_some_and(|at| at <= by(flushed));
            ping.flushed.is_some_and(|flushed| !in_time(flushed))
        });
        let missed = missed.count();
        let slowed = !self.settings.stall_grace && self.settings.window > 0;
        assert!(
            app.missed <= missed || slowed,
            "{} missed, and not {missed}",
            app.missed
        );
        self.report.alive = !self.over;
        self.report.polls = app.polls;
        self.report
    }
}

/// What is known of the application at the end.
pub struct Facts {
    pub accepted: u32,
    pub has_closed: bool,
    pub missed: usize,
    pub polls: usize,
}
