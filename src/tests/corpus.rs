//! Seeds for the fuzz targets, grown from the simulator's own packets and the golden messages. Run by hand, when they change:
//! `cargo test --lib corpus -- --ignored`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::client::{chromium_listener, chromium_sdk, offer};
use super::net::{Net, secs};

fn folder(target: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    fs::create_dir_all(&folder).expect("it can be made");
    folder
}

#[test]
#[ignore = "writes fuzz/corpus"]
fn grow_the_corpus_of_messages() {
    let folder = folder("signal");
    let golden: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(include_str!("golden/client.json")).expect("golden files are JSON");
    for (name, message) in golden {
        fs::write(folder.join(name), message.to_string()).expect("it can be written");
    }
    for (name, sdp) in [("offer_listener", chromium_listener()), ("offer_sdk", chromium_sdk())] {
        fs::write(folder.join(name), offer("offer", &sdp)).expect("it can be written");
    }
}

#[test]
#[ignore = "writes fuzz/corpus"]
fn grow_the_corpus_of_rooms() {
    let folder = folder("rooms");
    let golden: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(include_str!("golden/room-client.json")).expect("golden files are JSON");
    let join = |user: &str, room: &str| format!(r#"{{"type":"join","roomId":"{room}","userId":"{user}"}}"#);
    for (name, message) in &golden {
        let story = [format!("a{}", join("ann", "blue")), format!("b{}", join("bob", "blue")), format!("a{message}")];
        fs::write(folder.join(name), story.join("\n")).expect("it can be written");
    }
    let moves = [join("ann", "blue"), join("ann", "red"), join("ann", "blue"), join("cid", "red")];
    let story = ["a", "b", "b", "c", "a"].iter().zip(moves.iter().map(String::as_str).chain([""]));
    let story: Vec<_> = story.map(|(who, what)| format!("{who}{what}")).collect();
    fs::write(folder.join("moves"), story.join("\n")).expect("it can be written");
}

#[test]
#[ignore = "writes fuzz/corpus"]
fn grow_the_corpus_of_datagrams() {
    let folder = folder("datagram");
    let mut net = Net::seeded(91);
    let bob = net.call("sine-440");
    net.run_for(secs(6));
    // One of each length and first two bytes: the rest is ciphertext.
    let mut kinds = BTreeMap::new();
    for sent in &net.record(bob).sent {
        let kind = (sent.up, sent.bytes[0], sent.bytes[1] & 0x7f, sent.bytes.len() / 64);
        kinds.entry(kind).or_insert(&sent.bytes);
    }
    for (count, ((up, first, second, _), bytes)) in kinds.into_iter().enumerate() {
        let way = if up { "up" } else { "down" };
        fs::write(folder.join(format!("{way}_{first}_{second}_{count}")), bytes).expect("it can be written");
    }
}
