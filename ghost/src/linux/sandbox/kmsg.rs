//! `/dev/kmsg`: what a program writes there comes out of the console as a line of the kernel's.
//!
//! The kernel takes a record that begins with `<N>`, its level and facility in decimal (`devkmsg_write` in
//! `kernel/printk/printk.c`), and prints it on the console behind its time. Both ways lead through one terminal here, so
//! that a record stands where it was written among what other programs print, and does so in every run; it is known by
//! the `<N>` at the begin of a line. What is written there without one stands on the console as it is, without the
//! time that a kernel would put before it, and what a program prints to the console with one has that time.

use super::Clock;

/// The longest number: level and facility have 8 bits.
const DIGITS: usize = 3;

/// Makes records lines of the kernel's, in what comes from a board's terminal.
#[derive(Debug)]
pub(super) struct Kmsg {
    clock: Clock,
    /// The begin of a line that may be a record.
    begin: Vec<u8>,
    /// Whether the next byte is the first one of a line.
    at_begin: bool,
}

impl Kmsg {
    /// `clock`: how late it is.
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, begin: Vec::new(), at_begin: true }
    }

    /// What the line gets of `bytes`. `more`: whether what follows is there already, so that a begin can wait for it.
    pub(super) fn pass(&mut self, bytes: &[u8], more: bool) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if !self.at_begin && self.begin.is_empty() {
                passed.push(*byte);
                self.at_begin = *byte == b'\n';
                continue;
            }
            self.begin.push(*byte);
            self.at_begin = false;
            match self.begin.as_slice() {
                [b'<'] => {}
                [b'<', digits @ ..] if digits.len() <= DIGITS && digits.iter().all(u8::is_ascii_digit) => {}
                [b'<', digits @ .., b'>'] if is_number(digits) => {
                    passed.extend_from_slice(self.clock.prefix().as_bytes());
                    self.begin.clear();
                }
                _ => {
                    self.at_begin = *byte == b'\n';
                    passed.append(&mut self.begin);
                }
            }
        }
        if !more {
            passed.append(&mut self.begin);
        }
        passed
    }
}

fn is_number(digits: &[u8]) -> bool {
    (1..=DIGITS).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passed(pieces: &[&str]) -> String {
        let mut kmsg = Kmsg::new(Clock::default());
        let mut out = Vec::new();
        for (number, piece) in pieces.iter().enumerate() {
            out.extend(kmsg.pass(piece.as_bytes(), number + 1 < pieces.len()));
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_record_is_a_line_of_the_kernels_and_all_else_is_as_it_was() {
        assert_eq!(
            passed(&["a\r\n<0><LAVA_SIGNAL_STARTTC x>\r\n<13>b\r\n"]),
            "a\r\n[    0.008731] <LAVA_SIGNAL_STARTTC x>\r\n[    0.017462] b\r\n"
        );
        for text in
            ["<LAVA_SIGNAL_STARTTC x>\r\n", "a <0>b\n", "<>\n", "<1234>\n", "<", "<1", "\n\n", "<1\n<a>"]
        {
            assert_eq!(passed(&[text]), text);
        }
    }

    #[test]
    fn a_record_may_come_in_pieces_where_more_is_to_come() {
        assert_eq!(passed(&["<", "0", ">x"]), "[    0.008731] x");
        let mut kmsg = Kmsg::new(Clock::default());
        assert_eq!(kmsg.pass(b"<", false), b"<");
        assert_eq!(kmsg.pass(b"0>", false), b"0>");
    }

    proptest! {
        #[test]
        fn nothing_without_a_number_in_brackets_is_changed(text in "[a-z<>\\n ]{0,60}") {
            prop_assert_eq!(passed(&[&text]), text);
        }

        #[test]
        fn how_it_is_cut_does_not_matter(text in "[<>0-9\\na]{0,40}", at in 0usize..40) {
            let at = at.min(text.len());
            prop_assert_eq!(passed(&[&text[..at], &text[at..]]), passed(&[&text]));
        }
    }
}
