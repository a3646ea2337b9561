//! A gateway over tokio-tungstenite: all heartbeats in one [`PingerSet`], keys that tell who it is, another
//! configuration for phones, a new interval at run time, `totals()` in the words of Prometheus, and an orderly
//! end in which each client gets a close frame 1001.
//!
//! `cargo run --release --example gateway` connects 400 clients over the loopback, and takes some ten
//! seconds. `gateway 8000` connects as many as the loopback takes here, for which it raises the limit of
//! descriptors; from 8001 on the sockets are pipes in memory. One client in twenty stops reading. The
//! example shows its progress, and fails where a live client is lost, a dead one is not found, or a
//! live one does not see the end.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::future::pending;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use futures_pinger::{
    Clock, CloseReason, Config, ConfigBuilder, End, FrameSink, HeartbeatState, PingerSet,
    PingerSetHandle, Rfc6455, TimeoutPhase, TokioTimer, Totals,
};
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};
use tokio_util::sync::PollSender;

/// As many connections have both of their ends in one process over the loopback.
const OVER_LOOPBACK: usize = 8000;
/// One client in so many dies.
const DYING: usize = 20;
/// From one line of progress to the next.
const PACE: Duration = Duration::from_millis(500);
/// A close frame of the gateway says that it is going away (RFC 6455 §7.4.1).
const GOING_AWAY: u16 = 1001;

type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The queue of the task that writes to the connection.
type Outgoing = FrameSink<PollSender<Message>, Rfc6455, Message>;
/// The key is the number that the client has told.
type Handle = PingerSetHandle<Outgoing, usize>;

struct Gateway {
    handle: Handle,
    /// The set's own.
    desktops: Config,
    phones: Config,
    /// Who was found dead, and who was closed.
    dead: Mutex<BTreeSet<usize>>,
    closed: Mutex<BTreeSet<usize>>,
}

/// What the clients have to do with each other.
#[derive(Default)]
struct Clients {
    /// Those that are to die do so with their next ping.
    die: AtomicBool,
    dead: AtomicUsize,
    /// How many have seen the close frame of the gateway.
    told: AtomicUsize,
}

fn base() -> ConfigBuilder {
    // The granularity is that of the whole set, whatever its members are told else.
    let config = Config::builder().timeout(Duration::from_secs(3));
    let config = config.granularity(Duration::from_millis(50));
    config.initial_delay_at_random()
}

fn socket_config() -> WebSocketConfig {
    // The default of 128 KiB is most of what an idle connection costs.
    WebSocketConfig::default().read_buffer_size(4096)
}

// --- the gateway's side ---

/// Tells who was found dead, and who was closed.
async fn drive(mut set: PingerSet<Outgoing, usize, TokioTimer>, gateway: Arc<Gateway>) {
    while let Some(departure) = set.next().await {
        let list = match departure.end {
            End::Closed => &gateway.closed,
            _ => &gateway.dead,
        };
        list.lock().expect("nobody panics").insert(departure.key);
    }
}

/// One connection: it echoes text, and ends when the client is gone or the set gives it up.
async fn serve<S>(io: S, gateway: Arc<Gateway>) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut socket = accept_async_with_config(io, Some(socket_config())).await?;
    let hello = socket.next().await.ok_or("the client is gone")??;
    let number: usize = hello.to_text()?.parse()?;

    let (mut sink, stream) = socket.split();
    let (queue, mut messages) = mpsc::channel::<Message>(4);
    // The set alone keeps the queue open: when it gives the connection up, the writer ends, and with it
    // all that is here.
    let echoes = queue.downgrade();
    let outgoing = FrameSink::new(PollSender::new(queue), Rfc6455);
    let config = if is_phone(number) {
        &gateway.phones
    } else {
        &gateway.desktops
    };
    let inserted = gateway.handle.insert_keyed_with(config, number, outgoing);
    let mut incoming = inserted
        .map_err(|refused| refused.cause)?
        .attach(stream, Rfc6455);

    let reader = async {
        while let Some(Ok(message)) = incoming.next().await {
            if let (true, Some(queue)) = (message.is_text(), echoes.upgrade()) {
                // Whoever closes the queue ends this task, too.
                let _ = queue.send(message).await;
            }
        }
    };
    let writer = async {
        while let Some(message) = messages.recv().await {
            if sink.send(message).await.is_err() {
                break;
            }
        }
    };
    // In one task: a writer that is starved is so together with its reader.
    tokio::select! {
        () = reader => {}
        () = writer => {}
    }
    Ok(())
}

fn prometheus(totals: &Totals) -> String {
    let mut text = String::from("# TYPE ws_heartbeats gauge\n");
    let mut line = |name: &str, figure: u64| {
        writeln!(text, "{name} {figure}").expect("a string takes all");
    };
    for &state in HeartbeatState::ALL {
        let name = format!("ws_heartbeats{{state=\"{state}\"}}");
        line(&name, totals.members(state));
    }
    for &phase in TimeoutPhase::ALL {
        let name = format!("ws_heartbeat_verdicts_total{{phase=\"{phase}\"}}");
        line(&name, totals.verdicts(phase));
    }
    for (name, figure) in [
        ("sent", totals.sent()),
        ("answered", totals.answered()),
        ("missed", totals.missed()),
        ("stale", totals.stale()),
        ("unsolicited", totals.unsolicited()),
        ("mass_verdicts", totals.mass_verdicts()),
    ] {
        line(&format!("ws_heartbeat_{name}_total"), figure);
    }
    text
}

// --- the clients ---

const fn is_phone(number: usize) -> bool {
    number % 2 == 1
}

const fn is_dying(number: usize) -> bool {
    number % DYING == DYING - 1
}

/// Reads, by which tungstenite answers pings, until the gateway closes the connection; or until it dies.
async fn client<S>(mut socket: WebSocketStream<S>, number: usize, clients: Arc<Clients>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = socket.next().await {
        match message {
            Message::Ping(_) if is_dying(number) && clients.die.load(Ordering::Relaxed) => {
                // Its pong is not written, and nothing more is read.
                clients.dead.fetch_add(1, Ordering::Relaxed);
                return pending().await;
            }
            Message::Close(Some(frame)) if u16::from(frame.code) == GOING_AWAY => {
                clients.told.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// Connects a client, by a pair of ends.
async fn connect<C, G>(
    (outer, inner): (C, G),
    number: usize,
    gateway: &Arc<Gateway>,
    clients: &Arc<Clients>,
) -> Result<(), Failure>
where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    G: AsyncRead + AsyncWrite + Unpin + Send + Sync + 'static,
{
    tokio::spawn(serve(inner, Arc::clone(gateway)));
    let url = "ws://gateway/";
    let (mut socket, _) = client_async_with_config(url, outer, Some(socket_config())).await?;
    socket.send(Message::text(number.to_string())).await?;
    tokio::spawn(client(socket, number, Arc::clone(clients)));
    Ok(())
}

// --- what happens ---

/// Shows how things stand until that holds, no longer than for `limit`. Whether it holds.
async fn watch(what: &str, gateway: &Gateway, limit: Duration, holds: impl Fn() -> bool) -> bool {
    let clock = Clock::system();
    let begin = clock.now();
    loop {
        let totals = gateway.handle.totals();
        println!(
            "{what:<9} {:>6} heartbeats {:>8} pings {:>8} pongs {:>5} dead",
            gateway.handle.len(),
            totals.sent(),
            totals.answered(),
            gateway.dead.lock().expect("nobody panics").len(),
        );
        if holds() || clock.now() - begin > limit {
            return holds();
        }
        sleep(PACE).await;
    }
}

async fn run(count: usize) -> Result<bool, Failure> {
    let second = Duration::from_secs(1);
    let desktops = base().interval(second).build()?;
    let faster = base().interval(second / 2).build()?;
    let set = PingerSet::new(desktops.clone()).with_timer(TokioTimer::new());
    let gateway = Arc::new(Gateway {
        handle: set.handle(),
        phones: base().interval(2 * second).build()?,
        desktops,
        dead: Mutex::default(),
        closed: Mutex::default(),
    });
    let clients = Arc::new(Clients::default());
    let driver = tokio::spawn(drive(set, Arc::clone(&gateway)));

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    for number in 0..count {
        if count > OVER_LOOPBACK {
            connect(duplex(4096), number, &gateway, &clients).await?;
        } else {
            let (outer, (inner, _)) =
                tokio::try_join!(TcpStream::connect(address), listener.accept())?;
            connect((outer, inner), number, &gateway, &clients).await?;
        }
        if number % 10_000 == 9_999 {
            println!("arriving  {:>6} heartbeats", gateway.handle.len());
        }
    }
    let all = || gateway.handle.len() == count;
    let all_came = watch("arriving", &gateway, 10 * second, all).await;
    watch("all here", &gateway, 2 * second, || false).await;

    println!("\nThe desktops ping twice as often from now on.");
    gateway.handle.replace_config(&gateway.desktops, faster)?;
    watch("faster", &gateway, 2 * second, || false).await;

    println!("\nOne client in {DYING} stops reading.");
    clients.die.store(true, Ordering::Relaxed);
    let dying = count / DYING;
    let bound = gateway
        .phones
        .detection_bound()
        .ok_or("there is a timeout")?;
    let found = || gateway.dead.lock().expect("nobody panics").len() >= dying;
    watch("dying", &gateway, bound + 5 * second, found).await;
    // Time for a live one to be given up by mistake.
    watch("dying", &gateway, 3 * second, || false).await;
    println!("\n{}", prometheus(&gateway.handle.totals()));

    println!("The gateway goes down.");
    let reason = CloseReason::new(GOING_AWAY, "going down")?;
    gateway.handle.close_all(reason);
    let told = || clients.told.load(Ordering::Relaxed);
    let none_left = || gateway.handle.is_empty() && told() >= count - dying;
    watch("closing", &gateway, 10 * second, none_left).await;

    let dead = gateway.dead.lock().expect("nobody panics").clone();
    let closed = gateway.closed.lock().expect("nobody panics").len();
    let found = dead.iter().filter(|number| is_dying(**number)).count();
    let lost = dead.len() - found;
    println!("\ndead      {found} of {dying} found");
    println!("live      {lost} of {} lost", count - dying);
    println!("closed    {closed}, and {} have seen {GOING_AWAY}", told());
    let all_died = clients.dead.load(Ordering::Relaxed) == dying;
    let complete = found == dying && lost == 0 && told() == count - dying && closed == told();
    Ok(all_came && all_died && complete && !driver.is_finished())
}

/// As many descriptors as the system lets this process have.
fn raise_limit_of_descriptors() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // Where it is not allowed, fewer clients connect, which shows.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

fn main() -> ExitCode {
    let count = env::args().nth(1).map_or(Ok(400), |it| it.parse());
    let Ok(count @ DYING..) = count else {
        eprintln!("usage: gateway [NUMBER], {DYING} at the least");
        return ExitCode::FAILURE;
    };
    raise_limit_of_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("there are threads");
    match runtime.block_on(run(count)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("a dead client was not found, or a live one was lost");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
