//! Asking the operator: for a password, which must not show, and whether to go on.
//!
//! Enters: lines, typed at a terminal or piped in. Leaves: a password that is wiped from memory once it is used. What must
//! never happen here: a password that is echoed, printed or repeated in an error, a terminal left without its echo, or a
//! byte taken off standard input behind the line that was asked for, which may be the next command's.

use std::fs::File;
use std::io::{ErrorKind, IsTerminal, Read, Write};
use std::os::fd::AsFd;

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::app::Failure;

/// Bytes of a line that are read; more than any password may have, so that what is too long is said to be.
const MOST: usize = 8 * 1024;

/// A new password that `check` takes: typed twice without echo at a terminal, or the first line of standard input.
///
/// # Errors
/// What `check` says, or that there is none, it is not UTF-8, or the two differ.
pub(super) fn new_password(
    check: impl Fn(&str) -> Result<(), Failure>,
) -> Result<Zeroizing<String>, Failure> {
    let stdin = std::io::stdin();
    let input = own(&stdin)?;
    if !stdin.is_terminal() {
        let password = text(read_line(&mut &input, None)?)?;
        check(&password)?;
        return Ok(password);
    }
    let quiet = Quiet::start(&input)?;
    let ask = |question| {
        say(question);
        let line = read_line(&mut &input, quiet.interrupt)?;
        if line.is_none() {
            say("\n");
        }
        text(line)
    };
    let password = ask("Password: ")?;
    check(&password)?;
    let again = ask("The same password again: ")?;
    drop(quiet);
    if *password != *again {
        return Err(Failure::Config(
            "error: the two passwords differ\nhint: nothing was changed; try again\n".to_owned(),
        ));
    }
    Ok(password)
}

/// Whether the operator, on the terminal, says yes to `question`.
///
/// # Errors
/// Standard input cannot be read.
pub(super) fn confirm(question: &str) -> Result<bool, Failure> {
    say(&format!("{question} [y/N] "));
    let answer = read_line(&mut own(&std::io::stdin())?, None)?;
    Ok(answer.is_some_and(|answer| matches!(answer.trim_ascii(), b"y" | b"Y" | b"yes" | b"Yes" | b"YES")))
}

/// Standard input without the buffer that the standard library puts in front of it, where copies would stay.
fn own(stdin: &std::io::Stdin) -> Result<File, Failure> {
    let fd = stdin
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| unreadable(&error))?;
    Ok(File::from(fd))
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::Runtime(anyhow::anyhow!("cannot read standard input: {error}"))
}

/// Prompts go to standard error: standard output may be piped to somewhere.
fn say(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// A line without its end; `None` where the input ends before its first byte. It ends at `interrupt` with an error.
fn read_line(input: &mut impl Read, interrupt: Option<u8>) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    // Never reallocated, which would leave copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(MOST));
    let mut byte = Zeroizing::new([0]);
    loop {
        match input.read(&mut *byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if interrupt == Some(byte[0]) => {
                say("\n");
                return Err(Failure::Runtime(anyhow::anyhow!(
                    "interrupted; nothing was changed"
                )));
            }
            Ok(_) if line.len() == MOST => {
                return Err(Failure::Config(format!(
                    "error: the first line has more than {MOST} bytes\nhint: a password is one line of at most 4096\n"
                )));
            }
            Ok(_) => line.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(unreadable(&error)),
        }
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

fn text(line: Option<Zeroizing<Vec<u8>>>) -> Result<Zeroizing<String>, Failure> {
    let line = line.filter(|line| !line.is_empty()).ok_or_else(|| {
        Failure::Config(
            "error: no password was given\n\
             hint: type it when asked at a terminal, or pipe it in as the first line of standard input\n"
                .to_owned(),
        )
    })?;
    match std::str::from_utf8(&line) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(Failure::Config(
            "error: the password is not UTF-8 text\nhint: set the terminal to UTF-8\n".to_owned(),
        )),
    }
}

/// A terminal that does not show what is typed, until this is dropped.
///
/// The keys that end or stop a process are off as well, because a process that they end could not put the echo back;
/// the interrupt key ends the line instead.
struct Quiet<'a> {
    terminal: &'a File,
    before: Termios,
    interrupt: Option<u8>,
}

impl<'a> Quiet<'a> {
    fn start(terminal: &'a File) -> Result<Self, Failure> {
        let failed = |error| {
            Failure::Runtime(anyhow::anyhow!(
                "cannot switch off the echo of the terminal: {error}"
            ))
        };
        let before = tcgetattr(terminal).map_err(failed)?;
        let interrupt = Some(before.special_codes[SpecialCodeIndex::VINTR]).filter(|code| *code != 0);
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        quiet.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
        quiet.special_codes[SpecialCodeIndex::VEOL] = interrupt.unwrap_or(0);
        // What was typed before was shown: it is thrown away.
        tcsetattr(terminal, OptionalActions::Flush, &quiet).map_err(failed)?;
        Ok(Self {
            terminal,
            before,
            interrupt,
        })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line(mut input: &[u8]) -> (Option<Vec<u8>>, usize) {
        let read = read_line(&mut input, Some(3)).unwrap();
        (read.map(|line| line.to_vec()), input.len())
    }

    #[test]
    fn a_line_is_read_to_its_end_and_no_further() {
        assert_eq!(line(b"first\nsecond\n"), (Some(b"first".to_vec()), 7));
        assert_eq!(line(b" with spaces \r\nx"), (Some(b" with spaces ".to_vec()), 1));
        assert_eq!(line(b"without an end"), (Some(b"without an end".to_vec()), 0));
        assert_eq!(line(b"\nx"), (Some(Vec::new()), 1));
        assert_eq!(line(b""), (None, 0));
    }

    #[test]
    fn an_endless_line_and_an_interrupted_one_are_no_passwords() {
        assert!(matches!(
            read_line(&mut std::io::repeat(b'a'), None),
            Err(Failure::Config(_))
        ));
        assert!(matches!(
            read_line(&mut &b"pass\x03"[..], Some(3)),
            Err(Failure::Runtime(_))
        ));
        assert!(read_line(&mut &b"pass\x03\n"[..], None).is_ok());
    }

    #[test]
    fn what_is_no_password_is_not_repeated() {
        for bytes in [&b""[..], b"secret\xff"] {
            let Err(Failure::Config(said)) = text(Some(Zeroizing::new(bytes.to_vec()))) else {
                unreachable!()
            };
            assert!(!said.contains("secret"), "{said}");
        }
        assert!(text(None).is_err());
        assert_eq!(
            *text(Some(Zeroizing::new("pässword".as_bytes().to_vec()))).unwrap(),
            "pässword"
        );
    }
}
