//! The presets, peers that were written without them, and a heartbeat with its application on each surface.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{Stream, StreamExt};
use futures_pinger::protocols::{EngineIo, GraphqlWs, Json, Phoenix, Text};
use futures_pinger::testing::{SocketScript, World};
use futures_pinger::{
    Config, ConfigBuilder, End, Error, FrameSink, KeepAlive, PingerSet, Protocol, Rfc6455, Stats,
    TimeoutPhase, pinger,
};
use serde_json::{Value, json};
use tungstenite_0_30::Message;

/// Whole seconds.
pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds.
pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The options of a test: exact, unless it says otherwise.
pub fn exact() -> ConfigBuilder {
    Config::builder()
        .interval(s(20))
        .granularity(Duration::ZERO)
}

pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A preset, whichever it is.
pub type Preset = Arc<dyn Protocol<Message> + Send + Sync>;

/// A preset and a peer that was written without it.
pub struct Case {
    pub name: &'static str,
    pub preset: Preset,
    /// What the peer answers to a text. The test fails at a text that is no ping.
    pub answer: fn(&str) -> String,
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// The presets whose pongs are proven. Each peer writes its JSON in a way of its own.
pub fn proven() -> Vec<Case> {
    vec![
        Case {
            name: "GraphqlWs",
            preset: Arc::new(GraphqlWs::new()),
            answer: |text| {
                let ping = parse(text);
                assert_eq!(ping["type"], "ping");
                let payload = ping["payload"].as_object().expect("it must be an object");
                let payload = serde_json::to_string_pretty(payload).expect("an object");
                format!(" {{ \"payload\" :\n{payload},\t\"type\":\r\n\"pong\" }}\n")
            },
        },
        Case {
            name: "Phoenix",
            preset: Arc::new(Phoenix::new()),
            answer: |text| {
                let push = parse(text);
                assert_eq!(push, json!([null, push[1], "phoenix", "heartbeat", {}]));
                let reply = json!({ "status": "ok", "response": {} });
                serde_json::to_string_pretty(&json!([null, push[1], "phoenix", "phx_reply", reply]))
                    .expect("an array")
            },
        },
        Case {
            name: "Phoenix, version 1",
            preset: Arc::new(Phoenix::v1()),
            answer: |text| {
                let push = parse(text);
                assert_eq!(
                    (&push["topic"], &push["event"]),
                    (&"phoenix".into(), &"heartbeat".into())
                );
                let payload = json!({ "status": "ok", "response": {} });
                let event = "phx_reply";
                let reply = json!({ "ref": push["ref"], "payload": payload, "topic": "phoenix", "event": event });
                reply.to_string()
            },
        },
        Case {
            name: "Json",
            preset: Arc::new(with_id()),
            answer: |text| {
                let ping = parse(text);
                assert_eq!(ping["op"], "ping");
                json!({ "at": 17.5e3, "id": ping["id"], "list": [[], {}], "op": "pong" })
                    .to_string()
            },
        },
        Case {
            name: "Text",
            preset: Arc::new(Text::new("PING :$id\r\n", "PONG :$id\r\n").expect("valid")),
            answer: |text| {
                let id = text.strip_prefix("PING :").expect("a ping");
                format!("PONG :{id}")
            },
        },
    ]
}

/// The presets whose pongs carry nothing.
pub fn trusted() -> Vec<Case> {
    vec![
        Case {
            name: "EngineIo",
            preset: Arc::new(EngineIo::new()),
            answer: |text| {
                assert_eq!(text, "2");
                "3".into()
            },
        },
        Case {
            name: "Json",
            preset: Arc::new(
                Json::new(r#"{"op":"ping"}"#, r#"{"ret_msg":"pong"}"#).expect("valid"),
            ),
            answer: |text| {
                assert_eq!(text, r#"{"op":"ping"}"#);
                json!({ "success": true, "ret_msg": "pong", "op": "ping" }).to_string()
            },
        },
        Case {
            name: "Text",
            preset: Arc::new(Text::new("ping", "pong").expect("valid")),
            answer: |text| {
                assert_eq!(text, "ping");
                "pong".into()
            },
        },
    ]
}

pub fn with_id() -> Json {
    Json::new(r#"{"op":"ping","id":"$id"}"#, r#"{"op":"pong","id":"$id"}"#).expect("valid")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    KeepAlive,
    Attached,
    Member,
}

pub const SURFACES: [Surface; 3] = [Surface::KeepAlive, Surface::Attached, Surface::Member];

/// A heartbeat in the texts of a preset, and its application, which reads.
pub struct Run {
    pub world: World,
    pub script: SocketScript<Message>,
    read: Arc<Mutex<Vec<Message>>>,
    verdict: Arc<Mutex<Option<(Duration, TimeoutPhase)>>>,
    stats: Box<dyn Fn() -> Stats>,
}

impl Run {
    pub fn new(surface: Surface, preset: &Preset, config: ConfigBuilder) -> Self {
        let world = World::new();
        let (socket, script) = world.socket::<Message, _>(Rfc6455);
        let read: Arc<Mutex<Vec<_>>> = Arc::default();
        let verdict = Arc::new(Mutex::new(None));
        let (clock, condemned) = (world.clone(), Arc::clone(&verdict));
        let condemn = move |error: Error<_>| match error {
            Error::Timeout(timed_out) => {
                let mut condemned = condemned.lock().expect("no panic");
                *condemned = Some((clock.elapsed(), timed_out.phase()));
            }
            other => panic!("{other:?}"),
        };
        let (config, protocol) = (config.build().expect("valid"), Arc::clone(preset));
        let stats: Box<dyn Fn() -> Stats> = match surface {
            Surface::KeepAlive => {
                let alive = KeepAlive::with_protocol(socket, protocol, config);
                let mut alive = alive.with_timer(world.timer());
                let controller = alive.controller();
                let book = Arc::clone(&read);
                world.spawn(async move {
                    while let Some(message) = alive.next().await {
                        match message {
                            Ok(message) => book.lock().expect("no panic").push(message),
                            Err(error) => condemn(error),
                        }
                    }
                });
                Box::new(move || controller.stats())
            }
            Surface::Attached => {
                let (sink, stream) = socket.split();
                let outgoing = FrameSink::new(sink, Arc::clone(&protocol));
                let (pongs, pinger) = pinger(outgoing, config);
                let mut pinger = pinger.with_timer(world.timer());
                let controller = pinger.controller();
                world.spawn(async move { condemn(pinger.await.expect_err("it goes on")) });
                keep_book(&world, pongs.attach(stream, protocol), &read);
                Box::new(move || controller.stats())
            }
            Surface::Member => {
                let (sink, stream) = socket.split();
                let mut set = PingerSet::new(config).with_timer(world.timer());
                let member = set.insert(FrameSink::new(sink, Arc::clone(&protocol)));
                let (id, handle) = (member.id(), set.handle());
                let last = Arc::new(Mutex::new(member.stats()));
                keep_book(&world, member.attach(stream, protocol), &read);
                let at_the_end = Arc::clone(&last);
                world.spawn(async move {
                    let departure = set.next().await.expect("endless");
                    *at_the_end.lock().expect("no panic") = departure.stats;
                    match departure.end {
                        End::Failed(error) => condemn(error),
                        end => panic!("{end:?}"),
                    }
                });
                Box::new(move || {
                    let last = || *last.lock().expect("no panic");
                    handle.stats(id).unwrap_or_else(|_| last())
                })
            }
        };
        Self {
            world,
            script,
            read,
            verdict,
            stats,
        }
    }

    /// The peer answers each text, after 30 ms. None is no answer.
    pub fn peer(&self, mut answer: impl FnMut(&str) -> Option<String> + Send + 'static) {
        let (clock, peer) = (self.world.clone(), self.script.clone());
        self.script.on_wire(move |message| {
            let Message::Text(text) = message else {
                return;
            };
            let Some(answer) = answer(&text) else {
                return;
            };
            let peer = peer.clone();
            clock.at(clock.elapsed() + ms(30), move || {
                peer.receive(Message::text(answer));
            });
        });
    }

    /// The peer says `text` each `every`, for the rest of a day.
    pub fn says(&self, every: Duration, text: &'static str) {
        let (clock, peer) = (self.world.clone(), self.script.clone());
        self.world.spawn(async move {
            loop {
                clock.sleep(every).await;
                peer.receive(Message::text(text));
            }
        });
    }

    pub fn run_until(&self, time: Duration) {
        self.world.run_until(time);
    }

    pub fn stats(&self) -> Stats {
        (self.stats)()
    }

    /// What has reached the application since.
    pub fn read(&self) -> Vec<Message> {
        std::mem::take(&mut self.read.lock().expect("no panic"))
    }

    pub fn verdict(&self) -> Option<(Duration, TimeoutPhase)> {
        *self.verdict.lock().expect("no panic")
    }

    pub fn sent(&self) -> Vec<(Duration, Message)> {
        self.script.sent()
    }
}

fn keep_book<E: std::fmt::Debug>(
    world: &World,
    mut stream: impl Stream<Item = Result<Message, E>> + Send + Unpin + 'static,
    read: &Arc<Mutex<Vec<Message>>>,
) {
    let book = Arc::clone(read);
    world.spawn(async move {
        while let Some(message) = stream.next().await {
            let message = message.expect("the socket does not fail");
            book.lock().expect("no panic").push(message);
        }
    });
}
