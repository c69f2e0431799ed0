//! A request with `curl`, and what came back.

use std::{
    io::{self, Write},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// The content type of problems, and how their own types begin.
const PROBLEM: &str = "application/problem+json";
const PROBLEM_TYPE: &str = "urn:minidlt:problem:";

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    /// 0 where no whole answer came.
    pub status: u16,
    head: String,
    pub body: String,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The kind of the problem that this must be: whole, as RFC 9457 has it, with a sentence for
    /// people.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), Some(PROBLEM), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.trim().is_empty()), "{member} of {self:?}");
        }
        let kind = problem["type"].as_str().and_then(|kind| kind.strip_prefix(PROBLEM_TYPE));
        kind.unwrap_or_else(|| panic!("a type of ours: {self:?}")).to_owned()
    }
}

/// Sends a request, with `body` where `command` says that standard input is to be sent.
pub(crate) fn exchange(command: &mut Command, body: &[u8]) -> Answer {
    command.args(["--silent", "--show-error", "--include", "--max-time", "70", "--write-out", "\n%{http_code}"]);
    let output = curl(command, body);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (rest, status) = text.rsplit_once('\n').unwrap_or((&text, "0"));
    // A node that ended while it answered has not answered.
    let status = if output.status.success() { status.parse().unwrap_or(0) } else { 0 };
    // Interim answers, such as 100, come first: the last head is the answer's.
    let (mut head, mut body) = ("", rest);
    while body.starts_with("HTTP/") {
        let Some((first, after)) = body.split_once("\r\n\r\n") else { break };
        (head, body) = (first, after);
    }
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// Runs `curl`, with this as its standard input.
pub fn curl(command: &mut Command, input: &[u8]) -> Output {
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Err(error) if error.kind() == io::ErrorKind::NotFound => panic!("curl is missing: apt-get install curl"),
        child => child.expect("curl runs"),
    };
    if let Some(mut pipe) = child.stdin.take() {
        // One that was not told to read it may be gone; its output says what became of the request.
        let _unread = pipe.write_all(input);
    }
    child.wait_with_output().expect("curl ends")
}
