use super::*;

const START: u64 = 0x1_0000;
const RETURN: u32 = 0xD65F_03C0;
const NOP: u32 = 0xD503_201F;
/// `bti c`
const MARKER: u32 = 0xD503_245F;
/// `stp x29, x30, [sp, #-16]!`
const SAVE: u32 = 0xA9BF_7BFD;
/// `bl` to 4 KiB further on
const CALL: u32 = 0x9400_0400;
/// `br x16`
const JUMP_BY_REGISTER: u32 = 0xD61F_0200;
/// `ldp x8, x9, [x1, #16]`
const LOAD_PAIR: u32 = 0xA941_2428;
/// `mov x20, x1`
const COPY: u32 = 0xAA01_03F4;
/// `ldp x8, x9, [x20, #16]`
const LOAD_PAIR_OF_COPY: u32 = 0xA941_2688;

/// `crypto/tls.(*Conn).Close` of Go 1.19.
const GO_CLOSE: [u32; 92] = [
    0xF940_0B90,
    0xEB30_63FF,
    0x5400_0AA9,
    0xF81A_0FFE,
    0xF81F_83FD,
    0xD100_23FD,
    0x3980_001B,
    0x910C_A002,
    0x88DF_FC43,
    0x3700_08A3,
    0xB240_0064,
    0xB000_115B,
    0x910C_B77B,
    0x3940_0365,
    0x3600_00C5,
    0x9340_7C7B,
    0x88FB_FC44,
    0x6B03_037F,
    0x9A9F_17E5,
    0x1400_0007,
    0x885F_FC5B,
    0x6B03_037F,
    0x5400_0061,
    0x881B_FC44,
    0xB5FF_FF9B,
    0x9A9F_17E5,
    0x3607_FD85,
    0x3500_0583,
    0x9100_8001,
    0x88DF_FC21,
    0x7100_043F,
    0x5400_0080,
    0xD280_0001,
    0xD280_0002,
    0x1400_0016,
    0xF900_37E0,
    0x9400_0038,
    0xB400_01C0,
    0xA904_FFFF,
    0xB400_0040,
    0xF940_0400,
    0xF900_27E0,
    0xF900_2BE1,
    0xB000_0440,
    0x911C_B000,
    0xD280_0981,
    0x9101_23E2,
    0xB240_03E3,
    0xAA03_03E4,
    0x97FD_4617,
    0x1400_0003,
    0xD280_0000,
    0xD280_0001,
    0xAA01_03E2,
    0xAA00_03E1,
    0xF940_37E0,
    0xF900_1FE1,
    0xF900_23E2,
    0xF940_0003,
    0xF940_0400,
    0xF940_0C63,
    0xD63F_0060,
    0xB400_0080,
    0xA97F_FBFD,
    0x9101_83FF,
    0xD65F_03C0,
    0xF940_1FE0,
    0xF940_23E1,
    0xA97F_FBFD,
    0x9101_83FF,
    0xD65F_03C0,
    0xF940_0001,
    0xF940_0400,
    0xF940_0C21,
    0xD63F_0020,
    0xA97F_FBFD,
    0x9101_83FF,
    0xD65F_03C0,
    0xF000_0F7B,
    0x9133_437B,
    0xF940_0360,
    0xF000_0F7B,
    0x9133_637B,
    0xF940_0361,
    0xA97F_FBFD,
    0x9101_83FF,
    0xD65F_03C0,
    0xF900_07E0,
    0xAA1E_03E3,
    0x97FC_176B,
    0xF940_07E0,
    0x17FF_FFA5,
];

fn code(words: &[u32]) -> Code {
    Code {
        bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect(),
        start: START,
    }
}

/// The numbers of the words that a rule found.
fn places(found: Result<Vec<u64>, Refusal>) -> Vec<u64> {
    let addresses = found.unwrap().into_iter();
    addresses.map(|address| (address - START) / WORD).collect()
}

fn assert_refused(found: Result<Vec<u64>, Refusal>, reason: &str) {
    let refusal = found.unwrap_err();
    assert!(refusal.to_string().contains(reason), "{refusal}");
}

#[test]
fn instructions_lead_where_the_assembler_says() {
    // Of one address: cbz x0, itself; b, bl, b.eq, tbz, cbnz; then without an address.
    let flows = [
        (0xB400_0000, Flow::Branch(0)),
        (0x1400_0000, Flow::Jump(0)),
        (CALL, Flow::Call(0x1000)),
        (0x5400_0060, Flow::Branch(12)),
        (0x3618_0040, Flow::Branch(8)),
        (0xB5FF_FFC2, Flow::Branch(0_u64.wrapping_sub(8))),
        (0xD63F_0020, Flow::IndirectCall),
        (JUMP_BY_REGISTER, Flow::IndirectJump),
        // braaz x1, blraa x1, x2
        (0xD61F_083F, Flow::IndirectJump),
        (0xD73F_0822, Flow::IndirectCall),
        (RETURN, Flow::Return),
        // ret x1
        (0xD65F_0020, Flow::Return),
        // retaa, retab
        (0xD65F_0BFF, Flow::AuthenticatedReturn),
        (0xD65F_0FFF, Flow::AuthenticatedReturn),
        // brk #1, udf #0
        (0xD420_0020, Flow::Trap),
        (0, Flow::Trap),
        // svc #0, nop, paciasp, adrp x0
        (0xD400_0001, Flow::Next),
        (NOP, Flow::Next),
        (0xD503_233F, Flow::Next),
        (0x9000_0000, Flow::Next),
        // cbgt x0, x1, of 2024
        (0xF401_0000, Flow::Unknown),
    ];
    for (word, expected) in flows {
        let instruction = Instruction { word, address: START };
        let expected = match expected {
            Flow::Branch(to) => Flow::Branch(START.wrapping_add(to)),
            Flow::Jump(to) => Flow::Jump(START + to),
            Flow::Call(to) => Flow::Call(START + to),
            other => other,
        };
        assert_eq!(instruction.flow(), expected, "{word:#x}");
    }
}

#[test]
fn a_function_of_go_returns_in_several_places() {
    assert_eq!(places(go_returns(&code(&GO_CLOSE))), [65, 70, 77, 86]);
}

#[test]
fn a_function_of_go_checks_its_stack_by_register_16() {
    let mut words = GO_CLOSE;
    // Go 1.17: ldr x1, [x28, #16]
    words[0] = 0xF940_0B81;
    assert_refused(go_returns(&code(&words)), "does not begin as Go functions do");
    assert_refused(go_returns(&code(&[])), "does not begin as Go functions do");
    assert_refused(go_returns(&code(&GO_CLOSE[..65])), "never returns");
}

/// A probe changes a word of the program: it must be an instruction.
#[test]
fn data_that_looks_like_a_return_is_left_alone() {
    // ldr x0, ldr w0, ldr q0, prfm from two words further on; ret; data
    for (load, last) in [
        (0x5800_0040, 3),
        (0x1800_0040, 2),
        (0x9C00_0040, 5),
        (0xD800_0040, 1),
    ] {
        let found = places(returns(&code(&[load, RETURN, RETURN, RETURN, RETURN, RETURN])));
        let expected: Vec<_> = [1].into_iter().chain(last + 1..6).collect();
        assert_eq!(found, expected, "{load:#x}");
    }
    // It reads what it executes: ldr x0, from the next word.
    assert_refused(
        returns(&code(&[0x5800_0020, RETURN, NOP])),
        "cannot be distinguished",
    );
    // Nor falls what is behind a return into a literal.
    assert_refused(
        returns(&code(&[0x5800_0060, RETURN, NOP, RETURN, RETURN])),
        "cannot be distinguished",
    );
    // These literals look like loads of the words after them.
    let literal = [0x5800_0060, RETURN, 0, 0x5800_0020, 0x5800_0020, RETURN];
    assert_eq!(places(returns(&code(&literal))), [1, 5]);
}

#[test]
fn what_only_a_panic_leads_to_returns_too() {
    assert_eq!(places(returns(&code(&[RETURN, NOP, RETURN]))), [0, 2]);
    // brk #1; udf #0
    assert_eq!(places(returns(&code(&[0xD420_0020, 0, RETURN]))), [2]);
}

#[test]
fn every_way_is_followed() {
    // cbz x0, to the second; ret; nop; b, back to the first
    let words = [0xB400_0040, RETURN, NOP, 0x17FF_FFFE, NOP];
    assert_eq!(places(returns(&code(&words))), [1]);
    // A call returns.
    assert_eq!(places(returns(&code(&[CALL, RETURN]))), [1]);
}

#[test]
fn a_function_that_may_be_left_unseen_is_refused() {
    assert_refused(returns(&code(&[JUMP_BY_REGISTER, RETURN])), "through a pointer");
    // cbz x0, and b, beyond the end
    assert_refused(returns(&code(&[0xB400_0040, RETURN])), "out of its body");
    assert_refused(returns(&code(&[0x1400_0001])), "out of its body");
    assert_refused(returns(&code(&[0xF401_0000, RETURN])), "cannot be decoded");
    assert_refused(returns(&code(&[0xD65F_0BFF])), "the kernel takes no probe");
    assert_refused(returns(&code(&[0x1400_0000])), "never returns");
    assert_refused(returns(&code(&[NOP])), "never returns");
}

#[test]
fn calls_and_jumps_count() {
    let callee = START + 4 + 0x1000;
    assert!(calls(&code(&[NOP, CALL, RETURN]), callee).unwrap());
    assert!(calls(&code(&[NOP, 0x1400_0400]), callee).unwrap());
    assert!(!calls(&code(&[CALL, RETURN]), callee).unwrap());
}

#[test]
fn only_what_branches_or_computes_an_address_is_emulated() {
    let place = |words: &[u32]| emulated_start(&code(words)).map(|address| (address - START) / WORD);
    // cbz, b, adrp, br, ret
    for word in [0xB400_0000, 0x1400_0000, 0x9000_0000, JUMP_BY_REGISTER, RETURN] {
        assert_eq!(place(&[word]), Some(0));
        assert_eq!(place(&[MARKER, word]), Some(1));
        assert_eq!(place(&[MARKER, MARKER, word]), None);
    }
    // paciasp; a return probe must be attached before it, and nothing may be called before it.
    for word in [SAVE, NOP, 0xD503_233F, CALL] {
        assert_eq!(place(&[word, RETURN]), None);
    }
    assert_eq!(place(&[]), None);
}

#[test]
fn no_function_behind_the_exported_ones_is_looked_for() {
    let plain = code(&[SAVE, CALL, RETURN]);
    let refusal = only_callee(&plain, |_| false).unwrap_err();
    assert!(refusal.to_string().contains("on arm64"), "{refusal}");
    assert_eq!(callee_of_plain(&plain, |_| false), Err(refusal));
}

#[test]
fn words_are_loaded_from_the_second_parameter() {
    let loads = |words: &[u32]| loads_from_second_parameter(&code(words), &[0x10, 0x18]).unwrap();
    assert!(loads(&[SAVE, LOAD_PAIR, RETURN]));
    // ldr x8, [x1, #16]; ldr x9, [x1, #24]; ldur x8, [x1, #16]
    assert!(loads(&[0xF940_0828, 0xF940_0C29]));
    assert!(loads(&[0xF841_0028, 0xF940_0C29]));
    assert!(!loads(&[0xF940_0828]));
    assert!(!loads(&[COPY, CALL]));
    assert!(loads(&[COPY, LOAD_PAIR_OF_COPY]));
    // stp x20, x1, [sp, #16] reads both.
    assert!(loads(&[COPY, 0xA901_07F4, LOAD_PAIR_OF_COPY]));
    assert!(!loads(&[CALL, LOAD_PAIR]));
    assert!(!loads(&[RETURN, LOAD_PAIR]));
}

#[test]
fn a_register_that_was_written_holds_the_parameter_no_more() {
    let loads = |word| loads_from_second_parameter(&code(&[word, LOAD_PAIR]), &[0x10, 0x18]).unwrap();
    // mov x1, x2; ldr x3, [x1], #8; ldaddal x2, x1, [x3]; ldp x0, x1, [sp]; ldaxr x1, [x2]
    for word in [0xAA02_03E1, 0xF840_8423, 0xF8E2_0061, 0xA940_07E0, 0xC85F_FC41] {
        assert!(!loads(word), "{word:#x}");
    }
    // ldr x8, [x1, x2, lsl #3]; str x1, [sp, #8]; cbz x1; cmp x1, #0
    for word in [0xF862_7828, 0xF900_07E1, 0xB400_0041, 0xF100_003F] {
        assert!(loads(word), "{word:#x}");
    }
}
