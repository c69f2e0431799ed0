//! Frames of any content, on sessions that stand.

use minidlt_integration::{Random, now};
use minidlt_protocol::{
    codec,
    message::{Content, Message, SyncContent},
    types::Height,
};

use crate::{HONEST, counts::Counts, liar::Liar};

/// A session ends with so many refused messages.
const MOST_REFUSED: u32 = 16;
/// Sessions of so many broken messages each.
const SESSIONS: usize = 4;

pub fn lie(counts: &Counts, liar: &mut Liar) {
    liar.open_anew();
    for (what, reason, make) in broken() {
        HONEST.into_iter().for_each(|to| liar.send(to, &make(sound(liar, to))));
        counts.refused(what, reason, 1);
    }
    for (what, content) in contents() {
        HONEST.into_iter().for_each(|to| liar.send(to, &liar.route(to).stamped(&content, now())));
        counts.refused(what, "malformed", 1);
    }
    of_any_content(counts, liar);
}

/// A message that is taken as it is.
fn sound(liar: &Liar, to: usize) -> Message {
    let question = Content::Sync(SyncContent::Synchronise { at: Some(Height::GENESIS) });
    codec::decode(&liar.route(to).message(&question), 1 << 10).expect("a message")
}

type Make = fn(Message) -> Vec<u8>;

fn broken() -> [(&'static str, &'static str, Make); 6] {
    [
        ("a message cut short", "malformed", |message| {
            let mut bytes = codec::encode(&message);
            bytes.truncate(bytes.len() - 1);
            bytes
        }),
        ("a message with more behind it", "malformed", |message| [codec::encode(&message), vec![0]].concat()),
        ("a message in another encoding", "malformed", |message| {
            let bytes = codec::encode(&message);
            // The map's head with its length in a byte of its own.
            [&[0xb8, bytes[0] & 0x1f], &bytes[1..]].concat()
        }),
        ("another size than it says", "size", |mut message| {
            message.payload.size += 1;
            codec::encode(&message)
        }),
        ("another content than was signed", "bad-signature", |mut message| {
            message.payload.content.push(0);
            message.payload.size += 1;
            codec::encode(&message)
        }),
        ("another time than was signed", "bad-signature", |mut message| {
            message.payload.timestamp = message.payload.timestamp.plus_millis(1);
            codec::encode(&message)
        }),
    ]
}

/// Contents in a sound message that are none.
fn contents() -> [(&'static str, Vec<u8>); 5] {
    [
        ("no content", Vec::new()),
        // A byte string of 2^40 bytes, and a list of as many items.
        ("bytes that do not come", [&[0x5b, 0, 0, 1, 0, 0, 0, 0, 0], &b"few"[..]].concat()),
        ("items that do not come", [&[0x9b, 0, 0, 1, 0, 0, 0, 0, 0], &b"few"[..]].concat()),
        ("nesting without end", vec![0x81; 100_000]),
        ("a content of no kind", codec::encode(&"nothing")),
    ]
}

/// As many in a session as end it: sound messages with a byte changed, cut short, or random bytes.
fn of_any_content(counts: &Counts, liar: &mut Liar) {
    let mut random = Random::seeded();
    for _ in 0..SESSIONS {
        liar.open_anew();
        for _ in 0..MOST_REFUSED {
            for to in HONEST {
                let mut bytes = codec::encode(&sound(liar, to));
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes[at] ^= 1 << random.below(8),
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes.iter_mut().for_each(|byte| *byte = random.below(256) as u8),
                }
                liar.send(to, &bytes);
            }
        }
        liar.wait_ended();
        counts.all_refused("broken messages", MOST_REFUSED);
    }
}
