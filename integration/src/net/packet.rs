//! As much of IPv4 (RFC 791) and TCP (RFC 9293) as a switch needs: where a packet goes, and the reset
//! that refuses it.

use std::net::Ipv4Addr;

/// The header without options. A segment's comes right behind the packet's.
const IP_BYTES: usize = 20;
const TCP_BYTES: usize = 20;
const PROTOCOL_TCP: u8 = 6;
const TIME_TO_LIVE: u8 = 64;
/// Flags of a segment.
const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Where an IPv4 packet goes; none for anything else, such as the IPv6 that a new device sends.
pub fn destination(packet: &[u8]) -> Option<Ipv4Addr> {
    let is_ipv4 = packet.len() >= IP_BYTES && packet[0] >> 4 == 4;
    is_ipv4.then(|| Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]))
}

/// The reset that tells the sender of a TCP segment that nobody there listens to it (RFC 9293, 3.5.2).
/// None answers a reset, a fragment, or what is not TCP.
pub fn reset(packet: &[u8]) -> Option<Vec<u8>> {
    destination(packet)?;
    let header = usize::from(packet[0] & 0x0f) * 4;
    let is_fragment = u16::from_be_bytes([packet[6] & 0x1f, packet[7]]) != 0;
    let segment = packet.get(header..).filter(|segment| segment.len() >= TCP_BYTES)?;
    let flags = segment[13];
    if packet[9] != PROTOCOL_TCP || is_fragment || flags & RST != 0 {
        return None;
    }
    let number = |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
    let data = segment.len().saturating_sub(usize::from(segment[12] >> 4) * 4) as u32;
    let taken = data + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
    let (sequence, acknowledged, flags) = match flags & ACK != 0 {
        true => (number(8), 0, RST),
        false => (0, number(4).wrapping_add(taken), RST | ACK),
    };

    let mut reset = vec![0; IP_BYTES + TCP_BYTES];
    reset[0] = 0x45;
    reset[2..4].copy_from_slice(&((IP_BYTES + TCP_BYTES) as u16).to_be_bytes());
    reset[8] = TIME_TO_LIVE;
    reset[9] = PROTOCOL_TCP;
    reset[12..16].copy_from_slice(&packet[16..20]);
    reset[16..20].copy_from_slice(&packet[12..16]);
    let sum = checksum(&[&reset[..IP_BYTES]]);
    reset[10..12].copy_from_slice(&sum);
    reset[20..22].copy_from_slice(&segment[2..4]);
    reset[22..24].copy_from_slice(&segment[0..2]);
    reset[24..28].copy_from_slice(&sequence.to_be_bytes());
    reset[28..32].copy_from_slice(&acknowledged.to_be_bytes());
    reset[32] = (TCP_BYTES as u8 / 4) << 4;
    reset[33] = flags;
    let pseudo_header = [0, PROTOCOL_TCP, 0, TCP_BYTES as u8];
    let sum = checksum(&[&reset[12..20], &pseudo_header, &reset[IP_BYTES..]]);
    reset[36..38].copy_from_slice(&sum);
    Some(reset)
}

/// The Internet checksum (RFC 1071) of parts of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
