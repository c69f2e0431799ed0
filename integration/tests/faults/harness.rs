//! The links themselves: what a test is told about a partition must be so.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use minidlt_integration::{Link, Net, PATIENCE, not_run};

const PORT: u16 = 9_000;
const WITHIN: Duration = Duration::from_millis(500);

/// A network of two, in the first of which somebody sends back what it reads.
fn echo() -> Option<Net> {
    let net = match Net::new(2) {
        Ok(net) => net,
        Err(why) => {
            not_run("links", &why);
            return None;
        }
    };
    let listener = at(&net, 0, || TcpListener::bind(("0.0.0.0", PORT))).expect("a port of its own");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut buffer = [0; 65_536];
                // Its end is that of the test.
                while let Ok(size @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..size]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    Some(net)
}

/// What a thread in a node's place gives.
fn at<T: Send + 'static>(net: &Net, node: usize, what: impl FnOnce() -> T + Send + 'static) -> T {
    let way_in = net.way_in(node);
    let there = thread::spawn(move || {
        way_in.enter();
        what()
    });
    there.join().expect("it does not fail")
}

fn connect(net: &Net) -> io::Result<TcpStream> {
    let address = SocketAddr::new(Net::address(0).into(), PORT);
    at(net, 1, move || {
        let stream = TcpStream::connect_timeout(&address, WITHIN)?;
        stream.set_read_timeout(Some(WITHIN))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    })
}

/// Sends so many bytes and reads them back; how long that took.
fn round_trip(mut stream: &TcpStream, bytes: usize) -> io::Result<Duration> {
    let since = Instant::now();
    stream.write_all(&vec![7; bytes])?;
    let mut back = vec![0; bytes];
    stream.read_exact(&mut back)?;
    assert!(back.iter().all(|byte| *byte == 7));
    Ok(since.elapsed())
}

#[test]
fn what_is_cut_or_refused_does_not_pass_and_what_is_healed_does() {
    let Some(net) = echo() else { return };
    let stream = connect(&net).expect("an open link");
    round_trip(&stream, 1).expect("an open link");

    net.links().set(&[0], &[1], Link::CUT);
    assert_eq!(round_trip(&stream, 1).expect_err("one way only").kind(), ErrorKind::WouldBlock);
    assert_eq!(connect(&net).expect_err("one way only").kind(), ErrorKind::TimedOut);
    net.links().heal();
    connect(&net).expect("a healed link");
    assert!(net.links().done().cut > 0);

    net.links().between(&[0], &[1], Link::REFUSED);
    assert_eq!(connect(&net).expect_err("refused").kind(), ErrorKind::ConnectionRefused);
    let stream = {
        net.links().heal();
        let stream = connect(&net).expect("a healed link");
        net.links().between(&[0], &[1], Link::REFUSED);
        stream
    };
    assert_eq!(round_trip(&stream, 1).expect_err("refused").kind(), ErrorKind::ConnectionReset);
    assert!(net.links().done().refused >= 2);
    net.links().heal();
    connect(&net).expect("a healed link");
}

#[test]
fn what_is_slow_or_lossy_passes_late_and_whole() {
    let Some(net) = echo() else { return };
    let (delay, jitter) = (Duration::from_millis(50), Duration::from_millis(20));
    net.links().between(&[0], &[1], Link { delay, ..Link::OPEN });
    let stream = connect(&net).expect("a slow link");
    let took = round_trip(&stream, 1).expect("a slow link");
    assert!((2 * delay..4 * delay).contains(&took), "{took:?}");

    // No more at once than fits the sockets' buffers, as nothing is read before all is written.
    net.links().between(&[0], &[1], Link { bytes_per_second: Some(128 << 10), ..Link::OPEN });
    let took = round_trip(&stream, 32 << 10).expect("a narrow link");
    assert!(took > Duration::from_millis(250), "{took:?}");

    net.links().between(
        &[0],
        &[1],
        Link { delay: jitter, jitter, loss_percent: 5, duplicate_percent: 5, ..Link::OPEN },
    );
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    for _ in 0..20 {
        round_trip(&stream, 20_000).expect("TCP heals it");
    }
    let done = net.links().done();
    assert!(done.lost > 0 && done.duplicated > 0 && done.delayed > 0, "{done:?}");
}
