//! What 20 ms of sound costs: rendering, the ring, Opus, and a whole turn of the station. It measures no network and no pacing.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::{Context, Result};
use criterion::{BatchSize, Criterion, Throughput};
use voxcast::audio::counters::AudioCounters;
use voxcast::audio::generator::{Source, generator};
use voxcast::audio::opus::{FadeEncoder, FrameEncoder};
use voxcast::audio::ring::block_ring;
use voxcast::audio::station::Station;
use voxcast::audio::voice::{Block, SILENT_BLOCK, Voice};
use voxcast::audio::voices::{VOICES, voices};
use voxcast::wire::media::{Cut, FRAME_TICKS, MediaTime};

/// The voice that all single-voice cases play.
fn mid_tone() -> Result<Box<dyn Voice>> {
    Ok((VOICES.get(1).context("there is a middle voice")?.make)())
}

/// Two neighbouring blocks of it.
fn blocks() -> Result<[Block; 2]> {
    let mut voice = mid_tone()?;
    Ok([SILENT_BLOCK; 2].map(|mut block| {
        voice.render(&mut block);
        block
    }))
}

fn ring(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("ring");
    group.throughput(Throughput::Elements(FRAME_TICKS));

    let (producer, mut consumer) = block_ring(&Arc::default());
    let (mut generator, mut control) = generator();
    control.start(Source { voice: mid_tone()?, ring: producer }).ok().context("the generator takes a voice")?;
    generator.turn();
    let mut block = SILENT_BLOCK;
    group.bench_function("generator_to_ring", |bencher| {
        bencher.iter_batched(|| consumer.pop(&mut block), |_| generator.turn(), BatchSize::PerIteration);
    });

    let (mut producer, mut consumer) = block_ring(&Arc::default());
    group.bench_function("pop", |bencher| {
        bencher.iter_batched(
            || producer.push(&SILENT_BLOCK),
            |_| consumer.pop(black_box(&mut block)),
            BatchSize::PerIteration,
        );
    });
    group.finish();
    Ok(())
}

fn opus(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("opus");
    group.throughput(Throughput::Elements(FRAME_TICKS));
    let [previous, block] = blocks()?;
    let (mut steady, mut fades) = (FrameEncoder::new(Cut::Whole)?, FadeEncoder::new(Cut::Whole)?);
    group.bench_function("steady_frame", |bencher| {
        bencher.iter(|| steady.encode(black_box(&block)));
    });
    group.bench_function("fade_in", |bencher| {
        bencher.iter(|| fades.fade_in(black_box(&block)));
    });
    group.bench_function("fade_out", |bencher| {
        bencher.iter(|| fades.fade_out(black_box(&previous), black_box(&block)));
    });
    group.finish();
    Ok(())
}

fn station(criterion: &mut Criterion) -> Result<()> {
    let mut group = criterion.benchmark_group("station");
    let (mut generator, control) = generator();
    let mut station = Station::new(control, Arc::<AudioCounters>::default())?;
    group.throughput(Throughput::Elements(FRAME_TICKS * 3));
    for (key, _) in voices().take(3) {
        station.join(key.into());
    }
    let mut time = MediaTime::default();
    group.bench_function("turn_3_voices", |bencher| {
        bencher.iter_batched(
            || generator.turn(),
            |_| {
                time.0 += FRAME_TICKS;
                station.turn(time)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
    Ok(())
}

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    ring(&mut criterion)?;
    opus(&mut criterion)?;
    station(&mut criterion)?;
    criterion.final_summary();
    Ok(())
}
