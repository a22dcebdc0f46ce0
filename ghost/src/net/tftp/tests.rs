use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;

/// What a server does wrong, or otherwise.
#[derive(Clone, Default)]
struct Quirks {
    /// Knows no options.
    plain: bool,
    /// Refuses requests with options, with error 8.
    refuses_options: bool,
    /// Its answer to the options, instead of the right one.
    options: Option<Vec<(&'static str, String)>>,
    /// An error instead of the file.
    error: Option<(u16, &'static str)>,
    /// Packets, by number from 0 in the order they are sent, that get lost.
    lost: Vec<usize>,
    /// Sends every packet twice.
    twice: bool,
    /// Sends rubbish before each packet.
    rubbish: bool,
    /// Sends each block from a stranger's port, with other data, first.
    stranger: bool,
    /// Stops after so many blocks.
    dies_after: Option<usize>,
    /// Sends this block larger than agreed.
    fat_block: Option<usize>,
}

/// A server on a free port.
struct Server {
    address: String,
    /// How often strangers were told that they are (error 5).
    strangers_told: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    /// How many blocks arrived.
    arrived: Arc<AtomicUsize>,
}

/// A transfer that does not get on for so long hangs; 70,000 blocks may take longer on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

impl Server {
    async fn start(file: Vec<u8>, quirks: Quirks) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let strangers_told = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(AtomicUsize::new(0));
        let arrived = Arc::new(AtomicUsize::new(0));
        let file = Arc::new(file);
        let (told, counted, taken) = (strangers_told.clone(), requests.clone(), arrived.clone());
        tokio::spawn(async move {
            let mut buffer = vec![0; LARGEST_PACKET];
            while let Ok((size, client)) = socket.recv_from(&mut buffer).await {
                counted.fetch_add(1, Ordering::Relaxed);
                let request = buffer[..size].to_vec();
                let (told, taken) = (told.clone(), taken.clone());
                tokio::spawn(serve(client, request, file.clone(), quirks.clone(), told, taken));
            }
        });
        Self { address, strangers_told, requests, arrived }
    }

    async fn get(&self, options: &Options) -> Result<Vec<u8>, FetchError> {
        let mut transfer = std::pin::pin!(get(&self.address, "some/file", options));
        loop {
            let before = self.arrived.load(Ordering::Relaxed);
            match tokio::time::timeout(DEADLINE, &mut transfer).await {
                Ok(ended) => return ended,
                Err(_) => assert!(self.arrived.load(Ordering::Relaxed) > before, "the transfer hangs"),
            }
        }
    }
}

fn option(strings: &[String], name: &str) -> Option<usize> {
    let at = strings.iter().position(|string| string == name)?;
    strings.get(at + 1)?.parse().ok()
}

async fn serve(
    client: SocketAddr,
    request: Vec<u8>,
    file: Arc<Vec<u8>>,
    quirks: Quirks,
    told: Arc<AtomicUsize>,
    arrived: Arc<AtomicUsize>,
) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut line = Line { socket, client, quirks: quirks.clone(), sent: 0 };

    let (code, rest) = split_u16(&request).unwrap();
    assert_eq!(code, opcode::READ_REQUEST);
    let strings: Vec<String> =
        rest.split(|byte| *byte == 0).map(|text| String::from_utf8(text.to_vec()).unwrap()).collect();
    assert_eq!(strings[..2], ["some/file", "octet"]);
    let asked = strings.len() > 3;

    if quirks.refuses_options && asked {
        return line.send(&error_packet(error_code::OPTIONS, "no options here")).await;
    }
    if let Some((code, message)) = quirks.error {
        return line.send(&error_packet(code, message)).await;
    }
    let mut block_size = 512;
    let mut window = 1;
    if asked && !quirks.plain && !quirks.refuses_options {
        block_size = option(&strings, "blksize").unwrap_or(512);
        window = option(&strings, "windowsize").unwrap_or(1);
        let right = || {
            let mut right = vec![("tsize", file.len().to_string()), ("blksize", block_size.to_string())];
            right.extend((window > 1).then(|| ("windowsize", window.to_string())));
            right
        };
        let mut packet = opcode::OPTION_ACK.to_be_bytes().to_vec();
        for (name, value) in quirks.options.clone().unwrap_or_else(right) {
            packet.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
        line.send(&packet).await;
        while line.ack().await != Some(0) {
            if line.sent > 20 {
                return;
            }
            line.send(&packet).await;
        }
    }
    let mut blocks: Vec<&[u8]> = file.chunks(block_size).collect();
    if file.len().is_multiple_of(block_size) {
        blocks.push(&[]);
    }
    let mut acknowledged = 0;
    // Answers that did not come since a block arrived: as many in all as a busy machine makes of 70,000.
    let mut silences = 0;
    while acknowledged < blocks.len() {
        for number in acknowledged + 1..=(acknowledged + window).min(blocks.len()) {
            if quirks.dies_after.is_some_and(|last| number > last) {
                return;
            }
            let mut packet = opcode::DATA.to_be_bytes().to_vec();
            packet.extend((number as u16).to_be_bytes());
            if quirks.stranger {
                let other = [&packet[..], b"not this"].concat();
                stranger.send_to(&other, client).await.unwrap();
                let mut answer = [0; 100];
                let size = stranger.recv(&mut answer).await.unwrap();
                assert_eq!(answer[..4], [0, 5, 0, 5], "{size} bytes");
                told.fetch_add(1, Ordering::Relaxed);
            }
            packet.extend(blocks[number - 1]);
            if quirks.fat_block == Some(number) {
                packet.extend(vec![0; block_size]);
            }
            line.send(&packet).await;
        }
        match line.ack().await {
            // As far as the window reaches; older ones are duplicates.
            Some(ack) => {
                let ahead = usize::from(ack.wrapping_sub(acknowledged as u16));
                if ahead <= window {
                    acknowledged += ahead;
                    if ahead > 0 {
                        silences = 0;
                    }
                    arrived.fetch_add(ahead, Ordering::Relaxed);
                }
            }
            None if silences > 50 => return,
            None => silences += 1,
        }
    }
}

/// The server's side of a transfer.
struct Line {
    socket: UdpSocket,
    client: SocketAddr,
    quirks: Quirks,
    sent: usize,
}

impl Line {
    async fn send(&mut self, packet: &[u8]) {
        let number = self.sent;
        self.sent += 1;
        if self.quirks.lost.contains(&number) {
            return;
        }
        if self.quirks.rubbish {
            for rubbish in
                [&b""[..], b"\0", b"\0\x07\0\0", b"\0\x06odd\0", b"\0\x05\0", b"\0\x03\0", b"\xff\xff\xff"]
            {
                self.socket.send_to(rubbish, self.client).await.unwrap();
            }
        }
        for _ in 0..if self.quirks.twice { 2 } else { 1 } {
            self.socket.send_to(packet, self.client).await.unwrap();
        }
    }

    /// The next acknowledgement, if one comes soon.
    async fn ack(&self) -> Option<u16> {
        let mut buffer = [0; 1024];
        let received = tokio::time::timeout(Duration::from_millis(200), self.socket.recv(&mut buffer));
        let size = received.await.ok()?.ok()?;
        let (code, rest) = split_u16(&buffer[..size])?;
        (code == opcode::ACK).then(|| split_u16(rest)).flatten().map(|(block, _)| block)
    }
}

fn file(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at / 251 + at) as u8).collect()
}

/// Blocks that fit an Ethernet frame: enough of them that some may get lost.
fn ethernet() -> Options {
    Options { block_size: 1468, ..Options::default() }
}

fn quick() -> Options {
    Options { retry: Duration::from_millis(60), deadline: Duration::from_millis(600), ..ethernet() }
}

/// Fetches a file of so many bytes over a line with `quirks`, and expects it whole.
async fn comes_whole(size: usize, options: &Options, quirks: Quirks) -> Server {
    let server = Server::start(file(size), quirks).await;
    let got = server.get(options).await.unwrap();
    assert!(got == file(size), "{} of {size} bytes, or others", got.len());
    server
}

#[tokio::test]
async fn a_file_comes_whole_whatever_its_size() {
    for size in [0, 1, 511, 512, 1467, 1468, 1469, 2936, 100_000] {
        comes_whole(size, &ethernet(), Quirks::default()).await;
    }
}

#[tokio::test]
async fn a_server_without_options_is_served_in_blocks_of_512() {
    for size in [0, 512, 5000] {
        comes_whole(size, &ethernet(), Quirks { plain: true, ..Quirks::default() }).await;
    }
}

#[tokio::test]
async fn a_server_that_refuses_options_is_asked_without() {
    let quirks = Quirks { refuses_options: true, ..Quirks::default() };
    let server = comes_whole(5000, &ethernet(), quirks).await;
    assert_eq!(server.requests.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_board_asks_for_blocks_larger_than_a_frame() {
    for size in [0, 16_351, 16_352, 16_353, 100_000] {
        comes_whole(size, &Options::default(), Quirks::default()).await;
    }
}

#[tokio::test]
async fn any_packet_may_get_lost() {
    for lost in 0..6 {
        comes_whole(5000, &quick(), Quirks { lost: vec![lost], ..Quirks::default() }).await;
    }
}

#[tokio::test]
async fn packets_may_come_twice() {
    let server = comes_whole(20_000, &ethernet(), Quirks { twice: true, ..Quirks::default() }).await;
    assert_eq!(server.requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn rubbish_is_passed_over() {
    comes_whole(20_000, &ethernet(), Quirks { rubbish: true, ..Quirks::default() }).await;
}

#[tokio::test]
async fn a_stranger_is_told_so_and_changes_nothing() {
    let server = comes_whole(5000, &ethernet(), Quirks { stranger: true, ..Quirks::default() }).await;
    assert_eq!(server.strangers_told.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn block_numbers_wrap() {
    let options = Options { block_size: 8, ..ethernet() };
    comes_whole(8 * 70_000 + 3, &options, Quirks::default()).await;
}

#[tokio::test]
async fn windows_are_filled_and_survive_loss() {
    let options = Options { window: 8, deadline: Duration::from_secs(30), ..quick() };
    comes_whole(100_000, &options, Quirks::default()).await;
    comes_whole(100_000, &options, Quirks { lost: vec![4, 9, 30], ..Quirks::default() }).await;
    comes_whole(100_000, &options, Quirks { twice: true, ..Quirks::default() }).await;
}

#[tokio::test]
async fn a_missing_file_is_told_from_other_errors() {
    let missing =
        Server::start(vec![], Quirks { error: Some((1, "File not found")), ..Quirks::default() }).await;
    assert_eq!(missing.get(&quick()).await, Err(FetchError::NotFound("some/file".into())));
    let denied =
        Server::start(vec![], Quirks { error: Some((2, "Forbidden directory")), ..Quirks::default() }).await;
    assert_eq!(denied.get(&quick()).await, Err(FetchError::Tftp(2, "Forbidden directory".into())));
}

#[tokio::test]
async fn silence_is_a_timeout_at_any_time() {
    let nobody = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = nobody.local_addr().unwrap().to_string();
    assert_eq!(get(&address, "f", &quick()).await, Err(FetchError::Timeout(address)));

    let server = Server::start(file(5000), Quirks { dies_after: Some(2), ..Quirks::default() }).await;
    assert_eq!(server.get(&quick()).await, Err(FetchError::Timeout(server.address.clone())));
}

#[tokio::test]
async fn a_flood_of_rubbish_is_a_timeout_too() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let flood = tokio::spawn(async move {
        let (_, client) = socket.recv_from(&mut [0; 1024]).await.unwrap();
        loop {
            let _ = socket.send_to(b"\0\x03", client).await;
        }
    });
    assert_eq!(get(&address, "f", &quick()).await, Err(FetchError::Timeout(address)));
    flood.abort();
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_announced_or_not() {
    let options = Options { limit: 5000, ..quick() };
    for plain in [false, true] {
        let server = Server::start(file(5001), Quirks { plain, ..Quirks::default() }).await;
        assert!(matches!(server.get(&options).await, Err(FetchError::Bad(_))));
        comes_whole(5000, &options, Quirks { plain, ..Quirks::default() }).await;
    }
}

#[tokio::test]
async fn a_server_that_breaks_the_agreement_is_refused() {
    for (name, value) in [
        ("blksize", "1469"),
        ("blksize", "7"),
        ("blksize", "rubbish"),
        ("windowsize", "2"),
        ("unheard-of", "1"),
    ] {
        let options = Some(vec![(name, value.to_owned())]);
        let server = Server::start(file(5000), Quirks { options, ..Quirks::default() }).await;
        assert!(matches!(server.get(&quick()).await, Err(FetchError::Bad(_))), "{name}={value}");
    }
    let server = Server::start(file(5000), Quirks { fat_block: Some(2), ..Quirks::default() }).await;
    assert!(matches!(server.get(&quick()).await, Err(FetchError::Bad(_))));
}

#[tokio::test]
async fn a_file_shorter_than_announced_is_cut_short() {
    let options = Some(vec![("tsize", "6000".to_owned()), ("blksize", "1468".to_owned())]);
    let server = Server::start(file(5000), Quirks { options, ..Quirks::default() }).await;
    assert_eq!(
        server.get(&quick()).await,
        Err(FetchError::Bad("5000 bytes where 6000 were announced".into()))
    );
}

#[tokio::test]
async fn a_path_with_a_nul_is_not_sent() {
    assert!(matches!(get("127.0.0.1:1", "a\0b", &quick()).await, Err(FetchError::Bad(_))));
}

/// By hand, against a real server: `TFTP_URL=127.0.0.1:6969/file cargo test … -- --ignored real`.
#[tokio::test]
#[ignore = "needs a server in TFTP_URL"]
async fn a_real_server_serves_and_says_how_fast() {
    let url = std::env::var("TFTP_URL").unwrap();
    let (server, path) = url.split_once('/').unwrap();
    let start = Instant::now();
    let bytes = get(server, path, &ethernet()).await.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{} bytes, sha256 {}, {:.1} MB/s",
        bytes.len(),
        meta_lava_formats::sha256(&bytes),
        bytes.len() as f64 / seconds / 1e6
    );
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = Packet::parse(&bytes);
    }

    #[test]
    fn parsing_never_panics_past_the_opcode(code in 0_u8..8, rest in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Packet::parse(&[&[0, code][..], &rest].concat());
    }

    #[test]
    fn data_are_taken_as_they_are(block: u16, payload in proptest::collection::vec(any::<u8>(), 0..600)) {
        let packet = [&opcode::DATA.to_be_bytes()[..], &block.to_be_bytes(), &payload].concat();
        prop_assert_eq!(Packet::parse(&packet), Some(Packet::Data { block, payload: &payload }));
    }
}
