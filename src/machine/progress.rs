//! How bytes that move extend the deadlines of the ping that is out, and the time of silence where no pings
//! are sent.
//!
//! The rule stands in the docs of [`Meter`](crate::Meter).

use std::ops::DerefMut;

use super::deadline::Grace;
use super::machine::Machine;
use super::record::{Phase, Record};
use crate::meter::Moved;
use crate::time::Time;

impl<R: DerefMut<Target = Record>> Machine<'_, R> {
    /// The driver has looked at its meter. If the deadline must be looked at now, it moves to a timeout after
    /// the time at which bytes were last seen to have moved, but by `progress` in all at the most.
    ///
    /// A deadline is moved neither to an earlier time nor to one that has come: then its grace decides.
    pub(crate) fn handle_progress(&mut self, moved: Moved, now: Time) {
        let moved = match self.record.phase {
            Phase::Offered(_) | Phase::Refused(_) | Phase::Flushing => moved.output,
            Phase::Waiting | Phase::Watching => moved.input,
            _ => return,
        };
        let Some(mut deadline) = self.deadline(self.config()) else {
            return;
        };
        let spans = self.config().spans();
        let unmoved = self.record.waiting_since.plus(deadline.timeout);
        let until = moved
            .plus(deadline.timeout)
            .min(unmoved.plus(spans.progress));
        if deadline.next_look().has_come(now) && until > deadline.at && !until.has_come(now) {
            // A late look is counted here, as the deadline that has moved is not looked at now.
            self.record.late |= self.observe_lateness(now);
            deadline.at = until;
            deadline.grace = Grace::new(self.config().stall_grace());
            self.record.keep(&deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, ConfigBuilder};
    use crate::error::TimeoutPhase;
    use crate::machine::proof::payload;
    use crate::machine::{Input, Key, SinkState, Terms, Turn, Verdict};
    use crate::time::Span;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Time {
        Time::ORIGIN.plus(s(seconds).into())
    }

    /// A heartbeat whose ping leaves at the origin; either deadline is at 20 s, its checkpoint at 19 s.
    struct Rig {
        terms: Terms,
        record: Record,
    }

    impl Rig {
        fn new(change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
            let config = Config::builder().interval(s(1000)).initial_delay(s(0));
            let config = config.timeout(s(20)).progress(s(60)).no_close();
            let config = change(config.granularity(s(0))).build().expect("valid");
            let terms = Terms::with_key(config, Key::new([42; 16]));
            let mut rig = Self {
                terms,
                record: Record::new(),
            };
            rig.machine().begin(Time::ORIGIN);
            rig
        }

        /// The ping is flushed.
        fn waiting(change: impl FnOnce(ConfigBuilder) -> ConfigBuilder) -> Self {
            let mut rig = Self::new(change);
            let sent = rig.turn(0, SinkState::Ready);
            assert!(matches!(sent, Turn::Offer(_)), "{sent:?}");
            let sent = rig.turn(0, SinkState::Ready);
            assert!(matches!(sent, Turn::Send(_)), "{sent:?}");
            rig.machine().handle_sent(Time::ORIGIN);
            rig
        }

        fn machine(&mut self) -> Machine<'_, &mut Record> {
            Machine::new(&self.terms, &mut self.record)
        }

        fn turn(&mut self, seconds: u64, sink: SinkState) -> Turn {
            let input = &mut Input::Drained;
            self.machine().turn(at(seconds), false, sink, input)
        }

        /// A look at that time: bytes that came in, and bytes that went out, were seen at these times.
        fn look(&mut self, seconds: u64, input: u64, output: u64) -> Turn {
            let (input, output) = (at(input), at(output));
            let moved = Moved { input, output };
            self.machine().handle_progress(moved, at(seconds));
            self.turn(seconds, SinkState::Blocked)
        }

        #[track_caller]
        fn rests(&mut self, look: (u64, u64, u64), until: u64) {
            match self.look(look.0, look.1, look.2) {
                Turn::Rest(time) => assert_eq!(time, at(until)),
                other => panic!("{other:?}"),
            }
        }

        #[track_caller]
        fn is_over(&mut self, look: (u64, u64, u64), phase: TimeoutPhase) {
            match self.look(look.0, look.1, look.2) {
                Turn::Over(Some(Verdict::TimedOut(verdict))) => {
                    assert_eq!(verdict.phase(), phase);
                    assert_eq!(verdict.elapsed(), s(look.0));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    // contract: O97
    #[test]
    fn bytes_in_extend_the_wait_for_a_pong_to_the_end_of_their_progress() {
        let mut rig = Rig::waiting(|config| config);
        // The last bytes were seen at 15 s.
        rig.rests((15, 15, 15), 19);
        rig.rests((19, 15, 19), 34);
        rig.rests((34, 34, 34), 53);
        rig.rests((53, 53, 53), 72);
        rig.rests((72, 72, 72), 79);
        rig.rests((79, 79, 79), 80);
        rig.is_over((80, 80, 80), TimeoutPhase::Pong);
    }

    // contract: O97
    #[test]
    fn bytes_in_extend_the_time_of_silence_of_what_only_watches() {
        let mut rig = Rig::new(|config| config);
        let config = Config::builder().watch(s(20)).progress(s(30)).no_close();
        let config = config.granularity(s(0)).build().expect("valid");
        assert_eq!(config.detection_bound(), Some(s(20)));
        assert_eq!(config.detection_bound_with_meter(), Some(s(50)));
        rig.terms = Terms::with_key(config, Key::new([42; 16]));
        rig.record = Record::new();
        rig.machine().begin(Time::ORIGIN);
        rig.rests((19, 19, 0), 38);
        rig.rests((38, 38, 38), 49);
        rig.machine().handle_message(false, at(40), at(40));
        rig.rests((49, 49, 0), 59);
        rig.rests((59, 59, 0), 78);
        rig.rests((78, 78, 0), 89);
        rig.rests((89, 89, 0), 90);
        match rig.look(90, 90, 0) {
            Turn::Over(Some(Verdict::TimedOut(verdict))) => {
                assert_eq!(verdict.phase(), TimeoutPhase::Silence);
                assert_eq!(verdict.elapsed(), s(50));
            }
            other => panic!("{other:?}"),
        }
    }

    // contract: O97
    #[test]
    fn bytes_out_extend_the_wait_for_the_sink_to_the_end_of_their_progress() {
        let mut rig = Rig::new(|config| config);
        assert!(matches!(rig.turn(0, SinkState::Blocked), Turn::Offer(_)));
        rig.rests((19, 19, 15), 34);
        rig.rests((34, 34, 34), 53);
        rig.rests((53, 53, 53), 72);
        rig.rests((72, 72, 72), 79);
        rig.rests((79, 79, 79), 80);
        rig.is_over((80, 80, 80), TimeoutPhase::Write);
    }

    // contract: O97
    #[test]
    fn bytes_of_the_other_direction_and_of_an_earlier_time_extend_nothing() {
        let mut rig = Rig::waiting(|config| config);
        rig.rests((19, 0, 19), 20);
        rig.is_over((20, 0, 20), TimeoutPhase::Pong);
        let mut rig = Rig::new(|config| config);
        assert!(matches!(rig.turn(0, SinkState::Blocked), Turn::Offer(_)));
        rig.rests((19, 19, 0), 20);
        rig.is_over((20, 20, 0), TimeoutPhase::Write);
        let mut rig = Rig::waiting(|config| config.progress(s(0)));
        rig.rests((19, 19, 19), 20);
        rig.is_over((20, 20, 20), TimeoutPhase::Pong);
    }

    // contract: O97
    #[test]
    fn a_stall_is_forgiven_beside_bytes_that_move() {
        let mut rig = Rig::waiting(|config| config);
        // The stall hides the checkpoint of 19 s: it counts, and the bytes move the deadline.
        rig.rests((60, 60, 60), 79);
        assert_eq!(rig.machine().stats().late_wakes(), 1);
        // The deadline has a grace of its own again, as its first had.
        let mut rig = Rig::waiting(|config| config);
        rig.rests((19, 0, 0), 20);
        rig.rests((20, 20, 20), 39);
        rig.rests((39, 20, 20), 40);
        // A stall beyond the last deadline that bytes may lead to is no matter of bytes.
        rig.rests((100, 100, 100), 120);
        assert_eq!(rig.machine().stats().late_wakes(), 1);
        rig.is_over((120, 120, 120), TimeoutPhase::Pong);
        let mut rig = Rig::waiting(|config| config);
        rig.rests((60, 60, 60), 79);
        // The next stall ends after the last deadline that bytes may lead to: the grace is as ever.
        rig.rests((90, 90, 90), 101);
        assert_eq!(rig.machine().stats().late_wakes(), 2);
        rig.is_over((101, 101, 101), TimeoutPhase::Pong);
    }

    // contract: O97
    #[test]
    fn each_ping_has_its_own_progress_and_a_miss_ends_none_of_the_next() {
        let mut rig = Rig::waiting(|config| config.max_missed(2));
        rig.rests((19, 19, 19), 38);
        rig.rests((38, 19, 38), 39);
        assert!(matches!(rig.look(39, 19, 39), Turn::Offer(_)));
        assert!(matches!(rig.turn(39, SinkState::Ready), Turn::Send(_)));
        rig.machine().handle_sent(at(39));
        rig.rests((58, 58, 58), 77);
        rig.rests((77, 77, 77), 96);
        rig.rests((96, 96, 96), 115);
        rig.rests((115, 115, 115), 118);
    }

    // contract: O97
    #[test]
    fn a_configuration_with_a_shorter_progress_takes_nothing_back() {
        let mut rig = Rig::waiting(|config| config);
        rig.rests((19, 19, 19), 38);
        let before = rig.terms.config.clone();
        let config = Config::builder()
            .interval(s(1000))
            .timeout(s(20))
            .no_close();
        rig.terms.config = config
            .granularity(s(0))
            .progress(s(5))
            .build()
            .expect("valid");
        rig.machine().reconfigure(&before, at(20));
        rig.rests((38, 38, 38), 39);
        rig.machine().pause();
        rig.look(1000, 1000, 1000);
        assert_eq!(rig.machine().next_look(), Time::NEVER);
    }

    // contract: O97
    #[test]
    fn a_late_look_is_counted_once_where_the_bytes_have_moved_the_deadline_before() {
        let mut rig = Rig::waiting(|config| config);
        rig.rests((19, 19, 19), 38);
        // The checkpoint of 38 s is seen half a second late.
        let now = at(38).plus(Span::nanos(500_000_000));
        let (input, output) = (at(19), at(38));
        rig.machine().handle_progress(Moved { input, output }, now);
        let input = &mut Input::Drained;
        rig.machine().turn(now, false, SinkState::Blocked, input);
        assert_eq!(rig.machine().stats().late_wakes(), 1);
    }

    // contract: O97
    #[test]
    fn a_ping_whose_deadline_was_looked_at_late_is_no_sample_where_bytes_move_it() {
        let mut rig = Rig::waiting(|config| config);
        rig.rests((60, 60, 60), 79);
        let pong = payload(rig.record.issued, rig.record.tag);
        rig.machine().handle_pong(&pong, at(61));
        let stats = rig.machine().stats();
        assert_eq!((stats.answered(), stats.latest_rtt()), (1, None));
    }
}
