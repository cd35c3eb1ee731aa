//! What `make load` measured, as a table and a plot: reads the reports that `voxcast load --json` wrote. Of the machine alone it measures
//! what a datagram and a read of memory cost, so that a slow server can be told from a slow hour.

use std::net::UdpSocket;
use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use plotters::prelude::*;
use serde_json::Value;

/// Width and height of the plot.
const SIZE: (u32, u32) = (900, 320);

fn main() -> anyhow::Result<()> {
    // Cargo adds flags of its own.
    let paths: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let Some((plot, reports)) = paths.split_first() else {
        println!("no reports: `make load` writes them");
        return Ok(());
    };
    if plot == "bare" {
        println!("{:.2} {:.0}", bare_datagram()?, bare_read());
        return Ok(());
    }
    let mut reports = reports.iter().map(|path| Report::read(path)).collect::<anyhow::Result<Vec<_>>>()?;
    reports.sort_by(|one, other| one.number("/listeners").total_cmp(&other.number("/listeners")));
    let (plain, special): (Vec<_>, Vec<_>) = reports.iter().partition(|report| report.is_plain());
    table(&plain);
    for report in special {
        remark(report);
    }
    draw(Path::new(plot), &plain).with_context(|| format!("{plot} could not be drawn"))
}

/// Microseconds in which this machine now sends a datagram as long as a packet of audio to one of so many sockets as do not fit a cache,
/// one system call each, nothing else: the median of so many rounds.
#[expect(clippy::disallowed_methods, reason = "a bench measures by the clock")]
fn bare_datagram() -> anyhow::Result<f64> {
    const SOCKETS: u16 = 800;
    const ROUNDS: usize = 400;
    let listeners = (0..SOCKETS)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.set_nonblocking(true)?;
            Ok((socket.local_addr()?, socket))
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    let sender = UdpSocket::bind("127.0.0.1:0")?;
    let mut bytes = [0x5a; 205];
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for (address, _) in &listeners {
            sender.send_to(&bytes, address)?;
        }
        times.push(began.elapsed().as_secs_f64() * 1e6 / f64::from(SOCKETS));
        // A datagram that the system dropped is not there to be read.
        for (_, socket) in &listeners {
            drop(socket.recv(&mut bytes));
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[ROUNDS / 2])
}

/// Nanoseconds in which this machine now reads a line of memory out of as much as thousands of sessions take, each read waiting for the one
/// before: the median of so many rounds. The last cache holds so much, but not while somebody else fills it: a bare datagram needs little
/// of it and feels nothing of that, a server of thousands does.
#[expect(clippy::disallowed_methods, reason = "a bench measures by the clock")]
fn bare_read() -> f64 {
    /// Bytes.
    const LINE: u32 = 64;
    const LINES: u32 = (8 << 20) / LINE;
    const ROUNDS: usize = 100;
    // One ring through all lines, in an order that no cache foresees.
    let mut order: Vec<u32> = (0..LINES).collect();
    let mut state = 0x9e37_79b9_u32;
    for place in (1..order.len()).rev() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        order.swap(place, state as usize % (place + 1));
    }
    let mut lines = vec![[0_u32; LINE as usize / size_of::<u32>()]; order.len()];
    for (here, next) in order.iter().zip(order.iter().cycle().skip(1)) {
        lines[*here as usize][0] = *next;
    }
    let mut line = 0_u32;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let began = Instant::now();
        for _ in 0..LINES {
            line = lines[line as usize][0];
        }
        times.push(began.elapsed().as_secs_f64() * 1e9 / f64::from(LINES));
    }
    std::hint::black_box(line);
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// One run: the JSON of `drive/load/report.rs`. To link all of the server for its type would take minutes.
struct Report {
    json: Value,
    /// What [`bare_datagram`] and [`bare_read`] were before, and after.
    bare: String,
}

impl Report {
    fn read(path: &str) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
        let json = serde_json::from_str(&text).with_context(|| format!("{path} is no report"))?;
        let bare = std::fs::read_to_string(Path::new(path).with_extension("bare")).unwrap_or_default();
        let ends = bare.lines().map(|end| match end.split_once(' ') {
            Some((datagram, read)) => format!("{datagram} us, {read} ns"),
            None => format!("{end} us"),
        });
        Ok(Self { json, bare: ends.collect::<Vec<_>>().join("; ") })
    }

    /// What stands at this place (RFC 6901), if anything does.
    fn at(&self, pointer: &str) -> Option<f64> {
        self.json.pointer(pointer).and_then(Value::as_f64)
    }

    /// A number that every report has.
    fn number(&self, pointer: &str) -> f64 {
        self.at(pointer).unwrap_or_default()
    }

    fn joined(&self) -> f64 {
        self.number("/joined")
    }

    fn core(&self) -> f64 {
        self.number("/server/cpu_share") * 100.0
    }

    fn kib(&self) -> f64 {
        self.number("/server/resident_bytes_per_listener") / 1024.0
    }

    fn is_of_rooms(&self) -> bool {
        self.at("/rooms").is_some()
    }

    fn is_relayed(&self) -> bool {
        self.json["relayed"].as_bool().unwrap_or_default()
    }

    /// Whether the same listeners heard sound all the time, straight.
    fn is_plain(&self) -> bool {
        self.number("/churn") == 0.0
            && !self.is_relayed()
            && !self.is_of_rooms()
            && self.at("/server_cpu_ms_per_join").is_none()
    }
}

fn table(reports: &[&Report]) {
    println!(
        "| listeners | packets lost | CPU per packet, the kernel's part | of a core | gap error p99, worst | join p99 | `start` to packet p99 | memory each | a bare datagram and a read, before; after |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for report in reports {
        let refused = match report.number("/failed") {
            0.0 => String::new(),
            refused => format!(", {refused} refused"),
        };
        println!(
            "| {}{refused} | {} of {} | {:.1} us, {:.1} us | {:.0} % | {:.1} ms, {:.1} ms | {:.0} ms | {:.0} ms | {:.0} KiB | {} |",
            report.joined(),
            report.number("/lost"),
            report.number("/expected"),
            report.number("/server/cpu_us_per_packet"),
            report.number("/server/kernel_us_per_packet"),
            report.core(),
            report.number("/gap_error_ms/1"),
            report.number("/gap_error_ms/3"),
            report.number("/join_ms/1"),
            report.number("/first_packet_ms/1"),
            report.kib(),
            report.bare,
        );
    }
    println!();
    // Where others use the machine, too, its calm seconds tell what the server needs.
    let by_second = reports.iter().map(|report| {
        format!(
            "{}: {:.1} us, {:.1} ms",
            report.joined(),
            report.number("/by_second/cpu_us_per_packet/0"),
            report.number("/by_second/gap_error_p99_ms/0")
        )
    });
    let by_second = by_second.collect::<Vec<_>>().join("; ");
    println!("CPU per packet and gap error p99 that a tenth of the seconds stay below: {by_second}.");
}

fn remark(report: &Report) {
    if report.is_of_rooms() {
        println!(
            "{} in {} rooms: {} of {} messages arrived, {:.0} a second, p99 after {:.1} ms, {:.0} % of a core; idle, {:.1} KiB each.",
            report.joined(),
            report.number("/rooms"),
            report.number("/received"),
            report.number("/sent"),
            report.number("/received") / report.number("/seconds"),
            report.number("/delay_ms/1"),
            report.core(),
            report.number("/server/resident_bytes_per_socket") / 1024.0,
        );
        return;
    }
    if report.is_relayed() {
        println!(
            "{} through the relay: {} lost of {}, {:.1} us of CPU per packet, gap error p99 {:.1} ms, {:.0} % of a core.",
            report.joined(),
            report.number("/lost"),
            report.number("/expected"),
            report.number("/server/cpu_us_per_packet"),
            report.number("/gap_error_ms/1"),
            report.core()
        );
        return;
    }
    match report.at("/server_cpu_ms_per_join") {
        Some(each) => println!(
            "{} connected and silent: {:.1} % of a core, {:.0} KiB each; a join takes {each:.2} ms of CPU.",
            report.joined(),
            report.core(),
            report.kib()
        ),
        None => println!(
            "{} joins and leaves a second: {} lost of {}, gap error p99 {:.1} ms, join p99 {:.0} ms, {} refused, {:.0} % of a core.",
            report.number("/churn"),
            report.number("/lost"),
            report.number("/expected"),
            report.number("/gap_error_ms/1"),
            report.number("/join_ms/1"),
            report.number("/failed"),
            report.core()
        ),
    }
}

fn draw(path: &Path, reports: &[&Report]) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let [cpu, gap, memory] = &root.split_evenly((1, 3))[..] else { anyhow::bail!("three areas") };
    let points =
        |value: fn(&Report) -> f64| reports.iter().map(|report| (report.joined(), value(report))).collect::<Vec<_>>();
    panel(cpu, "CPU, % of a core", &points(Report::core))?;
    panel(gap, "gap error p99, ms", &points(|report| report.number("/gap_error_ms/1")))?;
    panel(memory, "memory, MiB", &points(|report| report.number("/server/resident_bytes") / (1024.0 * 1024.0)))?;
    root.present()?;
    println!("plot: {}", path.display());
    Ok(())
}

/// One curve over the number of listeners, from zero.
fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    title: &str,
    points: &[(f64, f64)],
) -> anyhow::Result<()> {
    const INK: RGBColor = RGBColor(37, 99, 235);
    let most = points.iter().fold((1.0_f64, 1.0_f64), |most, point| (most.0.max(point.0), most.1.max(point.1)));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 16))
        .margin(10)
        .x_label_area_size(35)
        .y_label_area_size(45)
        .build_cartesian_2d(0.0..most.0 * 1.05, 0.0..most.1 * 1.1)?;
    chart
        .configure_mesh()
        .x_desc("listeners")
        .x_labels(5)
        .y_labels(6)
        .x_label_formatter(&|value| format!("{value:.0}"))
        .y_label_formatter(&|value| format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned())
        .light_line_style(TRANSPARENT)
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), INK.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, INK.filled())))?;
    Ok(())
}
