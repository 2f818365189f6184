use super::*;

/// Every block of `file`, formatted; the reader gets it as a whole, or byte by byte.
fn blocks(file: &[u8], step_bytes: usize) -> Result<Vec<String>, CaptureError> {
    let mut reader = Reader::default();
    let (mut start, mut end) = (0, step_bytes.min(file.len()));
    let mut seen = Vec::new();
    loop {
        match reader.read(&file[start..end])? {
            Step::Block { length, block } => {
                assert!(length > 0);
                seen.push(shown(&block));
                start += length;
            }
            Step::Need(bytes) => {
                assert!(bytes > end - start, "asks for what is there");
                if end == file.len() {
                    if start < end {
                        seen.push("cut".into());
                    }
                    return Ok(seen);
                }
                end = (end + step_bytes).min(file.len());
            }
        }
    }
}

fn shown(block: &Block<'_>) -> String {
    let text = |options: &Options<'_>| {
        let all: Vec<_> = options
            .clone()
            .map(|(code, value)| format!("{code}={}", value.escape_ascii()))
            .collect();
        all.join(",")
    };
    match block {
        Block::Section => "section".into(),
        Block::Interface {
            link_type,
            snap_length,
            options,
        } => format!("interface {} {snap_length} {}", link_type.0, text(options)),
        Block::Packet(packet) => format!(
            "packet {} {} {:?} {} {} {}",
            packet.interface,
            packet.link_type.0,
            packet.timestamp_ns,
            packet.original_length,
            packet.data.escape_ascii(),
            text(&packet.options)
        ),
        Block::Secrets { kind, secrets } => format!("secrets {:x} {}", kind.0, secrets.escape_ascii()),
        Block::Statistics { interface, options } => {
            format!(
                "statistics {interface} {:?} {:?}",
                options.number(option::STATISTICS_RECEIVED),
                options.number(option::STATISTICS_OS_DROPPED)
            )
        }
        Block::Other { kind } => format!("other {kind}"),
        Block::Damaged(fault) => format!("damaged: {fault}"),
    }
}

fn interface(link_type: LinkType) -> InterfaceBlock<'static> {
    InterfaceBlock {
        link_type,
        snap_length: 0,
        name: Some("eth0"),
        description: None,
        filter: None,
        comment: None,
    }
}

fn packet(data: &[u8]) -> PacketBlock<'_> {
    PacketBlock {
        interface: 0,
        timestamp_ns: 1_700_000_000_123_456_789,
        original_length: 60,
        data,
        flags: Some(PacketBlock::INBOUND),
        drops: None,
        comment: "curl",
    }
}

fn whole_file(order: ByteOrder) -> Vec<u8> {
    let writer = Writer { order };
    let mut out = Vec::new();
    writer.section(
        &SectionBlock {
            application: Some("ecapture"),
            ..SectionBlock::default()
        },
        &mut out,
    );
    writer.interface(&interface(LinkType::ETHERNET), &mut out);
    writer.secrets(SecretsType::TLS_KEY_LOG, b"CLIENT_RANDOM", &mut out);
    writer.packet(&packet(b"hello"), &mut out);
    writer.block(0x4000_0001, &mut out, |out| out.extend_from_slice(b"abc"));
    writer.statistics(
        &StatisticsBlock {
            received: Some(5),
            os_dropped: Some(2),
            start_ns: Some(1 << 40),
            ..StatisticsBlock::default()
        },
        &mut out,
    );
    out
}

#[test]
fn what_is_written_is_read_in_both_orders_and_at_every_split() {
    for (order, flags) in [
        (ByteOrder::Little, r"2=\x01\x00\x00\x00"),
        (ByteOrder::Big, r"2=\x00\x00\x00\x01"),
    ] {
        let file = whole_file(order);
        let expected = [
            "section".to_owned(),
            r"interface 1 0 2=eth0,9=\t".into(),
            "secrets 544c534b CLIENT_RANDOM".into(),
            format!("packet 0 1 Some(1700000000123456789) 60 hello 1=curl,{flags}"),
            "other 1073741825".into(),
            "statistics 0 Some(5) Some(2)".into(),
        ];
        for step in [1, 3, 64, file.len()] {
            assert_eq!(blocks(&file, step).unwrap(), expected, "{order:?}, {step} bytes");
        }
    }
}

#[test]
fn sections_of_both_orders_follow_each_other_and_forget_the_interfaces() {
    let mut file = whole_file(ByteOrder::Little);
    let other = Writer {
        order: ByteOrder::Big,
    };
    other.section(&SectionBlock::default(), &mut file);
    other.packet(&packet(b"lost"), &mut file);
    other.interface(&interface(LinkType::RAW), &mut file);
    other.packet(&packet(b"there"), &mut file);
    let seen = blocks(&file, file.len()).unwrap();
    assert_eq!(seen[6], "section");
    assert_eq!(
        seen[7],
        "damaged: a packet of interface 0, which is not described"
    );
    assert!(seen[9].starts_with("packet 0 101 "), "{seen:?}");
}

#[test]
fn a_file_that_is_cut_anywhere_gives_its_whole_blocks() {
    let file = whole_file(ByteOrder::Little);
    let all = blocks(&file, file.len()).unwrap();
    for end in 0..file.len() {
        let mut seen = blocks(&file[..end], 7).unwrap();
        if seen.last().is_some_and(|last| last == "cut") {
            seen.pop();
        }
        assert!(all.starts_with(&seen), "cut after {end} bytes: {seen:?}");
    }
}

#[test]
fn times_have_the_resolution_and_offset_of_their_interface() {
    for (resolution, offset, ticks, expected) in [
        (6_u8, 0_i64, 1_700_000_000_123_456, 1_700_000_000_123_456_000_u64),
        (9, 0, 1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (3, 0, 1_700_000_000_123, 1_700_000_000_123_000_000),
        (0x8A, 0, 1536, 1_500_000_000),
        (9, 1000, 5, 1_000_000_000_005),
        (9, -1000, 5, 0),
        (0x7F, 0, u64::MAX, 0),
        (0xFF, 0, u64::MAX, 0),
        (0, 0, u64::MAX, u64::MAX),
        (0, i64::MAX, u64::MAX, u64::MAX),
    ] {
        let interface = read::tests_interface(resolution, offset);
        assert_eq!(interface(ticks), expected, "{resolution:#x}, {offset}");
    }
}

#[test]
fn simple_packets_are_cut_at_the_limit_of_the_interface() {
    let writer = Writer::default();
    let mut file = Vec::new();
    writer.section(&SectionBlock::default(), &mut file);
    let cut = InterfaceBlock {
        snap_length: 4,
        ..interface(LinkType::RAW)
    };
    writer.interface(&cut, &mut file);
    writer.block(block::SIMPLE_PACKET, &mut file, |out| {
        writer.u32(9, out);
        out.extend_from_slice(b"abcd");
    });
    let seen = blocks(&file, file.len()).unwrap();
    assert_eq!(seen[2], "packet 0 101 None 9 abcd ");
}

#[test]
fn classic_files_are_read_in_both_orders_and_resolutions() {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        for (magic, fraction, ns) in [(0xA1B2_C3D4, 654_321, 654_321_000), (0xA1B2_3C4D, 7, 7)] {
            let mut file = Vec::new();
            for word in [magic, 0x0002_0004, 0, 0, 65535, 0x1000_0001] {
                file.extend_from_slice(&order.of_u32(word));
            }
            for word in [1_700_000_000, fraction, 3, 90] {
                file.extend_from_slice(&order.of_u32(word));
            }
            file.extend_from_slice(b"abc");
            let expected = [
                "interface 1 65535 ".to_owned(),
                format!("packet 0 1 Some({}) 90 abc ", 1_700_000_000_000_000_000_u64 + ns),
            ];
            for step in [1, file.len()] {
                assert_eq!(blocks(&file, step).unwrap(), expected);
            }
            file.truncate(file.len() - 1);
            assert_eq!(blocks(&file, 5).unwrap().last().unwrap(), "cut");
        }
    }
}

#[test]
fn damaged_files_are_refused_with_what_was_expected() {
    let file = whole_file(ByteOrder::Little);
    let changed = |at: usize, byte: u8| {
        let mut file = file.clone();
        file[at] = byte;
        blocks(&file, file.len())
    };
    assert_eq!(blocks(b"GET / HTTP/1.1", 99), Err(CaptureError::Magic(*b"GET ")));
    assert_eq!(changed(4, 13), Err(CaptureError::BlockLength(13)));
    assert!(matches!(changed(7, 0x7F), Err(CaptureError::BlockLength(_))));
    assert!(matches!(changed(8, 0), Err(CaptureError::ByteOrderMagic(_))));
    assert_eq!(changed(12, 2), Err(CaptureError::Version(2)));
    let section = usize::from(file[4]);
    assert!(matches!(
        changed(section - 4, 0),
        Err(CaptureError::LengthsDiffer(_, 0))
    ));
    // A packet that says it is longer than its block.
    let packet = file.windows(5).position(|at| at == b"hello").unwrap();
    let seen = changed(packet - 8, 200).unwrap();
    assert_eq!(
        seen[3],
        "damaged: a block of type 0x6 is too short for its fields"
    );
}

#[test]
fn values_that_are_too_long_for_an_option_are_cut_between_characters() {
    let mut out = Vec::new();
    let long = "ä".repeat(40_000);
    let writer = Writer::default();
    writer.section(&SectionBlock::default(), &mut out);
    writer.interface(&interface(LinkType::RAW), &mut out);
    writer.packet(
        &PacketBlock {
            comment: &long,
            ..packet(b"x")
        },
        &mut out,
    );
    let mut reader = Reader::default();
    let mut at = 0;
    while let Ok(Step::Block { length, block }) = reader.read(&out[at..]) {
        at += length;
        if let Block::Packet(packet) = block {
            let comment = packet.options.get(option::COMMENT).unwrap();
            assert_eq!(std::str::from_utf8(comment).unwrap().len(), 65_534);
        }
    }
    assert_eq!(at, out.len());
}
