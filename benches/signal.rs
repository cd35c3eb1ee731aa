//! The signalling parser: what each message of a client costs to read, and what the server's commonest ones cost to write.

use std::collections::BTreeMap;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use voxcast::wire::signal::{ClientMsg, ServerMsg, SignalFault};

/// The examples that the tests of both languages read.
const GOLDEN: &str = include_str!("../src/tests/golden/client.json");
/// What Chromium offers to a listening page.
const OFFER: &str = include_str!("../src/tests/golden/chromium-listener.sdp");

fn bytes(text: &str) -> Throughput {
    Throughput::Bytes(u64::try_from(text.len()).expect("short"))
}

fn parse(c: &mut Criterion) {
    let mut messages: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(GOLDEN).expect("golden files are JSON");
    for kind in ["offer", "webrtc_offer"] {
        messages.insert(kind.into(), serde_json::json!({ "type": kind, "sdp": OFFER.replace('\n', "\r\n") }));
    }
    let image = "iVBORw0KGgo=".repeat(87_382);
    messages.insert("set_image_1_mib".into(), serde_json::json!({ "type": "set_image", "image_data": image }));
    let mut group = c.benchmark_group("signal");
    for (name, message) in messages {
        let text = message.to_string();
        group.throughput(bytes(&text));
        group.bench_function(format!("parse_{name}"), |b| {
            b.iter(|| ClientMsg::parse(black_box(&text)).expect("a golden message"));
        });
    }
    for (name, text) in [("unknown_type", r#"{"type":"dance"}"#), ("invalid_json", r#"{"type":"start","#)] {
        group.throughput(bytes(text));
        group.bench_function(format!("refuse_{name}"), |b| {
            b.iter(|| ClientMsg::parse(black_box(text)).expect_err("a bad message"));
        });
    }
    group.finish();
}

fn write(c: &mut Criterion) {
    let mut group = c.benchmark_group("signal");
    let answer = ServerMsg::WebrtcAnswer { sdp: OFFER.replace('\n', "\r\n") };
    let fault = ServerMsg::from(SignalFault::UnknownVoice("x".into()));
    for (name, message) in [("answer", answer), ("error", fault), ("pong", ServerMsg::Pong)] {
        group.throughput(bytes(&message.to_json()));
        group.bench_function(format!("write_{name}"), |b| b.iter(|| black_box(&message).to_json()));
    }
    group.finish();
}

criterion_group!(benches, parse, write);
criterion_main!(benches);
