//! The program: reads the configuration, starts logging, serves until a signal comes, or runs the load client.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use voxcast::config::{self, Command, Config, LoadArgs};
use voxcast::drive::load;
use voxcast::drive::server::Server;
use voxcast::logging::{self, LogFilter, LogFormat};

/// Built for huge pages (`.cargo/config.toml`): a packet touches a hundred and fifty cache lines on some forty pages of its session,
/// and with a thousand sessions the look-ups of small pages alone were a quarter of its time.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let done = match config::from_process() {
        Ok(Command::Serve(config)) => serve(&config),
        Ok(Command::Load(args)) => run_load(&args),
        Err(error) => return error.report(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(config: &Config) -> anyhow::Result<()> {
    logging::init(config.log_format, &config.log)?;
    let system = actix_web::rt::System::new();
    let done = system.block_on(async {
        // Before anything is started, so that no signal is missed.
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
        let server = Server::start(config).await?;
        // Whoever closed our standard output does not want to read it.
        let _ = writeln!(std::io::stdout(), "{}", server.banner(config));
        tracing::info!(http = %server.http_addr, media_port = server.media_port, "serving");
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "going away");
        server.stop().await;
        tracing::info!("gone");
        Ok(())
    });
    // Dropped, it would wait for every name that is being looked up, which nothing can hurry.
    std::mem::forget(system);
    done
}

fn run_load(args: &LoadArgs) -> anyhow::Result<()> {
    logging::init(LogFormat::Human, &LogFilter::default())?;
    let system = actix_web::rt::System::new();
    let (failed, asked) = if let Some(rooms) = args.rooms {
        let report = system.block_on(load::run_rooms(args, rooms.get()))?;
        show(&report, args.json)?;
        (report.failed, report.sockets)
    } else {
        let report = system.block_on(load::run(args))?;
        show(&report, args.json)?;
        (report.failed, report.listeners)
    };
    anyhow::ensure!(failed == 0, "{failed} failures among {asked}");
    Ok(())
}

fn show<R: Serialize + Display>(report: &R, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
