//! Starts the real binary on free ports and ends it with the test.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The token of every server here that does not say otherwise.
pub const TOKEN: &str = "a-token-for-tests";
/// Nothing takes this long; what does has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The time now. Processes live in real time; no test asserts how fast they are.
#[expect(clippy::disallowed_methods, reason = "real processes are waited for in real time")]
pub fn now() -> Instant {
    Instant::now()
}

/// A running server.
pub struct Server {
    child: Child,
    /// Where HTTP listens.
    pub http: SocketAddr,
    log: Option<JoinHandle<String>>,
}

/// A command that starts the binary with none of this machine's settings.
pub fn binary() -> Command {
    // The one that is shipped, where it is named: to link the tests like that, too, would take longer than to run them.
    let shipped = std::env::var_os("VOXCAST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_voxcast").into());
    bare(&shipped)
}

fn bare(program: &OsStr) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).current_dir(std::env::temp_dir());
    command
}

impl Server {
    /// Starts on loopback and free ports, with these variables more.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_by(binary(), variables)
    }

    /// The same where this file says how names are looked up.
    pub fn start_with_resolver(resolver: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = bare("unshare".as_ref());
        command.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\""]);
        command.arg(resolver).arg(binary().get_program());
        Self::start_by(command, variables)
    }

    fn start_by(mut command: Command, variables: &[(&str, &str)]) -> Self {
        command.env("HOST", "127.0.0.1").env("PORT", "0").env("MEDIA_PORT", "0").env("RELAY_PORT", "0");
        command.env("TURNS_PORT", "0").env("STUN_SERVERS", "none");
        command.env("AUTH_TOKEN", TOKEN);
        command.env("LOG", "voxcast=debug").envs(variables.iter().copied());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let (tell, told) = mpsc::channel();
        let log = std::thread::spawn({
            let stderr = child.stderr.take().expect("it was piped");
            move || read_log(stderr, &tell)
        });
        let http = told.recv_timeout(PATIENCE).expect("the server says where it listens");
        Self { child, http, log: Some(log) }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for the process to end; gives its status and all that it logged.
    pub fn ended(mut self) -> (ExitStatus, String) {
        let until = now() + PATIENCE;
        let status = loop {
            match self.child.try_wait().expect("the process is ours") {
                Some(status) => break status,
                None if now() > until => panic!("the server does not end"),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        let log = self.log.take().expect("taken once").join().expect("the reader does not panic");
        (status, log)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ended already, or ended now: a test leaves nothing behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Keeps everything, and passes the address on as soon as it is told.
fn read_log(stderr: ChildStderr, tell: &mpsc::Sender<SocketAddr>) -> String {
    let mut reader = BufReader::new(stderr);
    let mut log = String::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return log,
            Ok(_) => {}
        }
        let address = |after: &str, end: &[char]| line.split(after).nth(1)?.split(end).next()?.parse().ok();
        if let Some(address) = address("http=", &[' ', '\n']).or_else(|| address("\"http\":\"", &['"'])) {
            let _ = tell.send(address);
        }
        log.push_str(&line);
    }
}

/// Waits until something is so.
pub fn await_that(what: &str, so: impl Fn() -> bool) {
    let end = now() + PATIENCE;
    while !so() {
        assert!(now() < end, "not {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs the binary to its end; gives its exit code, standard output and standard error.
pub fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut child = binary()
        .args(arguments)
        .envs(variables.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let until = now() + PATIENCE;
    while child.try_wait().expect("the process is ours").is_none() {
        if now() > until {
            drop(child.kill());
            panic!("{arguments:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = child.wait().expect("it has ended");
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    (status.code(), out, err)
}
